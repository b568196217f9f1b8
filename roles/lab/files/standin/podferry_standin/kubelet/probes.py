# SPDX-License-Identifier: Apache-2.0
"""Probes of one container: startup, then liveness and readiness, each in its own thread."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from .cri import Cri, CriError

Obj = dict[str, Any]
_KINDS = ("startup", "liveness", "readiness")


class Unknown(Exception):
    """A probe without a result: the real kubelet throws it away (exec into a frozen container, for one)."""


def check(probe: Obj, container: str, ports: dict[str, int], address: str, cri: Cri) -> tuple[bool, str]:
    """Run a probe once: passed, and its output.

    :raises Unknown: it could not be run
    """
    seconds = probe.get("timeoutSeconds", 1)
    if "exec" in probe:
        try:
            done = cri.exec_sync(container, probe["exec"]["command"], seconds)
        except CriError as error:
            if error.code == "DEADLINE_EXCEEDED":
                return False, f"command timed out after {seconds}s"
            raise Unknown(str(error)) from error
        return done.exit_code == 0, (done.stdout + done.stderr).decode(errors="replace")
    if "httpGet" in probe:
        return _http(probe["httpGet"], ports, address, seconds)
    if "tcpSocket" in probe:
        target = probe["tcpSocket"]
        try:
            socket.create_connection((target.get("host") or address, _port(target["port"], ports)), seconds).close()
        except OSError as error:
            return False, str(error)
        return True, ""
    raise Unknown(f"this stand-in has no such probe: {sorted(probe)}")


def _port(port: int | str, ports: dict[str, int]) -> int:
    return port if isinstance(port, int) else ports.get(port) or int(port)


def _http(get: Obj, ports: dict[str, int], address: str, seconds: float) -> tuple[bool, str]:
    host, port = get.get("host") or address, _port(get["port"], ports)
    connection: http.client.HTTPConnection
    if get.get("scheme") == "HTTPS":
        unverified = ssl.create_default_context()
        unverified.check_hostname = False
        unverified.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=seconds, context=unverified)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=seconds)
    headers = {
        "User-Agent": "kube-probe/podferry-standin",
        **{h["name"]: h["value"] for h in get.get("httpHeaders") or []},
    }
    try:
        connection.request("GET", get.get("path", "/"), headers=headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return False, f'Get "{get.get("scheme", "HTTP").lower()}://{host}:{port}{get.get("path", "/")}": {error}'
    finally:
        connection.close()
    return 200 <= status < 400, f"HTTP probe failed with statuscode: {status}"


class Prober:
    """All probes of one running container. Results are read; changes and verdicts are called out."""

    def __init__(
        self,
        spec: Obj,
        container: str,
        address: str,
        cri: Cri,
        changed: Callable[[], None],
        failed: Callable[[str, str, bool], None],
    ) -> None:
        """:param failed: called with kind, output and whether the container has to be killed."""
        self.spec, self.container = spec, container
        self.started = "startupProbe" not in spec
        self.ready = "readinessProbe" not in spec
        self._address, self._cri = address, cri
        self._changed, self._failed = changed, failed
        self._stop = threading.Event()
        self._ports = {port["name"]: port["containerPort"] for port in spec.get("ports") or [] if port.get("name")}
        for kind in _KINDS:
            if f"{kind}Probe" in spec:
                threading.Thread(target=self._run, args=(kind,), name=f"{kind}-{spec['name']}", daemon=True).start()

    def stop(self) -> None:
        """No more probes."""
        self._stop.set()

    def _run(self, kind: str) -> None:
        probe = self.spec[f"{kind}Probe"]
        passes = failures = 0
        if self._stop.wait(probe.get("initialDelaySeconds", 0)):
            return
        while not self._stop.wait(0 if passes + failures == 0 else probe.get("periodSeconds", 10)):
            if kind != "startup" and not self.started:
                if self._stop.wait(0.2):
                    return
                continue
            try:
                passed, output = check(probe, self.container, self._ports, self._address, self._cri)
            except Unknown:
                if self._stop.wait(probe.get("periodSeconds", 10)):
                    return
                continue
            if self._stop.is_set():
                return
            passes, failures = (passes + 1, 0) if passed else (0, failures + 1)
            if not passed:
                self._failed(kind, output, kind != "readiness" and failures == probe.get("failureThreshold", 3))
            if passes == probe.get("successThreshold", 1):
                self._verdict(kind, True)
            elif failures == probe.get("failureThreshold", 3):
                self._verdict(kind, False)
            if kind == "startup" and self.started:
                return

    def _verdict(self, kind: str, value: bool) -> None:
        before = (self.started, self.ready)
        if kind == "startup" and value:
            self.started = True
        elif kind == "readiness":
            self.ready = value
        if (self.started, self.ready) != before:
            self._changed()
