# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Stopping a migration from anywhere: whoever began it, on whichever controller."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from .._kube import predicates
from . import leftovers
from .errors import NodeError, PodferryError, SessionLost
from .leftovers import Leftover
from .migration import api_errors
from .peer import Peers
from .ports import Tools
from .session import EventLog

CancelOutcome = Literal["nothing", "cancelled", "too_late"]

_ASKING = 8
_ANSWER_S = 75.0
"""A ferry that is in the middle of a step answers after it; the session itself waits 60 s."""
_END_S = 90.0
_PAUSE_S = 0.5


@dataclass(frozen=True)
class Cancelled:
    """What became of the wish."""

    outcome: CancelOutcome
    message: str
    remedy: str = ""
    run: str = ""
    source_node: str = ""
    target_node: str = ""
    by: str = ""
    since: str = ""
    warnings: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    """Nodes that could not be asked."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "run": self.run,
            "source_node": self.source_node,
            "target_node": self.target_node,
            "by": self.by,
            "since": self.since,
            "warnings": list(self.warnings),
            "silent": list(self.silent),
        }


class Cancel:
    """Stops the migration of one pod, if there is one and it has not been committed."""

    def __init__(self, namespace: str, pod: str, tools: Tools) -> None:
        self._namespace = namespace
        self._pod = pod
        self._tools = tools
        self._events = EventLog()
        self._peers = Peers(tools, self._events)

    def look(self) -> Cancelled:
        """What ``cancel`` would meet now, touching nothing. Raises PodferryError."""
        try:
            left, silent = self._find()
            if left is None:
                return self._nothing(silent)
            if _decided(left):
                return self._told(left, "too_late", f"{self._title} is past its commit point: too late to cancel")
            return self._told(left, "cancelled", f"{self._title} would stay on {left.source_node}")
        finally:
            self._peers.close()

    def cancel(self) -> Cancelled:
        """Do it, and wait until the run has ended. Raises PodferryError."""
        try:
            left, silent = self._find()
            if left is None:
                return self._nothing(silent)
            return self._stop(left)
        finally:
            self._peers.close()

    @property
    def _title(self) -> str:
        return f"{self._namespace}/{self._pod}"

    # -- finding --------------------------------------------------------------------------------------------------

    def _find(self) -> tuple[Leftover | None, tuple[str, ...]]:
        """The run at work on the pod: the pod's own node knows it, or, early and late in a run, only the other one."""
        with api_errors("look"):
            pod = self._tools.cluster.get_pod(self._namespace, self._pod)
        node = predicates.node_of(pod) if pod else None
        if node and self._peers.known(node):
            found = self._ask([node])
            if found:
                return found[0], ()
        others = sorted(n for n in self._tools.inventory if n != node and self._peers.known(n))
        found = self._ask(others)
        silent = tuple(sorted({n for left in found for n in left.silent} | self._unreachable))
        return (found[0] if found else None), silent

    def _ask(self, nodes: Iterable[str]) -> list[Leftover]:
        """Runs of the pod that have not been decided, else those that are being brought to their end."""
        nodes = list(nodes)
        self._unreachable = self._open(nodes)
        asked = [n for n in nodes if n not in self._unreachable]
        left = leftovers.find(self._tools, self._peers, self._namespace, [self._pod], asked)
        left = [entry for entry in left if entry.source is not None or entry.target is not None]
        return sorted(left, key=lambda entry: (not entry.at_work, entry.run))

    def _open(self, nodes: list[str]) -> set[str]:
        """Sessions to all of them at the same time. Returns the nodes that cannot be reached (or have no node code)."""
        failed: set[str] = set()
        for name in nodes:
            self._peers.get(name)

        def open_one(name: str) -> None:
            try:
                self._peers.get(name).open()
            except SessionLost:
                failed.add(name)
            except NodeError as exc:
                if exc.type != "engine_missing":  # without the node's code there is no run on it
                    failed.add(name)

        with ThreadPoolExecutor(max_workers=_ASKING) as pool:
            list(pool.map(open_one, nodes))
        return failed

    # -- stopping -------------------------------------------------------------------------------------------------

    def _stop(self, left: Leftover) -> Cancelled:
        if not left.at_work:
            return self._after(left)
        controlled = left.controlled
        self._tools.reporter.phase("cancel", left.source_node or left.target_node, f"run {left.run}")
        if not self._say(left):
            again = self._again(left)
            if again is None or not again.at_work:
                return self._after(again or left)
            return self._told(left, "too_late", f"{self._title} is past its commit point: too late to cancel")
        ended = self._wait_end(left)
        warnings: list[str] = []
        if ended is not None and ended.at_work:
            warnings.append(
                f"run {left.run} has not ended within {_END_S:.0f} s: its dump is waited for, then it stops"
            )
        elif ended is not None and controlled is False:
            report = leftovers.settle(ended, self._tools, self._peers, self._events)
            if report.outcome == "finished":
                return self._told(left, "too_late", f"{self._title} is past its commit point: too late to cancel")
            warnings += report.warnings
        told = self._told(left, "cancelled", f"{self._title}: cancelled; the pod goes on on {left.source_node}")
        return Cancelled(**{**told.__dict__, "warnings": tuple(warnings)})

    def _say(self, left: Leftover) -> bool:
        """Tell the ferry that can still stop it. True when it will."""
        node = left.source_node if left.source is not None else left.target_node
        try:
            answer = self._peers.get(node).call("cancel", run=left.run, timeout_s=_ANSWER_S, patience_s=10.0)
        except (NodeError, SessionLost) as exc:
            raise PodferryError(
                f"the cancel of run {left.run} could not be delivered to {node}: {exc.message}",
                "Run it again; the migration goes on meanwhile.",
                "cancel",
            ) from exc
        return bool(answer.get("cancelled"))

    def _wait_end(self, left: Leftover) -> Leftover | None:
        """Until its ferries have ended, and its controller, if it has one, has cleaned up. None: nothing is left of it."""
        deadline = self._tools.clock() + _END_S
        while True:
            again = self._again(left)
            if again is None or (not again.at_work and left.controlled is False):
                return again
            if self._tools.clock() >= deadline:
                return again
            self._tools.sleep(_PAUSE_S)

    def _again(self, left: Leftover) -> Leftover | None:
        found: list[Leftover] = []
        with suppress(PodferryError):
            found = leftovers.find(
                self._tools,
                self._peers,
                self._namespace,
                [left.source_pod, left.target_pod],
                [n for n in (left.source_node, left.target_node) if n],
            )
        return next((entry for entry in found if entry.run == left.run), None)

    # -- words ----------------------------------------------------------------------------------------------------

    def _after(self, left: Leftover) -> Cancelled:
        """It has been decided: either way there is nothing to cancel."""
        if _decided(left):
            return self._told(left, "too_late", f"{self._title} is past its commit point: too late to cancel")
        return self._told(
            left, "nothing", f"{self._title}: run {left.run} has ended already; the pod is on its source node"
        )

    def _nothing(self, silent: tuple[str, ...]) -> Cancelled:
        if silent:
            raise PodferryError(
                f"no migration of {self._title} was found, but these nodes could not be asked: {', '.join(silent)}",
                "Bring them back and run it again: a run that only they know would go on.",
                "look",
            )
        return Cancelled("nothing", f"{self._title}: no migration is under way")

    def _told(self, left: Leftover, outcome: CancelOutcome, message: str) -> Cancelled:
        by, since = str(left.context.get("by") or ""), str(left.context.get("since") or "")
        began = (f" by {by}" if by else "") + (f" since {since}" if since else "")
        remedy = "The move is seen through. To have the pod back, move it back." if outcome == "too_late" else ""
        way = (
            f"from {left.source_node} to {left.target_node}"
            if left.moves
            else f"on {left.source_node or left.target_node}"
        )
        return Cancelled(
            outcome,
            f"{message} (run {left.run} {way}{began})",
            remedy,
            left.run,
            left.source_node,
            left.target_node,
            by,
            since,
        )


def _decided(left: Leftover) -> bool:
    """Has the target been let go, or may it have been?"""
    if left.source is not None:
        return left.source.get("state") in ("go_given", "in_doubt", "committed", "relinquished", "killed")
    record = (left.target or {}).get("record") or {}
    return record.get("state") in ("going", "done")
