# SPDX-License-Identifier: Apache-2.0
"""A kubelet's HTTPS port that answers what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from doubles.authority import Pair


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    client: str
    """Common name of the client's certificate."""


SILENCE = (0, "")


@dataclass
class FakeKubelet:
    """``answers`` are given one after the other, the last one again and again.

    An answer is (status, body); ``None`` ends the connection without a word, ``SILENCE`` keeps it open without one.
    """

    certificate: Pair
    client_ca: str
    answers: list[tuple[int, str] | None] = field(default_factory=lambda: [(200, "{}")])
    asked: list[Asked] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    insist: bool = False
    """Whether clients without a good certificate are refused in the handshake, as kubelets do not."""

    def __enter__(self) -> FakeKubelet:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED if self.insist else ssl.CERT_OPTIONAL
        with tempfile.NamedTemporaryFile("w") as pair:
            pair.write(self.certificate.cert + self.certificate.key)
            pair.flush()
            context.load_cert_chain(pair.name)
        self._server = _Server(("127.0.0.1", 0), _handler(self, context))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens, on the loopback."""
        port: int = self._server.server_address[1]
        return port


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what is tested."""


def _handler(kubelet: FakeKubelet, context: ssl.SSLContext) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            shown = self.request.getpeercert() or {}
            subject = {key: value for part in shown.get("subject", ()) for key, value in part}
            headers = {key.lower(): value for key, value in self.headers.items()}
            kubelet.asked.append(Asked(self.command, self.path, headers, subject.get("commonName", "")))
            answer = kubelet.answers.pop(0) if len(kubelet.answers) > 1 else kubelet.answers[0]
            if answer == SILENCE:
                kubelet.over.wait(30)
            if answer is None or answer == SILENCE:
                with contextlib.suppress(OSError):
                    self.request.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1].encode())))
            self.end_headers()
            self.wfile.write(answer[1].encode())

    return Handler
