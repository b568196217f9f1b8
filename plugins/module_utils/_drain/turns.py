# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Turns: how many pods of a drain are under way between the connected ferries and the thaw, and how much they send in a second.

What is sent while a pod is frozen is never slowed down: that would be paid in downtime. Instead the next pod waits until
what the last one has sent is below the cap again, so that the drain as a whole keeps it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_LOOK_S = 0.1


class Turns:
    """Hands out turns in the order in which they are asked for."""

    def __init__(
        self,
        at_once: int,
        bytes_per_s: int = 0,
        *,
        clock: Callable[[], float] = time.monotonic,
        look_s: float = _LOOK_S,
    ) -> None:
        self._at_once = at_once
        self._rate = bytes_per_s
        self._clock = clock
        self._look_s = look_s
        self._changed = threading.Condition()
        self._queue: list[_Turn] = []
        self._under_way = 0
        self._paid_at = 0.0
        """When what has been sent is paid for."""

    def turn(self) -> _Turn:
        """One migration's turn; it has not begun yet."""
        return _Turn(self)

    def _begin(self, turn: _Turn, interrupted: Callable[[], bool]) -> bool:
        with self._changed:
            self._queue.append(turn)
            try:
                while not interrupted():
                    free = self._queue[0] is turn and self._under_way < self._at_once
                    if free and (not self._rate or self._clock() >= self._paid_at):
                        self._under_way += 1
                        return True
                    self._changed.wait(self._look_s)
                return False
            finally:
                self._queue.remove(turn)
                self._changed.notify_all()

    def _end(self, begun: float, bytes_sent: int) -> None:
        with self._changed:
            self._under_way -= 1
            if self._rate:
                self._paid_at = max(self._paid_at, begun) + bytes_sent / self._rate
            self._changed.notify_all()

    def now(self) -> float:
        """The clock that turns are measured by."""
        return self._clock()


class _Turn:
    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._begun: float | None = None

    def begin(self, interrupted: Callable[[], bool]) -> None:
        """Wait for it; returns without it when interrupted, which the caller looks for next."""
        if self._turns._begin(self, interrupted):
            self._begun = self._turns.now()

    def end(self, bytes_sent: int) -> None:
        begun, self._begun = self._begun, None
        if begun is not None:
            self._turns._end(begun, bytes_sent)
