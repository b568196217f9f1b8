# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""TCP connections in a dump: those within the pod are restored, all others become sockets that were shut down.

CRIU restores all connections of an image or closes all (``tcp-close``). What it does to close one is done here to the image,
for the connections that leave the pod: the same state, and the shutdown in both directions.
"""

from __future__ import annotations

import os
import socket
import struct
import typing as t

from .._runtime.procfs import is_loopback
from . import image

FILES = "files.img"
_INET, _TCP = 4, 6  # file_entry.isk; IPPROTO_TCP
# inet_sk_entry (images/sk-inet.proto)
_PROTO, _STATE, _SRC_PORT, _DST_PORT, _SRC, _DST, _SHUTDOWN = 5, 6, 7, 8, 11, 12, 19
_CONNECTED = (1, 2, 4, 5, 8, 9, 11)  # ESTABLISHED SYN_SENT FIN_WAIT1 FIN_WAIT2 CLOSE_WAIT LAST_ACK CLOSING
_CLOSED, _BOTH = 7, 3

End = t.Tuple[str, int]


class Connection(t.NamedTuple):
    """One end of a connection."""

    source: End
    destination: End

    @property
    def other_end(self) -> Connection:
        """The same connection, seen from the peer."""
        return Connection(self.destination, self.source)

    @property
    def inner(self) -> bool:
        """Whether it stays on the loopback of its pod: those addresses are the same on every node."""
        return is_loopback(self.source[0]) and is_loopback(self.destination[0])


def connections(images: str) -> list[Connection]:
    """All ends of connections in the dump at ``images``."""
    _header, entries = image.read(os.path.join(images, FILES))
    found = (_connection(image.Message(entry).data(_INET)) for entry in entries)
    return [connection for connection in found if connection is not None]


def close(images: str, wanted: t.Callable[[Connection], bool]) -> int:
    """Close the connections that are ``wanted``; returns how many."""
    path = os.path.join(images, FILES)
    header, entries = image.read(path)
    closed = 0
    written = []
    for entry in entries:
        message = image.Message(entry)
        inner = message.data(_INET)
        connection = _connection(inner)
        if inner is not None and connection is not None and wanted(connection):
            socket_entry = image.Message(inner)
            # Neither bound nor connected: its address does not exist on the target.
            for field, value in ((_STATE, _CLOSED), (_SRC_PORT, 0), (_DST_PORT, 0), (_SHUTDOWN, _BOTH)):
                socket_entry.set(field, value)
            message.set(_INET, socket_entry.encode())
            closed += 1
            written.append(message.encode())
        else:
            written.append(entry)
    if closed:
        image.write(path, header, written)
    return closed


def _connection(inner: bytes | None) -> Connection | None:
    if inner is None:
        return None
    entry = image.Message(inner)
    if entry.number(_PROTO) != _TCP or entry.number(_STATE) not in _CONNECTED:
        return None
    return Connection(
        (address(entry.numbers(_SRC)), entry.number(_SRC_PORT)),
        (address(entry.numbers(_DST)), entry.number(_DST_PORT)),
    )


def address(words: t.Sequence[int]) -> str:
    """Addresses are 32-bit words in the byte order of the network."""
    packed = b"".join(struct.pack("<I", word & 0xFFFFFFFF) for word in words)
    if len(packed) == 4:
        return socket.inet_ntop(socket.AF_INET, packed)
    if len(packed) != 16:
        return ""
    text = socket.inet_ntop(socket.AF_INET6, packed)
    return text[7:] if text.startswith("::ffff:") and "." in text else text
