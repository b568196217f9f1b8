# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""One request, from the question to the report."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from .._kube import predicates
from .._kube.errors import KubeError, KubeUnavailable
from .._plan.options import Options
from .._plan.plan import Plan, Snapshot
from .._plan.refusals import Refusal
from .._report.record import Place, Report
from . import leftovers, orphans, start, successor, twin
from .errors import NodeError, PodferryError, SessionLost, Unfinished
from .gather import Question, gather, resolve
from .peer import Peers
from .ports import Tools
from .run import Run
from .session import EventLog
from .statefulset import OwnerAway

_ROUNDS = 3  # earlier runs are settled, then the question is asked anew


class Migration:
    """Moves one pod. ``move``, ``prepare`` and ``preview`` are what can be asked of it."""

    def __init__(self, options: Options, tools: Tools) -> None:
        self._options = options
        self._tools = tools
        self._events = EventLog()
        self._peers = Peers(tools, self._events)

    def preview(self) -> tuple[Plan, Report]:
        """What ``move`` would do now, touching nothing. Raises PodferryError when the API fails."""
        try:
            question, left = self._look()
            under_way = tuple(_sentence(entry) for entry in left if entry.at_work)
            plan, report, _snapshot = self._decide(question, under_way, patience_s=0.0)
            for entry in left:
                if not entry.at_work:
                    report.warnings.append(f"An earlier run {entry.run} has not been ended; it would be settled first.")
            return plan, report
        finally:
            self._peers.close()

    def move(self) -> tuple[Plan | None, Report]:
        """Move the pod. The report says what became of it; nothing is raised but failures before the decision."""
        return self._timed(carry=True)

    def prepare(self) -> tuple[Plan | None, Report]:
        """All of ``move`` that comes before the pod is touched: an earlier run is brought to its end, then it is decided.

        The report is that of the earlier run where this answers the request, else the decision's.
        """
        return self._timed(carry=False)

    def _timed(self, *, carry: bool) -> tuple[Plan | None, Report]:
        begun = self._tools.clock()
        try:
            plan, report = self._move(carry)
        finally:
            self._peers.close()
        report.total_ms = round((self._tools.clock() - begun) * 1000, 1)
        return plan, report

    def _move(self, carry: bool) -> tuple[Plan | None, Report]:
        begun = datetime.datetime.fromtimestamp(self._tools.wall(), datetime.UTC).isoformat(timespec="milliseconds")
        self._tools.reporter.phase("preflight")
        under_way: tuple[str, ...] = ()
        finished: Report | None = None
        question, left = self._look()
        for _round in range(_ROUNDS):
            if not left:
                break
            settled, under_way = self._settle(left)
            for report in settled:
                report.started_at = begun
                if report.outcome == "in_doubt" or self._answers(report, question):
                    return None, report
                if report.outcome == "finished":
                    finished = report
            if under_way:
                break
            question, left = self._look()
        if not left and self._rescue(question):
            question, left = self._look()
        plan, report, snapshot = self._decide(question, under_way, patience_s=self._tools.owner_settle_s)
        report.started_at = begun
        if plan.decision == "already_there" and finished is not None and finished.target.pod == plan.target_pod:
            return None, finished  # asked for by its owner or a label: this run has brought it there after all
        if plan.decision == "move" and carry:
            self._carry(plan, report, snapshot.pod, snapshot.target_node)
        return plan, report

    def _look(self) -> tuple[Question, list[leftovers.Leftover]]:
        """The pod, and earlier runs that concern it."""
        with api_errors("preflight"):
            question = resolve(self._options, self._tools)
        node = predicates.node_of(question.pod) if question.pod else None
        nodes = [n for n in (node, self._options.target) if n]
        if question.pod is None and not question.matches:
            nodes = [self._options.target, *self._tools.inventory]
        names = [question.name]
        away = orphans.statefulset_away(question)
        if away:  # whoever has taken its StatefulSet away may have been moving another of its pods
            names.append(leftovers.statefulset_key(away))
            nodes += [n for n in self._tools.inventory if n not in nodes]
        left = leftovers.find(self._tools, self._peers, self._options.namespace, names, nodes)
        return question, left

    def _rescue(self, question: Question) -> bool:
        """Put back a StatefulSet whose run both nodes have forgotten."""
        away = orphans.statefulset_away(question)
        if not away:
            return False
        with api_errors("earlier run"):
            return orphans.rescue(self._tools, self._peers, self._events, self._options.namespace, away)

    def _settle(self, left: list[leftovers.Leftover]) -> tuple[list[Report], tuple[str, ...]]:
        reports: list[Report] = []
        for entry in left:
            ended = leftovers.wait_for_end(entry, self._tools, self._peers)
            if ended is None:
                return reports, (_sentence(entry),)
            with api_errors("earlier run"):
                reports.append(leftovers.settle(ended, self._tools, self._peers, self._events))
            if reports[-1].outcome == "in_doubt":
                break
        return reports, ()

    def _answers(self, report: Report, question: Question) -> bool:
        """Has going on with an earlier run done what was asked for now?"""
        return (
            report.outcome == "finished" and report.target.node == self._options.target and report.pod == question.name
        )

    def _decide(
        self, question: Question, under_way: tuple[str, ...], *, patience_s: float
    ) -> tuple[Plan, Report, Snapshot]:
        run = self._tools.new_run()
        with api_errors("preflight"):
            snapshot, plan = gather(
                question, self._options, self._tools, self._peers, run=run, under_way=under_way, patience_s=patience_s
            )
        report = new_report(run, plan, snapshot.pod)
        return plan, report, snapshot

    def _carry(self, plan: Plan, report: Report, pod: Any, target_node: Any) -> None:
        """The real thing. Whatever happens, the report has an outcome afterwards."""
        run = Run(report.run, plan, self._tools, self._peers, self._events, report)
        try:
            self._carry_on(run, pod, target_node)
        finally:
            run.end_turn()
            self._drop_detour(run)

    def _carry_on(self, run: Run, pod: Any, target_node: Any) -> None:
        plan, report = run.plan, run.report
        for text in plan.warnings:
            self._tools.reporter.warning(text)
        try:
            with run.phase("prepare", f"{plan.source_node} to {plan.target_node}"):
                start.pull_images(run, pod)
                run.turn.begin(self._tools.interrupt.is_set)
                run.check_interrupt()
                start.start_ferries(run, pod, target_node)
            if plan.stage_bytes:
                with run.phase("copy files", "the pod runs on"):
                    run.check_interrupt()
                    start.stage_files(run)
        except start.RefusedNow as exc:
            start.clean_up(run)
            _refuse(report, exc.refusal)
            return
        except PodferryError as exc:
            run.fail(exc, "cancelled" if self._tools.interrupt.is_set() else "")
            start.clean_up(run)
            report.outcome = "cancelled" if self._tools.interrupt.is_set() else "undone"
            return
        self._tools.cluster.pod_event(
            pod, reason="MigrationStarted", message=f"moving to {plan.target_node} as {plan.target_pod} (run {run.id})"
        )
        way = successor.carry if plan.mode == "successor" else twin.carry
        try:
            outcome = way(run, pod)
        except (Unfinished, SessionLost, NodeError) as exc:
            run.drain()
            if isinstance(exc, OwnerAway):
                before, report.error = report.error, None
                exc.message += f" (the run had ended because: {before.message})" if before else ""
            run.fail(exc)
            outcome = "in_doubt"
            report.ways_out = [f"Run the play again: it goes on with run {run.id}."]
        except (KubeError, KubeUnavailable) as exc:
            run.fail(
                PodferryError(f"the Kubernetes API: {exc}", "Run the play again: it goes on with this run."), "api"
            )
            outcome = "in_doubt"
            report.ways_out = [f"Run the play again: it goes on with run {run.id}."]
        run.drain()  # what the nodes said while we waited for something else: when the target was thawed, say
        if outcome == "undone" and report.error is not None and report.error.type == "cancelled":
            outcome = "cancelled"
        report.outcome = outcome  # type: ignore[assignment]
        self._announce(run, pod)

    def _drop_detour(self, run: Run) -> None:
        detour = self._tools.detour
        if detour is None or run.through is None or run.report.outcome == "in_doubt":
            return
        try:
            detour.drop(run.through)
        except PodferryError as exc:
            run.warn(f"what went through {detour.name} is still there, and nobody can read it: {exc.message}")

    def _announce(self, run: Run, pod: Any) -> None:
        """An Event on the pod that lives, for those who look at the cluster and not at Ansible."""
        report, plan = run.report, run.plan
        if report.outcome == "finished":
            there: Mapping[str, Any] = {
                "metadata": {"namespace": plan.namespace, "name": plan.target_pod, "uid": report.target.uid}
            }
            text = f"moved from {plan.source_node} (run {run.id}, downtime {report.downtime_ms} ms)"
            self._tools.cluster.pod_event(there, reason="Migrated", message=text)
        elif report.error is not None:
            self._tools.cluster.pod_event(
                pod, reason="MigrationFailed", message=f"{report.outcome}: {report.error.message}", warning=True
            )


class api_errors:
    """Turn failures of the API before anything was touched into one kind of error (PodferryError)."""

    def __init__(self, phase: str) -> None:
        self._phase = phase

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, exc: Any, _trace: Any) -> None:
        if isinstance(exc, KubeUnavailable):
            raise PodferryError(
                f"the Kubernetes API does not answer: {exc}", "Check kubeconfig, context and network.", self._phase
            ) from exc
        if isinstance(exc, KubeError):
            remedy = (
                "The user of this kubeconfig needs more rights: see docs/security.md."
                if exc.status in (401, 403)
                else ""
            )
            raise PodferryError(f"the Kubernetes API says: {exc.message}", remedy, self._phase) from exc


def new_report(run: str, plan: Plan, pod: Mapping[str, Any] | None) -> Report:
    """A report as the plan stands; the outcome is that of the decision until something is done."""
    report = Report(run, plan.namespace, plan.pod, mode=plan.mode, owner=plan.owner, tcp=plan.tcp)
    report.source = Place(plan.source_node, plan.pod, plan.uid, (predicates.pod_ip(pod) or "") if pod else "")
    report.target = Place(plan.target_node, plan.target_pod)
    report.connections_closed = plan.connections_closed
    report.warnings = list(plan.warnings)
    report.refusals = [r.to_dict() for r in plan.refusals]
    report.outcome = {"move": "planned", "already_there": "already_there", "refused": "refused"}[plan.decision]  # type: ignore[assignment]
    return report


def _refuse(report: Report, refusal: Refusal) -> None:
    report.outcome = "refused"
    report.refusals.append(refusal.to_dict())


def _sentence(left: leftovers.Leftover) -> str:
    by, since = left.context.get("by"), left.context.get("since")
    who = (f", started by {by}" if by else "") + (f" at {since}" if since else "")
    if left.mode == "checkpoint":
        stored = "is storing" if (left.source or {}).get("busy") else "takes"
        return f"Run {left.run} {stored} a checkpoint of pod {left.source_pod} on {left.source_node}{who}."
    return f"Run {left.run} moves pod {left.source_pod} from {left.source_node or 'a node not known'} to {left.target_node or 'a node not known'}{who}."
