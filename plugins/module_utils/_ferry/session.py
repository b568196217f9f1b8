# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The node's side of a session: JSON lines on standard input and output, for as long as the controller's connection lives.

One process a node and a run of the play: what happens in the freeze needs no new connection.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import typing as t

from .._common.digest import engine_digest
from .._common.errors import Cancelled, InvalidInput, NotFound, PodferryError, StateConflict
from .._runtime import images, inspect, process
from .._runtime.facts import collect
from .._store import operations
from . import busy, lifecycle, paths, stored, units
from .control import Client
from .record import Record

Arguments = t.Mapping[str, t.Any]
Operation = t.Callable[["Session", Arguments], t.Any]
PROTOCOL = 1
_LAST_REQUESTS_SECONDS = 60.0


class Session:
    """One controller's connection to this node."""

    def __init__(self, output: t.TextIO, runner: process.Runner) -> None:
        self._output = output
        self._lock = threading.Lock()
        self.runner = runner
        self._ferries: dict[str, Attached] = {}
        self._left = threading.Event()

    def pulse(self) -> None:
        """The pulse of work that is of no use without its controller.

        :raises Cancelled: he is gone.
        """
        if self._left.is_set():
            raise Cancelled("the controller is gone", "Run it again.")

    def say(self, message: t.Mapping[str, t.Any]) -> None:
        """Write one line to the controller; a controller that is gone is no error here."""
        try:
            with self._lock:
                self._output.write(json.dumps(message) + "\n")
                self._output.flush()
        except (OSError, ValueError):
            pass

    def serve(self, lines: t.Iterable[str]) -> None:
        """Handle requests until the controller is gone. They may overlap; answers carry their ids."""
        workers: list[threading.Thread] = []
        for line in lines:
            try:
                request = json.loads(line)
                if not isinstance(request, dict):
                    raise ValueError("not an object")
            except ValueError:
                self.say({"id": None, "ok": False, "error": InvalidInput("a request is not a line of JSON").to_dict()})
                continue
            worker = threading.Thread(target=self._handle, args=(request,), daemon=True)
            workers = [other for other in workers if other.is_alive()] + [worker]
            worker.start()
        self._left.set()
        # What was asked for is done also when nobody waits for the answer any more: a kill, a surrender, a finish.
        deadline = time.monotonic() + _LAST_REQUESTS_SECONDS
        for attached in list(self._ferries.values()):
            attached.close()
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    def _handle(self, request: dict[str, t.Any]) -> None:
        try:
            operation = OPERATIONS.get(str(request.get("op")))
            if operation is None:
                raise InvalidInput(
                    f"this node does not know {request.get('op')!r}", "Run playbooks/bootstrap.yml for it."
                )
            result = operation(self, request.get("args") or {})
            self.say({"id": request.get("id"), "ok": True, "result": result})
        except PodferryError as error:
            self.say({"id": request.get("id"), "ok": False, "error": error.to_dict()})
        except Exception as error:  # noqa: BLE001 - the controller must hear of every failure
            wrapped = PodferryError(
                f"{type(error).__name__}: {error}", "This is a defect of podferry: please report it."
            )
            self.say({"id": request.get("id"), "ok": False, "error": wrapped.to_dict()})

    def attach(self, run: str, role: str, client: Client) -> Attached:
        """Pass the ferry's events on to the controller from now on."""
        attached = Attached(self, run, role, client)
        self._ferries[run] = attached
        return attached

    def ferry(self, run: str) -> Attached:
        """The ferry of a run, connected to when this session has not started it.

        :raises NotFound: it has ended.
        """
        attached = self._ferries.get(run)
        if attached is not None and attached.open:
            return attached
        attached = self.attach(run, "", Client(paths.RunPaths(run).control))
        attached.ask({"op": "subscribe"})
        return attached


class Attached:
    """A ferry that this session listens to."""

    def __init__(self, session: Session, run: str, role: str, client: Client) -> None:
        self._session = session
        self._run = run
        self._role = role
        self._client = client
        self._answers: dict[int, dict[str, t.Any]] = {}
        self._changed = threading.Condition()
        self._next = 0
        self.open = True
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            message = self._client.receive()
            if message is None:
                break
            if "event" in message:
                self._session.say(message)
                continue
            with self._changed:
                self._answers[int(message.get("id") or 0)] = message
                self._changed.notify_all()
        with self._changed:
            self.open = False
            self._changed.notify_all()
        self._session.say({"event": "ferry_ended", "run": self._run, "role": self._role})

    def ask(self, request: t.Mapping[str, t.Any], timeout: float = 60.0) -> t.Any:
        """Ask the ferry.

        :raises PodferryError: what it answered, or that it ended without an answer.
        """
        from .._common.errors import DeadlineExceeded, from_dict

        with self._changed:
            self._next += 1
            number = self._next
        self._client.send({**request, "id": number})
        with self._changed:
            done = self._changed.wait_for(lambda: number in self._answers or not self.open, timeout)
            answer = self._answers.pop(number, None)
        if answer is None:
            raise (
                DeadlineExceeded("the ferry does not answer")
                if not done
                else NotFound("the ferry ended without an answer")
            )
        if not answer.get("ok"):
            raise from_dict(answer.get("error") or {})
        return answer.get("result")

    def close(self) -> None:
        """Stop listening."""
        self._client.close()


def _run(arguments: Arguments) -> paths.RunPaths:
    return paths.RunPaths(paths.valid_run(arguments.get("run")))


def _hello(session: Session, arguments: Arguments) -> t.Any:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return {"engine": engine_digest(root), "protocol": PROTOCOL, "node": socket.gethostname()}


def _facts(session: Session, arguments: Arguments) -> t.Any:
    return collect(session.runner)


def _ferry_start(session: Session, arguments: Arguments) -> t.Any:
    place, role = _run(arguments), arguments.get("role")
    if role not in ("source", "target"):
        raise InvalidInput(f"{role!r} is no role")
    place.create()
    try:
        client = units.start(place, role, session.runner)
        attached = session.attach(place.run, role, client)
        return attached.ask({**arguments, "op": "ferry_start"}, timeout=60.0)
    except PodferryError:
        lifecycle.finish(place, session.runner)
        raise


def _to_ferry(operation: str) -> Operation:
    def ask(session: Session, arguments: Arguments) -> t.Any:
        return session.ferry(_run(arguments).run).ask({"op": operation})

    return ask


def _cancel(session: Session, arguments: Arguments) -> t.Any:
    place = _run(arguments)
    if busy.stop(place):
        return {"cancelled": True}
    try:
        return session.ferry(place.run).ask({"op": "cancel"})
    except NotFound:
        return {"cancelled": False}


def _undo_arm(session: Session, arguments: Arguments) -> t.Any:
    place = _run(arguments)
    config = lifecycle.undo_config(place, arguments)
    lifecycle.kill_source(place)
    undo = paths.RunPaths(config["run"])
    units.stop(undo, "target", session.runner)  # its guard may let it go until it has ended
    if Record(undo.directory).thawed():
        raise StateConflict("the pod has been brought back already")
    lifecycle.finish(undo, session.runner)  # an attempt that failed
    undo.create()
    attached = session.attach(undo.run, "target", units.start(undo, "target", session.runner))
    attached.ask({**config, "deadlines": arguments.get("deadlines") or {}})
    return attached.ask({"op": "arm"})


def _of_store(operation: t.Callable[[Arguments], t.Any]) -> Operation:
    return lambda session, arguments: operation(arguments)


def _checkpoint_save(session: Session, arguments: Arguments) -> t.Any:
    place = _run(arguments)
    try:
        return stored.save(place, arguments, session.pulse)
    except Cancelled:
        lifecycle.finish(place, session.runner)  # nobody will store it any more
        raise


def _restore_start(session: Session, arguments: Arguments) -> t.Any:
    place = _run(arguments)
    request = stored.restore_request(place, arguments)
    try:
        attached = session.attach(place.run, "target", units.start(place, "target", session.runner))
        return attached.ask(request)
    except PodferryError:
        lifecycle.finish(place, session.runner)
        raise


OPERATIONS: dict[str, Operation] = {
    "hello": _hello,
    "facts": _facts,
    "inspect": lambda session, arguments: inspect.inspect_pod(arguments),
    "image": lambda session, arguments: images.present(session.runner, arguments),
    "image_pull": lambda session, arguments: images.pull(session.runner, arguments),
    "runs": lambda session, arguments: {
        "runs": lifecycle.runs(arguments.get("namespace"), arguments.get("pod"), session.runner)
    },
    "ferry_start": _ferry_start,
    "arm": _to_ferry("arm"),
    "stage": _to_ferry("stage"),
    "go": _to_ferry("go"),
    "relinquish": _to_ferry("relinquish"),
    "cancel": _cancel,
    "undo_arm": _undo_arm,
    "kill": lambda session, arguments: lifecycle.kill_source(_run(arguments)),
    "surrender": lambda session, arguments: lifecycle.surrender(_run(arguments), session.runner),
    "record": lambda session, arguments: lifecycle.record_of(_run(arguments)),
    "thaw": lambda session, arguments: lifecycle.thaw_source(_run(arguments), arguments, session.runner),
    "settle": lambda session, arguments: lifecycle.settle(_run(arguments), arguments, session.runner),
    "checkpoint_save": _checkpoint_save,
    **{name: _of_store(operation) for name, operation in operations.OPERATIONS.items()},
    "archive_weigh": lambda session, arguments: stored.weigh(arguments),
    "archive_adopt": lambda session, arguments: stored.adopt(_run(arguments), arguments, session.runner, session.pulse),
    "restore_load": lambda session, arguments: stored.load(_run(arguments), arguments, session.runner, session.pulse),
    "restore_start": _restore_start,
    "finish": lambda session, arguments: {"ended": lifecycle.finish(_run(arguments), session.runner)},
}
"""Everything that a controller can ask of a node."""


def main() -> int:
    """Serve one controller on standard input and output."""
    Session(sys.stdout, process.run).serve(sys.stdin)
    return 0
