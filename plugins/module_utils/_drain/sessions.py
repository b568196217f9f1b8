# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""One session a node for many migrations: each gets a handle that hears of its own runs only.

A login and a Python start on the node cost processor time that a pod which is frozen just then would have to wait for.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from .._migrate.ports import InventoryHost, JsonDict, OpenSession
from .._migrate.session import Event, NodeSession

Sink = Callable[[Event], None]


class SharedSessions:
    """Opens what is asked for once, again when it was lost, and closes all of it at the end. Safe to use from threads."""

    def __init__(self, open_session: OpenSession) -> None:
        self._open_session = open_session
        self._lock = threading.Lock()
        self._nodes: dict[str, _Node] = {}

    def open(self, host: InventoryHost, node: str, sink: Sink) -> NodeSession:
        """A handle to the node's session. Raises SessionLost, NodeError."""
        with self._lock:
            shared = self._nodes.setdefault(node, _Node(node))
        return shared.join(lambda on_event: self._open_session(host, node, on_event), sink)

    def close(self) -> None:
        """End every session; the nodes see the end of their input."""
        with self._lock:
            nodes, self._nodes = list(self._nodes.values()), {}
        for node in nodes:
            node.close()


class _Node:
    """The session to one node and who listens to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._opening = threading.Lock()
        self._lock = threading.Lock()
        self._session: NodeSession | None = None
        self._handles: list[Handle] = []

    def join(self, opener: Callable[[Sink], NodeSession], sink: Sink) -> Handle:
        with self._opening:  # the second one waits and finds the session of the first
            if self._session is None or not self._session.alive:
                if self._session is not None:
                    self._session.close()
                self._session = opener(self._pass_on)
            handle = Handle(self, self._session, sink)
        with self._lock:
            self._handles.append(handle)
        return handle

    def leave(self, handle: Handle) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._handles.remove(handle)

    def _pass_on(self, event: Event) -> None:
        with self._lock:
            handles = list(self._handles)
        for handle in handles:
            handle.hear(event)

    def close(self) -> None:
        with self._opening:
            session, self._session = self._session, None
        if session is not None:
            session.close()


class Handle:
    """One migration's share of a session. It is as alive as the session that it was given, whatever was opened since."""

    def __init__(self, node: _Node, session: NodeSession, sink: Sink) -> None:
        self._node = node
        self._session = session
        self._sink = sink
        self._runs: set[str] = set()
        self._closed = False

    @property
    def alive(self) -> bool:
        return not self._closed and self._session.alive

    def call(self, op: str, *, timeout_s: float = 30.0, **args: Any) -> JsonDict:
        """As ``Session.call``; from the first request about a run on, its events come here."""
        if args.get("run"):
            self._runs.add(str(args["run"]).partition(".")[0])
        return self._session.call(op, timeout_s=timeout_s, **args)

    def hear(self, event: Event) -> None:
        if not event.run or event.run.partition(".")[0] in self._runs:
            self._sink(event)

    def close(self) -> None:
        """Hear no more. The session stays: others use it."""
        self._closed = True
        self._node.leave(self)


class Remembered:
    """Sessions for a survey: what was asked once is not asked again, because the answers are to fit together."""

    _LASTING = frozenset(("facts", "inspect", "image", "runs"))

    def __init__(self, open_session: OpenSession) -> None:
        self._open_session = open_session
        self._answers: dict[tuple[str, str, str], JsonDict] = {}

    def open(self, host: InventoryHost, node: str, sink: Sink) -> NodeSession:
        """Raises SessionLost, NodeError."""
        return _Memory(node, self._open_session(host, node, sink), self._answers, self._LASTING)


class _Memory:
    def __init__(
        self,
        node: str,
        session: NodeSession,
        answers: dict[tuple[str, str, str], JsonDict],
        lasting: frozenset[str],
    ) -> None:
        self._node = node
        self._session = session
        self._answers = answers
        self._lasting = lasting

    @property
    def alive(self) -> bool:
        return self._session.alive

    def call(self, op: str, *, timeout_s: float = 30.0, **args: Any) -> JsonDict:
        if op not in self._lasting:
            return self._session.call(op, timeout_s=timeout_s, **args)
        key = (self._node, op, repr(sorted(args.items())))
        if key not in self._answers:
            self._answers[key] = self._session.call(op, timeout_s=timeout_s, **args)
        return self._answers[key]

    def close(self) -> None:
        self._session.close()
