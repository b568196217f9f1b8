# SPDX-License-Identifier: Apache-2.0
"""The counter's own account of its life: numbered lines, each with the clocks that the process saw."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

_TICK = re.compile(r"^tick (\d+) (\d+) (\d+)$", re.M)


class Tick(NamedTuple):
    """One line of the counter: its number, CLOCK_MONOTONIC and CLOCK_REALTIME, both in ns."""

    number: int
    monotonic: int
    realtime: int


class Switchover(NamedTuple):
    """The longest silence of a counter: the tick before it, the tick after it."""

    before: Tick
    after: Tick

    @property
    def ms(self) -> float:
        """Length by the wall clock, in ms."""
        return (self.after.realtime - self.before.realtime) / 1e6


def parse(log: str) -> list[Tick]:
    """All ticks of a log, in the order of its lines."""
    return [Tick(*map(int, match.groups())) for match in _TICK.finditer(log)]


def problems(ticks: Sequence[Tick]) -> list[str]:
    """What is wrong with a run of ticks, in words: numbers lost, doubled or out of order, a clock that went back."""
    wrong = []
    for one, two in pairwise(ticks):
        if two.number == one.number:
            wrong.append(f"tick {one.number} twice")
        elif two.number > one.number + 1:
            wrong.append(f"ticks {one.number + 1} to {two.number - 1} lost")
        elif two.number < one.number:
            wrong.append(f"tick {two.number} after {one.number}")
        if two.monotonic < one.monotonic:
            wrong.append(f"CLOCK_MONOTONIC went back by {one.monotonic - two.monotonic} ns at tick {two.number}")
    return wrong


def assert_unbroken(log: str) -> list[Tick]:
    """The ticks of a whole log; fails the test when one is lost or doubled, a clock went back, or memory was not what it was."""
    ticks = parse(log)
    assert ticks, f"no ticks in:\n{log[:500]}"
    assert problems(ticks) == []
    assert "CORRUPT" not in log, [line for line in log.splitlines() if "CORRUPT" in line]
    assert log.count("start pid=") <= 1, "the workload was started again"
    return ticks


def switchover(ticks: Sequence[Tick]) -> Switchover:
    """The longest gap between two ticks by the wall clock."""
    return max((Switchover(*pair) for pair in pairwise(ticks)), key=lambda gap: gap.ms)
