# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The controller's end of a session: JSON lines over a pair of pipes, answers by id, events at any time."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from .errors import NodeError, SessionLost

JsonDict = dict[str, Any]

_LONGEST_LINE = 16 * 1024 * 1024


@dataclass(frozen=True)
class Event:
    """Something that a node told unasked. ``received`` is the controller's monotonic clock in seconds.

    ``name`` is the node's word (``phase``, ``progress``, ``end``...) or ``closed`` for the end of the session itself.
    """

    node: str
    name: str
    run: str = ""
    role: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    received: float = 0.0


class NodeSession(Protocol):
    """What a run needs of a session, whether it is its own or shared with others."""

    @property
    def alive(self) -> bool: ...

    def call(self, op: str, *, timeout_s: float = 30.0, **args: Any) -> JsonDict: ...
    def close(self) -> None: ...


class Session:
    """Requests to one node. Safe to use from several threads; events come on the session's own thread."""

    def __init__(
        self,
        node: str,
        reader: IO[bytes],
        writer: IO[bytes],
        *,
        on_event: Callable[[Event], None],
        on_close: Callable[[], None] = lambda: None,
        explain: Callable[[], str] = lambda: "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``explain`` gives the last words of the transport (ssh's stderr), ``on_close`` ends it."""
        self.node = node
        self._reader = reader
        self._writer = writer
        self._on_event = on_event
        self._on_close = on_close
        self._explain = explain
        self._clock = clock
        self._changed = threading.Condition()
        self._next_id = 0
        self._awaited: set[int] = set()
        self._answers: dict[int, JsonDict] = {}
        self._ended: str | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._read, name=f"podferry-session-{node}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._ended is None

    def call(self, op: str, *, timeout_s: float = 30.0, **args: Any) -> JsonDict:
        """Ask and wait for the answer.

        Raises NodeError when the node refuses or fails, SessionLost when no answer comes: then the request may or
        may not have been carried out.
        """
        with self._changed:
            if self._ended is not None:
                raise SessionLost(self.node, self._lost())
            self._next_id += 1
            number = self._next_id
            self._awaited.add(number)
            try:
                self._writer.write(json.dumps({"id": number, "op": op, "args": args}).encode() + b"\n")
                self._writer.flush()
            except (OSError, ValueError) as exc:
                self._awaited.discard(number)
                raise SessionLost(self.node, self._lost(f"cannot write: {exc}")) from exc
            deadline = self._clock() + timeout_s
            while number not in self._answers and self.alive:
                left = deadline - self._clock()
                if left <= 0:
                    break
                self._changed.wait(min(left, 1.0))
            self._awaited.discard(number)
            answer = self._answers.pop(number, None)
        if answer is None:
            raise SessionLost(
                self.node, f"no answer to '{op}' within {timeout_s:.0f} s" if self.alive else self._lost()
            )
        return self._result(answer)

    def _result(self, answer: JsonDict) -> JsonDict:
        if answer.get("ok"):
            result = answer.get("result")
            return result if isinstance(result, dict) else {}
        error = answer.get("error") or {}
        raise NodeError(
            self.node,
            str(error.get("type") or "error"),
            str(error.get("message") or "the node gave no reason"),
            str(error.get("remedy") or ""),
            str(error.get("phase") or ""),
        )

    def close(self) -> None:
        """End the session: the node sees the end of its input. Idempotent."""
        self._closing = True
        with contextlib.suppress(OSError, ValueError):
            self._writer.close()
        self._thread.join(2.0)
        self._on_close()

    def _read(self) -> None:
        reason = "the session was closed"
        try:
            while True:
                line = self._reader.readline(_LONGEST_LINE)
                if not line:
                    break
                self._take(line)
        except (OSError, ValueError) as exc:
            reason = f"cannot read: {exc}"
        with self._changed:
            self._ended = reason
            self._changed.notify_all()
        if not self._closing:
            self._on_event(Event(self.node, "closed", data={"message": self._lost(reason)}, received=self._clock()))

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return  # a login banner or a shell's greeting on stdout
        if not isinstance(message, dict):
            return
        if "event" in message:
            self._on_event(
                Event(
                    self.node,
                    str(message["event"]),
                    str(message.get("run") or ""),
                    str(message.get("role") or ""),
                    message,
                    self._clock(),
                )
            )
        elif isinstance(message.get("id"), int):
            with self._changed:
                if message["id"] in self._awaited:
                    self._answers[message["id"]] = message
                    self._changed.notify_all()

    def _lost(self, reason: str | None = None) -> str:
        reason = reason or self._ended
        words = self._explain().strip()
        return f"the session to {self.node} ended ({reason})" + (f": {words}" if words else "")


class EventLog:
    """All events of all sessions in the order they came, for one reader."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[Event] = []

    def put(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def take(self, wait_s: float) -> Event | None:
        """The oldest event not taken yet; None when none comes within ``wait_s``."""
        with self._changed:
            if not self._events:
                self._changed.wait(wait_s)
            return self._events.pop(0) if self._events else None
