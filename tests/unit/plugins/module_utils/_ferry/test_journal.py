# SPDX-License-Identifier: Apache-2.0
"""The journal: whole or absent, and readable by whoever comes after."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common import faults, files
from ansible_collections.podferry.live.plugins.module_utils._common.errors import NotFound
from ansible_collections.podferry.live.plugins.module_utils._ferry import journal as journals
from ansible_collections.podferry.live.plugins.module_utils._ferry.journal import Journal, all_runs
from ansible_collections.podferry.live.plugins.module_utils._ferry.paths import RunPaths


@pytest.fixture
def place(tmp_path: pathlib.Path) -> RunPaths:
    made = RunPaths("0123456789ab", str(tmp_path))
    made.create()
    return made


def test_what_was_written_stays(place: RunPaths) -> None:
    Journal(place).write("prepared", role="source", pod="web")
    again = Journal.load(place)
    again.write("frozen", freeze_ns=7)
    found = Journal.load(place)
    assert found.state == "frozen"
    assert found.data == {"state": "frozen", "role": "source", "pod": "web", "freeze_ns": 7}
    assert os.stat(place.journal).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [None, "", "{", '{"state": "fro', "[]", "5", "null", "[" * 100_000])
def test_what_is_no_journal(place: RunPaths, content: str | None) -> None:
    if content is not None:
        pathlib.Path(place.journal).write_text(content)
    with pytest.raises(NotFound, match="knows no run"):
        Journal.load(place)


def test_a_full_disk_leaves_the_old_one(place: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(place)
    journal.write("frozen")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        journal.write("go_given")
    assert Journal.load(place).state == "frozen"
    assert os.listdir(place.directory) == ["journal.json"]


def test_all_runs_passes_over_what_is_none(place: RunPaths, tmp_path: pathlib.Path) -> None:
    Journal(place).write("prepared")
    for name in ("not-a-run", "ffffffffffff", "eeeeeeeeeeee"):
        (tmp_path / "runs" / name).mkdir()
    (tmp_path / "runs/eeeeeeeeeeee/journal.json").write_text("{")
    assert [(found.run, journal.state) for found, journal in all_runs(str(tmp_path))] == [("0123456789ab", "prepared")]
    assert all_runs(str(tmp_path / "nothing")) == []


def test_the_guard_thaws_only_before_the_word_is_out() -> None:
    order = journals.SOURCE_STATES.index("go_given")
    assert all(journals.SOURCE_STATES.index(state) < order for state in journals.THAW_BY_GUARD)


def test_fault_points_name_role_and_state(place: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[str] = []
    monkeypatch.setattr(faults, "point", passed.append)
    Journal(place).write("frozen", role="source")
    assert passed == ["source:journal:frozen:before", "source:journal:frozen:after"]
