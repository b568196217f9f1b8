# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""One record of a drain. Its JSON form is documented in ``docs/drain.md`` (checked by a test)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .record import Report
from .summary import human_bytes, human_ms

Decision = Literal["move", "leave", "evict"]
Outcome = Literal["drained", "incomplete", "cancelled", "refused", "planned", "failed"]

SCHEMA = 1
_MOVED = ("finished", "already_there")
_SHOWN_NODES = 6


@dataclass
class PodRecord:
    """One pod of the node. Times in milliseconds, sizes in bytes."""

    namespace: str
    pod: str
    decision: Decision
    outcome: str = "planned"
    target: str = ""
    target_pod: str = ""
    reason: str = ""
    refusals: list[dict[str, Any]] = field(default_factory=list)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0
    attempts: int = 0
    restored_at_home: bool = False
    run: str = ""
    downtime_ms: float | None = None
    until_ready_ms: float | None = None
    total_ms: float | None = None
    bytes: int | None = None
    error: str = ""
    remedy: str = ""
    migration: dict[str, Any] | None = None

    @property
    def title(self) -> str:
        return f"{self.namespace}/{self.pod}"

    @property
    def failed(self) -> bool:
        """Was something to become of the pod that did not?"""
        if self.decision == "move":
            return self.outcome not in (*_MOVED, "planned")
        if self.decision == "evict":
            return self.outcome not in ("evicted", "planned")
        return self.outcome in ("no_target", "undecided")  # nothing is wrong with the pod itself

    @property
    def remains(self) -> bool:
        """Is it left although its node was to be rid of it? What ends or stays anyhow has no refusals."""
        return self.outcome == "left" and bool(self.refusals)

    def take(self, report: Report) -> None:
        """Take over what a migration says of itself; a later attempt replaces an earlier one."""
        self.outcome, self.run, self.target_pod = report.outcome, report.run, report.target.pod
        self.target = report.target.node or self.target
        self.downtime_ms, self.until_ready_ms, self.total_ms = (
            report.downtime_ms,
            report.until_ready_ms,
            report.total_ms,
        )
        self.restored_at_home |= report.restored_at_home  # that of an earlier attempt stays true
        self.bytes = report.bytes_sent
        self.refusals = list(report.refusals)
        self.error, self.remedy = "", ""
        if report.error is not None:
            self.error, self.remedy = report.error.message, report.error.remedy
        elif report.refusals:
            self.error = " ".join(str(r["reason"]) for r in report.refusals)
            self.remedy = str(report.refusals[0]["remedy"])
        self.migration = report.to_dict()


@dataclass
class DrainReport:
    """What happened to the node and to each of its pods."""

    run: str
    node: str
    outcome: Outcome = "planned"
    schema: int = SCHEMA
    by: str = ""
    started_at: str = ""
    total_ms: float | None = None
    deadline_s: float | None = None
    limits: dict[str, Any] = field(default_factory=dict)
    cordoned: bool = False
    uncordoned: bool = False
    changed_node: bool = False
    pods: list[PodRecord] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str = ""
    remedy: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """How many pods had which outcome."""
        return dict(sorted(Counter(pod.outcome for pod in self.pods).items()))

    @property
    def slowest(self) -> PodRecord | None:
        """The moved pod that stood still the longest."""
        known = [p for p in self.pods if p.outcome == "finished" and p.downtime_ms is not None]
        return max(known, key=lambda p: p.downtime_ms or 0.0, default=None)

    def to_dict(self) -> dict[str, Any]:
        slowest = self.slowest
        return {
            **asdict(self),
            "counts": self.counts,
            "slowest_freeze": None
            if slowest is None
            else {"namespace": slowest.namespace, "pod": slowest.pod, "downtime_ms": slowest.downtime_ms},
        }


def table(report: DrainReport) -> list[str]:
    """The plan for a person: one line a pod, below it why it stays or why not another node."""
    rows = [("POD", "DECISION", "TARGET", "SIZE", "WHY")]
    notes: list[list[str]] = [[]]
    common = _common_reasons(report)
    for pod in report.pods:
        size = human_bytes(pod.size) if pod.size else "-"
        rows.append((pod.title, pod.decision, pod.target or "-", size, pod.reason))
        notes.append(_notes(pod, common))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"node {report.node}: {_decisions(report)}"]
    for row, below in zip(rows, notes, strict=True):
        cells = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        lines.append(f"  {cells}  {row[4]}".rstrip())
        lines += [f"      {note}" for note in below]
    lines += [f"  no pod goes to {node}: {' '.join(reasons)}" for node, reasons in common.items()]
    return lines + [f"  note: {text}" for text in report.warnings]


def summary(report: DrainReport) -> list[str]:
    """The end for a person: one line a pod, then the numbers."""
    if report.outcome == "refused":
        return [
            f"node {report.node}: not drained, nothing was moved",
            f"  {report.error}",
            f"  remedy: {report.remedy}",
            *(f"  note: {text}" for text in report.warnings),
        ]
    lines = [f"node {report.node}: {_title(report)}"]
    width = max((len(pod.title) for pod in report.pods), default=0)
    for pod in report.pods:
        lines.append(f"  {pod.title:<{width}}  {_fate(pod)}".rstrip())
        if pod.failed and pod.remedy:
            lines.append(f"  {'':<{width}}  remedy: {pod.remedy}")
    numbers = ", ".join(f"{count} {word.replace('_', ' ')}" for word, count in report.counts.items()) or "no pods"
    lines.append(f"  {numbers}, in {human_ms(report.total_ms)}")
    slowest = report.slowest
    if slowest is not None:
        lines.append(f"  slowest freeze {human_ms(slowest.downtime_ms)} ({slowest.title})")
    lines.append(f"  the node is {_state(report)}")
    lines += [f"  note: {text}" for text in report.warnings]
    if report.error:
        lines.append(f"  {report.error}")
    if report.remedy:
        lines.append(f"  remedy: {report.remedy}")
    return lines


_TITLES: Mapping[str, str] = {
    "drained": "drained",
    "incomplete": "NOT drained, see below",
    "cancelled": "drain stopped; pods past their commit point were seen through",
    "planned": "would be drained",
    "failed": "drain failed",
    "refused": "not drained",
}


def _title(report: DrainReport) -> str:
    """A node is not called empty while pods run on it."""
    left = sum(1 for pod in report.pods if pod.remains)
    if report.outcome != "drained" or not left:
        return _TITLES[report.outcome]
    return f"drained but for {f'{left} pods' if left > 1 else 'one pod'} that stayed, see below"


def _state(report: DrainReport) -> str:
    if report.uncordoned:
        return "uncordoned again"
    return (
        "cordoned (kubectl uncordon, or uncordon=always, when it is to take pods again)"
        if report.cordoned
        else "as it was"
    )


def _decisions(report: DrainReport) -> str:
    counted = Counter(pod.decision for pod in report.pods)
    return ", ".join(f"{counted[word]} to {word}" for word in ("move", "evict", "leave"))


def _fate(pod: PodRecord) -> str:
    if pod.outcome in _MOVED:
        freeze = f", downtime {human_ms(pod.downtime_ms)}" if pod.downtime_ms is not None else ""
        return f"moved to {pod.target} as {pod.target_pod}{freeze}"
    why = " ".join(str(r["reason"]) for r in pod.refusals) if pod.decision != "move" else ""
    text = f"{pod.outcome.replace('_', ' ')}: {pod.error or why or pod.reason}"
    return text.removesuffix(": ")


def _common_reasons(report: DrainReport) -> dict[str, list[str]]:
    """Nodes that are shut to every pod that looked at them, for the same reasons: said once."""
    seen: dict[str, list[list[str]]] = {}
    for pod in report.pods:
        for entry in pod.nodes:
            seen.setdefault(entry["node"], []).append([r["reason"] for r in entry["reasons"]])
    found = {}
    for node, all_reasons in seen.items():
        same = [reason for reason in all_reasons[0] if all(reason in reasons for reasons in all_reasons)]
        if same and len(all_reasons) > 1:
            found[node] = same
    return found


def _notes(pod: PodRecord, common: Mapping[str, list[str]]) -> list[str]:
    notes = [f"{r['code']}: {r['reason']} {r['remedy']}" for r in pod.refusals]
    others = []
    for entry in pod.nodes:
        node = entry["node"]
        if entry["fits"]:
            if pod.decision == "move" and node != pod.target:
                image = "" if entry["image_present"] else ", image not there"
                others.append(f"not {node}: it would do ({entry['free']:.0%} left free{image})")
            continue
        reasons = [r["reason"] for r in entry["reasons"] if r["reason"] not in common.get(node, [])]
        if reasons:
            others.append(f"not {node}: {' '.join(reasons)}")
    if len(others) > _SHOWN_NODES:
        more = len(others) - _SHOWN_NODES
        others = [*others[:_SHOWN_NODES], f"and {more} nodes more: see the task's result"]
    return notes + others
