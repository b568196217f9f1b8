# SPDX-License-Identifier: Apache-2.0
"""The action group must name every module: a forgotten one would silently not get the play's module_defaults."""

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


def test_group_lists_every_module_and_nothing_else() -> None:
    modules = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py") if not path.stem.startswith("_"))
    assert modules, "no modules found"
    assert runtime()["action_groups"]["podferry"] == modules


def test_every_module_says_that_it_is_in_the_group() -> None:
    names = [f"podferry.live.{path.stem}" for path in (ROOT / "plugins/modules").glob("*.py")]
    doc = [str(Path(sys.executable).parent / "ansible-doc"), "--json", "-t", "module", *names]
    said = json.loads(subprocess.run(doc, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    silent = [
        name
        for name in names
        if "podferry.live.podferry"
        not in said[name]["doc"].get("attributes", {}).get("action_group", {}).get("membership", [])
    ]
    assert silent == [], "no attribute action_group with membership podferry.live.podferry"


def test_every_action_plugin_has_its_documentation_module() -> None:
    modules = {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}
    actions = {path.stem for path in (ROOT / "plugins/action").glob("*.py") if not path.stem.startswith("_")}
    assert actions <= modules
