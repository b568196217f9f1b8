# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A cap on what is sent in a second: a bucket that fills at the rate and holds a tenth of a second's worth."""

from __future__ import annotations

import time
import typing as t

_BURST_SECONDS = 0.1
_SLICE_SECONDS = 0.2


class Pace:
    """Slows a sender down. The bucket may go below zero, so a block that is larger than it passes, and is waited for after.

    :param rate: bytes a second.
    """

    def __init__(
        self,
        rate: float,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = float(rate)
        self._clock = clock
        self._sleep = sleep
        self._level = self._rate * _BURST_SECONDS
        self._then = clock()

    def wait(self, meanwhile: t.Callable[[], None] = lambda: None) -> None:
        """Wait until something may be sent; ``meanwhile`` is called every now and then (a heartbeat)."""
        while True:
            self._fill()
            if self._level > -1:  # less than a byte: sums of fractions
                return
            self._sleep(min(-self._level / self._rate, _SLICE_SECONDS))
            meanwhile()

    def take(self, count: int) -> None:
        """Account for ``count`` bytes that were sent."""
        self._fill()
        self._level -= count

    def _fill(self) -> None:
        now = self._clock()
        self._level = min(self._rate * _BURST_SECONDS, self._level + (now - self._then) * self._rate)
        self._then = now
