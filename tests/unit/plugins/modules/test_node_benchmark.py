# SPDX-License-Identifier: Apache-2.0
"""What the benchmark of a node refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput, PodferryError
from ansible_collections.podferry.live.plugins.module_utils._node import prepared
from ansible_collections.podferry.live.plugins.module_utils._runtime import facts
from ansible_collections.podferry.live.plugins.modules import node_benchmark

BARE: dict[str, Any] = {
    "criu": {"path": None, "check_ok": False, "check": "criu is not installed"},
    "runtime": {"engine": None, "oci": {"path": None}, "cgroup_driver": None},
    "engine": None,
}


def module(tmp_path: Path, check: bool = False, **arguments: int) -> Any:
    return SimpleNamespace(params={"mib": 1, "rounds": 1, "path": str(tmp_path / "run"), **arguments}, check_mode=check)


def test_a_node_that_is_not_prepared_is_refused_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "collect", lambda _run: BARE)
    with pytest.raises(PodferryError, match="criu is not installed") as caught:
        node_benchmark.measure(module(tmp_path))
    assert "bootstrap" in caught.value.remedy
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mib", "rounds"])
@pytest.mark.parametrize("check", [True, False])
def test_nothing_cannot_be_measured(tmp_path: Path, name: str, check: bool) -> None:
    with pytest.raises(InvalidInput, match=f"{name} is 0"):
        node_benchmark.measure(module(tmp_path, check, **{name: 0}))


def test_an_error_of_the_system_has_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"criu": {"path": "criu"}, "runtime": {"oci": {"path": "runc"}, "cgroup_driver": ""}}
    monkeypatch.setattr(facts, "collect", lambda _run: found)
    monkeypatch.setattr(prepared, "check", lambda _found: None)
    (tmp_path / "run").write_text("no folder")
    with pytest.raises(PodferryError, match="run"):
        node_benchmark.measure(module(tmp_path))
