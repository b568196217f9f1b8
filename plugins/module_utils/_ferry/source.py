# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The source's ferry: freezes, dumps, sends, and thaws unless the target was let go."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
import typing as t

from .._common.errors import DeadlineExceeded, InvalidInput, LinkLost, PodferryError, StateConflict, TargetGaveUp
from .._criu.dump import DESCRIPTORS
from .._runtime import container as containers
from .._runtime import oci
from .._runtime.process import Runner
from . import deadman, logs, said, through, tls
from .base import BESIDE
from .control import Message, Peer, Server
from .departure import GET_READY_SECONDS, Departure
from .link import Link, clock_offset
from .pace import Pace
from .paths import RunPaths
from .transfer import Sender

_PROGRESS_SECONDS = 0.5


class SourceFerry(Departure):
    """One migration, seen from the node that the pod leaves."""

    modes = (*BESIDE, "successor")

    def __init__(self, paths: RunPaths, config: t.Mapping[str, t.Any], server: Server, runner: Runner) -> None:
        super().__init__(paths, config, server, runner)
        self.keeps_rounds = self.mode == "successor"
        self._relinquish: tuple[Peer, Message] | None = None
        self._word_out = False
        """Go or relinquish may have reached the target: only its own word that it gave up lets us thaw again."""
        self._offset = 0
        self._sender: Sender | None = None
        self._last_progress = 0.0
        self._carrier: through.Carrier | None = None
        """Takes the freeze's state to a store; None: it goes over the link."""
        self._stored = 0

    # --- requests -------------------------------------------------------------------------------------------------

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

    # --- the way ----------------------------------------------------------------------------------------------------

    def prepare(self) -> dict[str, t.Any]:
        """Reserve memory and connect; the pod runs on.

        :returns: the answer to ``ferry_start``.
        """
        self.phases.enter("prepare")
        self._claim()
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
            if self.config.get("through"):
                self._carrier = through.Carrier("put")
            self._get_ready()
            self.peer().pace = None  # what is sent from here on is downtime
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
                self._rounds().sender(self.peer())
                self._stage()
                deadline = self._idle()
            self._hear(0.05)
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"no go came within {self.deadlines.idle:g} s")
        peer, request = self._go
        # A ferry that hangs would be asked for ever: nobody waits for its end but the controller.
        first = self.deadlines.claim + self._rounds().seconds() + self._stage_patience
        deadman.within(first + len(self._containers) * GET_READY_SECONDS + deadman.MARGIN)
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

    def _during_rounds(self) -> None:
        self._watch()
        self._hear(0.0)

    def _keep_up(self) -> None:
        self._watch()
        self.peer().beat()

    def _dump_and_send(self) -> None:
        """Dump every container and send what is written while it is written."""
        self.enter("dump")
        link = self.peer()
        if self._carrier is not None:
            self._dump_and_store(self._carrier)
            return
        self._sender = sender = self._rounds().sender(link)
        flushed = self._dump_all()
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

    def _dump_and_store(self, carrier: through.Carrier) -> None:
        """The same by way of a store: only its manifest goes over the link."""
        flushed = self._dump_all()
        self.enter("transfer")
        held = self._mend()
        self.journal.data["hold_loopback"] = held
        for item in self._containers:
            logs.copy(item.owner, os.path.join(self.paths.container(item.name), "log"))
            shutil.rmtree(self.paths.work(item.name), ignore_errors=True)  # logs of the dump
        self._wait_for_flush(flushed)
        way = self.config["through"]
        answer = carrier.carry({**way, "folder": self.paths.images}, self._during_transfer)
        self._stored = int(answer["stored"])
        self.peer().send(
            "stored", manifest=answer["manifest"], freeze_ns=self._freeze_ns + self._offset, hold_loopback=held
        )

    def _packed(self, item: containers.Container, names: t.Sequence[str], *, described: bool) -> None:
        if self._sender is None:
            return
        for name in [*names, f"{item.name}/criu/{DESCRIPTORS}"]:
            if os.path.exists(os.path.join(self.paths.images, name)):
                self._sender.file(name)
        if described:
            self.peer().send("begin_restore", container=item.name)

    def _dumping(self, item: containers.Container) -> None:
        if self._sender is None or not self._sender.growing(item.name):
            time.sleep(0.001)
        self._progress()

    def _progress(self, force: bool = False) -> None:
        now = time.monotonic()
        if self._sender is not None and (force or now - self._last_progress > _PROGRESS_SECONDS):
            self._last_progress = now
            self.emit("progress", bytes=self._sender.bytes, seconds=(time.monotonic_ns() - self._freeze_ns) / 1e9)

    def _run_on(self) -> None:
        """A copy was asked for: the source goes on as soon as it is dumped, and the two go apart from here."""
        frozen_ms = self._go_on()
        self.emit("copied", frozen_ms=frozen_ms)

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
        self._during_transfer()  # as in `_commit`: a target that went away meanwhile is no reason for doubt yet
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
        downtime = said.milliseconds(answer.get("downtime_ms"))
        self.journal.write(state, downtime_ms=downtime)
        self._say_end("committed" if state == "copied" else state, None, downtime, said.phases(ready.get("phases")))

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
        if self._carrier is not None:
            self._carrier.stop()
        tail = self._put_back(error)
        if self.link is not None:
            try:
                self.link.send("abort", error=error.to_dict())
            except PodferryError:
                pass  # its guard notices that we are gone
        self._say_end("aborted", error, None, None, criu_log=tail)

    def _say_end(
        self, outcome: str, error: PodferryError | None, downtime: float | None, target_phases: t.Any, **more: t.Any
    ) -> None:
        self.phases.leave()
        self.emit(
            "end", outcome=outcome, phase=self.phases.current, error=error.to_dict() if error else None,
            downtime_ms=downtime, freeze_t=self._freeze_ns, phases=self.phases.entries(), target_phases=target_phases,
            connections_closed=self._closed,
            bytes={
                "wire": self.peer().sent if self.link else 0,
                "files": self._sender.bytes if self._sender else 0,
                "store": self._stored,
            },
            **more,
        )  # fmt: skip
