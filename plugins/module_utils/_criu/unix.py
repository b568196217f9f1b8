# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Unix sockets in the dumps of a pod whose containers are connected with each other.

CRIU dumps half a connection when it is told that this socket's peer is external, and restores such a socket from a descriptor
that it inherits. What it does with its own sockets at a restore (options, flags, what is in the queue) is left to others then:
it is read here from what the dump says.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import typing as t

from .._common.errors import DumpFailed, InvalidInput
from . import image
from .tcp import FILES

QUEUES = "sk-queues.img"
_UNIX = 16  # file_entry.usk
# unix_sk_entry (images/sk-unix.proto)
_ID, _INO, _STATE, _FLAGS, _UFLAGS, _PEER, _FOWN, _OPTS, _NAME, _SHUTDOWN = 1, 2, 4, 5, 6, 8, 9, 10, 11, 12
_PERMS, _NAME_DIR, _DELETED = 13, 14, 15
_FOWN_PID, _SO_FILTER = 5, 16
_EXTERN, _CALLBACK = 1, 4
_CLOSED = 7
_PACKET_FOR, _PACKET_LENGTH, _PACKET_CONTROL = 1, 2, 4
_BOTH_WAYS = {1: socket.SHUT_RD, 2: socket.SHUT_WR, 3: socket.SHUT_RDWR}
SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE, _SO_BUF_LOCK, _SO_MARK, _SO_PASSSEC = 33, 72, 36, 34

# sk_opts_entry (images/sk-opts.proto): numbers that are given back as they are, and those that only count when set
_NUMBERS = {8: socket.SO_PRIORITY, 9: socket.SO_RCVLOWAT, 10: _SO_MARK, 25: _SO_BUF_LOCK}
_SWITCHES = {11: socket.SO_PASSCRED, 12: _SO_PASSSEC, 18: socket.SO_BROADCAST, 19: socket.SO_KEEPALIVE,
             23: socket.SO_OOBINLINE}  # fmt: skip


class Packet(t.NamedTuple):
    """What lies in a queue: one message, or a piece of a stream."""

    owner: int
    """CRIU's number of the socket whose queue it is."""
    data: bytes
    descriptors: bool
    """Whether it carries open files."""


class Socket(t.NamedTuple):
    """A socket as it was dumped."""

    number: int
    inode: int
    flags: int
    """Of the open file: ``O_NONBLOCK`` and the like."""
    shutdown: int
    options: image.Message
    signals: bool
    """Whether its owner wants signals."""


def external(inodes: t.Iterable[int]) -> list[str]:
    """CRIU's options for a dump in which the peers of these sockets lie outside."""
    return [f"external unix[{inode}]" for inode in inodes]


def inherited(descriptors: t.Mapping[int, int]) -> list[str]:
    """CRIU's options for a restore that gets sockets ready made; inode in the dump to descriptor in CRIU."""
    return [f"inherit-fd fd[{number}]:socket:[{inode}]" for inode, number in sorted(descriptors.items())]


def sockets(images: str, inodes: t.Container[int]) -> dict[int, Socket]:
    """The sockets with these inodes in the dump at ``images``."""
    _header, entries = image.read(os.path.join(images, FILES))
    found = {}
    for entry in map(_socket, entries):
        if entry is not None and entry.number(_INO) in inodes and not entry.number(_UFLAGS) & _EXTERN:
            owner, options = entry.data(_FOWN), entry.data(_OPTS)
            found[entry.number(_INO)] = Socket(
                entry.number(_ID), entry.number(_INO), entry.number(_FLAGS), entry.number(_SHUTDOWN),
                image.Message(options or b""), bool(image.Message(owner or b"").number(_FOWN_PID)),
            )  # fmt: skip
    return found


def packets(images: str, owners: t.Container[int]) -> list[Packet]:
    """What lies in the queues of these sockets (CRIU's numbers), in its order.

    :raises InvalidInput: the image is cut off.
    """
    path = os.path.join(images, QUEUES)
    if not os.path.exists(path):
        return []
    found: list[Packet] = []
    with open(path, "rb") as stream:
        stream.seek(image.HEADER_BYTES)
        while True:
            head = stream.read(4)
            if not head:
                return found
            entry = image.Message(_exactly(stream, struct.unpack("<I", head)[0]))
            length = entry.number(_PACKET_LENGTH)
            if entry.number(_PACKET_FOR) in owners:
                descriptors = entry.data(_PACKET_CONTROL) is not None
                found.append(Packet(entry.number(_PACKET_FOR), _exactly(stream, length), descriptors))
            else:
                stream.seek(length, os.SEEK_CUR)


def _exactly(stream: t.BinaryIO, length: int) -> bytes:
    data = stream.read(length)
    if len(data) != length:
        raise InvalidInput(f"{QUEUES} is cut off")
    return data


def mend(images: str, ready_made: t.Container[int], alone: t.Container[int]) -> None:
    """Change the dump at ``images`` to what a restore of this one container can bring back.

    :param ready_made: sockets that come by inheritance: CRIU must neither bind them (it would remove the file of the one
        that listens under that name) nor look for somebody who fills their queue.
    :param alone: sockets that come back connected with nobody.
    """
    path = os.path.join(images, FILES)
    header, entries = image.read(path)
    image.write(path, header, [_mended(entry, ready_made, alone) for entry in entries])


def _mended(content: bytes, ready_made: t.Container[int], alone: t.Container[int]) -> bytes:
    entry = _socket(content)
    if entry is None or entry.number(_UFLAGS) & _EXTERN:
        return content
    if entry.number(_INO) in ready_made:
        entry.fields = [field for field in entry.fields if field[0] not in (_PERMS, _NAME_DIR, _DELETED)]
        entry.set(_NAME, b"")
        entry.set(_UFLAGS, _CALLBACK)
    elif entry.number(_INO) in alone:
        entry.set(_PEER, 0)
        entry.set(_STATE, _CLOSED)
    else:
        return content
    message = image.Message(content)
    message.set(_UNIX, entry.encode())
    return message.encode()


def check(found: t.Iterable[Socket], queues: t.Sequence[Packet], expected: t.Mapping[int, int]) -> None:
    """Look whether the sockets ``found`` can be given all that they had.

    :param expected: bytes in the queue by the kernel's account, by inode.
    :raises DumpFailed: they cannot.
    """
    if any(packet.descriptors for packet in queues):
        raise DumpFailed(
            "an open file is on its way from one container to another, through a unix socket", "Migrate again."
        )
    for entry in found:
        there = sum(len(packet.data) for packet in queues if packet.owner == entry.number)
        if there != expected.get(entry.inode, there):
            raise DumpFailed(
                f"of {expected[entry.inode]} bytes on their way through a unix socket CRIU has dumped {there}",
                "Migrate again; if it stays, the application sends empty or out-of-band messages between its containers.",
            )
        if entry.signals or any(field[0] == _SO_FILTER for field in entry.options.fields):
            raise DumpFailed(
                "a unix socket between two containers has a filter, or its owner asked for signals",
                "Let the application close it before the migration.",
            )


def settle(made: socket.socket, like: Socket) -> None:
    """Give a new socket what the old one had. Its queue, and its peer's, must be full by then.

    :raises OSError: the kernel refuses.
    """
    options = like.options
    fcntl.fcntl(made, fcntl.F_SETFL, like.flags)
    for field, name in ((1, SO_SNDBUFFORCE), (2, _SO_RCVBUFFORCE)):
        made.setsockopt(socket.SOL_SOCKET, name, options.number(field) // 2)  # the kernel doubles it
    for field, name in _NUMBERS.items():
        if options.number(field, -1) >= 0:
            made.setsockopt(socket.SOL_SOCKET, name, options.number(field))
    for field, name in _SWITCHES.items():
        if options.number(field):
            made.setsockopt(socket.SOL_SOCKET, name, 1)
    for field, name in ((3, socket.SO_SNDTIMEO), (5, socket.SO_RCVTIMEO)):
        made.setsockopt(socket.SOL_SOCKET, name, struct.pack("@ll", options.number(field), options.number(field + 1)))
    if options.number(24, -1) >= 0:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, options.number(24)))
    if like.shutdown in _BOTH_WAYS:
        made.shutdown(_BOTH_WAYS[like.shutdown])


def _socket(content: bytes) -> image.Message | None:
    inner = image.Message(content).data(_UNIX)
    return image.Message(inner) if inner is not None else None
