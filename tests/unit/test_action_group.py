# SPDX-License-Identifier: Apache-2.0
"""The action group: what it names, and that the documentation says the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def runtime() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
    return loaded


def documentation() -> dict[str, dict[str, Any]]:
    names = [f"podferry.live.{path.stem}" for path in (ROOT / "plugins/modules").glob("*.py")]
    assert names, "no modules found"
    doc = [str(Path(sys.executable).parent / "ansible-doc"), "--json", "-t", "module", *names]
    said = json.loads(subprocess.run(doc, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    return {name.removeprefix("podferry.live."): said[name]["doc"] for name in names}


def test_the_group_is_every_module_that_talks_to_the_cluster() -> None:
    """A forgotten one would not get the play's kubeconfig; one too many would be handed an option that it refuses."""
    docs = documentation()
    cluster = sorted(name for name, doc in docs.items() if "kubeconfig" in doc["options"])
    assert runtime()["action_groups"]["podferry"] == cluster
    members = {
        name
        for name, doc in docs.items()
        if "podferry.live.podferry" in doc.get("attributes", {}).get("action_group", {}).get("membership", [])
    }
    assert sorted(members) == cluster, "attribute action_group with membership podferry.live.podferry"


def test_every_action_plugin_has_its_documentation_module() -> None:
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    actions = {path.stem for path in (ROOT / "plugins/action").glob("*.py") if not path.stem.startswith("_")}
    assert actions <= modules
