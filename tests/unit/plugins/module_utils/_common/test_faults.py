# SPDX-License-Identifier: Apache-2.0
"""Fault points: the first one of a name, or that of one container."""

from __future__ import annotations

import json
import pathlib

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common import faults


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(faults, "_active", {})
    monkeypatch.setattr(faults, "_trace", False)

    def load(points: dict[str, str]) -> None:
        (tmp_path / "faults.json").write_text(json.dumps(points))
        faults.load(str(tmp_path / "faults.json"))

    return load


def test_without_a_file_nothing_happens(wanted: object, tmp_path: pathlib.Path) -> None:
    faults.load(str(tmp_path / "none"))
    faults.point("source:dump:before", "web")


def test_a_fault_happens_once(wanted) -> None:  # type: ignore[no-untyped-def]
    wanted({"target:thaw:before": "error"})
    faults.point("target:thaw:after")
    with pytest.raises(OSError, match="injected at target:thaw:before"):
        faults.point("target:thaw:before")
    faults.point("target:thaw:before")


def test_of_one_container(wanted) -> None:  # type: ignore[no-untyped-def]
    wanted({"source:dump:before@second": "error"})
    faults.point("source:dump:before", "main")
    with pytest.raises(OSError, match="@second"):
        faults.point("source:dump:before", "second")


def test_a_name_alone_means_the_first_container(wanted) -> None:  # type: ignore[no-untyped-def]
    wanted({"source:dump:before": "error"})
    with pytest.raises(OSError, match="injected"):
        faults.point("source:dump:before", "main")
    faults.point("source:dump:before", "second")


def test_a_trace_names_each_container(wanted, tmp_path: pathlib.Path) -> None:  # type: ignore[no-untyped-def]
    wanted({"trace": str(tmp_path / "trace")})
    faults.point("source:phase:dump")
    faults.point("source:dump:before", "main")
    assert (tmp_path / "trace").read_text() == "source:phase:dump\nsource:dump:before@main\n"
