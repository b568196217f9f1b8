# SPDX-License-Identifier: Apache-2.0
"""Turns: never more than allowed, in order, none lost, and a cap that is kept by waiting between pods."""

from __future__ import annotations

import threading
import time

from ansible_collections.podferry.live.plugins.module_utils._drain.turns import Turns


def never() -> bool:
    return False


def test_no_more_than_allowed_and_all_come_to_it() -> None:
    turns = Turns(2, look_s=0.001)
    lock = threading.Lock()
    now, most, done = 0, 0, 0

    def work() -> None:
        nonlocal now, most, done
        turn = turns.turn()
        turn.begin(never)
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.002)
        with lock:
            now -= 1
            done += 1
        turn.end(0)
        turn.end(0)  # whoever ends it twice gives away one turn, not two

    threads = [threading.Thread(target=work) for _again in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (most, done, now) == (2, 20, 0)


def test_an_end_without_a_begin_is_nothing() -> None:
    turns = Turns(1)
    turns.turn().end(10)
    turn = turns.turn()
    turn.begin(never)
    turn.end(0)


def test_who_is_stopped_gets_no_turn_and_blocks_nobody() -> None:
    turns = Turns(1, look_s=0.001)
    first = turns.turn()
    first.begin(never)
    stopped = turns.turn()
    stopped.begin(lambda: True)
    stopped.end(0)
    first.end(0)
    third = turns.turn()
    third.begin(never)
    third.end(0)


def test_the_cap_is_paid_by_waiting_not_by_a_longer_freeze() -> None:
    now = 100.0
    turns = Turns(1, 1000, clock=lambda: now, look_s=0.001)
    first = turns.turn()
    first.begin(never)
    now = 101.0
    first.end(5000)  # 5 s worth of it, begun at 100
    begun = threading.Event()

    def second() -> None:
        turns.turn().begin(never)
        begun.set()

    threading.Thread(target=second, daemon=True).start()
    now = 104.9
    assert not begun.wait(0.05)
    now = 105.0
    assert begun.wait(2)


def test_what_was_not_used_is_not_saved_up() -> None:
    now = 0.0
    turns = Turns(1, 1000, clock=lambda: now, look_s=0.001)
    now = 1000.0
    turn = turns.turn()
    turn.begin(never)
    turn.end(2000)
    assert turns._paid_at == 1002.0
