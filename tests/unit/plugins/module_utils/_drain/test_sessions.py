# SPDX-License-Identifier: Apache-2.0
"""One session for many: opened once, events to those whose run it is, a lost one is lost to all that had it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._drain.sessions import Remembered, SharedSessions
from ansible_collections.podferry.live.plugins.module_utils._migrate.errors import SessionLost
from ansible_collections.podferry.live.plugins.module_utils._migrate.ports import InventoryHost
from ansible_collections.podferry.live.plugins.module_utils._migrate.session import Event

HOST = InventoryHost("h")


class Far:
    def __init__(self, sink: Callable[[Event], None]) -> None:
        self.sink = sink
        self.alive = True
        self.calls: list[str] = []

    def call(self, op: str, *, timeout_s: float = 30.0, **args: Any) -> dict[str, Any]:
        self.calls.append(op)
        return {"n": len(self.calls)}

    def close(self) -> None:
        self.alive = False


class Opener:
    def __init__(self) -> None:
        self.opened: list[Far] = []
        self.reachable = True

    def __call__(self, _host: InventoryHost, node: str, sink: Callable[[Event], None]) -> Far:
        if not self.reachable:
            raise SessionLost(node, "no route")
        self.opened.append(Far(sink))
        return self.opened[-1]


def test_opened_once_and_closed_at_the_end() -> None:
    opener = Opener()
    shared = SharedSessions(opener)
    one, two = (shared.open(HOST, "node-a", lambda _e: None) for _again in range(2))
    other = shared.open(HOST, "node-b", lambda _e: None)
    assert len(opener.opened) == 2
    one.close()
    assert not one.alive
    assert two.alive
    assert opener.opened[0].alive, "others use it"
    shared.close()
    assert not two.alive
    assert not other.alive


def test_events_go_to_the_run_that_they_are_of() -> None:
    opener = Opener()
    shared = SharedSessions(opener)
    heard: dict[str, list[str]] = {"one": [], "two": []}
    handles = {key: shared.open(HOST, "n", lambda e, key=key: heard[key].append(e.name)) for key in heard}  # type: ignore[misc]
    handles["one"].call("ferry_start", run="111111111111")
    handles["two"].call("ferry_start", run="222222222222")
    sink = opener.opened[0].sink
    sink(Event("n", "end", "111111111111", "source"))
    sink(Event("n", "resumed", "222222222222.undo", "target"))
    sink(Event("n", "closed"))
    assert heard == {"one": ["end", "closed"], "two": ["resumed", "closed"]}
    handles["one"].close()
    sink(Event("n", "late", "111111111111"))
    assert heard["one"] == ["end", "closed"]


def test_a_lost_session_is_opened_anew_for_who_asks_but_stays_lost_for_who_had_it() -> None:
    """Who relied on events of the old one must not take the new one for it."""
    opener = Opener()
    shared = SharedSessions(opener)
    first = shared.open(HOST, "n", lambda _e: None)
    opener.opened[0].alive = False
    second = shared.open(HOST, "n", lambda _e: None)
    assert (first.alive, second.alive, len(opener.opened)) == (False, True, 2)


def test_a_node_that_cannot_be_reached_can_be_later() -> None:
    opener = Opener()
    shared = SharedSessions(opener)
    opener.reachable = False
    with pytest.raises(SessionLost):
        shared.open(HOST, "n", lambda _e: None)
    opener.reachable = True
    assert shared.open(HOST, "n", lambda _e: None).alive


def test_a_survey_asks_once() -> None:
    opener = Opener()
    remembered = Remembered(SharedSessions(opener).open)
    answers = [remembered.open(HOST, "n", lambda _e: None).call("facts") for _again in range(3)]
    assert answers == [{"n": 1}] * 3
    session = remembered.open(HOST, "n", lambda _e: None)
    assert session.call("inspect", pod="a") != session.call("inspect", pod="b")
    assert session.call("record", run="1") != session.call("record", run="1")
