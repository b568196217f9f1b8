# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The connection between two ferries: JSON messages and blocks of data, in order.

A frame is a type byte, a big-endian 32-bit length and that many bytes. Used by one thread only.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import time
import typing as t

from .._common import faults
from .._common.errors import InvalidInput, LinkLost
from .pace import Pace

_HEADER = struct.Struct(">cI")
_JSON = b"J"
_DATA = b"D"
MAX_JSON = 4 << 20
BLOCK = 1 << 20
"""Bytes of a data frame at the most."""

Message = t.Dict[str, t.Any]


class Link:
    """One end of the connection.

    :param role: whose end this is, for the names of fault points.
    :param silence: seconds without a word from the other end after which it counts as lost.
    """

    def __init__(self, connection: ssl.SSLSocket | socket.socket, silence: float, role: str = "") -> None:
        self._connection = connection
        self.silence = silence
        self.role = role
        self._buffer = bytearray(BLOCK)
        self._heard = time.monotonic()
        self._spoke = time.monotonic()
        self.sent = 0
        self.received = 0
        self.pace: Pace | None = None
        """How fast blocks may be sent. Nobody sets it in the freeze."""
        connection.settimeout(silence)

    def fileno(self) -> int:
        """For select(2)."""
        return self._connection.fileno()

    def close(self) -> None:
        """End the connection; the other end notices."""
        try:
            self._connection.close()
        except OSError:
            pass

    def send(self, kind: str, **fields: t.Any) -> None:
        """Send a message.

        :raises LinkLost: the other end does not take it.
        """
        faults.point(f"{self.role}:send:{kind}:before")
        self._write(_JSON, json.dumps({"m": kind, **fields}).encode())
        faults.point(f"{self.role}:send:{kind}:after")

    def send_data(self, block: t.Union[bytes, memoryview]) -> None:
        """Send a block of the stream that is open.

        :raises LinkLost: the other end does not take it.
        """
        if self.pace is not None:
            self.pace.wait(self.beat)
            self.pace.take(len(block))
        self._write(_DATA, block)

    def _write(self, kind: bytes, payload: t.Union[bytes, memoryview]) -> None:
        try:
            self._connection.sendall(_HEADER.pack(kind, len(payload)))
            self._connection.sendall(payload)
        except OSError as error:
            raise LinkLost(f"the connection to the other node broke: {error}") from error
        self.sent += len(payload)
        self._spoke = time.monotonic()

    def beat(self) -> None:
        """Say that we are alive, unless something was said just now."""
        if time.monotonic() - self._spoke > self.silence / 6:
            self.send("beat")

    def readable(self, timeout: float, *others: t.Any) -> bool:
        """Wait until a frame or one of ``others`` is there; True for a frame."""
        if isinstance(self._connection, ssl.SSLSocket) and self._connection.pending():
            return True
        try:
            ready, _w, _x = select.select([self._connection, *others], [], [], timeout)
        except (OSError, ValueError) as error:
            raise LinkLost(f"the connection to the other node broke: {error}") from error
        return self._connection in ready

    def check_alive(self) -> None:
        """:raises LinkLost: the other end has been silent for too long."""
        silent = time.monotonic() - self._heard
        if silent > self.silence:
            raise LinkLost(f"the other node has been silent for {silent:.1f} s")

    def receive(self) -> t.Union[Message, memoryview]:
        """Read the next frame: a message, or a block (valid until the next call).

        :raises LinkLost: the connection broke or stalls in the middle of a frame.
        :raises InvalidInput: it is not our protocol.
        """
        header = bytearray(_HEADER.size)
        self._fill(memoryview(header))
        kind, length = _HEADER.unpack(header)
        if kind == _DATA and length <= BLOCK:
            view = memoryview(self._buffer)[:length]
            self._fill(view)
            self.received += length
            return view
        if kind != _JSON or length > MAX_JSON:
            raise InvalidInput(
                "the other end does not speak podferry's protocol", "Run playbooks/bootstrap.yml for both nodes."
            )
        text = bytearray(length)
        self._fill(memoryview(text))
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidInput("the other end sent a message that is no JSON") from error
        if not isinstance(message, dict) or not isinstance(message.get("m"), str):
            raise InvalidInput("the other end sent a message without a kind")
        return message

    def _fill(self, view: memoryview) -> None:
        while view:
            try:
                count = self._connection.recv_into(view)
            except OSError as error:
                raise LinkLost(f"the connection to the other node broke: {error}") from error
            if not count:
                raise LinkLost("the other node closed the connection")
            view = view[count:]
        self._heard = time.monotonic()

    def message(self, timeout: float = 0.0) -> Message | None:
        """Return the next message that is not a heartbeat, or None when none comes within ``timeout`` seconds.

        :raises LinkLost: the connection broke.
        """
        deadline = time.monotonic() + timeout
        while True:
            if not self.readable(max(0.0, min(deadline - time.monotonic(), 0.2))):
                self.beat()
                self.check_alive()
                if time.monotonic() >= deadline:
                    return None
                continue
            frame = self.receive()
            if isinstance(frame, memoryview):
                raise InvalidInput("data came where a message was due")
            if frame["m"] == "ping":
                self.send("pong", n=frame.get("n"), t=time.monotonic_ns())
            elif frame["m"] != "beat":
                return frame
            if time.monotonic() >= deadline:  # also when the other end never stops to say that it is alive
                return None


def clock_offset(link: Link, rounds: int = 8) -> tuple[int, float]:
    """Measure the other end's CLOCK_MONOTONIC against ours, as NTP does: the round trip that was shortest counts.

    :returns: (their clock minus ours in ns, the shortest round trip in ms).
    """
    best, offset = float("inf"), 0
    for number in range(rounds):
        sent = time.monotonic_ns()
        link.send("ping", n=number)
        answer = link.message(link.silence)
        now = time.monotonic_ns()
        if answer is None or answer["m"] != "pong" or answer.get("n") != number or not isinstance(answer.get("t"), int):
            raise LinkLost("the other node does not answer pings")
        if now - sent < best:
            best, offset = now - sent, answer["t"] - (sent + now) // 2
    return int(offset), best / 1e6
