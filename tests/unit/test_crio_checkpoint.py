# SPDX-License-Identifier: Apache-2.0
"""CRI-O's option about checkpoints, by version: the drop-in as role crio renders it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from ansible_collections.podferry.live.plugins.module_utils._common import toml

try:  # ansible-core 2.19 and later evaluate only what is trusted
    from ansible.template import trust_as_template as trusted
except ImportError:

    def trusted(value: str) -> str:
        """Older ones evaluate everything."""
        return value


ROLE = Path(__file__).resolve().parents[2] / "roles" / "crio"


def rendered(version: str, settings: dict[str, Any], wanted: str) -> dict[str, Any]:
    """The drop-in for a CRI-O of this version that prints these options."""
    option = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__crio_option"]
    variables = {
        "crio_checkpoint": wanted,
        "__crio_table_since": "1.37.0",
        "__crio_now": {"abilities": {"runtime": {"version": version, "settings": settings}}},
        "__crio_option": trusted(option),
    }
    templar = Templar(loader=DataLoader(), variables=variables)
    return toml.loads(templar.template(trusted((ROLE / "templates/checkpoint.conf.j2").read_text())))


TABLE = {"container_level_enabled": "checkpoint_only", "enable_criu_support": True}
SWITCH = {"enable_criu_support": True}


@pytest.mark.parametrize(
    ("version", "settings", "wanted", "drop_in"),
    [
        ("1.37.0", TABLE, "checkpoint_only", {"checkpoint_restore": {"container_level_enabled": "checkpoint_only"}}),
        ("1.37.0", TABLE, "none", {"checkpoint_restore": {"container_level_enabled": "none"}}),
        ("1.37.0", {}, "checkpoint_restore", {"checkpoint_restore": {"container_level_enabled": "checkpoint_restore"}}),
        # A patch release that has got the table: it says so itself.
        ("1.34.12", TABLE, "checkpoint_only", {"checkpoint_restore": {"container_level_enabled": "checkpoint_only"}}),
        ("1.36.3", SWITCH, "checkpoint_only", {"runtime": {"enable_criu_support": True}}),
        ("1.36.3", SWITCH, "checkpoint_restore", {"runtime": {"enable_criu_support": True}}),
        ("1.36.3", SWITCH, "none", {"runtime": {"enable_criu_support": False}}),
        ("1.25.0", {}, "checkpoint_only", {"runtime": {"enable_criu_support": True}}),
    ],
)
def test_the_option_of_the_version(
    version: str, settings: dict[str, Any], wanted: str, drop_in: dict[str, Any]
) -> None:
    assert rendered(version, settings, wanted) == {"crio": drop_in}
