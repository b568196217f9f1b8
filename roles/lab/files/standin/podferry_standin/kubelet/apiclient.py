# SPDX-License-Identifier: Apache-2.0
"""The API as a kubelet uses it: requests with deadlines, and a watch."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

Obj = dict[str, Any]

_REQUEST_SECONDS = 10.0
_WATCH_SECONDS = 300

# A watch only reads: without probes a node that was cut off waits for the server's next retransmission, for minutes.
_PROBES = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))


class ApiError(Exception):
    """An answer that is not 2xx, or none (code 0)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Api:
    """A client with the node's certificate; one connection a thread."""

    def __init__(self, server: str, tls: ssl.SSLContext) -> None:
        parts = urllib.parse.urlsplit(server)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._tls = tls
        self._local = threading.local()

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)

    def request(self, method: str, path: str, body: Obj | None = None, content_type: str = "application/json") -> Obj:
        """One request; a connection that the server closed meanwhile is opened again once.

        :raises ApiError:
        """
        data = None if body is None else json.dumps(body)
        headers = {} if data is None else {"Content-Type": content_type}
        for attempt in (1, 2):
            connection: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
            fresh = connection is None
            connection = connection or self._connect(_REQUEST_SECONDS)
            self._local.connection = connection
            try:
                connection.request(method, path, data, headers)
                answer = connection.getresponse()
                raw = answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._local.connection = None
                if fresh or attempt == 2 or isinstance(error, TimeoutError):
                    raise ApiError(0, f"{method} {path}: {error!r}") from error
                continue
            parsed: Obj = json.loads(raw) if raw else {}
            if answer.status >= 300:
                raise ApiError(answer.status, str(parsed.get("message", raw[:200])))
            return parsed
        raise AssertionError("unreachable")

    def merge(self, path: str, body: Obj) -> Obj:
        """A merge patch."""
        return self.request("PATCH", path, body, "application/merge-patch+json")

    def strategic(self, path: str, body: Obj) -> Obj:
        """A strategic merge patch."""
        return self.request("PATCH", path, body, "application/strategic-merge-patch+json")

    def watch(self, path: str, query: dict[str, str], revision: str) -> Iterator[Obj]:
        """Watch events from a revision on, until the server ends the stream.

        :raises ApiError: also for an ERROR event, with its code
        """
        asked = {
            **query,
            "watch": "1",
            "resourceVersion": revision,
            "timeoutSeconds": str(_WATCH_SECONDS),
            "allowWatchBookmarks": "1",
        }
        connection = self._connect(_REQUEST_SECONDS)
        try:
            connection.connect()
            _watch_over(connection.sock)
            connection.request("GET", f"{path}?{urllib.parse.urlencode(asked)}")
            answer = connection.getresponse()
            if answer.status != 200:
                raise ApiError(answer.status, answer.read().decode(errors="replace")[:200])
            while line := answer.readline():
                event: Obj = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 500), event["object"].get("message", ""))
                yield event
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ApiError(0, f"watch {path}: {error!r}") from error
        finally:
            connection.close()


def _watch_over(sock: socket.socket) -> None:
    """Let a connection that waits for events fail soon after its peer is out of reach."""
    sock.settimeout(_WATCH_SECONDS + 30)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _PROBES:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
