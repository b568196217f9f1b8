# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The source's ferry: freezes, dumps, sends, and thaws unless the target was let go."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import typing as t

from .._common import faults
from .._common.errors import (
    Cancelled,
    DeadlineExceeded,
    DumpFailed,
    FreezeFailed,
    InvalidInput,
    LinkLost,
    NotFound,
    PodferryError,
    StateConflict,
    TargetGaveUp,
)  # fmt: skip
from .._criu import ipc
from .._criu import tcp as connections
from .._criu.dump import DESCRIPTORS, DUMP_LOG, STOP_SECONDS, Dump, log_tail
from .._runtime import container as containers
from .._runtime import oci, procfs, quota, versions, volumes
from .._runtime.inspect import established_connections, foreign_processes
from .._runtime.process import Runner
from . import deadman, held, logs, thaw, tls, tree
from .base import BESIDE, Ferry, roster
from .control import Message, Peer, Server
from .link import Link, clock_offset
from .pace import Pace
from .paths import VOLUMES, RunPaths
from .staging import Staging, patience
from .transfer import Sender

_FOREIGN_TRIES = 5
_FOREIGN_PAUSE = 0.2
_PROGRESS_SECONDS = 0.5
_GET_READY_SECONDS = 20.0
_SKIPS_IN_FLIGHT = [1, 3]
"""runc's version from which on it has a flag for it."""


class SourceFerry(Ferry):
    """One migration, seen from the node that the pod leaves."""

    role = "source"

    def __init__(self, paths: RunPaths, config: t.Mapping[str, t.Any], server: Server, runner: Runner) -> None:
        super().__init__(paths, config, server, runner)
        self.tcp: str = config.get("tcp", "close")
        if self.mode not in (*BESIDE, "successor") or self.tcp not in ("close", "refuse"):
            raise InvalidInput(f"mode {self.mode!r} or tcp {self.tcp!r} is not known")
        self._containers = [containers.find(str(item["name"]), str(item["id"])) for item in config["containers"]]
        for item in self._containers:
            oci.check_trusted(item.config)
            if (item.owner.namespace, item.owner.pod, item.owner.uid) != (
                config["namespace"],
                config["pod"],
                config["uid"],
            ):
                raise NotFound(f"container {item.name} does not belong to pod {config['pod']} of that UID any more")
        self._staging: Staging | None = None
        self._stage_patience = patience(int(config.get("stage_bytes") or 0))
        self._stage_wanted = False
        self._go: tuple[Peer, Message] | None = None
        self._relinquish: tuple[Peer, Message] | None = None
        self._cancelled = False
        self._cancellable = True
        self._word_out = False
        """Go or relinquish may have reached the target: only its own word that it gave up lets us thaw again."""
        self._dumps: list[Dump] = []
        self._usage: dict[str, int] = {}
        self._offset = 0
        self._freeze_ns = 0
        self._sender: Sender | None = None
        self._last_progress = 0.0
        self._can_hold_loopback = False
        self._closed = 0

    # --- requests -------------------------------------------------------------------------------------------------

    def on_go(self, peer: Peer, request: Message) -> None:
        """Freeze as soon as the target's handler waits."""
        if self.journal.state != "prepared":
            raise StateConflict(f"the source is {self.journal.state}, not prepared")
        self._go = (peer, request)

    def on_stage(self, peer: Peer, request: Message) -> None:
        """Copy the pod's files while it runs, in rounds; ``staged`` is said when that is worth no further round."""
        if self.journal.state != "prepared":
            raise StateConflict(f"the source is {self.journal.state}, not prepared")
        self._stage_wanted = True
        peer.answer(request, {})

    def on_cancel(self, peer: Peer, request: Message) -> None:
        """Stop, if the commit point has not been reached."""
        if not self._cancellable:
            peer.answer(request, {"cancelled": False})
            return
        self._cancelled = True
        peer.answer(request, {"cancelled": True})

    def on_relinquish(self, peer: Peer, request: Message) -> None:
        """Give the source up for its successor: the commit point when the name is kept."""
        if self.mode != "successor" or self.journal.state != "data_ready":
            raise StateConflict(f"the source is {self.journal.state} in mode {self.mode}: nothing to relinquish")
        self._relinquish = (peer, request)

    def on_gone(self, peer: Peer) -> None:
        """Without a controller nobody would say go, or relinquish: run on. After that nothing changes."""
        awaited = self._go is None or (self.mode == "successor" and self._relinquish is None)
        if peer.subscribed and awaited and not self.server.controlled():
            self._cancelled = True

    def _watch(self) -> None:
        """Look after everything that may end the migration early."""
        self.pump()
        if self._cancelled and self._cancellable:
            raise Cancelled("the migration was cancelled before the commit point", "The pod runs on at its source.")

    # --- the way ----------------------------------------------------------------------------------------------------

    def prepare(self) -> dict[str, t.Any]:
        """Reserve memory and connect; the pod runs on.

        :returns: the answer to ``ferry_start``.
        """
        self.phases.enter("prepare")
        thaw.claim(self.paths, self.config["namespace"], self.config["pod"])
        self.journal.write(
            "prepared", run=self.paths.run, role=self.role, mode=self.mode, namespace=self.config["namespace"],
            pod=self.config["pod"], uid=self.config["uid"], target_pod=self.config.get("target_pod", self.config["pod"]),
            target_node=self.config.get("target_node", ""), tcp=self.tcp,
            source_node=self.config.get("source_node", ""), context=self.context(), roster=roster(self.config),
            containers=[{"name": item.name, "id": f"{'containerd' if item.engine == 'containerd' else 'cri-o'}://{item.id}",
                         "cgroup": item.cgroup.path} for item in self._containers],
        )  # fmt: skip
        self.mount_images()
        peer = self.config["peer"]
        keys = tls.Keys.from_dict(self.config["tls"])
        self.link = Link(
            tls.connect(keys, str(peer["address"]), int(peer["port"]), 5.0), self.deadlines.silence, self.role
        )
        if self.config.get("bandwidth"):
            self.link.pace = Pace(float(self.config["bandwidth"]))
        self.link.send(
            "hello", run=self.paths.run, mode=self.mode,
            containers=[{"name": item.name, "destinations": oci.destinations(item.config)} for item in self._containers],
        )  # fmt: skip
        self._can_hold_loopback = bool(self._expect("hello", self.deadlines.silence).get("holds_loopback"))
        self._offset, trip = clock_offset(self.link)
        return {"connected": True, "rtt_ms": round(trip, 3)}

    def run(self) -> None:
        """From ``go`` to the end; whatever goes wrong before the commit leaves the source running."""
        try:
            self._wait_for_go()
            if self.mode in BESIDE:
                self.enter("wait_for_target")
                self.peer().send("expect_claim")
                # The target lays out what was staged before it says so.
                self._expect("claimed", self.deadlines.claim + self._rounds().seconds())
                if self._rounds().number:
                    self._round()
            self._freeze()
            self._dump_and_send()
            if self.mode == "copy":
                self._run_on()
            if self.mode in BESIDE:
                self._commit()
            else:
                self._give_up()
        except (PodferryError, OSError) as error:
            known = error if isinstance(error, PodferryError) else LinkLost(f"{type(error).__name__}: {error}")
            if self._word_out and not isinstance(error, TargetGaveUp):
                self._doubt(known)
            else:
                self._end_badly(known)

    def _expect(self, kind: str, timeout: float) -> Message:
        """Wait for a message of ``kind`` from the target.

        :raises DeadlineExceeded: it does not come within ``timeout`` seconds.
        :raises TargetGaveUp: the target says that it will never be let go.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self._watch()
            message = None
            if self.peer().readable(0.02, self.server.wake):
                message = self.peer().message(0.0)
            else:
                self.peer().beat()
                self.peer().check_alive()
            if message is None:
                continue
            if message["m"] == kind:
                return message
            if message["m"] in ("failed", "aborted"):
                raise TargetGaveUp.because(message.get("error"))
            raise InvalidInput(f"the target said {message['m']!r} where {kind!r} was due")
        raise DeadlineExceeded(
            f"the target did not say {kind!r} within {timeout:g} s",
            "Look at the events of the target pod and its node's log.",
        )

    def _wait_for_go(self) -> None:
        deadline = self._idle()
        while self._go is None:
            self._watch()
            if self._stage_wanted:
                self._stage_wanted = False
                self._stage()
                deadline = self._idle()
            self._hear(0.05)
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"no go came within {self.deadlines.idle:g} s")
        peer, request = self._go
        # A ferry that hangs would be asked for ever: nobody waits for its end but the controller.
        first = self.deadlines.claim + self._rounds().seconds() + self._stage_patience
        deadman.within(first + len(self._containers) * _GET_READY_SECONDS + deadman.MARGIN)
        self.journal.write("waiting")
        peer.answer(request, {})

    def _idle(self) -> float:
        """Until when a word of the controller is waited for."""
        deadman.within(self.deadlines.idle + deadman.MARGIN)
        return time.monotonic() + self.deadlines.idle

    def _hear(self, patience: float) -> None:
        """Take what the target says when nothing is due; ``patience`` in seconds.

        :raises TargetGaveUp: it says that it will never be let go.
        """
        while self.peer().readable(patience, self.server.wake):
            message = self.peer().message(0.0)
            if message is None:
                break
            raise TargetGaveUp.because(message.get("error"))
        self.peer().beat()
        self.peer().check_alive()

    def _empty_dirs(self) -> list[volumes.EmptyDir]:
        first = self._containers[0]
        return volumes.empty_dirs(first.config, first.owner.uid)

    def _rounds(self) -> Staging:
        """The trees of the pod, from their first look on."""
        if self._staging is None:
            trees = {f"{item.name}/rootfs": tree.upper_directory(item.rootfs) for item in self._containers}
            for volume in self._empty_dirs():
                if not volume.in_memory:  # what was never meant for a disk is not put on one
                    trees[f"{VOLUMES}/{volume.name}"] = volume.path
            self._staging = Staging(self.paths, trees, keep=self.mode == "successor")
        return self._staging

    def _stage(self) -> None:
        deadman.within(self._stage_patience + deadman.MARGIN)
        self.enter("stage")
        rounds = self._rounds()
        rounds.sender(self.peer())
        while rounds.worth_another():
            self._round()
            self.emit("staged_round", round=rounds.number, bytes=rounds.last_bytes)
        self.emit("staged", rounds=rounds.number, bytes=rounds.bytes)

    def _round(self) -> None:
        rounds = self._rounds()
        point = f"source:round:{rounds.number + 1}"
        faults.point(f"{point}:before")
        rounds.round(self._during_rounds)
        faults.point(f"{point}:after")

    def _during_rounds(self) -> None:
        self._watch()
        self._hear(0.0)

    def _freeze(self) -> None:
        """Freeze all containers, without guests from ``kubectl exec`` or an exec probe in them."""
        self._get_ready()
        self.enter("freeze")
        self.peer().pace = None  # what is sent from here on is downtime
        self._freeze_deadline = time.monotonic() + self.deadlines.freeze
        deadman.within(self.deadlines.freeze + deadman.MARGIN)
        # Entered before it is done: whoever puts it back must know even if we die in between.
        quotas = {path: value for item in self._containers for path, value in quota.read(item.pid).items()}
        for attempt in range(_FOREIGN_TRIES):
            self.journal.write("freezing", quotas=quotas)
            quota.lift(quotas)
            thaw.depart(self.paths, self.config["namespace"], self.config["pod"])
            self._freeze_ns = min([self._freeze_one(item) for item in self._containers])
            guests = [guest for item in self._containers for guest in foreign_processes(item)]
            if not guests:
                break
            self._thaw()
            if attempt == _FOREIGN_TRIES - 1:
                raise FreezeFailed(
                    f"processes entered by exec stay in the pod: {', '.join(sorted({str(guest['comm']) for guest in guests}))}",
                    "End `kubectl exec` sessions and what they left behind; exec probes must end quickly.",
                )
            time.sleep(_FOREIGN_PAUSE)
        if self.tcp == "refuse" and established_connections(self._containers[0].pid):
            raise FreezeFailed(
                "a TCP connection was opened meanwhile and tcp=refuse", "Migrate with tcp=close, or again."
            )
        self.journal.write("frozen", freeze_ns=self._freeze_ns)

    @staticmethod
    def _freeze_one(item: containers.Container) -> int:
        faults.point("source:freeze:before", item.name)
        return item.cgroup.freeze(5.0)

    def _get_ready(self) -> None:
        """Let the runtime come as far as CRIU for every container, while they still run."""
        for item in self._containers:
            os.makedirs(self.paths.container(item.name), mode=0o700)
            skip = (versions.runc(self.runner([item.runtime, "--version"]).stdout) or [0]) >= _SKIPS_IN_FLIGHT
            dump = Dump(item, self.paths.criu(item.name), self.paths.work(item.name), skip)
            self._dumps.append(dump)
            dump.get_ready(_GET_READY_SECONDS, self._keep_up)

    def _keep_up(self) -> None:
        self._watch()
        self.peer().beat()

    def _dump_and_send(self) -> None:
        """Dump every container and send what is written while it is written."""
        self.enter("dump")
        link = self.peer()
        self._sender = sender = self._rounds().sender(link)
        flushed = self._flush()
        for item, dump in zip(self._containers, self._dumps):
            faults.point("source:dump:before", item.name)
            dump.begin()
            for name in [*self._pack(item), f"{item.name}/criu/{DESCRIPTORS}"]:
                if os.path.exists(os.path.join(self.paths.images, name)):
                    sender.file(name)
            link.send("begin_restore", container=item.name)
            while dump.running():
                if not sender.growing(item.name):
                    time.sleep(0.001)
                self._progress()
                self._during_transfer()
            dump.finish()
            self._usage[item.name] = item.cgroup.usage_ns()
            faults.point("source:dump:after", item.name)
        self.enter("transfer")
        held = self._mend()
        self.journal.data["hold_loopback"] = held  # for a restore at home; written with the next state
        for item in self._containers:
            sender.rest(item.name)
            if logs.copy(item.owner, os.path.join(self.paths.container(item.name), "log")):
                sender.file(f"{item.name}/log")
            self._during_transfer()
        self._wait_for_flush(flushed)
        link.send("manifest", files=sender.manifest(), freeze_ns=self._freeze_ns + self._offset, hold_loopback=held)
        self._progress(force=True)

    def _mend(self) -> bool:
        """Change the dumps to what can come back: connections with others are closed, what all dumps hold stays in one.

        :returns: whether containers are connected with each other over loopback.
        :raises FreezeFailed: a connection is there and tcp=refuse.
        """
        folders = [self.paths.criu(item.name) for item in self._containers]
        if len(folders) > 1:
            ipc.divide(folders, [procfs.sysv_segments(item.cgroup.pids()) for item in self._containers])
        ends = [set(connections.connections(folder)) for folder in folders]
        # One whose ends lie in two containers needs a target that can hold the loopback up between the two restores.
        across = {end for mine in ends for end in mine if end.inner and end.other_end not in mine}
        across = {end for end in across if any(end.other_end in theirs for theirs in ends)}
        lost = {end for mine in ends for end in mine if not end.inner} | (set() if self._can_hold_loopback else across)
        if lost and self.tcp == "refuse":
            raise FreezeFailed(
                "a TCP connection was opened meanwhile and tcp=refuse", "Migrate with tcp=close, or again."
            )
        self._closed = sum(connections.close(folder, lost.__contains__) for folder in folders) if lost else 0
        return bool(across) and self._can_hold_loopback

    def _pack(self, item: containers.Container) -> list[str]:
        """Archive what of the files is not on the target yet: the pod's own with the first container.

        :returns: names of the archives.
        """
        # Reading a large tree takes longer than the silence after which the target counts us as lost.
        names = []
        if item is self._containers[0]:
            mapped = procfs.mapped_writable(pid for each in self._containers for pid in each.cgroup.pids())
            names += self._rounds().last(f"{VOLUMES}/", mapped, self._during_transfer)
            for volume in self._empty_dirs():
                if volume.in_memory:
                    names.append(self._archive(VOLUMES, volume.name, volume.path))
            memory = oci.mount_source(item.config, "/dev/shm")
            if memory and os.path.isdir(memory):
                names.append(self._archive(item.name, "shm", memory))
        names += self._rounds().last(f"{item.name}/", procfs.mapped_writable(item.cgroup.pids()), self._during_transfer)
        open_there = os.path.join(self.paths.container(item.name), held.NAME)
        if held.pack(item.cgroup.pids(), volumes.kubelet_volumes(item.config, item.owner.uid), open_there):
            names.append(f"{item.name}/{held.NAME}")
        return names

    def _archive(self, owner: str, name: str, path: str) -> str:
        """All of a tree in memory, in one archive."""
        os.makedirs(self.paths.container(owner), mode=0o700, exist_ok=True)
        tree.pack(path, os.path.join(self.paths.container(owner), f"{name}.tar"), self._during_transfer)
        return f"{owner}/{name}.tar"

    def _flush(self) -> list[subprocess.Popen[bytes]]:
        """Write out what volumes that other nodes mount have not written yet, beside the dump."""
        places = {place for item in self._containers for place in volumes.shared(item.config, item.owner.uid)}
        return [
            subprocess.Popen(["sync", "--file-system", place], stdin=subprocess.DEVNULL) for place in sorted(places)
        ]

    def _wait_for_flush(self, flushed: list[subprocess.Popen[bytes]]) -> None:
        for child in flushed:
            while child.poll() is None:
                self._during_transfer()
                time.sleep(0.001)
            if child.returncode != 0:
                raise DumpFailed("a shared volume could not be written out", "Look at its server, and at `dmesg`.")

    def _during_transfer(self) -> None:
        self._during_rounds()
        if time.monotonic() > self._freeze_deadline:
            raise DeadlineExceeded(f"the freeze took longer than {self.deadlines.freeze:g} s", "Allow a longer freeze.")

    def _progress(self, force: bool = False) -> None:
        now = time.monotonic()
        if self._sender is not None and (force or now - self._last_progress > _PROGRESS_SECONDS):
            self._last_progress = now
            self.emit("progress", bytes=self._sender.bytes, seconds=(time.monotonic_ns() - self._freeze_ns) / 1e9)

    def _run_on(self) -> None:
        """A copy was asked for: the source goes on as soon as it is dumped, and the two go apart from here."""
        self._verify_still()
        failed = thaw.run_again(self.journal.data)
        if failed:
            raise failed[0]
        self.journal.write("copied")
        self.emit("copied", frozen_ms=round((time.monotonic_ns() - self._freeze_ns) / 1e6, 2))

    def _verify_still(self) -> None:
        """:raises FreezeFailed: something else thawed, killed or ran the source since its dump."""
        for item in self._containers:
            if not item.cgroup.stands() or item.cgroup.usage_ns() != self._usage[item.name]:
                raise FreezeFailed(
                    f"container {item.name} did not stay frozen after its dump",
                    "Something else (the runtime, a person, a node agent) thawed or killed it: the dump cannot be used.",
                )

    def _remaining(self) -> float:
        return max(0.1, self._freeze_deadline - time.monotonic())

    def _commit(self) -> None:
        """Twin: let the target go once it stands frozen with everything verified."""
        self.enter("restore")
        ready = self._expect("ready", self._remaining())
        self.enter("commit")
        self._during_transfer()  # a target that gave up or went away meanwhile is no reason for doubt yet
        self._cancellable = False
        deadman.within(self.deadlines.settle + deadman.MARGIN)
        if self.mode == "copy":
            self.peer().send("go")  # whatever becomes of it, the source runs
        else:
            self.journal.write("go_given")
            self._verify_still()  # the last thing before the word: a source that somebody thawed must not have a copy
            self._word_out = True
            self.peer().send("go")
        answer = self._expect("resumed", self.deadlines.settle)
        self._finished("copied" if self.mode == "copy" else "committed", answer, ready)

    def _give_up(self) -> None:
        """Successor: the data is safe on the target; wait for the controller's word, then never thaw again."""
        self.enter("data_ready")
        self._expect("data_ok", self._remaining())
        self._verify_still()
        self.journal.write("data_ready")
        self.emit("data_ready", bytes=self._sender.bytes if self._sender else 0, phases=self.phases.entries())
        while self._relinquish is None:
            self._watch()
            self._during_transfer()
            self.peer().readable(0.02, self.server.wake)
        peer, request = self._relinquish
        self._cancellable = False
        deadman.within(self.deadlines.settle + deadman.MARGIN)
        self.journal.write("go_given")
        self._verify_still()
        self._word_out = True
        self.peer().send("relinquish")
        self._expect("relinquished", self.deadlines.settle)
        self._finished("relinquished", {}, {})
        peer.answer(request, {})

    def _finished(self, state: str, answer: Message, ready: Message) -> None:
        self.phases.leave()
        downtime = answer.get("downtime_ms")
        self.journal.write(state, downtime_ms=downtime)
        self._say_end("committed" if state == "copied" else state, None, downtime, ready.get("phases"))

    def _doubt(self, error: PodferryError) -> None:
        """The go is out and no answer came: only the target's record knows. Stay frozen."""
        error.phase = self.phases.current
        with contextlib.suppress(OSError):  # a journal that stays go_given means the same
            self.journal.write("in_doubt", error=error.to_dict())
        if self._relinquish is not None:
            self._relinquish[0].refuse(self._relinquish[1], error)
        self._say_end("in_doubt", error, None, None)

    def _end_badly(self, error: PodferryError) -> None:
        """Before the commit: the source runs on, first of all."""
        error.phase = error.phase or self.phases.current
        deadman.within(STOP_SECONDS + 2 * deadman.MARGIN)
        for dump in self._dumps:
            dump.stop()
        running = self._thaw()
        self._cancellable = False
        if running:
            self.journal.write("aborted", error=error.to_dict())
        # else the journal keeps saying that it is frozen: the guard tries again once everything of ours is gone
        if self.link is not None:
            try:
                self.link.send("abort", error=error.to_dict())
            except PodferryError:
                pass  # its guard notices that we are gone
        tail = [line for item in self._containers for line in log_tail(self.paths.work(item.name), DUMP_LOG)]
        self._say_end("aborted", error, None, None, criu_log=tail if error.kind == "dump_failed" else [])

    def _thaw(self) -> bool:
        """Thaw everything that we may have frozen; one that refuses does not keep the others frozen."""
        failed = thaw.run_again(self.journal.data)
        for error in failed:
            self.emit("warning", message=error.message, remedy=error.remedy)
        return not failed

    def _say_end(
        self, outcome: str, error: PodferryError | None, downtime: float | None, target_phases: t.Any, **more: t.Any
    ) -> None:
        self.phases.leave()
        self.emit(
            "end", outcome=outcome, phase=self.phases.current, error=error.to_dict() if error else None,
            downtime_ms=downtime, freeze_t=self._freeze_ns, phases=self.phases.entries(), target_phases=target_phases,
            connections_closed=self._closed,
            bytes={"wire": self.peer().sent if self.link else 0, "files": self._sender.bytes if self._sender else 0},
            **more,
        )  # fmt: skip
