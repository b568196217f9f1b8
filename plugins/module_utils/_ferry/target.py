# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The target's ferry: receives, lets the handler restore frozen, and lets the copy go when the source said so."""

from __future__ import annotations

import json
import os
import select
import socket
import time
import typing as t

from .._common import faults
from .._common.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    LinkLost,
    NotFound,
    PodferryError,
    RestoreFailed,
    StateConflict,
    from_dict,
)  # fmt: skip
from .._common.files import read_text, write_json
from .._criu import restore as criu_restore
from .._criu import rights
from .._criu.dump import log_tail
from .._criu.hold import Hold, can_hold
from .._criu.log import explain
from .._runtime import container as containers
from .._runtime import loopback, mounts, oci, procfs, quota
from .._runtime.cgroup import Cgroup
from .._runtime.process import Runner
from . import deadman, guard, hooks, logs, paths, said, through, tls, tree
from .arrival import arm, arrived_mark, give_up
from .base import BESIDE, Ferry, roster
from .control import Message, Peer, Server
from .layout import Layout
from .link import Link
from .record import Record
from .reunion import Reunion
from .transfer import Receiver

_POLL = 0.002
FROM_DISK = ("undo", "restore")
"""Modes in which the state is on this node already: there is no other ferry."""


class Gate:
    """A container whose ``create`` waits for its state."""

    init = 0
    """The restored process, once it stands."""

    def __init__(self, peer: Peer, request: Message) -> None:
        self.peer = peer
        self.request = request
        self.identifier = str(request["identifier"])
        self.bundle = str(request["bundle"])
        self.pid = int(request["pid"])
        self.runtime = str(request.get("runtime") or "")
        self.hold: Hold | None = None
        self.begun = False
        """The handler was told to restore; what is missing of the state comes while its runtime gets ready."""
        self.quotas: quota.Quotas = {}
        self.handle = os.pidfd_open(self.pid)  # the pid stays the same when the handler execs the runtime
        config = json.loads(read_text(os.path.join(self.bundle, "config.json")))
        owner = oci.identity(config)
        if owner is None:
            raise InvalidInput("the claiming container has no identity")
        self.owner = owner
        self.config: t.Mapping[str, t.Any] = config
        self.cgroup: Cgroup | None = None

    def ended(self) -> bool:
        """Whether the process behind ``create`` is gone."""
        ready, _w, _x = select.select([self.handle], [], [], 0)
        return bool(ready)


class TargetFerry(Ferry):
    """One migration, seen from the node that the pod comes to."""

    role = "target"

    def __init__(self, run: paths.RunPaths, config: t.Mapping[str, t.Any], server: Server, runner: Runner) -> None:
        super().__init__(run, config, server, runner)
        if self.mode not in (*BESIDE, "successor", *FROM_DISK):
            raise InvalidInput(f"mode {self.mode!r} is not known")
        self.namespace = paths.valid_name(config["namespace"])
        self.pod = paths.valid_name(config["pod"])
        self.names = [paths.valid_name(name) for name in config["containers"]]
        self._roster = roster(config)
        images, staging = str(config.get("images") or run.images), str(config.get("staging") or run.staging)
        self._laid = Layout(images, staging)
        self._reunion = Reunion(run, {name: os.path.join(self._folder(name), "criu") for name in self.names})
        self.record = Record(run.directory)
        self.gates: dict[str, Gate] = {}
        self._destinations: dict[str, list[str]] = {}
        self._cancelled = False
        self._armed = False
        self._began = time.time() - 1.0
        self._expect_claim_since: float | None = None
        self._freeze_ns = 0
        self._hold_loopback = False
        """Containers are connected with each other over the pod's loopback."""
        self._listener: socket.socket | None = None
        self._committed = False
        self._identity = ""
        """Opens what comes through a store; made here for this run."""
        self._carrier: through.Carrier | None = None
        self._misfit: RestoreFailed | None = None
        """Why the container that came cannot be restored. No other will come: its claim is used up."""

    # --- requests -------------------------------------------------------------------------------------------------

    def on_arm(self, peer: Peer, request: Message) -> None:
        """Write the arrival: from now on the handler restores this pod's containers instead of creating them."""
        if not self._armed:
            self._arm()
        peer.answer(request, {})

    def _arm(self) -> None:
        content = {"containers": self.names, "mode": self.mode, **self._roster}
        arm(self.paths, self.record, self.namespace, self.pod, content)
        self._armed = True

    def on_cancel(self, peer: Peer, request: Message) -> None:
        """Stop, unless the source was given up already."""
        if self.record.state() in ("going", "done"):
            peer.answer(request, {"cancelled": False})
            return
        self._cancelled = True
        peer.answer(request, {"cancelled": True})

    def on_claim(self, peer: Peer, request: Message) -> None:
        """The handler's ``create`` has come; it waits at the gate for our word."""
        name = str(request.get("container"))
        if name not in self.names or name in self.gates or self._cancelled:
            raise StateConflict(f"container {name} is not awaited")
        gate = Gate(peer, request)
        expected = self._destinations.get(name)
        different = mounts.unlike(expected, gate.config) if expected is not None else []
        if different:
            self._misfit = RestoreFailed(
                f"the target's container mounts something else than the source's: {', '.join(different)}",
                "An admission controller or the runtime's configuration differs between the nodes.",
            )
            raise self._misfit
        self.gates[name] = gate
        self.emit("claimed", container=name)

    def on_gone(self, peer: Peer) -> None:
        """Without a controller a source that was not told to go runs on; the source's ferry sees to that."""

    def _watch(self) -> None:
        self.pump()
        if self._cancelled and not self._committed:
            if self.mode == "restore":
                raise Cancelled("the restore was cancelled before the thaw", "Nothing of it has run.")
            raise Cancelled("the migration was cancelled before the commit point", "The pod runs on at its source.")

    # --- the way ----------------------------------------------------------------------------------------------------

    def prepare(self) -> dict[str, t.Any]:
        """Reserve memory and listen.

        :returns: the answer to ``ferry_start``.
        """
        self.phases.enter("prepare")
        self.journal.write(
            "prepared", run=self.paths.run, role=self.role, mode=self.mode, namespace=self.namespace, pod=self.pod,
            source_pod=self.config.get("source_pod", self.pod), containers=self.names,
            source_node=self.config.get("source_node", ""), target_node=self.config.get("target_node", ""),
            context=self.context(), through=self.config.get("through"),
        )  # fmt: skip
        if self.mode == "restore":
            self._destinations = {str(k): list(v) for k, v in (self.config.get("destinations") or {}).items()}
            self._arm()
        if self.mode in FROM_DISK:
            return {"port": 0}
        self.mount_images()
        answer: dict[str, t.Any] = {}
        if self.config.get("through"):
            self._identity, answer["recipient"] = through.new_identity()
            self._carrier = through.Carrier("get")
        listen = self.config["listen"]
        first, last = (int(port) for port in listen["ports"])
        for port in range(first, last + 1):
            try:
                self._listener = socket.create_server((str(listen["address"]), port), backlog=4)
                return {**answer, "port": self._listener.getsockname()[1]}
            except OSError:
                continue
        raise NotFound(
            f"no port from {first} to {last} is free on {listen['address']}",
            "Choose other ports (podferry_ports), or an address that the node has (podferry_address).",
        )

    def run(self) -> None:
        """From the source's connection to the end."""
        try:
            if self.mode == "undo":
                self._run_undo()
            elif self.mode == "restore":
                self._run_restore()
            else:
                self._accept()
                self._receive()
                if self.mode in BESIDE:
                    self._run_twin()
                else:
                    self._run_successor()
        except (PodferryError, OSError, ValueError, KeyError) as error:
            self._end_badly(
                error if isinstance(error, PodferryError) else RestoreFailed(f"{type(error).__name__}: {error}")
            )

    def _accept(self) -> None:
        listener = self._listener
        if listener is None:
            raise StateConflict("the target does not listen")
        keys = tls.Keys.from_dict(self.config["tls"])
        deadline = time.monotonic() + self.deadlines.idle
        while self.link is None:
            self._watch()
            ready, _w, _x = select.select([listener.fileno(), self.server.wake], [], [], 0.5)
            if listener.fileno() in ready:
                try:
                    self.link = Link(tls.accept(keys, listener, 5.0), self.deadlines.silence, self.role)
                except OSError:
                    continue  # a port scanner or somebody without this run's key
            if not self.server.controlled() or time.monotonic() > deadline:
                raise DeadlineExceeded("the source's ferry did not connect")
        listener.close()
        hello = self._next(self.deadlines.silence)
        if hello["m"] != "hello" or hello.get("run") != self.paths.run or hello.get("mode") != self.mode:
            raise InvalidInput("the ferry that connected belongs to another run")
        self._destinations = said.destinations(hello)
        if sorted(self._destinations) != sorted(self.names):
            raise InvalidInput("the source's containers are not those that were announced")
        self.peer().send("hello", holds_loopback=loopback.possible())

    def _next(self, timeout: float) -> Message:
        """The next message from the source.

        :raises LinkLost: the source is gone. :raises Cancelled: it (or the controller) stops.
        """
        deadline = time.monotonic() + timeout
        while True:
            self._watch()
            self._look_after_gates()
            if self.peer().readable(0.05, self.server.wake):
                message = self.peer().message(0.0)
                if message is not None:
                    return self._checked(message)
            self.peer().beat()
            self.peer().check_alive()
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"nothing came from the source for {timeout:g} s")

    @staticmethod
    def _checked(message: Message) -> Message:
        if message["m"] == "abort":
            raise from_dict(
                message.get("error") or {"type": "cancelled", "message": "the source stopped the migration"}
            )
        return message

    def _look_after_gates(self) -> None:
        """:raises RestoreFailed: a ``create`` that waits for its state has ended, or waits for too long."""
        if self._misfit is not None:
            raise self._misfit
        for name, gate in self.gates.items():
            if gate.cgroup is not None:
                if not gate.cgroup.stands():
                    raise RestoreFailed(
                        f"container {name} did not stay frozen until the commit",
                        "The target pod was deleted, or something thawed or killed it.",
                    )
                if procfs.being_ended(gate.init):
                    raise RestoreFailed(
                        f"somebody ends container {name} while it stands frozen", "The target pod was deleted."
                    )
            elif gate.ended():
                raise RestoreFailed(
                    f"the handler of container {name} was stopped while it waited",
                    "The kubelet's or the runtime's deadline passed, the runtime restarted, or the target pod was deleted.",
                )
        if not self.gates:
            logs.count_on_early(self.namespace, self.pod, self._roster["restarts"], self._began)
        since = self._expect_claim_since
        if since is not None and len(self.gates) < 1 and time.monotonic() - since > self.deadlines.claim:
            raise DeadlineExceeded(
                f"the target pod's container did not reach the handler within {self.deadlines.claim:g} s",
                "Look at the events of the target pod: image, volumes, network, RuntimeClass.",
            )

    def _receive(self) -> None:
        """Take everything that the source sends, up to its manifest."""
        limit = int(self.config["need_bytes"])
        owners = [*self.names, paths.VOLUMES]
        staged = int(self.config.get("stage_bytes") or 0)
        receiver = Receiver(self.paths.images, owners, limit, self.paths.staging, staged)
        link = self.peer()
        claimed_said = False
        while True:
            self._watch()
            self._look_after_gates()
            if self._expect_claim_since is not None and self.gates and not claimed_said:
                claimed_said = True
                receiver.close()
                self._lay_early()
                link.send("claimed")
                self.enter("receive")
            if not link.readable(0.02, self.server.wake):
                link.beat()
                link.check_alive()
                continue
            frame = link.receive()
            if isinstance(frame, memoryview):
                receiver.data(frame)
                continue
            kind = self._checked(frame)["m"]
            if kind == "file":
                receiver.open(frame)
            elif kind == "ping":
                link.send("pong", n=frame.get("n"), t=time.monotonic_ns())
            elif kind == "expect_claim":
                self._expect_claim_since = time.monotonic()
            elif kind == "begin_restore":
                receiver.close()
                self._begin_early(str(frame.get("container")))
            elif kind == "manifest":
                sent = said.manifest(frame)
                receiver.verify(sent.files)
                self._freeze_ns, self._hold_loopback = sent.freeze_ns, sent.hold_loopback
                return
            elif kind == "stored" and self._carrier is not None:
                kept = said.stored(frame)
                self._fetch(self._carrier, kept.manifest)
                self._freeze_ns, self._hold_loopback = kept.freeze_ns, kept.hold_loopback
                return
            elif kind != "beat":
                raise InvalidInput(f"the source said {kind!r} in the middle of its data")

    def _fetch(self, carrier: through.Carrier, manifest: str) -> None:
        """Bring the state from the store into memory, verified."""

        deadline = time.monotonic() + self.deadlines.freeze

        def pulse() -> None:
            self._look_after_gates()
            self._breathe(deadline)

        way = self.config["through"]
        request = {"folder": self.paths.images, "limit": int(self.config["need_bytes"]), "identity": self._identity}
        carrier.carry({**way, **request, "manifest": manifest}, pulse)

    def _await_word(self) -> None:
        """From the report on the source may give its word; if we hang then, our guard gives the arrival up, and that ends the doubt."""
        deadman.within(self.deadlines.freeze + deadman.MARGIN)

    def _run_twin(self) -> None:
        self._restore_all()
        self._await_word()
        self.peer().send("ready", phases=self.phases.entries())
        self.enter("ready")
        message = self._next(self.deadlines.freeze)
        if message["m"] != "go":
            raise InvalidInput(f"the source said {message['m']!r} instead of go")
        if not self.record.move("armed", "going"):
            raise Cancelled("the arrival was given up before the go came")
        self._committed = True
        deadman.within(self.deadlines.settle + deadman.MARGIN)
        downtime = self._let_go()
        self._tell_source("resumed", downtime_ms=downtime)
        self._resumed(downtime)

    def _run_successor(self) -> None:
        self._await_word()
        self.peer().send("data_ok")
        self.enter("data_ready")
        message = self._next(self.deadlines.freeze)
        if message["m"] != "relinquish":
            raise InvalidInput(f"the source said {message['m']!r} instead of relinquish")
        if not self.record.move("armed", "going"):
            raise Cancelled("the arrival was given up before the source was")
        self._committed = True
        deadman.within(self.deadlines.claim + self.deadlines.restore + 2 * deadman.MARGIN)
        self._tell_source("relinquished")
        self.enter("wait_for_successor")
        self._wait_for_gates()
        self._restore_all()
        self._resumed(self._let_go())

    def _run_undo(self) -> None:
        """Bring the pod back on its own node from its own dump."""
        self._freeze_ns = int(self.config["freeze_ns"])
        self._hold_loopback = bool(self.config.get("hold_loopback"))
        if not self.record.move("armed", "going"):
            self._arm()
            self.record.move("armed", "going")
        self._committed = True
        deadman.within(self.deadlines.claim + self.deadlines.restore + 2 * deadman.MARGIN)
        self._wait_for_gates()
        self._restore_all()
        self._resumed(self._let_go())

    def _run_restore(self) -> None:
        """Bring a checkpoint back as a pod: until its thaw nothing depends on it, and it can be given up."""
        self._hold_loopback = bool(self.config.get("hold_loopback"))
        self.enter("wait_for_target")
        self._wait_for_gates()
        self._restore_all()
        self.enter("ready")
        if not self.record.move("armed", "going"):
            raise Cancelled("the arrival was given up before the thaw")
        self._committed = True
        deadman.within(self.deadlines.settle + deadman.MARGIN)
        self._let_go()
        self._resumed(None)

    def _tell_source(self, kind: str, **fields: t.Any) -> None:
        """After the commit the source's ferry only wants to know; its loss changes nothing."""
        try:
            self.peer().send(kind, **fields)
        except LinkLost:
            self.emit("warning", message="the source could not be told; the next run of the play tells it", remedy="")

    def _wait_for_gates(self) -> None:
        self._expect_claim_since = time.monotonic()
        while len(self.gates) < 1:
            self._watch()
            self._look_after_gates()
            select.select([self.server.wake], [], [], 0.02)

    def _restore_all(self) -> None:
        """Let the handlers restore, one after the other as the kubelet creates them, until all stand frozen."""
        deadline = time.monotonic() + self.deadlines.restore
        for name in self.names:
            while name not in self.gates:
                self._watch()
                self._look_after_gates()
                self._breathe(deadline)
            self.enter("restore")
            netns = oci.namespace_path(self.gates[name].config, "network")
            if self._hold_loopback and netns and name == self.names[0]:
                # Whoever thaws in our place must know: the rule would stay in the pod's network for good.
                write_json(guard.held_mark(self.paths, self.names), {"netns": netns})
                loopback.hold(netns, self.runner)
            faults.point("target:restore:before", name)
            self._restore(name, self.gates[name], deadline)
            faults.point("target:restore:after", name)
            if self._hold_loopback and netns and name == self.names[-1]:
                loopback.let_go(netns, self.runner)
                os.unlink(guard.held_mark(self.paths, self.names))
        self._reunion.complete({name: gate.cgroup.pids() for name, gate in self.gates.items() if gate.cgroup})

    def _begin_early(self, name: str) -> None:
        """Let the runtime get ready for a restore while the memory is still on its way, if it can be held there."""
        gate = self.gates.get(name)
        if gate is not None and name == self.names[0] and can_hold(gate.runtime):
            os.makedirs(self._work(name), mode=0o700, exist_ok=True)
            gate.hold = Hold(self._work(name))
            self._begin(name, gate, self._keep_up)

    def _keep_up(self) -> None:
        """While we are busy: notice a cancel, and do not fall silent."""
        self._watch()
        self.peer().beat()

    def _begin(self, name: str, gate: Gate, pulse: t.Callable[[], None]) -> None:
        """Lay out what the runtime itself needs, and tell the handler to restore.

        What turns out to differ from the manifest later is thrown away with the container.
        """
        folder = self._folder(name)
        images = os.path.join(folder, "criu")
        if self.mode == "restore":  # else it comes straight from the container that it was
            rights.check(images, name, gate.config)
        layout = self._layout(pulse)
        if name == self.names[0]:
            layout.volumes(gate.config, gate.owner.uid)
        layout.container(name, gate.bundle, gate.config, gate.owner.uid)
        gate.config = mounts.complete(gate.bundle, gate.config, self._destinations.get(name, ()))
        work = self._work(name)
        os.makedirs(work, mode=0o700, exist_ok=True)
        criu_restore.write_arrival(images, self.paths.directory, name, gate.identifier)
        os.makedirs(paths.claim(gate.identifier), mode=0o700, exist_ok=True)
        if name in self._roster["post_start"]:
            hooks.expect(gate.identifier, self._roster["post_start"][name])
        self._look_after_gates()
        ready_made = self._reunion.hand_out(name, gate.config)
        gate.begun = True
        hold = gate.hold.path if gate.hold is not None else ""
        gate.peer.answer(gate.request, {"images": images, "work": work, "hold": hold, **ready_made})

    def _restore(self, name: str, gate: Gate, deadline: float) -> None:
        """Bring one container to stand frozen with its whole state."""

        def pulse() -> None:
            self._look_after_gates()
            self._breathe(deadline)

        if not gate.begun:
            self._begin(name, gate, pulse)
        logs.prepend(gate.owner, os.path.join(self._folder(name), "log"))
        work = self._work(name)
        frozen = self.paths.mark("frozen", name)
        failed = self.paths.mark("action-failed", name)
        started = os.path.join(paths.claim(gate.identifier), "started")
        quota_files = quota.files_of_config(gate.config)
        if gate.hold is not None:
            gate.hold.release()
        while not os.path.exists(started):
            self.pump()
            if not gate.quotas:
                gate.quotas = quota.read_files(quota_files)  # the runtime has just made the cgroup
                quota.lift(gate.quotas)
            if gate.cgroup is None and gate.ended() and os.path.exists(frozen):
                self._check_frozen(name, gate)  # create has returned: from now on its end is noticed at once
            if gate.cgroup is not None:
                self._look_after_gates()
            if os.path.exists(failed):
                raise RestoreFailed(f"container {name} could not be frozen at its restore: {read_text(failed).strip()}")
            if gate.ended() and not os.path.exists(frozen):
                time.sleep(0.02)
                if not os.path.exists(frozen):
                    reason = _why(work, gate)
                    raise RestoreFailed(
                        f"container {name} could not be restored: {reason}",
                        "CRIU's log is in the report. The source is not touched by this.",
                    )
            self._breathe(deadline)
        if not os.path.exists(frozen):
            raise RestoreFailed(f"container {name} was started without having been frozen")
        self._check_frozen(name, gate)
        quota.put_back(gate.quotas)

    def _lay_early(self) -> None:
        """What came in rounds is laid out before the freeze, as far as there is a place for it by now."""
        first = self.names[0]
        gate = self.gates.get(first)
        if self.mode in BESIDE and gate is not None:
            layout = self._layout(self._keep_up)
            faults.point("target:lay_early:before")
            layout.early(first, gate.bundle, gate.config, gate.owner.uid)
            faults.point("target:lay_early:after")

    def _layout(self, pulse: tree.Pulse) -> Layout:
        self._laid.pulse = pulse
        return self._laid

    def _folder(self, name: str) -> str:
        if self.mode == "undo":
            return os.path.join(str(self.config["images"]), paths.valid_name(name))
        return self.paths.container(name)

    def _work(self, name: str) -> str:
        return os.path.join(self._folder(name), "restore-work")

    def _breathe(self, deadline: float) -> None:
        if self.link is not None and not self._committed:
            if self.link.readable(_POLL, self.server.wake):
                message = self.link.message(0.0)
                if message is not None:
                    self._checked(message)
            self.link.beat()
            self.link.check_alive()
        else:
            select.select([self.server.wake], [], [], _POLL)
        self._watch()
        if time.monotonic() > deadline:
            raise DeadlineExceeded(f"the restore took longer than {self.deadlines.restore:g} s")

    def _check_frozen(self, name: str, gate: Gate) -> None:
        """The container is ours, stands frozen, and has the identity that we restored."""
        engine = "containerd" if gate.bundle.startswith(containers.CONTAINERD_TASKS) else "cri-o"
        found = containers.find(name, f"{engine}://{gate.identifier}")
        deadline = time.monotonic() + 1.0
        while not found.cgroup.stands():
            if time.monotonic() > deadline:
                raise RestoreFailed(f"container {name} does not stand frozen after its restore")
            time.sleep(0.0005)
        gate.cgroup, gate.init = found.cgroup, found.pid
        write_json(
            self.paths.mark("restored", name),
            {
                "cgroup": found.cgroup.path,
                "id": gate.identifier,
                "pid": gate.init,
                "quotas": gate.quotas,
                "arrived": arrived_mark(gate.config, gate.owner.uid) if engine == "cri-o" else None,
            },
        )

    def _let_go(self) -> float:
        """Thaw: the first instruction on the target. From here on nothing may bring the source back.

        :returns: the downtime in ms, from the freeze on the source, by this node's clock.
        :raises FreezeFailed: a container refused; the others run.
        """
        with self.record.lock():
            if self.record.state() != "going":
                raise Cancelled("the arrival was given up")
            self._look_after_gates()  # what was killed since the last look must not count as let go
            self.record.mark_thawed()
            cgroups = {name: gate.cgroup for name, gate in self.gates.items() if gate.cgroup is not None}
            failed: list[PodferryError] = []
            faults.point("target:thaw:before")
            for name, cgroup in cgroups.items():
                faults.point("target:thaw:one", name)
                try:
                    cgroup.thaw()
                except PodferryError as error:
                    failed.append(error)  # it is committed: the others must run all the same
            faults.point("target:thaw:after")
        if failed:
            raise failed[0]
        return round((time.monotonic_ns() - self._freeze_ns) / 1e6, 2)

    def _resumed(self, downtime: float | None) -> None:
        self.phases.leave()
        self.journal.write("resumed", downtime_ms=downtime, phases=self.phases.entries())
        self.emit("resumed", downtime_ms=downtime, phases=self.phases.entries())

    def _end_badly(self, error: PodferryError) -> None:
        """Give the arrival up, so that nothing of it can ever run, and only then tell the source."""
        error.phase = error.phase or self.phases.current
        if self._carrier is not None:
            self._carrier.stop()
        tail = [line for name in self.gates for line in log_tail(self._work(name), criu_restore.RESTORE_LOG)]
        for gate in self.gates.values():
            gate.peer.refuse(gate.request, error)
        given_up = give_up(self.paths, self.record)
        self.phases.leave()
        self.journal.write("aborted" if given_up else "resumed", error=error.to_dict(), criu_log=tail)
        if given_up and self.link is not None:
            try:
                self.link.send("failed", error=error.to_dict())
            except LinkLost:
                pass
        self.emit(
            "restore_failed", error=error.to_dict(), surrendered=given_up, criu_log=tail, phases=self.phases.entries()
        )


def _why(work: str, gate: Gate) -> str:
    """CRIU's own reason for a failed restore, else the runtime's, else that there is none."""
    reason = explain(os.path.join(work, criu_restore.RESTORE_LOG))
    if reason:
        return reason
    try:
        last = read_text(os.path.join(gate.bundle, "log.json")).strip().splitlines()[-1]
        return str(json.loads(last).get("msg"))
    except (OSError, ValueError, IndexError):
        return "the handler or CRIU was stopped"
