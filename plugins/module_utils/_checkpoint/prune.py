# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Takes checkpoints away that are too many, too old or too large: one decision for the look and for the deed."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass

from .._common.errors import InvalidInput, StateConflict
from . import retention
from .retention import Verdict
from .stores import Shelf

_AGE = re.compile(r"([1-9]\d{0,5}) ?(h|d|w)")
_HOURS = {"h": 1, "d": 24, "w": 24 * 7}


@dataclass(frozen=True)
class Pruned:
    """What became of each checkpoint, and what was freed (or would be at least, when nothing was done)."""

    verdicts: Sequence[Verdict]
    freed: int
    leftovers: int
    """Bytes of what was never finished, and of what nobody refers to any more."""
    busy: Sequence[str] = ()
    """Ids that somebody began to use between the look and the deed: they are still there."""

    @property
    def changed(self) -> bool:
        return (
            any(verdict.remove and verdict.manifest.id not in self.busy for verdict in self.verdicts)
            or self.leftovers > 0
        )


def parse_age(text: str) -> datetime.timedelta:
    """``36h``, ``30d``, ``4w``. Raises InvalidInput."""
    found = _AGE.fullmatch(text.strip())
    if not found:
        raise InvalidInput(f"age={text!r} is no age", "Give a number with h, d or w, such as 30d.")
    return datetime.timedelta(hours=int(found[1]) * _HOURS[found[2]])


def prune(
    shelf: Shelf,
    policy: retention.Policy,
    now: datetime.datetime,
    *,
    namespace: str = "",
    pod: str = "",
    dry: bool = False,
) -> Pruned:
    """Decide and, unless ``dry``, do it. Raises PodferryError."""
    there = [entry.manifest for entry in shelf.entries(namespace, pod)]
    in_use = {(lease.place, lease.id) for lease in shelf.leases(namespace, pod)}
    verdicts = retention.decide(there, in_use, policy, now)
    leftovers = shelf.sweep(namespace, pod, dry=dry)
    if dry:
        return Pruned(
            verdicts, sum(verdict.manifest.bytes["stored"] for verdict in verdicts if verdict.remove), leftovers
        )
    freed, busy = 0, []
    # The newest first: what owns pages of others goes after them, so that an end in the middle leaves no page without a manifest.
    for verdict in sorted(verdicts, key=lambda verdict: verdict.manifest.id, reverse=True):
        if verdict.remove:
            try:
                freed += shelf.remove(verdict.manifest.place, [verdict.manifest.id])
            except StateConflict:
                busy.append(verdict.manifest.id)
    return Pruned(verdicts, freed, leftovers, busy)
