# SPDX-License-Identifier: Apache-2.0
"""The judge of the end-to-end tests must itself see what it is there to see."""

from __future__ import annotations

import pytest

from e2e.support import ticks


def log(*numbers: int, step: int = 10_000_000) -> str:
    return "start pid=1 pages=256\n" + "".join(f"tick {n} {i * step} {i * step}\n" for i, n in enumerate(numbers))


def test_an_unbroken_run() -> None:
    assert [tick.number for tick in ticks.assert_unbroken(log(1, 2, 3))] == [1, 2, 3]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [((1, 2, 4), "ticks 3 to 3 lost"), ((1, 2, 2, 3), "tick 2 twice"), ((5, 6, 1), "tick 1 after 6")],
)
def test_what_is_wrong_is_named(numbers: tuple[int, ...], words: str) -> None:
    assert ticks.problems(ticks.parse(log(*numbers))) == [words]


def test_a_clock_that_goes_back() -> None:
    (problem,) = ticks.problems(ticks.parse("tick 1 100 1\ntick 2 90 2\n"))
    assert "went back by 10 ns" in problem


@pytest.mark.parametrize("line", ["memory CORRUPT page=3 tick=9", "start pid=1 pages=256"])
def test_corruption_and_a_second_start_fail(line: str) -> None:
    with pytest.raises(AssertionError):
        ticks.assert_unbroken(log(1, 2) + line + "\n")


def test_an_empty_log_is_no_success() -> None:
    with pytest.raises(AssertionError):
        ticks.assert_unbroken("")


def test_the_longest_gap_is_the_switchover() -> None:
    gap = ticks.switchover(ticks.parse("tick 1 0 0\ntick 2 0 10000000\ntick 3 0 260000000\ntick 4 0 270000000\n"))
    assert (gap.before.number, gap.after.number, gap.ms) == (2, 3, 250.0)
