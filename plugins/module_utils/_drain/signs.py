# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a node tells of the drain that empties it, and whether that drain lives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from .._kube import predicates

Obj = Mapping[str, Any]
Sign = Literal["alive", "unclear", "dead"]

DRAIN = "podferry.live/drain"
"""On a node while it is drained: who, since when."""

STALE_S = 90.0
RENEW_S = 20.0


@dataclass(frozen=True)
class Announcement:
    """Who drains a node."""

    run: str
    by: str
    since: str
    renewed: float

    def text(self) -> str:
        return json.dumps({"run": self.run, "by": self.by, "since": self.since, "renewed": round(self.renewed, 1)})

    @property
    def sentence(self) -> str:
        return f"by {self.by or 'somebody'} since {self.since} (drain {self.run})"

    @property
    def order(self) -> tuple[str, str]:
        return (self.since, self.run)


def announcement(node: Obj) -> Announcement | None:
    """What a node tells of a drain, however old."""
    text = predicates.annotations_of(node).get(DRAIN)
    if not text:
        return None
    try:
        told = json.loads(text)
        return Announcement(
            str(told["run"]), str(told.get("by") or ""), str(told.get("since") or ""), float(told["renewed"])
        )
    except (ValueError, TypeError, KeyError):
        return None


def announced(node: Obj, now: float) -> Announcement | None:
    """The drain that a node tells of, unless it looks long dead by our wall clock. Good enough for a sentence only."""
    found = announcement(node)
    return found if found is not None and now - found.renewed < STALE_S else None


@dataclass(frozen=True)
class _Seen:
    text: str
    at: float
    alive: bool


class Signs:
    """Signs of life. Controllers' clocks differ, so that an age proves nothing: what does not look fresh is dead only when
    its text has not changed for as long as a drain may be silent, on our own clock."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self._clock = clock
        self._wall = wall
        self._seen: dict[str, _Seen] = {}

    def of(self, node: Obj) -> tuple[Announcement | None, Sign]:
        """What the node tells, and what is known of it from this look and the earlier ones."""
        found, name, now = announcement(node), predicates.name_of(node), self._clock()
        if found is None:
            self._seen.pop(name, None)
            return None, "dead"
        text, before = predicates.annotations_of(node)[DRAIN], self._seen.get(name)
        if before is None or before.text != text:
            fresh = -RENEW_S < self._wall() - found.renewed < STALE_S
            before = self._seen[name] = _Seen(text, now, before is not None or fresh)
        if now - before.at >= STALE_S:
            return found, "dead"
        return found, "alive" if before.alive else "unclear"
