# SPDX-License-Identifier: Apache-2.0
"""One run may move a pod from a node; the second one is told which, whose, and since when."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import StateConflict
from ansible_collections.podferry.live.plugins.module_utils._ferry import thaw
from ansible_collections.podferry.live.plugins.module_utils._ferry.journal import Journal
from ansible_collections.podferry.live.plugins.module_utils._ferry.paths import RunPaths

FIRST, SECOND = "111111111111", "222222222222"


def place(run: str, tmp_path: Path) -> RunPaths:
    made = RunPaths(run, str(tmp_path))
    made.create()
    return made


def test_the_second_is_told_of_the_first(tmp_path: Path) -> None:
    first, second = place(FIRST, tmp_path), place(SECOND, tmp_path)
    thaw.claim(first, "default", "counter")
    Journal(first).write("prepared", context={"by": "she@there", "since": "14:00"})
    with pytest.raises(StateConflict, match=rf"\(run {FIRST}, by she@there, since 14:00\)") as caught:
        thaw.claim(second, "default", "counter")
    assert "cancel.yml" in caught.value.remedy
    thaw.claim(second, "default", "other")


def test_the_first_has_not_written_its_journal_yet(tmp_path: Path) -> None:
    thaw.claim(place(FIRST, tmp_path), "default", "counter")
    with pytest.raises(StateConflict, match="another run is moving pod default/counter from this node"):
        thaw.claim(place(SECOND, tmp_path), "default", "counter")
