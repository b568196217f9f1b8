# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Reading a counter's own account of a migration: lines ``tick N MONOTONIC_NS REALTIME_NS``, one every 10 ms."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

INTERVAL_MS = 10.0
"""The counter's pace: the part of a gap that is no downtime."""


class Gap(NamedTuple):
    """The widest pause between two ticks, as the workload saw it."""

    before: int
    """The last tick before it."""
    after: int
    """The first after it; one more than ``before`` when nothing was lost or doubled."""
    downtime_ms: float
    lost: int
    """Ticks missing in the whole account."""
    doubled: int
    """Ticks that are there more than once, or in the wrong order."""


def widest_gap(lines: Iterable[str]) -> Gap | None:
    """Find the widest pause; None when there are fewer than two ticks. Other lines are passed over."""
    ticks = [
        (int(words[1]), int(words[3]))
        for words in (line.split() for line in lines)
        if len(words) == 4 and words[0] == "tick"
    ]
    pairs = list(pairwise(ticks))
    if not pairs:
        return None
    (before, began), (after, ended) = max(pairs, key=lambda pair: pair[1][1] - pair[0][1])
    lost = sum(max(0, new - old - 1) for (old, _t), (new, _u) in pairs)
    doubled = sum(1 for (old, _t), (new, _u) in pairs if new <= old)
    return Gap(before, after, round((ended - began) / 1e6 - INTERVAL_MS, 2), lost, doubled)
