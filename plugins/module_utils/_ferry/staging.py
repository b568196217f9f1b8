# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The source's files on their way: rounds while the pod runs, and what is left of them once it stands.

Archives of the rounds lie on the disk for as long as they are sent; a successor keeps them, because with its last pod its
files are gone, and it may have to come back from what the source has.
"""

from __future__ import annotations

import os
import typing as t

from . import tree
from .link import Link
from .paths import RunPaths
from .rounds import Change, Rounds
from .transfer import Sender

_PART_BYTES = 64 << 20
_MOST_ROUNDS = 6
_SMALL_BYTES = 1 << 20
"""What the freeze may be left with without a thought."""
_LAY_BYTES_S = 20 << 20
"""How fast a target lays files out at the least, bytes a second."""
_LEAST_SECONDS = 120.0
_SLOWEST_BYTES_S = 2 << 20


def patience(size: int) -> float:
    """Seconds that all rounds of ``size`` bytes may take; the controller gives them up then (``_migrate/start.py``)."""
    return _LEAST_SECONDS + size / _SLOWEST_BYTES_S if size else 0.0


class Staging:
    """All trees of a pod.

    :param trees: what is sent, by the name of its archives (``web/rootfs``), with its folder on this node.
    :param keep: archives stay on this node's disk after they were sent.
    """

    def __init__(self, paths: RunPaths, trees: t.Mapping[str, str], keep: bool) -> None:
        self._paths = paths
        self._trees = {name: Rounds(path) for name, path in trees.items()}
        self._keep = keep
        self._sender: Sender | None = None
        self._parts = 0
        self.number = 0
        """Rounds so far."""
        self.bytes = 0
        """Sent in all of them."""
        self.last_bytes = -1
        self._shrinks = True

    def sender(self, link: Link) -> Sender:
        """The one sender of this run: its manifest names the rounds' archives too."""
        if self._sender is None:
            self._sender = Sender(link, self._paths.images)
        return self._sender

    def seconds(self) -> float:
        """How long the target may take to lay out what it has."""
        return self.bytes / _LAY_BYTES_S

    def worth_another(self) -> bool:
        """Rounds end when little changes between two, when they do not get smaller, or when there were many."""
        if self.number == 0:
            return True
        return self.number < _MOST_ROUNDS and self.last_bytes > _SMALL_BYTES and self._shrinks

    def round(self, pulse: tree.Pulse) -> None:
        """Send what changed since the last round while the pod goes on changing it."""
        before = self.last_bytes
        sent = 0
        for name, rounds in self._trees.items():
            change = rounds.look()
            for part in _parts(change):
                sent += self._send(name, rounds, part, pulse)
        self.number += 1
        self.bytes += sent
        self._shrinks = before < 0 or sent < before / 2
        self.last_bytes = sent

    def _send(self, name: str, rounds: Rounds, part: Change, pulse: tree.Pulse) -> int:
        archive = f"{name}.{self._parts}.tar"
        self._parts += 1
        path = os.path.join(self._paths.staging, archive)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        rounds.pack(part, path, pulse, frozen=False)
        size = os.path.getsize(path)
        if self._sender is not None:
            self._sender.file(archive, path, pulse)
        if not self._keep:
            os.unlink(path)
        return size

    def last(self, prefix: str, mapped: t.AbstractSet[int], pulse: tree.Pulse) -> list[str]:
        """Archive on the tmpfs what is left of the trees whose names begin with ``prefix``; nothing changes any more."""
        names = []
        for name, rounds in self._trees.items():
            if not name.startswith(prefix):
                continue
            path = os.path.join(self._paths.images, f"{name}.tar")
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            rounds.pack(rounds.look(mapped, frozen=True), path, pulse, frozen=True)
            names.append(f"{name}.tar")
        return names


def _parts(change: Change) -> t.Iterator[Change]:
    """A change in pieces of bounded size, so that no disk has to hold all of it twice. Links stay with their file."""
    links: dict[int, list[str]] = {}
    for name in change.changed:
        inode = change.weights[name][1]
        if inode:
            links.setdefault(inode, []).append(name)
    together = {name: names for names in links.values() for name in names}
    done: set[str] = set()
    chosen: list[str] = []
    gone = change.gone
    size = 0
    for name in change.changed:
        if name in done:
            continue
        for each in together.get(name, [name]):
            chosen.append(each)
            done.add(each)
            size += change.weights[each][0]
        if size >= _PART_BYTES:
            yield Change(chosen, gone, change.fresh & set(chosen), change.weights)
            chosen, gone, size = [], [], 0
    if chosen or gone:
        yield Change(chosen, gone, change.fresh & set(chosen), change.weights)
