# SPDX-License-Identifier: Apache-2.0
"""The record: of two that change it one wins, and "nothing was thawed, so give it up" is one step."""

from __future__ import annotations

import os
import pathlib
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._ferry.record import Record


@pytest.fixture
def record(tmp_path: pathlib.Path) -> Record:
    made = Record(str(tmp_path))
    made.arm({"pod": "web"})
    return made


def test_states_in_their_order(record: Record, tmp_path: pathlib.Path) -> None:
    assert record.state() == "armed"
    assert record.move("armed", "going") and record.state() == "going"
    assert record.move("going", "done") and record.state() == "done"
    assert sorted(os.listdir(tmp_path)) == ["record.done"]


def test_without_a_record(tmp_path: pathlib.Path) -> None:
    record = Record(str(tmp_path))
    assert record.state() == "none" and not record.thawed()
    assert not record.move("armed", "going")


def test_a_record_that_was_given_up_stays_so_when_it_is_armed_again(record: Record) -> None:
    record.move("armed", "aborted")
    record.arm({})
    assert record.state() == "aborted"


@pytest.mark.parametrize("_round", range(30))
def test_of_two_movers_one_wins(tmp_path: pathlib.Path, _round: int) -> None:
    Record(str(tmp_path)).arm({})
    start = threading.Barrier(4)
    won: list[str] = []

    def mover(new: str) -> None:
        own = Record(str(tmp_path))
        start.wait()
        if own.move("armed", new):  # type: ignore[arg-type]
            won.append(new)

    threads = [threading.Thread(target=mover, args=(new,)) for new in ("going", "aborted", "going", "aborted")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and Record(str(tmp_path)).state() == won[0]


def test_the_lock_keeps_a_second_out(record: Record, tmp_path: pathlib.Path) -> None:
    entered = threading.Event()

    def other() -> None:
        with Record(str(tmp_path)).lock():
            entered.set()

    with record.lock():
        thread = threading.Thread(target=other)
        thread.start()
        assert not entered.wait(0.1)
    assert entered.wait(5)
    thread.join()


def test_thawed_is_for_good(record: Record) -> None:
    assert not record.thawed()
    record.mark_thawed()
    record.mark_thawed()
    record.move("armed", "going")
    assert record.thawed()


@given(st.lists(st.sampled_from(["armed", "going", "aborted", "done"]), max_size=8))
def test_moves_never_make_two_records(tmp_path_factory: pytest.TempPathFactory, moves: list[str]) -> None:
    folder = tmp_path_factory.mktemp("record")
    record = Record(str(folder))
    record.arm({})
    for old, new in pairwise(moves):
        moved = record.move(old, new)  # type: ignore[arg-type]
        assert moved == (record.state() == new) or not moved
    assert len(os.listdir(folder)) == 1


@pytest.mark.parametrize("content", ["[]", "5", "null", '"x"', "{", "[" * 100_000])
def test_a_record_that_is_damaged_says_nothing(record: Record, tmp_path: pathlib.Path, content: str) -> None:
    (tmp_path / "record.armed").write_text(content)
    assert record.content() == {} and record.state() == "armed"
