# SPDX-License-Identifier: Apache-2.0
"""The kubelet's HTTPS port: logs, exec and health, for clients with a certificate of the lab's authority; checkpoints, for
those whom the API knows and allows it."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import ssl
import sys
import urllib.parse
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .. import tls
from . import logs
from .access import Access
from .apiclient import Api
from .checkpoints import Checkpoints, Refused
from .config import Config
from .cri import Cri, CriError
from .query import flag
from .states import RUNNING

Obj = dict[str, Any]
_CHUNK = 65536


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    config: Config
    cri: Cri
    tls: ssl.SSLContext
    access: Access
    checkpoints: Checkpoints

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
        if parts[0] == "checkpoint":
            self._checkpoint("get", parts[1:], query)
        elif not self.request.getpeercert():
            self._answer(401, "Unauthorized")
        elif parts == ["healthz"]:
            self._answer(200, "ok")
        elif parts[0] == "containerLogs" and len(parts) == 4:
            self._logs(parts[1], parts[2], parts[3], {key: values[-1] for key, values in query.items()})
        elif parts[0] == "exec" and len(parts) == 4:
            self._exec(parts[1], parts[2], parts[3], query)
        else:
            self._answer(404, "404 page not found")

    def do_POST(self) -> None:
        """The checkpoint call."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in url.path.strip("/").split("/")]
        if parts[0] == "checkpoint":
            self._checkpoint("create", parts[1:], urllib.parse.parse_qs(url.query, keep_blank_values=True))
        elif not self.request.getpeercert():
            self._answer(401, "Unauthorized")
        else:
            self._answer(404, "404 page not found")

    def _checkpoint(self, verb: str, parts: list[str], query: dict[str, list[str]]) -> None:
        user = self.access.user(self.request.getpeercert(), self.headers.get("Authorization", ""))
        try:
            self.checkpoints.admit(user, verb)
            if len(parts) != 3:
                raise Refused(404, "404: Page Not Found")
            if verb != "create":
                raise Refused(405, "405: Method Not Allowed")
            namespace, pod, container = parts
            body = self.checkpoints.take(namespace, pod, container, query.get("timeout") or [])
        except Refused as refused:
            self._answer(refused.status, refused.words)
        else:
            self._answer(200, body, "application/json")

    def _answer(self, code: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        body = text.encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _find(self, namespace: str, pod: str, name: str, previous: str) -> Any | None:
        """The latest attempt of a container, or the one before."""
        found = attempts(self.cri, namespace, pod, name)
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


def attempts(cri: Cri, namespace: str, pod: str, name: str) -> list[Any]:
    """The containers that the runtime has of one container of a pod, the latest first.

    :raises CriError:
    """
    wanted = {
        "io.kubernetes.pod.namespace": namespace,
        "io.kubernetes.pod.name": pod,
        "io.kubernetes.container.name": name,
    }
    found = [item for item in cri.containers() if wanted.items() <= dict(item.labels).items()]
    return sorted(found, key=lambda item: (item.created_at, item.metadata.attempt), reverse=True)


def serve(config: Config, cri: Cri, api: Api, pod: Callable[[str, str], Obj | None]) -> ThreadingHTTPServer:
    """A server that is ready to ``serve_forever``; ``pod`` finds a pod of this node by namespace and name."""

    def running(namespace: str, pod_name: str, name: str) -> Any | None:
        listed = attempts(cri, namespace, pod_name, name)
        return next((one for one in listed if one.state == RUNNING), None)

    access = Access(api, config.node)
    parts = {
        "config": config,
        "cri": cri,
        "tls": tls.server(config.ca, config.certificate, config.key),
        "access": access,
        "checkpoints": Checkpoints(cri, access, config.root / "checkpoints", pod, running),
    }
    server = _Server(("", config.port), type("BoundHandler", (Handler,), parts))
    server.daemon_threads = True
    return server
