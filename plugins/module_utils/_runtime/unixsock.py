# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The unix sockets of a pod: the kernel's table of them, who holds them, and which of them join two containers."""

from __future__ import annotations

import os
import socket
import struct
import typing as t

from .._common.errors import CommandFailed
from .aside import aside, enter_network

STREAM, DGRAM, SEQPACKET = int(socket.SOCK_STREAM), int(socket.SOCK_DGRAM), int(socket.SOCK_SEQPACKET)
LISTEN = 10
MOST = 200
"""Connections between containers that are carried: as many descriptors fit into every limit on the way."""

_SOCK_DIAG, _BY_FAMILY = 4, 20
_REQUEST_DUMP, _ERROR, _DONE, _INTERRUPTED = 0x301, 2, 3, 0x10
_SHOW = 0x01 | 0x02 | 0x04 | 0x08 | 0x10  # name, file, peer, those that wait, lengths of the queues
_NAME, _FILE, _PEER, _WAITING, _QUEUES = range(5)


class Entry(t.NamedTuple):
    """A socket as the kernel lists it."""

    inode: int
    kind: int
    state: int
    peer: int = 0
    name: bytes = b""
    file: int = 0
    """Inode of the file that it is bound to."""
    waiting: t.Tuple[int, ...] = ()
    """Of one that listens: those who connected and have not been accepted."""
    queued: int = 0
    """Bytes that wait for its reader; of datagrams, those of the first."""

    @property
    def title(self) -> str:
        """Its name for a person."""
        return self.name.replace(b"\0", b"@").decode(errors="replace") if self.name else f"nameless ({self.inode})"


class Holder(t.NamedTuple):
    """Who has a socket open."""

    container: str
    pid: int
    descriptor: int


Table = t.Mapping[int, Entry]
Holders = t.Mapping[int, t.Sequence[Holder]]


class Findings(t.NamedTuple):
    """What is between the containers of a pod."""

    pairs: t.Tuple[t.Tuple[Entry, Entry], ...] = ()
    """Both ends of a connection; the second is the one that was accepted, if one can tell."""
    calls: t.Tuple[t.Tuple[Entry, Entry], ...] = ()
    """One that called another by its name, and the one that it called: datagrams, or not accepted yet."""
    problems: t.Tuple[str, ...] = ()
    """What cannot be carried, in words."""
    outside: t.Tuple[str, ...] = ()
    """Connections whose other end nobody in the pod has open, in words. It may be on its way from one process to another:
    CRIU knows when it dumps."""


def observer(network: str) -> socket.socket:
    """A socket to ask the kernel through about the network namespace at ``network``.

    :raises CommandFailed: there is no such namespace.
    """

    def work() -> t.Iterable[int]:
        enter_network(network)
        return [socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG).detach()]

    return socket.socket(fileno=aside(work)[0])


def table(asked: socket.socket) -> dict[int, Entry]:
    """All unix sockets of the namespace that ``asked`` (see :func:`observer`) belongs to, by inode.

    :raises CommandFailed: the kernel cannot list them (its module ``unix_diag`` is missing).
    """
    for _attempt in range(3):
        asked.send(
            struct.pack("=IHHII", 40, _BY_FAMILY, _REQUEST_DUMP, 1, 0)
            + struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW, 0, 0)
        )
        found: dict[int, Entry] = {}
        whole, ended = True, False
        while not ended:
            still, ended = _receive(asked.recv(1 << 16), found)
            whole = whole and still
        if whole:
            return found
    raise CommandFailed("the kernel's list of unix sockets kept changing while it was read")


def _receive(data: bytes, found: dict[int, Entry]) -> tuple[bool, bool]:
    """Take one message apart; (nothing changed meanwhile, it was the last)."""
    position, whole = 0, True
    while position + 16 <= len(data):
        length, kind, flags, _sequence, _port = struct.unpack_from("=IHHII", data, position)
        body = data[position + 16 : position + length]
        whole = whole and not flags & _INTERRUPTED
        if kind == _ERROR:
            (code,) = struct.unpack_from("=i", body)
            raise CommandFailed(
                f"the kernel does not list unix sockets: {os.strerror(-code)}", "Load its module unix_diag."
            )
        if kind == _DONE:
            return whole, True
        entry = parse(body)
        found[entry.inode] = entry
        position += length + 3 & ~3
    return whole, False


def parse(body: bytes) -> Entry:
    """One ``unix_diag_msg`` with its attributes."""
    _family, kind, state, _pad, inode = struct.unpack_from("=BBBBI", body)
    values: dict[int, bytes] = {}
    position = 16
    while position + 4 <= len(body):
        length, attribute = struct.unpack_from("=HH", body, position)
        if length < 4:
            break
        values[attribute] = body[position + 4 : position + length]
        position += length + 3 & ~3
    waiting = values.get(_WAITING, b"")
    name = values.get(_NAME, b"")
    if not name.startswith(b"\0"):
        name = name.rstrip(b"\0")  # a path is told with its end
    queued = struct.unpack_from("=I", values[_QUEUES])[0] if _QUEUES in values else 0
    return Entry(
        inode=inode, kind=kind, state=state, queued=queued, name=name,
        peer=struct.unpack("=I", values[_PEER])[0] if _PEER in values else 0,
        file=struct.unpack_from("=I", values[_FILE])[0] if _FILE in values else 0,
        waiting=struct.unpack(f"={len(waiting) // 4}I", waiting),
    )  # fmt: skip


def steady(before: Table, after: Table) -> dict[int, Entry]:
    """The sockets that were the whole time there, with the same peer. Of others it cannot be told who holds their other end."""
    return {inode: entry for inode, entry in after.items() if inode in before and before[inode].peer == entry.peer}


def holders(containers: t.Mapping[str, t.Iterable[int]]) -> dict[int, list[Holder]]:
    """Who holds which socket, by inode. ``containers``: name to process ids."""
    found: dict[int, list[Holder]] = {}
    for container, pids in containers.items():
        for pid in pids:
            folder = f"/proc/{pid}/fd"
            try:
                names = os.listdir(folder)
            except OSError:
                continue
            for name in names:
                try:
                    link = os.readlink(f"{folder}/{name}")
                except OSError:
                    continue
                if link.startswith("socket:["):
                    found.setdefault(int(link[8:-1]), []).append(Holder(container, pid, int(name)))
    return found


def between(entries: Table, held: Holders) -> Findings:
    """Which sockets join two containers, and how they can come along."""
    pairs: list[tuple[Entry, Entry]] = []
    calls: list[tuple[Entry, Entry]] = []
    problems: list[str] = []
    outside: list[str] = []
    for inode in sorted(entries.keys() & held.keys()):
        entry = entries[inode]
        names = sorted({holder.container for holder in held[inode]})
        if len(names) > 1:
            problems.append(f"socket {entry.title} is open in containers {' and '.join(names)} at once")
            continue
        for caller in entry.waiting if entry.state == LISTEN else ():
            if _apart(caller, inode, held):
                calls.append((entries.get(caller, Entry(caller, entry.kind, 1)), entry))
        if not entry.peer or entry.state == LISTEN:
            continue
        if entry.peer not in held:
            outside.append(f"a socket of container {names[0]} is connected to a process outside the pod")
            continue
        peer = entries.get(entry.peer)
        if not _apart(entry.peer, inode, held):
            continue
        mutual = peer is not None and peer.peer == inode
        if peer is None:
            problems.append(f"a socket of container {names[0]} is connected to another network namespace")
        elif mutual and (entry.kind != DGRAM or not (entry.name or peer.name)):
            if (entry.name, inode) < (peer.name, peer.inode):
                pairs.append((entry, peer))
        elif entry.kind == DGRAM and peer.name:
            calls.append((entry, peer))
        else:
            problems.append(f"a socket of container {names[0]} is connected to one that cannot be called again")
    if len(pairs) + len(calls) > MOST:
        problems.append(f"more than {MOST} unix sockets are connected between containers")
    return Findings(tuple(pairs), tuple(calls), tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(outside)))


def _apart(one: int, other: int, held: Holders) -> bool:
    """Whether two sockets are held by different containers, and by no more than one each."""
    first, second = ({holder.container for holder in held.get(inode, ())} for inode in (one, other))
    return len(first) == len(second) == 1 and first != second
