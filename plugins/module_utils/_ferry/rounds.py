# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A tree of files that is carried in rounds: at each round only what changed since the last one.

The kernel's change time tells: it moves with every write, chmod, link and extended attribute, and nobody can set it. Two
things it does not tell: a write within the same clock tick as our look, so what changed just before a look counts as changed
at the next one too; and stores into a shared mapping that was dirty already, so mapped files are always sent again.
"""

from __future__ import annotations

import os
import stat
import time
import typing as t

from . import inside, tree

_TICK_NS = 50_000_000
"""More than the file systems' clock ever lags behind (a timer tick is 10 ms at the most)."""

Mark = t.Tuple[int, int, int, int, int]
"""Inode, change time, modification time, size, mode."""


class Change(t.NamedTuple):
    """What a round has to carry. Paths are relative to the tree."""

    changed: t.List[str]
    """In an order in which a folder comes before what is in it."""
    gone: t.List[str]
    fresh: t.Set[str]
    """Changed folders that were not there at the last look."""
    weights: t.Mapping[str, t.Tuple[int, int]]
    """Of each that changed: bytes on disk, and the inode if it is a file with further names, else 0."""


class Rounds:
    """One tree, and what of it has been sent.

    :param path: its root on this node.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen: dict[str, Mark] = {}
        self._fresh: set[str] = set()
        self._left_out: set[str] = set()
        """What the last look saw, but what had vanished when it was to be sent."""
        self._looked_ns = 0

    def look(self, mapped: t.AbstractSet[int] = frozenset(), *, frozen: bool = False) -> Change:
        """Find what changed since the last look, and remember it as sent.

        :param mapped: inodes that are sent whatever their times say.
        :param frozen: nothing changes while we look, so that all of it must be there.
        :raises DumpFailed: something cannot be read.
        """
        self._forget()
        since = self._looked_ns - _TICK_NS
        self._looked_ns = time.time_ns()
        now: dict[str, Mark] = {}
        changed: list[str] = []
        fresh: set[str] = set()
        weights: dict[str, tuple[int, int]] = {}
        for name, status in inside.walk(self.path, inside.standing if frozen else inside.running):
            mark = (status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_mode)
            now[name] = mark
            before = self._seen.get(name)
            if before != mark or status.st_ctime_ns >= since or status.st_ino in mapped:
                changed.append(name)
                folder = stat.S_ISDIR(status.st_mode)
                several = status.st_nlink > 1 and not folder
                weights[name] = (status.st_blocks * 512, status.st_ino if several else 0)
                if folder and (before is None or before[0] != status.st_ino):
                    fresh.add(name)
        lost = self._seen.keys() - now.keys()
        self._seen, self._fresh = now, fresh
        gone = sorted(name for name in lost if os.path.dirname(name) not in lost)
        return Change(inside.in_order(changed), gone, fresh, weights)

    def _forget(self) -> None:
        """What vanished before it was sent goes again, even if it is back as it was: only its folder was away."""
        for name in self._left_out:
            inode = 0 if name in self._fresh else self._seen[name][0]  # a folder must stay fresh then
            self._seen[name] = (inode, 0, 0, 0, 0)
        self._left_out = set()

    def pack(self, change: Change, archive: str, pulse: tree.Pulse, *, frozen: bool) -> int:
        """Write a change's archive; returns the number of entries. ``frozen``: nothing changes while we read.

        With the folders above every entry: laying it out changes their times.
        """
        names = set(change.changed)
        for name in [*change.changed, *change.gone]:
            above = os.path.dirname(name)
            while above and above not in names:
                names.add(above)
                above = os.path.dirname(above)
        names.add(".")
        return tree.pack(
            self.path, archive, pulse, only=inside.in_order(names), gone=change.gone, fresh=change.fresh, frozen=frozen,
            seen=None if frozen else self._seen, left_out=self._left_out,
        )  # fmt: skip
