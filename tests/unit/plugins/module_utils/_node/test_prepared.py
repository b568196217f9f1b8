# SPDX-License-Identifier: Apache-2.0
"""What proof and benchmark ask of a node before they start anything."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._node import prepared

READY: dict[str, Any] = {
    "criu": {"path": "/usr/sbin/criu", "version": [4, 1, 1], "check_ok": True, "check": ""},
    "runtime": {
        "engine": "containerd",
        "oci": {"family": "runc", "path": "/usr/sbin/runc", "version": [1, 1, 15], "criu": True},
        "handler": True,
        "answers": True,
        "error": None,
    },
    "engine": "0" * 64,
}


@pytest.fixture(autouse=True)
def action(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = tmp_path / "podferry-action"
    script.touch(mode=0o755)
    monkeypatch.setattr(prepared, "ACTION", str(script))
    return script


def test_a_prepared_node_is_accepted() -> None:
    prepared.check(READY)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("criu", "path"), None, "criu check fails"),
        (("criu", "check"), "criu is not installed", "criu check fails"),
        (("runtime", "oci"), {"path": None}, "neither runc nor crun"),
        (("runtime", "handler"), False, "no handler podferry"),
        (("runtime", "answers"), False, "does not answer"),
        (("engine",), None, "not installed"),
    ],
)
def test_what_is_missing_is_named_with_a_remedy(path: tuple[str, ...], value: object, message: str) -> None:
    facts = copy.deepcopy(READY)
    part = facts
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    if path == ("criu", "check"):
        facts["criu"]["check_ok"], message = False, str(value)
    with pytest.raises(PodferryError, match=message) as caught:
        prepared.check(facts)
    assert caught.value.remedy
    assert caught.value.phase == "facts"


def test_a_missing_action_script_is_named(action: Path) -> None:
    action.unlink()
    with pytest.raises(PodferryError, match="not installed"):
        prepared.check(READY)
