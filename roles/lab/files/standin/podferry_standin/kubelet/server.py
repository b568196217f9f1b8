# SPDX-License-Identifier: Apache-2.0
"""The kubelet's HTTPS port: logs, exec and health, for clients with a certificate of the lab's authority."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import sys
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .. import tls
from . import logs
from .config import Config, flag
from .cri import Cri, CriError
from .states import RUNNING

Obj = dict[str, Any]
_CHUNK = 65536


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    config: Config
    cri: Cri
    tls: ssl.SSLContext

    def setup(self) -> None:
        """TLS in the connection's own thread, so that one client cannot hold up the others."""
        self.request.settimeout(10)
        self.request = self.tls.wrap_socket(self.request, server_side=True)
        self.request.settimeout(None)
        super().setup()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        """Logs, exec, health."""
        url = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in url.path.strip("/").split("/")]
        query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        if not self.request.getpeercert():
            self._answer(401, "Unauthorized")
        elif parts == ["healthz"]:
            self._answer(200, "ok")
        elif parts[0] == "containerLogs" and len(parts) == 4:
            self._logs(parts[1], parts[2], parts[3], {key: values[-1] for key, values in query.items()})
        elif parts[0] == "exec" and len(parts) == 4:
            self._exec(parts[1], parts[2], parts[3], query)
        elif parts[0] == "checkpoint":
            self._answer(405, "405: Method Not Allowed")
        else:
            self._answer(404, "404 page not found")

    def do_POST(self) -> None:
        """The checkpoint call: the runtime of this lab does not have it."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urllib.parse.urlsplit(self.path).path.strip("/").split("/")
        if not self.request.getpeercert():
            self._answer(401, "Unauthorized")
        elif parts[0] == "checkpoint" and len(parts) == 4 and self._find(parts[1], parts[2], parts[3], "") is None:
            self._answer(404, f"container {parts[3]} does not exist")
        elif parts[0] == "checkpoint":
            self._answer(500, "checkpointing is not implemented by this stand-in")
        else:
            self._answer(404, "404 page not found")

    def _answer(self, code: int, text: str) -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _find(self, namespace: str, pod: str, name: str, previous: str) -> Any | None:
        """The latest attempt of a container, or the one before."""
        wanted = {
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.name": pod,
            "io.kubernetes.container.name": name,
        }
        found = [item for item in self.cri.containers() if wanted.items() <= dict(item.labels).items()]
        found.sort(key=lambda item: (item.created_at, item.metadata.attempt), reverse=True)
        index = 1 if previous in ("true", "1") else 0
        return found[index] if len(found) > index else None

    def _logs(self, namespace: str, pod: str, name: str, query: dict[str, str]) -> None:
        try:
            found = self._find(namespace, pod, name, query.get("previous", ""))
        except CriError as error:
            self._answer(500, str(error))
            return
        if found is None:
            which = "previous terminated container" if query.get("previous") in ("true", "1") else "container"
            self._answer(400, json.dumps(_status(f'{which} "{name}" in pod "{pod}" not found')))
            return
        path = (
            self.config.logs
            / f"{namespace}_{pod}_{found.labels['io.kubernetes.pod.uid']}"
            / name
            / f"{found.metadata.attempt}.log"
        )
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):
            for part in logs.read(path, logs.Options.parse(query), lambda: self._runs(found.id)):
                if part:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")

    def _runs(self, container: str) -> bool:
        try:
            return bool(self.cri.container_status(container).state == RUNNING)
        except CriError:
            return False

    def _exec(self, namespace: str, pod: str, name: str, query: dict[str, list[str]]) -> None:
        """Hand the connection over to the runtime's own streaming server: bytes both ways from here on."""
        asked = {key: flag(query, key) for key in ("tty", "stdin", "stdout", "stderr")}
        try:
            found = self._find(namespace, pod, name, "")
            if found is None:
                self._answer(404, f"container {name} does not exist")
                return
            target = urllib.parse.urlsplit(self.cri.exec_url(found.id, query.get("command") or [], **asked))
        except CriError as error:
            self._answer(500, str(error))
            return
        far = socket.create_connection((target.hostname or "127.0.0.1", target.port or 80), 5)
        far.settimeout(None)
        head = [f"GET {target.path}?{target.query} HTTP/1.1".replace("? ", " "), f"Host: {target.netloc}"]
        head += [f"{key}: {value}" for key, value in self.headers.items() if key.lower() != "host"]
        far.sendall("\r\n".join([*head, "", ""]).encode())
        self._splice(far)
        self.close_connection = True

    def _splice(self, far: socket.socket) -> None:
        near: ssl.SSLSocket = self.request
        with far, contextlib.suppress(OSError):
            while True:
                ready = [near] if near.pending() else select.select([near, far], [], [])[0]
                for source in ready:
                    data = source.recv(_CHUNK)
                    if not data:
                        return
                    (far if source is near else near).sendall(data)


class _Server(ThreadingHTTPServer):
    """A client that goes away in the middle is nothing to report."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Only what is not the connection's fault."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _status(message: str) -> Obj:
    body: Obj = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return {**body, "reason": "BadRequest", "code": 400}


def serve(config: Config, cri: Cri) -> ThreadingHTTPServer:
    """A server that is ready to ``serve_forever``."""
    server_tls = tls.server(config.ca, config.certificate, config.key)
    handler = type("BoundHandler", (Handler,), {"config": config, "cri": cri, "tls": server_tls})
    server = _Server(("", config.port), handler)
    server.daemon_threads = True
    return server
