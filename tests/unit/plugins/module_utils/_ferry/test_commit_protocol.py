# SPDX-License-Identifier: Apache-2.0
"""P1 (never two) and P2 (never none) in every history of the commit protocol that we can think of.

The decisions are the real ones: both ferries, both guards, the record, the journal and what a later session does. Only
what they decide about is made of memory: the link, the cgroups, the clock and systemd. Both ferries stop at every fault
point, at every wait and at every message; there a history says who goes on and what breaks: a ferry is killed, its disk
is full, the link is cut with all that was under way, somebody cancels, surrenders, or kills the frozen target.

All histories with one fault are tried, and random ones with many.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import tempfile
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common import faults
from ansible_collections.podferry.live.plugins.module_utils._common.errors import LinkLost, NotFound, PodferryError
from ansible_collections.podferry.live.plugins.module_utils._ferry import (
    arrival,
    base,
    departure,
    guard,
    lifecycle,
    paths,
    source,
    target,
    thaw,
)
from ansible_collections.podferry.live.plugins.module_utils._ferry.journal import Journal
from ansible_collections.podferry.live.plugins.module_utils._runtime import container as containers
from ansible_collections.podferry.live.plugins.module_utils._runtime.oci import Identity
from ansible_collections.podferry.live.plugins.module_utils._runtime.process import Completed
from doubles.cgroups import Cgroups, FakeCgroup

Role = Literal["source", "target"]
RUN = "0123456789ab"
IDENTIFIER = "ab" * 32
SILENCE = 3.0


class Crash(BaseException):
    """SIGKILL: nothing in the ferry may catch it."""


class Stuck(AssertionError):
    """A ferry did not come to its end."""


# --- what is made of memory -------------------------------------------------------------------------------------------


class Wire:
    """Both directions of the connection."""

    def __init__(self) -> None:
        self.queues: dict[Role, collections.deque[dict[str, Any]]] = {
            "source": collections.deque(),
            "target": collections.deque(),
        }
        self.closed: set[Role] = set()
        self.cut_at: float | None = None

    def cut(self, now: float) -> None:
        """Nothing gets through any more, and what was under way is lost."""
        if self.cut_at is None:
            self.cut_at = now
        for queue in self.queues.values():
            queue.clear()


class FakeLink:
    """One end: what ``Link`` promises, over a :class:`Wire`."""

    def __init__(self, world: World, role: Role) -> None:
        self._world = world
        self._role = role
        self._other: Role = "target" if role == "source" else "source"
        self.sent = 0

    def send(self, kind: str, **fields: Any) -> None:
        faults.point(f"{self._role}:send:{kind}:before")
        if self._other in self._world.wire.closed:
            raise LinkLost("the connection to the other node broke")
        if self._world.wire.cut_at is None:
            self._world.wire.queues[self._other].append({"m": kind, **fields})
        faults.point(f"{self._role}:send:{kind}:after")

    def beat(self) -> None:
        pass

    def readable(self, timeout: float, *_others: Any) -> bool:
        self._world.pause(self._role, "wait")
        if self._inbox or self._ended:
            return True
        self._world.now += max(timeout, 0.25)  # long deadlines pass in few steps
        return False

    @property
    def _inbox(self) -> collections.deque[dict[str, Any]]:
        return self._world.wire.queues[self._role]

    @property
    def _ended(self) -> bool:
        return self._other in self._world.wire.closed and self._world.wire.cut_at is None

    def check_alive(self) -> None:
        cut = self._world.wire.cut_at
        if self._ended and not self._inbox:
            raise LinkLost("the other node closed the connection")
        if cut is not None and self._world.now - cut > SILENCE:
            raise LinkLost("the other node has been silent for too long")

    def receive(self) -> dict[str, Any]:
        if not self._inbox:
            raise LinkLost("the other node closed the connection")
        return self._inbox.popleft()

    def message(self, _timeout: float = 0.0) -> dict[str, Any] | None:
        return self.receive() if self._inbox or self._ended else None


class FakePeer:
    """A session at a ferry's control socket."""

    subscribed = True

    def answer(self, _request: Any, _result: Any) -> None:
        pass

    def refuse(self, _request: Any, _error: PodferryError) -> None:
        pass


class FakeServer:
    """A ferry's control socket."""

    wake = -1

    def __init__(self) -> None:
        self.requests: collections.deque[dict[str, Any]] = collections.deque()
        self.events: list[dict[str, Any]] = []

    def ask(self, operation: str) -> None:
        self.requests.append({"op": operation, "id": 1})

    def next(self) -> tuple[FakePeer, dict[str, Any]] | None:
        return (FakePeer(), self.requests.popleft()) if self.requests else None

    def broadcast(self, message: dict[str, Any]) -> None:
        self.events.append(message)

    def controlled(self) -> bool:
        return True


class FakeGate:
    """A ``create`` that waits for its state."""

    init = 0

    def __init__(self) -> None:
        self.peer, self.request = FakePeer(), {"id": 1}
        self.config: dict[str, Any] = {}
        self.cgroup: FakeCgroup | None = None

    def ended(self) -> bool:
        return False


class SimSource(source.SourceFerry):
    """The real source, but its dump is a fact and not a file."""

    world: World

    def _get_ready(self) -> None:
        pass

    def _rounds(self) -> Any:
        return types.SimpleNamespace(number=0, seconds=lambda: 0.0)

    def _dump_and_send(self) -> None:
        self.enter("dump")
        for item in self._containers:
            self._usage[item.name] = item.cgroup.usage_ns()
        self.world.thaws_at_dump = self.world.groups["source"].thaws
        self._during_transfer()
        self.peer().send("manifest", files={}, freeze_ns=self._freeze_ns)


class SimTarget(target.TargetFerry):
    """The real target, but its restore is a fact and not a process."""

    world: World

    def _accept(self) -> None:
        pass

    def _lay_early(self) -> None:
        pass

    def pump(self) -> None:
        super().pump()
        if self._expect_claim_since is not None and not self.gates:
            self.gates["web"] = FakeGate()  # type: ignore[assignment]

    def _restore(self, name: str, gate: Any, deadline: float) -> None:
        faults.point("target:restore:before")
        group = self.world.groups["target"]
        group.alive, group.is_frozen = True, True
        gate.cgroup = group
        pathlib.Path(self.paths.mark("restored", name)).write_text(json.dumps({"cgroup": group.path}))
        faults.point("target:restore:after")


# --- the world --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Actor:
    """One ferry and its thread; only one thread runs at any time."""

    ferry: Any
    server: FakeServer
    thread: threading.Thread | None = None
    turn: threading.Semaphore = dataclasses.field(default_factory=lambda: threading.Semaphore(0))
    at: str = "start"
    ended: bool = False
    strike: BaseException | None = None
    """What hits it when it goes on."""
    full: bool = False
    """Its disk is full at the next fault point."""


class World:
    """Two nodes in the middle of one migration."""

    def __init__(self, root: pathlib.Path, mode: str) -> None:
        self.mode = mode
        self.now = 1000.0
        self.wire = Wire()
        self.groups: dict[Role, FakeCgroup] = {"source": FakeCgroup("/source"), "target": FakeCgroup("/target")}
        self.groups["target"].alive = False
        self.thaws_at_dump: int | None = None
        self.places: dict[Role, paths.RunPaths] = {}
        self.actors: dict[Role, Actor] = {}
        self._back = threading.Semaphore(0)
        self.trace: list[str] = []
        self.asked = False
        for role in ("source", "target"):
            place = self.places[role] = paths.RunPaths(RUN, str(root / role))
            place.create()
            server = FakeServer()
            self.actors[role] = Actor(self._ferry(role, place, server), server)
        self.actors["source"].server.ask("go")

    def _ferry(self, role: Role, place: paths.RunPaths, server: FakeServer) -> Any:
        config = {
            "mode": self.mode, "namespace": "default", "pod": "web", "uid": "u", "need_bytes": 1,
            "containers": [{"name": "web", "id": IDENTIFIER}] if role == "source" else ["web"],
        }  # fmt: skip
        build: Any = SimSource if role == "source" else SimTarget
        made = build(place, config, server, self.systemd)
        made.world = self
        made.link = FakeLink(self, role)
        made.journal.write(
            "prepared", role=role, run=RUN, mode=self.mode, namespace="default", pod="web",
            containers=[{"name": "web", "cgroup": "/source"}] if role == "source" else ["web"],
        )  # fmt: skip
        if role == "target":
            made.on_arm(FakePeer(), {"id": 1})
            pathlib.Path(place.mark("claim", "web")).write_text(json.dumps({"identifier": IDENTIFIER, "pid": 1}))
        return made

    # Threads: the main one and at most one ferry, handing over to each other.

    def pause(self, role: Role, at: str) -> None:
        """Called by a ferry: give the turn back, and go on or be hit when it comes again."""
        actor = self.actors.get(role)
        if actor is None or actor.thread is not threading.current_thread():
            return  # a guard or a session passes a fault point
        actor.at = at
        self._back.release()
        actor.turn.acquire()
        strike, actor.strike = actor.strike, None
        if strike is not None:
            raise strike
        if actor.full and at != "wait":
            actor.full = False
            raise OSError(28, "No space left on device")

    def point(self, name: str) -> None:
        self.pause("source" if name.startswith("source:") else "target", name)

    def step(self, role: Role) -> None:
        """Let a ferry go on to its next point. When it has ended, systemd runs its guard."""
        actor = self.actors[role]
        if actor.ended:
            return
        self.trace.append(f"{role} from {actor.at}")
        if actor.thread is None:
            actor.thread = threading.Thread(target=self._life, args=(actor,), daemon=True)
            actor.thread.start()
        else:
            actor.turn.release()
        self._back.acquire()
        self.check()
        if actor.ended:
            self.wire.closed.add(role)
            self.guard(role)

    def _life(self, actor: Actor) -> None:
        try:
            actor.ferry.run()
        except BaseException:  # noqa: BLE001 - killed, or a defect that ends the process: all the same to the other end
            self.trace.append("it died")
        actor.ended = True
        self._back.release()

    # What happens to them.

    def crash(self, role: Role) -> None:
        """SIGKILL where it stands."""
        actor = self.actors[role]
        if actor.thread is None:
            if not actor.ended:
                actor.ended = True
                self.wire.closed.add(role)
                self.guard(role)
            return
        actor.strike = Crash()
        while not actor.ended:
            self.step(role)

    def guard(self, role: Role) -> None:
        self.trace.append(f"guard of the {role}")
        try:
            journal = Journal.load(self.places[role])
        except NotFound:
            return
        with contextlib.suppress(PodferryError):
            if role == "source":
                guard.guard_source(journal)
            else:
                guard.guard_target(self.places[role], journal)
        self.check()

    def systemd(
        self, argv: Sequence[str], *, stdin: str = "", timeout: float = 60.0, env: Mapping[str, str] | None = None
    ) -> Completed:
        if list(argv[:2]) == ["systemctl", "stop"]:
            self.crash("source" if argv[2].endswith("-source.service") else "target")
        return Completed(0, "", "")

    def do(self, what: str) -> None:
        """One event of a history."""
        self.trace.append(what)
        source_actor, target_actor = self.actors["source"], self.actors["target"]
        events: dict[str, Callable[[], object]] = {
            "source": lambda: self.step("source"),
            "target": lambda: self.step("target"),
            "cut": lambda: self.wire.cut(self.now),
            "crash source": lambda: self.crash("source"),
            "crash target": lambda: self.crash("target"),
            "full source": lambda: setattr(source_actor, "full", True),
            "full target": lambda: setattr(target_actor, "full", True),
            "cancel source": lambda: source_actor.server.ask("cancel"),
            "cancel target": lambda: target_actor.server.ask("cancel"),
            "relinquish": lambda: source_actor.server.ask("relinquish"),
            "surrender": lambda: lifecycle.surrender(self.places["target"], self.systemd),
            "kill target": self._kill_target,
            "thaw source": self._thaw_source,
            "source refuses": lambda: setattr(self.groups["source"], "refuses", 1),
            "wait": lambda: setattr(self, "now", self.now + 200.0),
            "finish source": self._finish_source,
        }
        events[what]()
        self.check()

    def _word_out(self) -> bool:
        return self.state not in (
            "prepared",
            "waiting",
            "freezing",
            "frozen",
            "data_ready",
        )

    def _thaw_source(self) -> None:
        """Somebody else does; after the word is out nobody could make that good."""
        if not self._word_out():
            with contextlib.suppress(PodferryError):
                self.groups["source"].thaw()

    def _kill_target(self) -> None:
        group = self.groups["target"]
        if group.is_frozen and self.actors["target"].at not in (
            "target:thaw:before",
            "target:thaw:one",
        ):  # between look and thaw nobody can know
            group.alive = False

    def _finish_source(self) -> None:
        with contextlib.suppress(PodferryError):
            journal = Journal.load(self.places["source"])
            lifecycle._without_doubt(self.places["source"])
            if journal.state not in ("committed", "relinquished", "killed"):
                lifecycle._finish_source(self.places["source"], self.systemd)

    # The promises.

    @property
    def source_ran(self) -> bool:
        """Since its dump."""
        return self.thaws_at_dump is not None and self.groups["source"].thaws > self.thaws_at_dump

    @property
    def target_ran(self) -> bool:
        return self.groups["target"].thaws > 0

    def check(self) -> None:
        """P1, at every moment."""
        assert not (self.source_ran and self.target_ran), f"never two: {self.trace}"
        assert not (self.groups["source"].runs and self.groups["target"].runs), f"never two: {self.trace}"

    @property
    def state(self) -> str:
        """Of the source's journal."""
        return Journal.load(self.places["source"]).state

    def relinquish_in_time(self) -> None:
        """The controller's part when the name is kept: it says so once the data is safe."""
        if self.mode == "successor" and self.actors["source"].ferry.journal.state == "data_ready" and not self.asked:
            self.asked = True
            self.actors["source"].server.ask("relinquish")

    def settle_down(self) -> str:
        """Let everything come to its end; returns the state of the source's journal."""
        for _round in range(3000):
            if all(actor.ended for actor in self.actors.values()):
                return self.state
            self.relinquish_in_time()
            for role in ("source", "target"):
                self.step(role)
        raise Stuck(f"{ {role: actor.at for role, actor in self.actors.items()} }: {self.trace[-40:]}")

    def resolve(self) -> None:
        """What the controller does about a source in doubt, once it reaches both nodes."""
        record = lifecycle.record_of(self.places["target"])
        state = record["state"]
        if not record["resumed"]:
            state = "aborted" if lifecycle.surrender(self.places["target"], self.systemd)["surrendered"] else "going"
        self.check()
        proof = {"target_record": state}
        if state == "aborted":
            lifecycle.thaw_source(self.places["source"], proof, self.systemd)
        else:
            lifecycle.settle(self.places["source"], proof, self.systemd)
        self.check()

    def judge(self) -> None:
        """P2, when everything has come to its end."""
        state = self.settle_down()
        assert state in ("aborted", "committed", "relinquished", "in_doubt", "frozen", "freezing", "data_ready"), state
        if state in ("frozen", "freezing", "data_ready"):  # its guard was refused as well: a later session tries again
            lifecycle._finish_source(self.places["source"], self.systemd)
            state = "aborted"
        if state == "in_doubt":
            assert not self.source_ran and self.groups["source"].alive, f"in doubt the source stands: {self.trace}"
            self.resolve()
            state = self.state
            assert state in ("aborted", "committed", "relinquished")
        if state == "aborted":
            assert self.groups["source"].runs, f"never none: {self.trace}"
            assert not self.target_ran and not self.groups["target"].alive, f"what was given up is dead: {self.trace}"
            return
        assert not self.source_ran and self.groups["source"].stands(), f"committed, so the source stands: {self.trace}"
        if state == "committed":
            assert self.target_ran, f"never none: {self.trace}"
        elif not self.target_ran:
            # The dump is the copy that counts: there is a proof on which it can be restored at home.
            assert lifecycle.surrender(self.places["target"], self.systemd)["surrendered"], f"never none: {self.trace}"
        lifecycle.kill_source(self.places["source"])
        self.check()


@contextlib.contextmanager
def world(mode: str) -> Iterator[World]:
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        holder: list[World] = []
        clock = types.SimpleNamespace(
            monotonic=lambda: holder[0].now if holder else 0.0,
            monotonic_ns=lambda: int(holder[0].now * 1e9) if holder else 0,
            time=lambda: 0.0,
            sleep=lambda seconds: setattr(holder[0], "now", holder[0].now + seconds),
        )
        for module in (source, departure, target, base, arrival):
            patch.setattr(module, "time", clock)
        owner = Identity("default", "web", "u", "web", False)
        found = types.SimpleNamespace(
            name="web", id=IDENTIFIER, pid=0, engine="containerd", owner=owner, config={}, cgroup=None
        )
        patch.setattr(containers, "find", lambda _name, _reference: found)
        patch.setattr(departure, "foreign_processes", lambda _item: [])
        patch.setattr(os, "fsync", lambda _descriptor: None)
        patch.setattr(departure, "log_tail", lambda *_words: [])
        patch.setattr(faults, "point", lambda name, of="": holder[0].point(name) if holder else None)

        def wait(_read: Any, _write: Any, _error: Any, seconds: float) -> tuple[list[Any], list[Any], list[Any]]:
            holder[0].pause("target", "wait")
            holder[0].now += max(seconds, 0.25)
            return [], [], []

        patch.setattr(target, "select", types.SimpleNamespace(select=wait))
        made = World(pathlib.Path(folder), mode)
        found.cgroup = made.groups["source"]
        known = Cgroups(*made.groups.values())
        for decider in (guard, lifecycle, thaw):
            patch.setattr(decider, "Cgroup", known)
        patch.setattr(arrival, "cgroups_of", lambda _identifier: [made.groups["target"]])
        patch.setattr(arrival, "_alive", lambda _pid, _identifier: False)
        holder.append(made)
        try:
            yield made
        finally:
            for role in ("source", "target"):
                with contextlib.suppress(AssertionError):
                    made.crash(role)  # type: ignore[arg-type]


FAULTS = [
    "cut", "crash source", "crash target", "full source", "full target", "cancel source", "cancel target", "surrender",
    "kill target", "thaw source", "source refuses", "wait", "finish source",
]  # fmt: skip
MODES = ["twin", "successor"]


def rounds(mode: str, fault: str = "", at: int = -1) -> int:
    """A history in which both go on in turns, with one fault; returns how many steps it took."""
    with world(mode) as made:
        for count in range(400):
            if count == at:
                made.do(fault)
            if all(actor.ended for actor in made.actors.values()):
                break
            made.relinquish_in_time()
            made.step("source" if count % 2 == 0 else "target")
        made.judge()
        return count


@pytest.mark.parametrize(("mode", "end"), [("twin", "committed"), ("successor", "relinquished")])
def test_a_history_without_faults(mode: str, end: str) -> None:
    with world(mode) as made:
        assert made.settle_down() == end
        assert made.target_ran and not made.source_ran
        made.judge()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_at_every_point(mode: str, fault: str) -> None:
    for at in range(rounds(mode) + 2):
        rounds(mode, fault, at)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=150)
@given(
    history=st.lists(
        st.tuples(st.sampled_from(["source", "target", "source", "target", "relinquish", *FAULTS]), st.integers(1, 12)),
        max_size=25,
    )
)
def test_many_faults(mode: str, history: list[tuple[str, int]]) -> None:
    with world(mode) as made:
        for what, count in history:
            for _time in range(count if what in ("source", "target") else 1):
                made.do(what)
        made.judge()
