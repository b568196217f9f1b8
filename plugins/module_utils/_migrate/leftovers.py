# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Earlier runs of this pod: still under way, to be gone on with, or to be cleaned up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .._kube import predicates
from .._plan import manifest as manifests
from .._plan.estimate import Deadlines, deadlines
from .._plan.options import ARRIVAL
from .._plan.owners import Mode, parse_moved_from
from .._plan.plan import Plan
from .._report.record import Failure, Place, Report
from . import decided, ending, statefulset, successor, twin
from .errors import NodeError, PodferryError, SessionLost, Unfinished
from .patience import delete_and_wait
from .peer import Peers
from .ports import Tools
from .run import Run
from .session import EventLog

Entry = Mapping[str, Any]
_PAUSE_S = 1.0
NO_MOVES = ("checkpoint", "restore")
"""Modes of runs that no other node has a part in."""
LOADING = "loading"
"""What a node calls the state of a run that a checkpoint is just brought to its memory for."""
STATEFULSET_PREFIX = "statefulset/"
_AT_WORK = frozenset(("prepared", "waiting", "freezing", "frozen", "data_ready", "go_given"))


@dataclass(frozen=True)
class Leftover:
    """One earlier run as its nodes tell it; a half may be missing."""

    run: str
    namespace: str
    source_node: str = ""
    source: Entry | None = None
    target_node: str = ""
    target: Entry | None = None
    undo: Entry | None = None
    silent: frozenset[str] = frozenset()
    """Nodes that could not be asked: what they did not tell may be there all the same."""

    @property
    def missing_half(self) -> str:
        """The node whose half is not known because it could not be asked; '' when all that matter were asked."""
        if self.source is None and (self.source_node in self.silent or (not self.source_node and self.silent)):
            return self.source_node or ", ".join(sorted(self.silent))
        if self.target is None and self.target_node in self.silent:
            return self.target_node
        return ""

    @property
    def mode(self) -> str:
        return str((self.source or self.target or {}).get("mode") or "twin")

    @property
    def moves(self) -> bool:
        """It is about a pod that goes from one node to another, not about a checkpoint."""
        return self.mode not in NO_MOVES

    @property
    def source_pod(self) -> str:
        entry = self.source or self.target or {}
        return str((entry.get("pod") if self.source else entry.get("source_pod")) or entry.get("pod") or "")

    @property
    def target_pod(self) -> str:
        if self.target is not None:
            return str(self.target.get("pod") or "")
        return str((self.source or {}).get("target_pod") or self.source_pod)

    @property
    def context(self) -> Mapping[str, Any]:
        for entry in (self.source, self.target):
            if entry is not None and isinstance(entry.get("context"), dict):
                return dict(entry["context"])
        return {}

    @property
    def at_work(self) -> bool:
        """A ferry is still on its way to a decision, or a session stores what it has dumped."""
        if self.undo is not None and self.undo.get("alive"):
            return False  # past the decision; its end is waited for through the API
        if self.source is not None:
            at_it = self.source.get("state") in _AT_WORK or self.source.get("busy")
            return bool(self.source.get("alive")) and bool(at_it)
        record = (self.target or {}).get("record") or {}
        return bool((self.target or {}).get("alive")) and record.get("state") in ("armed", "none")

    @property
    def downtime(self) -> float | None:
        """Milliseconds, when one of the ferries has written it down."""
        told = [
            e["downtime_ms"] for e in (self.target, self.source) if e is not None and e.get("downtime_ms") is not None
        ]
        return float(told[0]) if told else None

    @property
    def controlled(self) -> bool | None:
        """Does a controller listen to it? None when the nodes do not tell."""
        told = [
            e["controlled"] for e in (self.source, self.target) if e is not None and e.get("controlled") is not None
        ]
        return any(told) if told else None


def find(tools: Tools, peers: Peers, namespace: str, names: Iterable[str], nodes: Iterable[str]) -> list[Leftover]:
    """Runs that concern pods of these names, as told by ``nodes`` and by the nodes that those name."""
    wanted = set(names)
    entries: dict[str, list[Entry]] = {}
    silent: set[str] = set()
    queue, asked = [n for n in nodes if peers.known(n)], set()
    while queue:
        node = queue.pop(0)
        if node in asked or not peers.known(node):
            continue
        asked.add(node)
        try:
            told = peers.get(node).call("runs", namespace=namespace, patience_s=0.0).get("runs") or []
        except PodferryError:
            silent.add(node)
            continue
        told = [dict(e) for e in told if not _comes(e)]
        entries[node] = told
        for entry in told:
            if wanted & _names(entry):
                context = entry.get("context") or {}
                queue += [
                    str(n)
                    for n in (entry.get("target_node"), context.get("source_node"), context.get("target_node"))
                    if n
                ]
                if entry.get("role") == "target" and not context and entry.get("mode") not in NO_MOVES:
                    queue += list(tools.inventory)  # its source may be anywhere
    return _join(namespace, wanted, entries, frozenset(silent))


def _comes(entry: Entry) -> bool:
    """A checkpoint that is just brought into the node's memory: for a pod of its own, whatever happens to this one."""
    return entry.get("mode") == "restore" and entry.get("state") == LOADING and bool(entry.get("alive"))


def _names(entry: Entry) -> set[str]:
    """Names under which a run is found: its pods, and ``statefulset/NAME`` when it has taken that away."""
    names = {str(entry[k]) for k in ("pod", "source_pod", "target_pod") if entry.get(k)}
    owner = (entry.get("context") or {}).get("statefulset")
    if owner:
        names.add(statefulset_key(predicates.name_of(owner)))
    return names


def statefulset_key(name: str) -> str:
    return f"{STATEFULSET_PREFIX}{name}"


def _join(
    namespace: str, wanted: set[str], entries: Mapping[str, list[Entry]], silent: frozenset[str]
) -> list[Leftover]:
    runs = sorted({str(e["run"]).partition(".")[0] for found in entries.values() for e in found if wanted & _names(e)})
    result = []
    for run in runs:
        parts: dict[str, Any] = {}
        for node, found in entries.items():
            for entry in found:
                if entry["run"] == f"{run}.undo":
                    parts["undo"] = entry
                elif entry["run"] == run:
                    role = str(entry.get("role"))
                    parts[role], parts[f"{role}_node"] = entry, node
        left = Leftover(run, namespace, **parts)
        context = left.context
        half = {
            "source_node": left.source_node or str(context.get("source_node") or ""),
            "target_node": left.target_node
            or str((left.source or {}).get("target_node") or context.get("target_node") or ""),
        }
        result.append(Leftover(run, namespace, **{**parts, **half, "silent": silent}))
    return result


def wait_for_end(left: Leftover, tools: Tools, peers: Peers) -> Leftover | None:
    """Give its ferries time to come to their end (their controller may just have died).

    Returns what is left then, or None when it is still at work: another migration under way.
    """
    deadline = tools.clock() + tools.settle_s
    cancelled = False
    while left.at_work:
        if left.controlled and not cancelled:  # our own cancel makes us one of its listeners
            return None
        if not cancelled and left.controlled is False and (left.source or {}).get("state") != "go_given":
            cancelled = True
            _cancel(left, peers)
        if tools.clock() >= deadline:
            return None
        tools.sleep(_PAUSE_S)
        again = find(
            tools,
            peers,
            left.namespace,
            [left.source_pod, left.target_pod],
            [n for n in (left.source_node, left.target_node) if n],
        )
        same = [entry for entry in again if entry.run == left.run]
        if not same:
            return Leftover(left.run, left.namespace)  # finished by whoever led it
        left = same[0]
    return left


def _cancel(left: Leftover, peers: Peers) -> None:
    with contextlib.suppress(PodferryError):
        peers.get(left.source_node).call("cancel", run=left.run, patience_s=0.0)


def settle(left: Leftover, tools: Tools, peers: Peers, events: EventLog) -> Report:
    """Bring an earlier run to its end: forward when it was committed, back when it was not.

    The outcome is in the report (``finished``, ``undone``, ``in_doubt``); errors of the way are too.
    """
    report = Report(left.run, left.namespace, left.source_pod, resumed_run=True, mode=left.mode)
    report.source, report.target = Place(left.source_node, left.source_pod), Place(left.target_node, left.target_pod)
    if left.source is None and left.target is None and left.undo is None:
        report.outcome = "undone"
        return report
    if not left.moves:
        return _drop(left, peers, report)
    run = Run(left.run, _plan(left, tools), tools, peers, events, report)
    tools.reporter.phase("earlier run", "", f"{left.run}: {(left.source or left.target or {}).get('state')}")
    try:
        if left.missing_half:
            raise Unfinished(
                f"run {left.run} has not been ended, and {left.missing_half} cannot be asked about it",
                "Bring the node back and run the play again.",
                "earlier run",
            )
        report.outcome = _settle(left, run)  # type: ignore[assignment]
    except Unfinished as exc:
        run.fail(exc)
        report.outcome = "in_doubt"
    except (SessionLost, NodeError) as exc:
        run.fail(exc)
        report.outcome = "in_doubt"
    return report


def _drop(left: Leftover, peers: Peers, report: Report) -> Report:
    """A checkpoint or a restore that nobody leads any more: no other pod depends on it."""
    report.outcome = "undone"
    try:
        peers.get(left.source_node or left.target_node).call("finish", run=left.run, timeout_s=60.0)
    except (SessionLost, NodeError) as exc:
        report.outcome = "in_doubt"
        report.error = Failure("earlier run", exc.kind, exc.message, exc.remedy)
    return report


def _settle(left: Leftover, run: Run) -> str:
    if left.undo is not None:
        with run.phase("undo", f"back on {left.source_node}"):
            record = left.undo.get("record") or {}
            restored = bool(record.get("resumed"))
            armed = restored or (bool(left.undo.get("alive")) and record.get("state") != "aborted")
            if not armed:  # it gave up, and nothing of it comes to run: another is armed, unless its guard was faster
                armed = restored = not successor.clear_home(run)
            return successor.restore_at_home(run, armed=armed, restored=restored)
    verdict = _verdict(left, run)
    if verdict == "in_doubt":
        run.report.ways_out = decided.ways_out(run)
        return "in_doubt"
    if verdict == "aborted":
        with run.phase("undo"):
            _take_back(left, run)
        return "undone"
    if left.downtime is not None:
        run.report.downtime_ms = left.downtime
    if left.mode == "successor":
        return _go_on_successor(left, run)
    return _go_on_twin(left, run)


def _verdict(left: Leftover, run: Run) -> decided.Verdict:
    if left.source is not None:
        verdict = decided.from_source_state(str(left.source.get("state")), bool(left.source.get("alive")))
        return decided.resolve(run) if verdict == "in_doubt" else verdict
    record = (left.target or {}).get("record") or {}
    if record.get("resumed"):
        return "committed"
    if record.get("state") not in ("going", "done"):
        return "aborted"
    # The source's node has lost its half (restarted): what the target holds is the only copy, and it has not run yet.
    if left.mode == "successor" and (left.target or {}).get("alive"):
        return "committed"
    raise Unfinished(
        f"run {left.run} was committed, {left.source_node or 'the source node'} has forgotten it and the target has not run",
        f"The only copy is on {left.target_node} in /run/podferry/runs/{left.run}/images: save it before anything else.",
        "earlier run",
    )


def _take_back(left: Leftover, run: Run) -> None:
    """An aborted run: its target pod, then both ends, as far as they are there."""
    if left.target_node and left.source_node:
        ending.take_back(run)
        return
    uid = ending.find_target(run) if left.target_pod else None
    if uid is not None:
        delete_and_wait(run.tools, left.namespace, left.target_pod, uid)
    for node in (left.target_node, left.source_node):
        if node:
            run.peers.get(node).call("finish", run=run.id, timeout_s=60.0)


def _go_on_twin(left: Leftover, run: Run) -> str:
    source = run.tools.cluster.get_pod(left.namespace, left.source_pod)
    if source is not None and predicates.uid_of(source) != run.plan.uid:
        source = None
    if left.source is None and source is None:
        # Only the target's end was missing.
        with run.phase("clean up"):
            ending.end_target(run)
        return "finished"
    twin.finish(run, source)
    return "finished"


def _go_on_successor(left: Leftover, run: Run) -> str:
    if left.source is None and ((left.target or {}).get("record") or {}).get("resumed"):
        statefulset.put_back(run)
        with run.phase("ready", left.target_pod):
            ending.wait_ready(run, node=left.target_node, must_be_ready=False)
            statefulset.see_adopted(run)
        with run.phase("clean up"):
            ending.end_target(run)
        return "finished"
    if left.target is None:
        raise Unfinished(
            f"run {left.run} was given up on {left.source_node}, and {left.target_node} has forgotten it (restarted?)",
            f"Its dump is kept on {left.source_node} in /run/podferry/runs/{left.run}/images: save it before anything else.",
            "earlier run",
        )
    if run.plan.manifest is None:
        raise Unfinished(
            f"run {left.run} was given up on {left.source_node} and its target pod cannot be made again: nobody kept its manifest",
            f"Create pod {left.namespace}/{left.target_pod} on {left.target_node} by hand with runtimeClassName podferry and the "
            f"annotation {ARRIVAL}={left.run}, then run the play again.",
        )
    return successor.go_on(run, must_be_ready=False)


def _mode(left: Leftover) -> Mode:
    return "successor" if left.mode == "successor" else "copy" if left.mode == "copy" else "twin"


def _plan(left: Leftover, tools: Tools) -> Plan:
    """The earlier run's plan, as far as its steps from here on need it."""
    context = left.context
    source = tools.cluster.get_pod(left.namespace, left.source_pod) if left.source_pod else None
    target = tools.cluster.get_pod(left.namespace, left.target_pod) if left.target_pod else None
    uid = str((left.source or {}).get("uid") or context.get("source_uid") or _uid_from(target))
    if source is not None and predicates.uid_of(source) != uid:
        source = None
    manifest = context.get("manifest")
    labels: Mapping[str, str] = context.get("final_labels") or {}
    owner_uid = context.get("owner_uid")
    if source is not None:
        labels = labels or manifests.final_labels(source)
        owner = predicates.controller_of(source)
        if left.mode != "copy":
            owner_uid = owner_uid or (owner.get("uid") if owner else None)
        if manifest is None and left.target_node:
            manifest = manifests.build(
                source,
                mode=_mode(left),
                name=left.target_pod,
                target_node=left.target_node,
                run=left.run,
            )
    return Plan(
        "move",
        namespace=left.namespace,
        pod=left.source_pod,
        uid=uid,
        source_node=left.source_node,
        target_node=left.target_node,
        target_pod=left.target_pod,
        mode=_mode(left),
        owner=_owner_label(context, owner_uid),
        owner_uid=str(owner_uid) if owner_uid else None,
        statefulset=context.get("statefulset"),
        early_labels=context.get("early_labels") or {},
        final_finalizers=tuple(context.get("final_finalizers") or ()),
        manifest=manifest,
        final_labels=labels,
        deadlines=_deadlines(context),
    )


def _deadlines(context: Mapping[str, Any]) -> Deadlines:
    """Those that the run began with: they grow with its pod. A run of an older release has not told them."""
    try:
        return Deadlines(**{str(name): float(value) for name, value in context["deadlines"].items()})
    except (KeyError, AttributeError, TypeError, ValueError):
        return deadlines(0)


def _owner_label(context: Mapping[str, Any], owner_uid: Any) -> str:
    if context.get("statefulset"):
        return f"StatefulSet {predicates.name_of(context['statefulset'])}"
    return "its ReplicaSet" if owner_uid else "nobody"


def _uid_from(target: Any) -> str:
    """The source's uid as the target pod's annotation tells it."""
    origin = parse_moved_from(predicates.annotations_of(target).get("podferry.live/moved-from", "")) if target else None
    return origin[2] if origin else ""
