# SPDX-License-Identifier: Apache-2.0
"""The controller's end of a session, over real pipes."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import pytest

from ansible_collections.podferry.live.plugins.module_utils._migrate.errors import NodeError, SessionLost
from ansible_collections.podferry.live.plugins.module_utils._migrate.session import Event, Session


class Far:
    """The node's end, driven by the test."""

    def __init__(self) -> None:
        to_node, from_controller = os.pipe()
        to_controller, from_node = os.pipe()
        self.requests: BinaryIO = os.fdopen(to_node, "rb")
        self.answers: BinaryIO = os.fdopen(from_node, "wb", buffering=0)
        self.events: list[Event] = []
        self.session = Session(
            "node-a", os.fdopen(to_controller, "rb"), os.fdopen(from_controller, "wb"),
            on_event=self.events.append, explain=lambda: "Connection reset by peer",
        )  # fmt: skip

    def say(self, message: dict[str, Any]) -> None:
        self.answers.write(json.dumps(message).encode() + b"\n")

    def serve(self, handle: Callable[[dict[str, Any]], None]) -> None:
        def loop() -> None:
            for line in self.requests:
                handle(json.loads(line))

        threading.Thread(target=loop, daemon=True).start()


@pytest.fixture
def far() -> Iterator[Far]:
    end = Far()
    yield end
    end.answers.close()
    end.session.close()
    end.requests.close()


def test_answers_come_in_any_order(far: Far) -> None:
    held: list[int] = []

    def handle(request: dict[str, Any]) -> None:
        held.append(request["id"])
        if len(held) == 2:
            for number in reversed(held):
                far.say({"id": number, "ok": True, "result": {"n": number}})

    far.serve(handle)
    results: dict[str, Any] = {}
    threads = [threading.Thread(target=lambda op=op: results.update({op: far.session.call(op)})) for op in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert sorted(r["n"] for r in results.values()) == [1, 2]


def test_arguments_travel(far: Far) -> None:
    seen: list[Any] = []

    def handle(request: dict[str, Any]) -> None:
        seen.append(request)
        far.say({"id": request["id"], "ok": True, "result": {}})

    far.serve(handle)
    far.session.call("arm", run="0123456789ab")
    assert seen == [{"id": 1, "op": "arm", "args": {"run": "0123456789ab"}}]


def test_errors_keep_their_remedy(far: Far) -> None:
    error = {"type": "link_lost", "message": "no way", "remedy": "open the port", "phase": "prepare"}
    far.serve(lambda request: far.say({"id": request["id"], "ok": False, "error": error}))
    with pytest.raises(NodeError) as caught:
        far.session.call("ferry_start")
    assert (caught.value.type, caught.value.message, caught.value.remedy, caught.value.phase) == (
        "link_lost", "no way", "open the port", "prepare",
    )  # fmt: skip


def test_noise_and_events(far: Far) -> None:
    far.answers.write(b"Welcome to node-a!\n")
    far.say({"event": "phase", "run": "0123456789ab", "role": "source", "phase": "freeze"})
    far.serve(lambda request: far.say({"id": request["id"], "ok": True, "result": {}}))
    far.session.call("hello")
    assert [(e.name, e.role, e.data["phase"]) for e in far.events] == [("phase", "source", "freeze")]


def test_the_end_is_noticed_by_whoever_waits(far: Far) -> None:
    far.serve(lambda _request: far.answers.close())
    with pytest.raises(SessionLost, match="Connection reset by peer"):
        far.session.call("facts", timeout_s=5)
    assert not far.session.alive
    with pytest.raises(SessionLost):
        far.session.call("facts")
    assert [e.name for e in far.events] == ["closed"]


def test_no_answer(far: Far) -> None:
    with pytest.raises(SessionLost, match=r"no answer to 'facts'"):
        far.session.call("facts", timeout_s=0.05)
    assert far.session.alive


def test_closing_ends_the_nodes_input_and_is_no_event(far: Far) -> None:
    ended = threading.Event()

    def loop() -> None:
        far.requests.read()
        far.answers.close()
        ended.set()

    threading.Thread(target=loop, daemon=True).start()
    far.session.close()
    assert ended.wait(5)
    assert far.events == []
