# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A command in a container of a pod, through the API's ``exec`` over a WebSocket."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from . import predicates
from .config import AuthOptions, configuration
from .errors import KubeError, KubeUnavailable

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_STDOUT, _STDERR, _STATUS = 1, 2, 3
_KEEP = 64 * 1024
_CONNECT_S = 15.0
_TICK_S = 1.0
_HANDSHAKE = re.compile(r"Handshake status (\d{3})\s*(.*?)(?: -\+-\+- |$)", re.S)


class NoSuchContainer(Exception):
    """The pod does not run the container that the command is meant for."""


@dataclass(frozen=True)
class Executed:
    """What became of a command. ``rc`` is None when it was never started, or had not ended in time."""

    rc: int | None
    stdout: str
    stderr: str
    message: str = ""
    """Why there is no exit status."""
    timed_out: bool = False
    truncated: bool = False
    """Of a longer output only the end was kept."""


def choose_container(pod: Mapping[str, Any], wanted: str) -> str:
    """The container to run in, as ``kubectl exec`` chooses: the named one, the pod's default, the only one.

    Raises NoSuchContainer, also when it does not run.
    """
    containers = [str(c.get("name")) for c in (pod.get("spec") or {}).get("containers") or []]
    name = wanted or predicates.annotations_of(pod).get(DEFAULT_CONTAINER) or ""
    title = f"pod {predicates.metadata(pod).get('namespace')}/{predicates.name_of(pod)}"
    if not name:
        if len(containers) != 1:
            raise NoSuchContainer(f"{title} has several containers ({', '.join(containers)}): name one")
        name = containers[0]
    sidecars = [
        str(c.get("name"))
        for c in (pod.get("spec") or {}).get("initContainers") or []
        if c.get("restartPolicy") == "Always"
    ]
    if name not in containers + sidecars:
        raise NoSuchContainer(f"{title} has no container {name}; it has {', '.join(containers + sidecars)}")
    status = pod.get("status") or {}
    statuses = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
    if predicates.terminating(pod) or not any(
        s.get("name") == name and "running" in (s.get("state") or {}) for s in statuses
    ):
        raise NoSuchContainer(f"container {name} of {title} does not run")
    return name


def execute(
    options: AuthOptions, namespace: str, pod: str, container: str, command: Sequence[str], *, timeout_s: float
) -> Executed:
    """Run ``command`` and wait for its end.

    Raises KubeSetupError, KubeError, KubeUnavailable when it could not be asked for. A command that has not ended in
    time goes on in the container: the API cannot take it back.
    """
    config = configuration(options)
    # The client's WebSocket connects without a timeout of its own.
    connected: Future[Any] = Future()

    def connect() -> None:
        try:
            socket, error = _open(config, namespace, pod, container, command), None
        except Exception as exc:  # noqa: BLE001 - carried to the caller's thread
            socket, error = None, exc
        if not connected.set_running_or_notify_cancel():
            if socket is not None:
                socket.close()  # nobody waits for it any more
        elif error is not None:
            connected.set_exception(error)
        else:
            connected.set_result(socket)

    threading.Thread(target=connect, daemon=True).start()
    wait([connected], _CONNECT_S)
    if connected.cancel():
        asked = f"exec into pod {namespace}/{pod}: no answer within {_CONNECT_S:.0f} s"
        raise KubeUnavailable(f"{asked}; whether the command was started is not known")
    error = connected.exception()
    if error is not None:
        raise _translated(error)
    socket = connected.result()
    try:
        return follow(socket.sock, timeout_s)
    finally:
        socket.close()


def _open(config: Any, namespace: str, pod: str, container: str, command: Sequence[str]) -> Any:
    import kubernetes
    import kubernetes.stream

    api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(config))
    return kubernetes.stream.stream(
        api.connect_get_namespaced_pod_exec,
        pod,
        namespace,
        container=container,
        command=list(command),
        stdin=False,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )


def follow(connection: Any, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> Executed:
    """Read from a ``websocket.WebSocket`` until the command or the connection has ended, or the time is up.

    The client's own reader keeps all output twice and does not return while more comes: ``yes`` would never end.
    Raises KubeUnavailable.
    """
    import websocket

    kept = {_STDOUT: b"", _STDERR: b"", _STATUS: b""}
    truncated = timed_out = False
    deadline = clock() + timeout_s
    while not kept[_STATUS]:
        left = deadline - clock()
        if left <= 0:
            timed_out = True
            break
        connection.settimeout(min(left, _TICK_S))
        try:
            opcode, frame = connection.recv_data_frame(True)
        except websocket.WebSocketTimeoutException:
            continue
        except websocket.WebSocketConnectionClosedException:
            break
        except (websocket.WebSocketException, OSError) as exc:
            raise KubeUnavailable(f"the connection to the command broke: {exc}") from exc
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            break
        if opcode not in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) or not frame.data:
            continue
        channel, data = frame.data[0], frame.data[1:]
        if channel in kept:
            truncated = truncated or len(kept[channel]) + len(data) > _KEEP
            kept[channel] = (kept[channel] + data)[-_KEEP:]
    out, err, status = (kept[channel].decode("utf-8", "replace") for channel in (_STDOUT, _STDERR, _STATUS))
    if timed_out:
        return Executed(None, out, err, f"it had not ended after {timeout_s:.0f} s", True, truncated)
    rc, message = verdict(status)
    return Executed(rc, out, err, message, False, truncated)


def verdict(status: str) -> tuple[int | None, str]:
    """Exit status, or why there is none, from the Status object that ends an exec."""
    if not status:
        return None, "the connection ended before the command did; whether it has ended is not known"
    try:
        told = json.loads(status)
    except ValueError:
        return None, status.strip()
    if told.get("status") == "Success":
        return 0, ""
    for cause in (told.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode" and str(cause.get("message")).isdigit():
            return int(cause["message"]), ""
    return None, str(told.get("message") or "it could not be started")


def _translated(exc: BaseException) -> Exception:
    """The client wraps whatever happens at the handshake into an exception without a status."""
    reason = str(getattr(exc, "reason", None) or exc)
    found = _HANDSHAKE.search(reason)
    if found is None:
        return KubeUnavailable(f"exec: {reason}")
    body = re.search(r'"message":\s*"((?:[^"\\]|\\.)*)"', reason)
    return KubeError(int(found.group(1)), found.group(2), body.group(1) if body else found.group(2))
