# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What both ferries share: events, phases, the control socket, and waiting for several things at once."""

from __future__ import annotations

import json
import os
import time
import typing as t

from .._common import faults
from .._common.errors import CommandFailed, InvalidInput, PodferryError, StateConflict
from .._runtime.process import Runner
from .control import Message, Peer, Server
from .journal import Journal
from .link import Link
from .paths import RunPaths, valid_name

Mode = t.Literal["twin", "copy", "successor", "undo", "checkpoint", "restore"]
BESIDE = ("twin", "copy")
"""Modes in which the target pod stands beside the source: it is there before the freeze, and its restore decides."""


def roster(config: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What a request says about the pod's containers for the handler where it arrives, checked.

    :raises InvalidInput: names or numbers that are none.
    """
    try:
        return {
            "finished": [valid_name(name) for name in config.get("finished") or []],
            "post_start": {
                valid_name(name): [str(word) for word in words]
                for name, words in (config.get("post_start") or {}).items()
            },
            "restarts": {valid_name(name): int(count) for name, count in (config.get("restarts") or {}).items()},
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidInput(f"the pod's containers are not described as they should be: {error}") from error


class Deadlines(t.NamedTuple):
    """Seconds that steps may take."""

    idle: float = 300.0
    """Prepared and waiting for the controller."""
    claim: float = 30.0
    """From the POST of the target pod until its container's ``create`` has reached the handler."""
    freeze: float = 100.0
    """From the freeze until the commit; then the source runs again. Scaled to the pod's size by the controller."""
    restore: float = 90.0
    """From the claim until the container stands frozen: well under the kubelet's runtimeRequestTimeout."""
    settle: float = 10.0
    """From the go until the target says that it runs."""
    silence: float = 3.0
    """Without a word from the other ferry until it counts as lost."""

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any] | None) -> Deadlines:
        """:raises InvalidInput: an unknown name or something that is no positive number."""
        values: dict[str, float] = {}
        for name, value in (data or {}).items():
            if name not in cls._fields or not isinstance(value, (int, float)) or value <= 0:
                raise InvalidInput(f"deadline {name}={value!r} is not known or not positive")
            values[name] = float(value)
        return cls(**values)


class Phases:
    """Named phases with their times, relative to the first."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._entries: list[dict[str, t.Any]] = []

    def enter(self, name: str) -> None:
        """End the running phase and begin ``name``."""
        self.leave()
        now = (time.monotonic() - self._began) * 1000
        self._entries.append({"name": name, "start_ms": round(now, 2), "ms": None})

    def leave(self) -> None:
        """End the running phase."""
        if self._entries and self._entries[-1]["ms"] is None:
            now = (time.monotonic() - self._began) * 1000
            self._entries[-1]["ms"] = round(now - self._entries[-1]["start_ms"], 2)

    @property
    def current(self) -> str:
        """The phase we are in."""
        return str(self._entries[-1]["name"]) if self._entries else "start"

    def entries(self) -> list[dict[str, t.Any]]:
        """All phases so far."""
        return [dict(entry) for entry in self._entries]


class Ferry:
    """One end of a migration. Subclasses bring the steps.

    :param config: the ``ferry_start`` request.
    """

    role = ""

    def __init__(self, paths: RunPaths, config: t.Mapping[str, t.Any], server: Server, runner: Runner) -> None:
        self.paths = paths
        self.config = config
        self.server = server
        self.runner = runner
        self.journal = Journal(paths)
        self.phases = Phases()
        self.deadlines = Deadlines.from_dict(config.get("deadlines"))
        self.mode: Mode = config["mode"]
        self.link: Link | None = None

    def emit(self, event: str, **fields: t.Any) -> None:
        """Tell the controller, if one listens. Never waits for it."""
        self.server.broadcast(
            {
                "event": event, "run": self.paths.run, "role": self.role, "t": time.monotonic_ns(), "wall": time.time(),
                **fields,
            }
        )  # fmt: skip

    def peer(self) -> Link:
        """The connection to the other ferry.

        :raises StateConflict: there is none yet.
        """
        if self.link is None:
            raise StateConflict("the ferries are not connected")
        return self.link

    def context(self) -> dict[str, t.Any]:
        """What the controller wants to find again if it is lost: opaque here, kept in the journal.

        :raises InvalidInput: it is not an object, or larger than 64 KiB.
        """
        context = self.config.get("context") or {}
        if not isinstance(context, dict) or len(json.dumps(context)) > 65536:
            raise InvalidInput("the run's context must be an object of at most 64 KiB")
        return context

    def enter(self, phase: str) -> None:
        """Begin a phase and say so."""
        self.phases.enter(phase)
        self.emit("phase", phase=phase)
        faults.point(f"{self.role}:phase:{phase}")

    def mount_images(self) -> None:
        """Give this run's images a tmpfs of their own; see :func:`mount_images`."""
        mount_images(self.paths, int(self.config.get("need_bytes") or 0), self.runner)

    def pump(self) -> None:
        """Handle what the control socket has, without waiting.

        :raises PodferryError: what :meth:`on_controller_lost` or a request makes of it.
        """
        while True:
            item = self.server.next()
            if item is None:
                return
            peer, request = item
            if request is None:
                self.on_gone(peer)
                continue
            try:
                self._dispatch(peer, request)
            except PodferryError as error:
                peer.refuse(request, error)

    def _dispatch(self, peer: Peer, request: Message) -> None:
        operation = request.get("op")
        if operation == "subscribe":
            peer.subscribed = True
            peer.answer(request, {"state": self.journal.state, "phase": self.phases.current})
        elif operation == "status":
            peer.answer(
                request,
                {
                    "state": self.journal.state,
                    "phase": self.phases.current,
                    "controlled": self.server.controlled(),
                },
            )
        else:
            handler = getattr(self, f"on_{operation}", None) if isinstance(operation, str) else None
            if handler is None:
                raise StateConflict(f"the {self.role} ferry does not know {operation!r}")
            handler(peer, request)

    def on_gone(self, peer: Peer) -> None:
        """A connection ended."""

    def prepare(self) -> dict[str, t.Any]:
        """Do what can be done before anything is touched; returns the answer to ``ferry_start``."""
        raise NotImplementedError

    def run(self) -> None:
        """Carry the migration through to its end."""
        raise NotImplementedError


def mount_images(paths: RunPaths, size: int, runner: Runner) -> None:
    """Give a run's images a tmpfs of their own: never on a disk, never more than was checked for.

    :param size: bytes that they may take.
    :raises PodferryError: the node refuses.
    """
    if size <= 0:
        raise InvalidInput("need_bytes must say how much memory the images may take")
    os.makedirs(paths.images, mode=0o700, exist_ok=True)
    options = f"size={size},mode=0700,nosuid,nodev,noexec"
    done = runner(["mount", "-t", "tmpfs", "-o", options, "podferry", paths.images])
    if done.code != 0:
        raise CommandFailed(f"cannot mount a tmpfs for the images: {done.stderr.strip()}")
