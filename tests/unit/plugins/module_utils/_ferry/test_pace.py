# SPDX-License-Identifier: Apache-2.0
"""A cap on what is sent: kept over time, whatever the size of the blocks, and with signs of life while it waits."""

from __future__ import annotations

import socket

import pytest

from ansible_collections.podferry.live.plugins.module_utils._ferry.link import Link
from ansible_collections.podferry.live.plugins.module_utils._ferry.pace import Pace

MIB = 1 << 20


class Time:
    def __init__(self) -> None:
        self.now = 0.0
        self.longest = 0.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.longest = max(self.longest, seconds)
        self.now += seconds


@pytest.mark.parametrize("block", [1000, 64 * 1024, MIB])
@pytest.mark.parametrize("rate", [MIB, 50 * MIB])
def test_the_rate_is_kept(block: int, rate: int) -> None:
    time = Time()
    pace = Pace(rate, time.clock, time.sleep)
    total = 0
    while total < 3 * rate:
        pace.wait()
        pace.take(block)
        total += block
    assert total / rate - 1.2 <= time.now <= total / rate + 0.001
    assert time.longest <= 0.2, "a cancel is noticed, a heartbeat is sent"


def test_time_without_sending_is_not_saved_up() -> None:
    time = Time()
    pace = Pace(MIB, time.clock, time.sleep)
    time.now = 1000.0
    for _again in range(3):
        pace.wait()
        pace.take(MIB)
    pace.wait()
    assert time.now == pytest.approx(1000 + 3 - 0.1)


def test_something_is_done_meanwhile() -> None:
    time = Time()
    pace = Pace(MIB, time.clock, time.sleep)
    pace.take(MIB)
    beats: list[float] = []
    pace.wait(lambda: beats.append(time.now))
    assert len(beats) >= 4


def test_a_link_is_slowed_down_by_its_pace_only() -> None:
    one, two = socket.socketpair()
    link = Link(one, 5.0)
    time = Time()
    link.pace = Pace(1000, time.clock, time.sleep)
    link.send_data(b"x" * 2000)
    link.send_data(b"x")
    assert time.now == pytest.approx(1.9)
    link.pace = None  # from the freeze on
    link.send_data(b"x" * 20000)
    assert time.now == pytest.approx(1.9)
    one.close()
    two.close()
