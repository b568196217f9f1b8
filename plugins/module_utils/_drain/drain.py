# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Emptying a node: cordon it, move what can move, see to the rest, say what became of each pod."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .._kube.errors import KubeError, KubeUnavailable
from .._migrate.errors import Cancelled, PodferryError
from .._migrate.migration import Migration, api_errors
from .._migrate.patience import persist
from .._migrate.ports import Reporter, Tools
from .._plan.triage import deadline_s
from .._report.drain import DrainReport, Outcome, PodRecord
from .cordon import Cordon, DrainConflict, timestamp
from .evict import evict
from .item import Item
from .latecomers import replaced, starting, still_there, undecided
from .options import DrainOptions, NodesApi
from .sessions import SharedSessions
from .signs import Announcement
from .survey import Survey, request
from .turns import Turns

_PASSING = frozenset(
    ("owner_not_stable", "target_unschedulable", "target_capacity", "target_not_ready", "exec_process")
)
"""Refusals of a pod that was fit a moment ago: its ReplicaSet counts a sibling that is just being handed over, and the like."""
_REFUSED_TRIES = 8
_UNDONE_TRIES = 2
_PAUSE_S = 3.0
_TICK_S = 0.2
_STARTING_S = 60.0
"""How long pods that are starting are waited for, when all that could move has moved."""
_LOOK_S = 2.0
_API_S = 30.0


class Drain:
    """One drain. ``preview`` and ``run`` are the two things that can be asked of it."""

    def __init__(
        self,
        options: DrainOptions,
        tools: Tools,
        cluster: NodesApi,
        *,
        reporter_of: Callable[[PodRecord], Reporter] | None = None,
        tick_s: float = _TICK_S,
    ) -> None:
        """``tools.interrupt`` stops the drain; ``reporter_of`` gives what shows one pod's way. Both are used from threads."""
        self._options = options
        self._cluster = cluster
        self._sessions = SharedSessions(tools.open_session)
        self._turns = Turns(options.freezes, options.bandwidth)
        self._stop = threading.Event()
        self._user = tools.interrupt
        self._tools = replace(tools, open_session=self._sessions.open, interrupt=self._stop, turn=self._turns.turn)
        self._reporter_of = reporter_of or (lambda _record: tools.reporter)
        self._tick_s = tick_s
        self._report = DrainReport(
            tools.new_run(), options.node, by=tools.who, started_at=timestamp(tools.wall()), limits=options.limits()
        )
        self._begun = tools.clock()
        self._deadline: float | None = None
        self._displaced = ""
        self._changed = threading.Condition()
        self._going: dict[int, str] = {}
        """The node that each pod under way goes to."""
        self._survey = Survey(options, self._tools, cluster)

    def preview(self) -> DrainReport:
        """What ``run`` would do now, touching nothing. Raises PodferryError."""
        with contextlib.closing(self):
            cordon = self._cordon()
            try:
                with api_errors("preflight"):
                    cordon.check()
                    self._report.pods = [item.record for item in self._survey.look()]
                self._report.changed_node = not cordon.before and self._options.uncordon != "always"
            except DrainConflict as exc:
                return self._refused(exc)
            return self._report

    def run(self) -> DrainReport:
        """Drain. The report says what became of each pod. Raises PodferryError for failures that leave nothing touched."""
        with contextlib.closing(self):
            cordon = self._cordon()
            self._tools.reporter.phase("cordon", self._options.node)
            try:
                with api_errors("cordon"):
                    cordon.check()
                    cordon.take()
                self._report.cordoned = True
                self._act(cordon)
            except DrainConflict as exc:
                self._refused(exc)
            except PodferryError as exc:
                if not cordon.held:
                    raise
                self._report.outcome = self._unfinished() if isinstance(exc, Cancelled) else "failed"
                self._report.error, self._report.remedy = exc.message, exc.remedy
                self._not_started("the drain failed before")
            finally:
                self._let_go(cordon)
            self._report.total_ms = round((self._tools.clock() - self._begun) * 1000, 1)
            return self._report

    # -- steps ----------------------------------------------------------------------------------------------------

    def _act(self, cordon: Cordon) -> None:
        report = self._report
        self._tools.reporter.phase("survey", self._options.node)
        if self._options.deadline_s:
            self._deadline = self._begun + self._options.deadline_s
        with api_errors("survey"):
            items = self._took_in(self._survey.look(lambda: self._look_up(cordon)))
        self._move([item for item in items if item.record.decision == "move"], cordon)
        late = self._latecomers(items, cordon)
        items = self._took_in(replaced(items, late))
        self._move([item for item in late if item.record.decision == "move"], cordon)
        evictions = [item for item in items if item.record.decision == "evict"]
        if evictions and not self._stopped():
            evict(evictions, self._tools, self._cluster, lambda: self._stopped(cordon))
        self._not_started(self._why_stopped())
        self._took_in(replaced(items, still_there(items, self._on_node())))
        failed = any(record.failed for record in report.pods)
        report.outcome = self._unfinished() if failed else "drained"
        if failed and self._late():
            report.warnings.append(f"the deadline of {report.deadline_s:.0f} s was reached: {self._why_stopped()}")
        if failed and cordon.displaced:
            report.error, report.remedy = cordon.displaced, "Look at the node, then run the play again."
        elif cordon.displaced:
            report.warnings.append(cordon.displaced)

    def _not_started(self, why: str) -> None:
        for record in self._report.pods:
            if record.decision != "leave" and record.outcome == "planned":
                record.outcome, record.error = "not_started", why

    def _unfinished(self) -> Outcome:
        return "cancelled" if self._user.is_set() else "incomplete"

    def _look_up(self, cordon: Cordon) -> None:
        """Between two looks at pods. Raises Cancelled."""
        if self._stopped(cordon):
            raise Cancelled(f"{self._why_stopped()} every pod had been looked at", "Run the play again.", "survey")

    def _took_in(self, items: list[Item]) -> list[Item]:
        """The report holds these pods; the deadline grows with those that move, unless somebody gave one."""
        moves = [item.size for item in items if item.record.decision == "move"]
        self._report.pods = [item.record for item in items]
        self._report.deadline_s = self._options.deadline_s or deadline_s(moves, self._options.freezes)
        self._deadline = self._begun + self._report.deadline_s
        return items

    def _latecomers(self, items: Sequence[Item], cordon: Cordon) -> list[Item]:
        """Decide about what was still starting, or was bound to the node just before the cordon."""
        patience = self._tools.clock() + _STARTING_S
        pods = undecided(items, self._on_node())
        if any(map(starting, pods)):
            self._tools.reporter.phase("wait", self._options.node, "for pods that are starting")
        while any(map(starting, pods)) and self._tools.clock() < patience and not self._stopped(cordon):
            self._tools.sleep(_LOOK_S)
            pods = undecided(items, self._on_node())
        if not pods:
            return []
        try:
            with api_errors("survey"):
                return self._survey.decide(pods, lambda: self._look_up(cordon))
        except Cancelled:
            return []  # what is on the node still is told of at the end

    def _on_node(self) -> list[Mapping[str, Any]]:
        """The pods that are on the node now. Raises PodferryError."""
        with api_errors("survey"):
            return persist(self._tools, "list the pods of the node", self._survey.listed, patience_s=_API_S)

    def _move(self, moves: Sequence[Item], cordon: Cordon) -> None:
        """Start what may be started, until all has ended. After a stop nothing is started; what runs comes to its own end."""
        families = Counter(item.owner_uid for item in moves if item.owner_uid)
        # Siblings go one after the other: the longest row of them begins first.
        waiting = sorted(moves, key=lambda item: -families.get(item.owner_uid, 1))
        running: dict[int, Item] = {}
        while waiting or running:
            if self._stopped(cordon):
                waiting = []
            with self._changed:
                for item in list(waiting):
                    if self._may_start(item, list(running.values())):
                        waiting.remove(item)
                        running[id(item)] = item
                        self._going[id(item)] = item.record.target
                        self._start(item, running)
                if running:
                    self._changed.wait(self._tick_s)

    def _may_start(self, item: Item, running: Sequence[Item]) -> bool:
        """Within the limits, and no other pod of the same owner is under way: it is to count its pods in peace."""
        if len(running) >= self._options.parallel:
            return False
        if item.owner_uid and any(other.owner_uid == item.owner_uid for other in running):
            return False
        return self._room(item.record.target)

    def _room(self, target: str) -> bool:
        return Counter(self._going.values())[target] < self._options.per_node

    def _start(self, item: Item, running: dict[int, Item]) -> None:
        def work() -> None:
            try:
                self._move_one(item)
            except Exception:  # noqa: BLE001 - one pod's defect must not leave the others without a report
                item.record.outcome = "in_doubt"
                item.record.error = f"a defect of podferry: {traceback.format_exc(limit=3)}"
                item.record.remedy = "Please report it; run the play again: it goes on with what was begun."
            finally:
                with self._changed:
                    running.pop(id(item), None)
                    self._going.pop(id(item), None)
                    self._changed.notify_all()

        threading.Thread(target=work, name=f"podferry-{item.record.title}", daemon=True).start()

    def _move_one(self, item: Item) -> None:
        """Move one pod; what may pass is tried again."""
        record = item.record
        tools = replace(self._tools, reporter=self._reporter_of(record))
        refused = undone = 0
        while True:
            record.attempts += 1
            tools.reporter.phase("begin", "", f"to {record.target}")
            try:
                _plan, report = Migration(
                    request(self._options, record.namespace, record.pod, record.target), tools
                ).move()
            except PodferryError as exc:
                record.outcome, record.error, record.remedy = "undone", exc.message, exc.remedy
            else:
                record.take(report)
            tools.reporter.phase(record.outcome, "", record.error)
            if record.outcome == "refused":
                refused += 1
                again = refused < _REFUSED_TRIES and {r["code"] for r in record.refusals} <= _PASSING
            else:
                undone += 1
                again = undone < _UNDONE_TRIES and record.outcome == "undone"
            if not again or self._stop.wait(_PAUSE_S):
                return
            self._place_again(item)

    def _place_again(self, item: Item) -> None:
        """Another node if there is one, as soon as it may get one more."""
        try:
            target = self._survey.place_again(item) or item.record.target
        except (KubeError, KubeUnavailable):
            return  # the next try says it
        with self._changed:
            self._going.pop(id(item), None)  # two that want each other's place must not wait for ever
            self._changed.notify_all()
            while not self._room(target) and not self._stop.is_set():
                self._changed.wait(self._tick_s)
            self._going[id(item)] = target
        item.record.target = target

    # -- beginning and end ----------------------------------------------------------------------------------------

    def _cordon(self) -> Cordon:
        report = self._report
        return Cordon(
            self._cluster,
            self._options.node,
            self._options.target,
            Announcement(report.run, report.by, report.started_at, 0.0),
            known=[name for name, hosts in self._tools.inventory.items() if len(hosts) == 1],
            tools=replace(self._tools, interrupt=self._user),
        )

    def _let_go(self, cordon: Cordon) -> None:
        """The announcement goes, the cordon as wished; when the API does not answer the report says what is left."""
        if not cordon.held:
            return
        report = self._report
        wish = self._options.uncordon
        if report.cordoned:
            uncordon = wish == "always" or (wish == "on_failure" and report.outcome != "drained")
        else:  # it did not come to begin: the node is to be as it was, whatever was wished for the end
            uncordon = not cordon.before
        trouble = cordon.trouble
        if trouble is None:
            try:
                report.uncordoned = cordon.release(uncordon=uncordon)
            except (KubeError, PodferryError) as exc:
                trouble = exc
        report.changed_node = cordon.before == report.uncordoned
        if trouble is not None:
            report.cordoned = True
            report.warnings.append(
                f"the marks on node {self._options.node} could not be taken back ({trouble}): "
                f"{cordon.ways_out(uncordon=uncordon)}"
            )

    def _refused(self, exc: DrainConflict) -> DrainReport:
        self._report.outcome, self._report.error, self._report.remedy = "refused", exc.message, exc.remedy
        return self._report

    def close(self) -> None:
        self._survey.close()
        self._sessions.close()

    # -- stopping -------------------------------------------------------------------------------------------------

    def _stopped(self, cordon: Cordon | None = None) -> bool:
        """Is it time to stop? What is before its commit point is cancelled by that."""
        if cordon is not None:
            cordon.renew()
            self._displaced = cordon.displaced
        if self._displaced or self._user.is_set() or self._late():
            self._stop.set()
        return self._stop.is_set()

    def _late(self) -> bool:
        return self._deadline is not None and self._tools.clock() >= self._deadline

    def _why_stopped(self) -> str:
        if self._user.is_set():
            return "the drain was stopped before"
        return f"{self._displaced} before" if self._displaced else "the drain's deadline came before"
