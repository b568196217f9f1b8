# SPDX-License-Identifier: Apache-2.0
"""A command's output and end as the frames of a WebSocket tell them, and the container that it runs in."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import websocket

from ansible_collections.podferry.live.plugins.module_utils._kube import pod_exec
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError, KubeUnavailable

SUCCESS = json.dumps({"metadata": {}, "status": "Success"}).encode()
EXIT_3 = json.dumps(
    {
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": "command terminated with non-zero exit code",
        "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
    }
).encode()
NOT_STARTED = json.dumps(
    {
        "status": "Failure",
        "reason": "InternalError",
        "message": "executable file not found",
        "details": {"causes": [{}]},
    }
).encode()


class Connection:
    """Gives frames, then what ``end`` is: an exception, or silence."""

    def __init__(self, frames: Iterable[tuple[int, bytes]], end: BaseException | None = None) -> None:
        self.frames = list(frames)
        self.end = end or websocket.WebSocketTimeoutException()
        self.timeouts: list[float] = []

    def settimeout(self, seconds: float) -> None:
        self.timeouts.append(seconds)

    def recv_data_frame(self, control: bool) -> Any:
        assert control
        if not self.frames:
            raise self.end
        opcode, data = self.frames.pop(0)
        return opcode, SimpleNamespace(data=data)


def out(data: bytes) -> tuple[int, bytes]:
    return websocket.ABNF.OPCODE_BINARY, data


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.5
        return self.now


def follow(*frames: tuple[int, bytes], end: BaseException | None = None, timeout: float = 60) -> pod_exec.Executed:
    return pod_exec.follow(Connection(frames, end), timeout, Clock())


def test_success_with_output_of_both_kinds() -> None:
    done = follow(
        out(b"\x01h\xc3"),
        out(b"\x02err\n"),
        (websocket.ABNF.OPCODE_PING, b""),
        out(b"\x01\xa9\n"),
        out(b"\x03" + SUCCESS),
    )
    assert done == pod_exec.Executed(0, "hé\n", "err\n"), "a character may come in two frames"


def test_exit_status() -> None:
    assert follow(out(b"\x03" + EXIT_3)).rc == 3


def test_a_command_that_was_not_started() -> None:
    done = follow(out(b"\x03" + NOT_STARTED))
    assert (done.rc, done.message, done.timed_out) == (None, "executable file not found", False)


def test_channels_that_are_closed_or_unknown_are_passed_over() -> None:
    assert follow(out(b"\xff\x01"), out(b""), out(b"\x09x"), out(b"\x03" + SUCCESS)).rc == 0


@pytest.mark.parametrize("frames", [[], [(websocket.ABNF.OPCODE_CLOSE, b"")]])
def test_a_connection_that_ends_first(frames: list[tuple[int, bytes]]) -> None:
    done = follow(*frames, end=websocket.WebSocketConnectionClosedException("gone"))
    assert done.rc is None
    assert "not known" in done.message


def test_a_connection_that_breaks() -> None:
    with pytest.raises(KubeUnavailable, match="reset"):
        follow(end=ConnectionResetError("reset"))


def test_time_is_up_also_while_output_comes() -> None:
    done = follow(*[out(b"\x01y\n")] * 1000, timeout=5)
    assert (done.rc, done.timed_out) == (None, True)
    assert "had not ended after 5 s" in done.message
    assert done.stdout.startswith("y\n")
    connection = Connection([])
    pod_exec.follow(connection, 3, Clock())
    assert max(connection.timeouts) <= 1.0


def test_of_long_output_the_end_is_kept() -> None:
    done = follow(out(b"\x01" + b"a" * 70_000), out(b"\x01end"), out(b"\x03" + SUCCESS))
    assert done.truncated
    assert len(done.stdout) == 64 * 1024
    assert done.stdout.endswith("aend")


def test_the_handshakes_answer_becomes_an_error_with_its_status() -> None:
    reason = (
        "Handshake status 403 Forbidden -+-+- {'content-type': 'application/json'} -+-+- "
        'b\'{"kind":"Status","message":"pods \\"x\\" is forbidden","code":403}\''
    )
    error = pod_exec._translated(SimpleException(reason))
    assert isinstance(error, KubeError)
    assert error.status == 403
    assert "is forbidden" in error.message
    assert isinstance(pod_exec._translated(OSError("refused")), KubeUnavailable)


class SimpleException(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__("")
        self.reason = reason


def pod(*names: str, annotations: dict[str, str] | None = None, waiting: str = "") -> dict[str, Any]:
    return {
        "metadata": {"namespace": "default", "name": "web", "annotations": annotations or {}},
        "spec": {
            "containers": [{"name": n} for n in names],
            "initContainers": [{"name": "setup"}, {"name": "proxy", "restartPolicy": "Always"}],
        },
        "status": {
            "containerStatuses": [{"name": n, "state": {"waiting": {}} if n == waiting else {"running": {}}} for n in names],
            "initContainerStatuses": [{"name": "proxy", "state": {"running": {}}}],
        },
    }  # fmt: skip


def test_the_container() -> None:
    assert pod_exec.choose_container(pod("a"), "") == "a"
    assert pod_exec.choose_container(pod("a", "b"), "b") == "b"
    assert pod_exec.choose_container(pod("a", "b", annotations={pod_exec.DEFAULT_CONTAINER: "b"}), "") == "b"
    assert pod_exec.choose_container(pod("a"), "proxy") == "proxy"


@pytest.mark.parametrize(
    ("given", "wanted", "words"),
    [
        (pod("a", "b"), "", r"several containers \(a, b\): name one"),
        (pod("a"), "c", "no container c; it has a, proxy"),
        (pod("a"), "setup", "no container setup"),
        (pod("a", waiting="a"), "", "container a of pod default/web does not run"),
    ],
)
def test_no_container(given: dict[str, Any], wanted: str, words: str) -> None:
    with pytest.raises(pod_exec.NoSuchContainer, match=words):
        pod_exec.choose_container(given, wanted)


class Socket:
    """What the client's WebSocket is to ``execute``."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


def test_a_connection_that_comes_too_late_is_closed_and_the_command_not_called_unstarted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    late, asked = Socket(), threading.Event()

    def open_late(*_whatever: Any) -> Socket:
        asked.wait(10)
        return late

    monkeypatch.setattr(pod_exec, "_open", open_late)
    monkeypatch.setattr(pod_exec, "configuration", lambda _options: None)
    monkeypatch.setattr(pod_exec, "_CONNECT_S", 0.05)
    with pytest.raises(KubeUnavailable, match="whether the command was started is not known"):
        pod_exec.execute(pod_exec.AuthOptions(), "default", "web", "main", ["true"], timeout_s=1)
    asked.set()
    assert late.closed.wait(10)


def test_what_the_handshake_says_is_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_whatever: Any) -> Socket:
        raise TimeoutError("timed out")

    monkeypatch.setattr(pod_exec, "_open", refuse)
    monkeypatch.setattr(pod_exec, "configuration", lambda _options: None)
    with pytest.raises(KubeUnavailable, match="exec: timed out"):
        pod_exec.execute(pod_exec.AuthOptions(), "default", "web", "main", ["true"], timeout_s=1)
