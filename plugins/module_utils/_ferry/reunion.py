# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Unix sockets between the containers of a pod, where it arrives.

A connection is made anew before the first restore, and each container's CRIU inherits its end. When all containers stand
frozen, each end gets back what it had: what lay in its queue, its options, its shutdown. Sockets that had called another
by its name call again.
"""

from __future__ import annotations

import os
import socket
import typing as t

from .._common.errors import CommandFailed, RestoreFailed
from .._common.files import read_json
from .._criu import unix
from .._runtime import oci, procfs, unixsock
from .._runtime.aside import aside, enter_network, take_descriptor
from . import sockets
from .paths import RunPaths

_ROOM = 1 << 28
"""Bytes that a queue may take while it is filled; afterwards the limit is the old one again."""
_NOBODY = 0xFFFFFFFF


class End(t.NamedTuple):
    """One end of a connection."""

    container: str
    inode: int
    """Its number in the dump."""
    user: int
    group: int
    """Who its peer is said to be."""


class Pair(t.NamedTuple):
    """A connection. The second end was accepted under ``name``, unless that is empty."""

    kind: int
    name: bytes
    ends: t.Tuple[End, End]


class Place(t.NamedTuple):
    """Where a socket is open: process id in the container."""

    container: str
    pid: int
    descriptor: int


class Call(t.NamedTuple):
    """A socket that had called another by its name."""

    caller: Place
    callee: Place
    name: bytes


class Reunion:
    """The sockets between the containers of one arrival.

    :param folders: each container's images of CRIU's, the first one's first.
    """

    def __init__(self, run: RunPaths, folders: t.Mapping[str, str]) -> None:
        self._run = run
        self._folders = dict(folders)
        self._loaded = False
        self._pairs: list[Pair] = []
        self._calls: list[Call] = []
        self._made: dict[End, socket.socket] = {}

    def hand_out(self, container: str, config: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Who has the sockets that come into a container ready made: {"pid": …, "sockets": {inode: descriptor}}.

        :param config: of the container, for its network namespace and its security label.
        :raises RestoreFailed: what the source wrote down is not understood.
        """
        self._load()
        if self._pairs and not self._made:
            network = oci.namespace_path(config, "network")
            self._make(network or "", str((config.get("process") or {}).get("selinuxLabel") or ""))
        mine = {str(end.inode): made.fileno() for end, made in self._made.items() if end.container == container}
        return {"pid": os.getpid(), "sockets": mine} if mine else {}

    def complete(self, processes: t.Mapping[str, t.Iterable[int]]) -> None:
        """Give the sockets back what they had. All containers stand restored and frozen.

        :param processes: container to process ids on this node.
        :raises RestoreFailed: that is not possible.
        """
        if not self._loaded:
            return
        try:
            self._fill()
            for callee in dict.fromkeys(call.callee for call in self._calls):
                _call(callee, [call for call in self._calls if call.callee == callee], processes)
        except (OSError, CommandFailed) as error:
            raise RestoreFailed(
                f"a unix socket between containers could not be restored: {error}",
                "The limits of the target node (net.unix.max_dgram_qlen, open files) may be lower than the source's.",
            ) from error
        self.close()
        os.unlink(self._run.incomplete)

    def close(self) -> None:
        """Let go of the sockets: the containers have them."""
        for made in self._made.values():
            made.close()
        self._made.clear()

    def _load(self) -> None:
        path = os.path.join(next(iter(self._folders.values())), sockets.NAME)
        if self._loaded or not os.path.exists(path):
            return
        self._loaded = True
        try:
            self._pairs, self._calls = parse(read_json(path), self._folders.keys())
        except (KeyError, TypeError, ValueError) as error:
            raise RestoreFailed(f"what the source tells of unix sockets is not understood: {error!r}") from error
        # Whoever finds this stands before containers that are frozen but not whole: they must not be thawed.
        with open(self._run.incomplete, "w", encoding="utf-8"):
            pass

    def _make(self, network: str, label: str) -> None:
        if not network:
            raise RestoreFailed("the pod has no network namespace of its own: its unix sockets have no place")
        scratch = os.path.join(self._run.directory, "sockets")
        os.makedirs(scratch, exist_ok=True)
        os.chmod(scratch, 0o755)  # others look names up in it, once it is their root

        def work() -> t.Iterable[int]:
            enter_network(network)
            if label:
                with open("/proc/self/attr/sockcreate", "w", encoding="utf-8") as attribute:
                    attribute.write(label)
            os.chroot(scratch)
            os.chdir("/")
            os.umask(0o022)
            os.setgroups([])
            return [end.detach() for pair in self._pairs for end in _connected(pair)]

        ends = [end for pair in self._pairs for end in pair.ends]
        self._made = {end: socket.socket(fileno=number) for end, number in zip(ends, aside(work))}

    def _fill(self) -> None:
        dumped: dict[End, unix.Socket] = {}
        for container, folder in self._folders.items():
            mine = {end.inode: end for end in self._made if end.container == container}
            found = unix.sockets(folder, mine)
            missing = mine.keys() - found.keys()
            if missing:
                raise RestoreFailed(f"the dump of container {container} lacks unix sockets {sorted(missing)}")
            queues = unix.packets(folder, {entry.number for entry in found.values()})
            for inode, entry in found.items():
                dumped[mine[inode]] = entry
                self._send(mine[inode], [packet.data for packet in queues if packet.owner == entry.number])
        for end, entry in dumped.items():  # not before every queue is full: a shutdown would keep it empty
            unix.settle(self._made[end], entry)

    def _send(self, reader: End, queue: t.Sequence[bytes]) -> None:
        """Send through the other end what waited for ``reader``."""
        writer = next(
            self._made[other] for pair in self._pairs if reader in pair.ends for other in pair.ends if other != reader
        )
        writer.setsockopt(socket.SOL_SOCKET, unix.SO_SNDBUFFORCE, _ROOM)
        for data in queue:
            if writer.sendmsg([data], [], socket.MSG_DONTWAIT) != len(data):
                raise RestoreFailed("a unix socket's queue does not take what the source's held")


def parse(data: t.Mapping[str, t.Any], containers: t.Collection[str]) -> tuple[list[Pair], list[Call]]:
    """Understand what the source wrote down.

    :raises ValueError: it is something else. :raises KeyError: see there. :raises TypeError: see there.
    """
    pairs = []
    for item in data["pairs"]:
        one, other = (
            End(_known(end["container"], containers), int(end["inode"]), *(int(number) for number in end["peer"]))
            for end in item["ends"]
        )
        if int(item["kind"]) not in (unixsock.STREAM, unixsock.DGRAM, unixsock.SEQPACKET):
            raise ValueError(item["kind"])
        pairs.append(Pair(int(item["kind"]), _name(item["name"]), (one, other)))
    calls = [Call(_place(item["caller"], containers), _place(item["callee"], containers), _name(item["name"]))
             for item in data["calls"]]  # fmt: skip
    if len(pairs) + len(calls) > unixsock.MOST:
        raise ValueError(len(pairs) + len(calls))
    return pairs, calls


def _place(item: t.Mapping[str, t.Any], containers: t.Collection[str]) -> Place:
    return Place(_known(item["container"], containers), int(item["pid"]), int(item["descriptor"]))


def _known(name: str, containers: t.Collection[str]) -> str:
    if name not in containers:
        raise ValueError(name)
    return name


def _name(text: str) -> bytes:
    name = bytes.fromhex(text)
    if len(name) > 108:
        raise ValueError(text)
    return name


def _connected(pair: Pair) -> tuple[socket.socket, socket.socket]:
    """Make a connection as it was made at the source. In a child: it becomes others, and its root is an empty folder."""
    caller, accepted = pair.ends
    if not pair.name or pair.kind == unixsock.DGRAM:
        _become(caller)
        ends = socket.socketpair(socket.AF_UNIX, pair.kind)
        _become(None)
        return ends
    name: bytes | str = pair.name
    if not pair.name.startswith(b"\0"):
        os.makedirs(os.path.dirname(pair.name) or b".", mode=0o755, exist_ok=True)
    with socket.socket(socket.AF_UNIX, pair.kind) as listener:
        listener.bind(name)
        if not pair.name.startswith(b"\0"):
            os.chmod(name, 0o777)
        _become(caller)  # who listens is whom the caller is told of
        listener.listen(1)
        _become(accepted)
        called = socket.socket(socket.AF_UNIX, pair.kind)
        called.connect(name)
        _become(None)
        answered, _address = listener.accept()
    if not pair.name.startswith(b"\0"):
        os.unlink(name)
    return called, answered


def _become(end: End | None) -> None:
    """Take the identity that ``end`` is told of its peer; None: our own again."""
    os.seteuid(0)
    os.setegid(0)
    if end is not None and _NOBODY not in (end.user, end.group):
        os.setegid(end.group)
        os.seteuid(end.user)


def _call(callee: Place, calls: t.Sequence[Call], processes: t.Mapping[str, t.Iterable[int]]) -> None:
    """Let restored sockets call the one that they had called, in their order."""
    where = _process(callee, processes)
    asking: list[tuple[socket.socket, End, Call]] = []
    try:
        for call in calls:
            pid = _process(call.caller, processes)
            end = socket.socket(fileno=take_descriptor(pid, call.caller.descriptor))
            asking.append((end, End("", 0, *procfs.effective_ids(pid)), call))

        def work() -> t.Iterable[int]:
            sockets.stand_where(where)
            os.setgroups([])
            for end, identity, call in asking:
                # Who accepts a connection may want to know whose it is.
                _become(None if end.type == socket.SOCK_DGRAM else identity)
                blocks = os.get_blocking(end.fileno())
                os.set_blocking(end.fileno(), False)  # a full queue is an error, not a wait
                try:
                    end.connect(call.name)
                finally:
                    os.set_blocking(end.fileno(), blocks)
            return []

        aside(work)
    finally:
        for end, _identity, _call in asking:
            end.close()


def _process(place: Place, processes: t.Mapping[str, t.Iterable[int]]) -> int:
    for pid in processes[place.container]:
        if procfs.inner_pid(pid) == place.pid:
            return pid
    raise RestoreFailed(f"process {place.pid} of container {place.container} was not restored")
