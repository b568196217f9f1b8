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

from . import tree

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


class Rounds:
    """One tree, and what of it has been sent.

    :param path: its root on this node.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._seen: dict[str, Mark] = {}
        self._looked_ns = 0

    def look(self, mapped: t.AbstractSet[int] = frozenset()) -> Change:
        """Find what changed since the last look, and remember it as sent.

        :param mapped: inodes that are sent whatever their times say.
        """
        since = self._looked_ns - _TICK_NS
        self._looked_ns = time.time_ns()
        now: dict[str, Mark] = {}
        changed: list[str] = []
        fresh: set[str] = set()
        for name, status in _walk(self.path):
            mark = (status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_mode)
            now[name] = mark
            before = self._seen.get(name)
            if before != mark or status.st_ctime_ns >= since or status.st_ino in mapped:
                changed.append(name)
                if stat.S_ISDIR(status.st_mode) and (before is None or before[0] != status.st_ino):
                    fresh.add(name)
        lost = self._seen.keys() - now.keys()
        self._seen = now
        return Change(_in_order(changed), sorted(name for name in lost if os.path.dirname(name) not in lost), fresh)

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
            self.path, archive, pulse, only=_in_order(names), gone=change.gone, fresh=change.fresh, frozen=frozen
        )


def _in_order(names: t.Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: "" if name == "." else name)


def _walk(root: str) -> t.Iterator[t.Tuple[str, os.stat_result]]:
    """Every entry with its status, the root as ``.``; what goes away meanwhile is left out."""
    yield ".", os.lstat(root)
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as entries:
                for entry in entries:
                    name = os.path.join(folder, entry.name)
                    try:
                        status = entry.stat(follow_symlinks=False)
                        inside = entry.is_dir(follow_symlinks=False)
                    except OSError:
                        continue
                    yield name, status
                    if inside:
                        waiting.append(name)
        except OSError:
            continue
