# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""How sessions and the handler talk to a ferry on the same node: JSON lines over a unix socket that only root can reach.

A connection either subscribes to events and asks, or is a *gate* at which the handler waits. All requests are handled by
the ferry's main thread, one after the other; threads here only read and write.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import struct
import threading
import typing as t

from .._common.errors import InvalidInput, NotFound, PodferryError, from_dict

Message = t.Dict[str, t.Any]


class Peer:
    """One connection at the ferry's side."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        # A session that does not read must not hold up a ferry, least of all in the freeze.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 1, 0))
        self.pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        self.subscribed = False

    def send(self, message: Message) -> bool:
        """Send; False when the other side is gone."""
        try:
            with self._lock:
                self._connection.sendall(json.dumps(message).encode() + b"\n")
            return True
        except OSError:
            return False

    def answer(self, request: Message, result: t.Any) -> None:
        """Answer ``request``."""
        self.send({"id": request.get("id"), "ok": True, "result": result})

    def refuse(self, request: Message, error: PodferryError) -> None:
        """Answer ``request`` with an error."""
        self.send({"id": request.get("id"), "ok": False, "error": error.to_dict()})

    def lines(self) -> t.Iterator[Message]:
        """What comes, until the other side is gone."""
        with self._connection.makefile("r", encoding="utf-8") as stream:
            for line in stream:
                message = json.loads(line)
                if not isinstance(message, dict):
                    raise InvalidInput("not a request")
                yield message


class Server:
    """The ferry's control socket. :attr:`wake` becomes readable when :meth:`next` has something."""

    def __init__(self, path: str) -> None:
        self._queue: queue.Queue[tuple[Peer, Message | None]] = queue.Queue()
        self._peers: list[Peer] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(path)
        os.chmod(path, 0o600)
        self._socket.listen(8)
        self.wake, self._waker = os.pipe()
        os.set_blocking(self.wake, False)
        os.set_blocking(self._waker, False)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return
            peer = Peer(connection)
            self._peers.append(peer)
            threading.Thread(target=self._read, args=(peer,), daemon=True).start()

    def _read(self, peer: Peer) -> None:
        try:
            for message in peer.lines():
                self._put(peer, message)
        except (OSError, ValueError, PodferryError):
            pass
        self._put(peer, None)

    def _put(self, peer: Peer, message: Message | None) -> None:
        self._queue.put((peer, message))
        try:
            os.write(self._waker, b"x")
        except BlockingIOError:
            pass

    def next(self) -> tuple[Peer, Message | None] | None:
        """The next request; its message is None when that peer is gone. None when there is nothing."""
        try:
            os.read(self.wake, 64)
        except BlockingIOError:
            pass
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            return None
        if item[1] is None and item[0] in self._peers:
            self._peers.remove(item[0])
        if not self._queue.empty():
            os.write(self._waker, b"x")
        return item

    def broadcast(self, message: Message) -> None:
        """Send an event to every subscriber."""
        for peer in list(self._peers):
            if peer.subscribed:
                peer.send(message)

    def controlled(self) -> bool:
        """Whether any subscriber is there."""
        return any(peer.subscribed for peer in self._peers)


class Client:
    """The other side: a session or the handler.

    :raises NotFound: no ferry listens at ``path``.
    """

    def __init__(self, path: str, timeout: float | None = None) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(path)
        except OSError as error:
            raise NotFound("the ferry of this run is not there") from error
        self._socket.settimeout(timeout)
        self._stream = self._socket.makefile("r", encoding="utf-8")
        self._lock = threading.Lock()

    def send(self, message: Message) -> None:
        """:raises NotFound: the ferry is gone."""
        try:
            with self._lock:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise NotFound("the ferry of this run is gone") from error

    def receive(self) -> Message | None:
        """The next message, or None when the ferry is gone or silent for longer than the timeout."""
        try:
            line = self._stream.readline()
        except OSError:
            return None
        return json.loads(line) if line else None

    def close(self) -> None:
        """End the connection, also while another thread waits for its next message: that one is woken first."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        for closable in (self._stream, self._socket):
            try:
                closable.close()
            except OSError:
                continue

    def ask(self, message: Message) -> t.Any:
        """Send one request on a connection without subscription and return its result.

        :raises PodferryError: what the ferry answered.
        """
        self.send(message)
        answer = self.receive()
        if answer is None:
            raise NotFound("the ferry of this run is gone")
        if not answer.get("ok"):
            raise from_dict(answer.get("error") or {})
        return answer.get("result")
