# SPDX-License-Identifier: Apache-2.0
"""The example inventories parse, and name only variables that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "inventories/example").glob("*.yml"))
OWN = {"podferry_node_name", "podferry_address", "podferry_ports", "podferry_download_base"}


def test_there_is_one_for_each_engine() -> None:
    assert [path.stem for path in EXAMPLES] == ["kubeadm-containerd", "kubeadm-crio"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_parses(path: Path) -> None:
    command = [str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(path), "--list"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "WARNING" not in done.stderr
    listed: dict[str, Any] = json.loads(done.stdout)
    assert listed["nodes"]["hosts"] == ["worker-1", "worker-2"]
    assert all(variables["ansible_become"] is True for variables in listed["_meta"]["hostvars"].values())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_commented_variables_exist(path: Path) -> None:
    known = set(OWN)
    for defaults in (ROOT / "roles").glob("*/defaults/main.yml"):
        known |= set(yaml.safe_load(defaults.read_text()) or {})
    named = set(re.findall(r"^ *# ([a-z]+_[a-z_]+):", path.read_text(), re.MULTILINE))
    assert named and named <= known, named - known
