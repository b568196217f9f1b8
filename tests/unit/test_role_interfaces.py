# SPDX-License-Identifier: Apache-2.0
"""A role's interface: what defaults/main.yml sets is what meta/argument_specs.yml describes, with the same default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())


def load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    return loaded


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_argument_specs_equal_defaults(role: Path) -> None:
    defaults = load(role / "defaults/main.yml")
    options = {
        name: option
        for entry in load(role / "meta/argument_specs.yml")["argument_specs"].values()
        for name, option in (entry.get("options") or {}).items()
    }
    assert set(defaults) == {name for name, option in options.items() if not option.get("required")}
    # A default that is computed (a template) is described in words; ansible-core does not evaluate it.
    literal = {name: value for name, value in defaults.items() if not (isinstance(value, str) and "{{" in value)}
    assert {name: options[name].get("default") for name in literal} == literal


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_names_carry_the_role_prefix(role: Path) -> None:
    prefixes = (f"{role.name}_", "podferry_")
    assert [name for name in load(role / "defaults/main.yml") if not name.startswith(prefixes)] == []


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_entry_points_exist(role: Path) -> None:
    for entry in load(role / "meta/argument_specs.yml")["argument_specs"]:
        assert (role / "tasks" / f"{entry}.yml").is_file(), f"no tasks file for entry point {entry}"
