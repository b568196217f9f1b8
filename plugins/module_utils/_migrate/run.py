# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""One run in progress: its plan, nodes, events and record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .._plan.plan import Plan
from .._report.record import Failure, Phase, Report
from .errors import Cancelled, PodferryError
from .peer import Peer, Peers
from .ports import Tools
from .session import Event, EventLog


class Run:
    """What the steps of a migration share. ``plan`` says what to do, ``report`` becomes the record of it."""

    def __init__(self, run: str, plan: Plan, tools: Tools, peers: Peers, events: EventLog, report: Report) -> None:
        self.id = run
        self.plan = plan
        self.tools = tools
        self.peers = peers
        self.events = events
        self.report = report
        self.turn = tools.turn()
        self.begun = tools.clock()
        self.step = "prepare"
        self.frozen_at: float | None = None
        """Controller's clock when the news of the freeze came."""
        self.end: Mapping[str, Any] | None = None
        """The source ferry's last word."""
        self.resumed: Mapping[str, Any] | None = None
        """The target ferry's ``resumed``."""
        self.target_failure: Mapping[str, Any] | None = None
        """The target ferry's ``restore_failed``."""
        self.through: Mapping[str, Any] | None = None
        """What this run has put into a store is found by these fields."""
        self.target_gone = ""
        """Why there will be no target pod: somebody deleted it, say (see ``lookout``)."""
        self.owner_taken = False
        """This run has ordered the deletion of the pod's StatefulSet."""

    @property
    def source(self) -> Peer:
        return self.peers.get(self.plan.source_node)

    @property
    def target(self) -> Peer:
        return self.peers.get(self.plan.target_node)

    @property
    def manifest(self) -> Mapping[str, Any]:
        """The target pod to create. Raises PodferryError when this run has none (an earlier one without context)."""
        if self.plan.manifest is None:
            raise PodferryError(f"run {self.id} has no manifest of its target pod")
        return self.plan.manifest

    @contextmanager
    def phase(self, name: str, detail: str = "") -> Iterator[None]:
        """A named step of the controller: shown, timed, and named in errors that come out of it."""
        self.step = name
        self.tools.reporter.phase(name, "", detail)
        start = self.tools.clock()
        try:
            yield
        except PodferryError as exc:
            exc.phase = exc.phase or name
            raise
        finally:
            self.report.phases.append(Phase(name, _ms(start - self.begun), _ms(self.tools.clock() - start)))

    def check_interrupt(self) -> None:
        """Raise Cancelled when the user asked to stop; called only where stopping is still possible."""
        if self.tools.interrupt.is_set():
            raise Cancelled(
                "cancelled by the user before the commit point", "The pod runs on at its source.", self.step
            )

    def wait_event(
        self, wanted: Callable[[Event], bool], *, timeout_s: float, on_tick: Callable[[], bool] = lambda: False
    ) -> Event | None:
        """Take events until one is ``wanted``; None at the deadline or when ``on_tick`` says that waiting has no point.

        Every event on the way is shown and remembered, whoever waits for what.
        """
        deadline = self.tools.clock() + timeout_s
        while True:
            event = self.events.take(self.tools.tick_s)
            if event is not None:
                self.note(event)
                if wanted(event):
                    return event
                continue
            if on_tick() or self.tools.clock() >= deadline:
                return None

    def drain(self) -> None:
        """Take what is there already."""
        while (event := self.events.take(0.0)) is not None:
            self.note(event)

    def note(self, event: Event) -> None:
        """Show an event and remember what it says."""
        if event.run and event.run.partition(".")[0] != self.id:
            return
        data = event.data
        if data.get("criu_log"):
            self.report.criu_log = [str(line) for line in data["criu_log"]]
        if event.name == "phase":
            name = str(data.get("phase") or "")
            if name == "freeze" and event.role == "source":
                self.frozen_at = event.received
                self.report.frozen_at = float(data["wall"]) if data.get("wall") else self.tools.wall()
            self.step = name or self.step
            self.tools.reporter.phase(name, event.node)
        elif event.name == "progress":
            sent, seconds = int(data.get("bytes") or 0), float(data.get("seconds") or 0.0)
            self.tools.reporter.progress(sent, self.plan.memory_bytes, sent / seconds if seconds > 0 else 0.0)
        elif event.name == "copied":
            self.report.diverged_at = float(data["wall"]) if data.get("wall") else self.tools.wall()
            self.report.source_frozen_ms = float(data.get("frozen_ms") or 0.0)
            self.tools.reporter.phase("runs on", event.node, f"after {self.report.source_frozen_ms:.0f} ms")
        elif event.name == "staged_round":
            self.tools.reporter.phase(
                "round", event.node, f"{data.get('round')}: {int(data.get('bytes') or 0) / 1048576:.1f} MiB of files"
            )
        elif event.name == "warning":
            self.warn(str(data.get("message") or ""))
        elif event.name == "end":
            self.end = data
            self._take_end(data, event.node)
            if data.get("outcome") != "relinquished":  # a successor stands still until it is restored
                self.end_turn()
        elif event.name == "resumed":
            self.resumed = data
            if event.role == "target":
                self._take_resumed(data, event.node)
                self.end_turn()
        elif event.name == "restore_failed":
            self.target_failure = data
        elif event.name == "target_gone":
            self.target_gone = str(data.get("message") or "")

    def end_turn(self) -> None:
        """Nothing of it is frozen or sent any more: the next one may begin while this one is brought to its end."""
        self.turn.end(self.report.bytes_sent or 0)

    def forget_target(self) -> None:
        """What the target ferry said does not count any more: another one is started."""
        self.resumed, self.target_failure = None, None

    def warn(self, text: str) -> None:
        self.report.warnings.append(text)
        self.tools.reporter.warning(text)

    def fail(self, exc: PodferryError, type_: str = "") -> None:
        """Write the reason of the run's end into the record; the first one counts."""
        if self.report.error is None:
            kind = type_ or str(getattr(exc, "type", "") or exc.kind)
            self.report.error = Failure(exc.phase or self.step, kind, exc.message, exc.remedy)

    def fail_from(self, data: Mapping[str, Any] | None, phase: str = "") -> None:
        """The same for an error that a ferry told."""
        error = (data or {}).get("error")
        if error and self.report.error is None:
            self.report.error = Failure(
                str(error.get("phase") or phase or self.step),
                str(error.get("type") or "error"),
                str(error.get("message") or ""),
                str(error.get("remedy") or ""),
            )

    def _take_end(self, data: Mapping[str, Any], node: str) -> None:
        if data.get("downtime_ms") is not None:
            self.report.downtime_ms = float(data["downtime_ms"])
        if data.get("connections_closed") is not None and data.get("outcome") in ("committed", "relinquished"):
            self.report.connections_closed = int(
                data["connections_closed"]
            )  # the plan's was a count of some seconds before
        self.report.bytes.update({str(k): int(v) for k, v in (data.get("bytes") or {}).items()})
        self._take_phases(data.get("phases"), node)

    def _take_resumed(self, data: Mapping[str, Any], node: str) -> None:
        if data.get("downtime_ms") is not None:
            self.report.downtime_ms = float(data["downtime_ms"])
        if data.get("wall"):
            self.report.thawed_at = float(data["wall"])
        self._take_phases(data.get("phases"), node)

    def _take_phases(self, phases: Any, node: str) -> None:
        known = {(p.node, p.name, p.start_ms) for p in self.report.phases}
        for entry in phases or []:
            phase = Phase(str(entry["name"]), float(entry["start_ms"]), float(entry.get("ms") or 0.0), node)
            if (phase.node, phase.name, phase.start_ms) not in known:
                self.report.phases.append(phase)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
