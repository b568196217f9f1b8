# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Unix sockets between the containers of a pod, at its source: CRIU dumps one container at a time, and is told of each
connection's half that its peer lies outside. What joined the halves is written down beside the first container's images."""

from __future__ import annotations

import os
import socket
import struct
import typing as t

from .._common.errors import CommandFailed, DumpFailed
from .._common.files import write_json
from .._criu import unix
from .._runtime import procfs, unixsock
from .._runtime.aside import aside, take_descriptor
from .._runtime.container import Container
from .._runtime.unixsock import Entry, Findings, Holder

NAME = "podferry.sockets.json"
"""In the folder of the first container's images, where CRIU leaves alone what it does not know."""


class Between:
    """What joins the containers of one pod. Made while they run, so that little is left to do in the freeze."""

    def __init__(self, containers: t.Sequence[Container]) -> None:
        self._containers = containers
        self._found = Findings()
        self._held: unixsock.Holders = {}
        self._asked: socket.socket | None = None
        if len(containers) > 1:
            self._asked = unixsock.observer(f"/proc/{containers[0].pid}/ns/net")

    def look(self) -> None:
        """See what is there, now that everything stands frozen.

        :raises DumpFailed: it cannot come along.
        """
        if self._asked is None:
            return
        self._held = unixsock.holders({item.name: item.cgroup.pids() for item in self._containers})
        with self._asked as asked:
            self._found = unixsock.between(unixsock.table(asked), self._held)
        if self._found.problems:
            raise DumpFailed(
                f"the containers of the pod cannot be dumped one by one: {'; '.join(self._found.problems)}",
                "Let the containers talk over TCP on the pod's loopback, or close these sockets before the migration.",
            )
        if self._found.calls:
            self._try_names()

    def options(self) -> list[str]:
        """What CRIU has to be told for a dump."""
        callers = [caller.inode for caller, _callee in self._found.calls]
        return unix.external([*(end.inode for pair in self._found.pairs for end in pair), *callers])

    def write(self, folder: str) -> str | None:
        """Write it down in the folder of the first container's images; the file's name there, None without any."""
        if not self._found.pairs and not self._found.calls:
            return None
        write_json(
            os.path.join(folder, NAME),
            {
                "pairs": [self._pair(*pair) for pair in self._found.pairs],
                "calls": [self._call(*call) for call in self._found.calls],
            },
        )
        return NAME

    def mend(self, folders: t.Mapping[str, str]) -> None:
        """Change the dumps to what can come back. ``folders``: container to CRIU's images.

        :raises DumpFailed: there is something on its way that cannot.
        """
        ends = {end.inode: end for pair in self._found.pairs for end in pair}
        callers = {caller.inode for caller, _callee in self._found.calls}
        for name, folder in folders.items():
            mine = {inode for inode in {*ends, *callers} if self._holder(inode).container == name}
            if not mine:
                continue
            ready_made = mine & ends.keys()
            dumped = unix.sockets(folder, ready_made)
            if ready_made - dumped.keys():
                raise DumpFailed(
                    f"CRIU has not dumped all unix sockets that container {name} shares with others", "Migrate again."
                )
            queues = unix.packets(folder, {entry.number for entry in dumped.values()})
            # For datagrams the kernel tells only how long the first one is.
            lengths = {inode: ends[inode].queued for inode in ready_made if ends[inode].kind != unixsock.DGRAM}
            unix.check(dumped.values(), queues, lengths)
            unix.mend(folder, ready_made, mine & callers)

    def _pair(self, one: Entry, other: Entry) -> dict[str, t.Any]:
        ends = []
        for end in (one, other):
            holder = self._holder(end.inode)
            ends.append({"container": holder.container, "inode": end.inode, "peer": list(_peer_of(holder))})
        return {"kind": one.kind, "name": other.name.hex(), "ends": ends}

    def _call(self, caller: Entry, callee: Entry) -> dict[str, t.Any]:
        return {"caller": self._place(caller), "callee": self._place(callee), "name": callee.name.hex()}

    def _place(self, entry: Entry) -> dict[str, t.Any]:
        holder = self._holder(entry.inode)
        return {"container": holder.container, "pid": procfs.inner_pid(holder.pid), "descriptor": holder.descriptor}

    def _holder(self, inode: int) -> Holder:
        return self._held[inode][0]

    def _try_names(self) -> None:
        """:raises DumpFailed: one that was called would not be found under its name any more."""
        for callee in dict.fromkeys(callee for _caller, callee in self._found.calls):
            if callee.name.startswith(b"\0"):
                continue
            pid = self._holder(callee.inode).pid

            def look(pid: int = pid, callee: Entry = callee) -> t.Iterable[int]:
                stand_where(pid)
                if os.stat(callee.name).st_ino & 0xFFFFFFFF != callee.file:
                    raise OSError("another socket has taken its name")
                return []

            try:
                aside(look)
            except CommandFailed as error:
                raise DumpFailed(
                    f"unix socket {callee.title} has no name any more by which it can be called again: {error.message}",
                    "Let the application close it before the migration.",
                ) from error


def stand_where(pid: int) -> None:
    """Resolve names as process ``pid`` does, in a child that ends soon: absolute links lead nowhere else."""
    place = os.open(f"/proc/{pid}/cwd", os.O_PATH | os.O_DIRECTORY)
    os.chroot(f"/proc/{pid}/root")
    os.fchdir(place)


def _peer_of(holder: Holder) -> tuple[int, int]:
    """User and group that the other end had when it connected, as this end is told."""
    with socket.socket(fileno=take_descriptor(holder.pid, holder.descriptor)) as end:
        _pid, user, group = struct.unpack("=iII", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return user, group
