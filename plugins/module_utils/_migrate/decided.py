# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What became of a run whose end was not heard: ask the source's journal and the target's record."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from .._kube import predicates
from .._kube.errors import KubeError, KubeUnavailable
from .._plan.options import ARRIVAL
from .errors import NodeError, PodferryError, SessionLost
from .run import Run

Verdict = Literal["committed", "aborted", "in_doubt", "under_way"]

#: States of the source's journal in which the pod runs (or will, by its guard) on the source.
_SOURCE_RUNS = frozenset(("prepared", "waiting", "freezing", "frozen", "data_ready", "aborted", "none"))
_SOURCE_GAVE_UP = frozenset(("committed", "relinquished", "killed"))
_BEFORE_THE_WORD = frozenset(("prepared", "waiting", "freezing", "frozen", "data_ready", "copied"))
_LET_GO = frozenset(("going", "done"))
_PAUSE_S = 0.5
_CANCEL_S = 10.0


def from_source_state(state: str, alive: bool) -> Verdict:
    """What the source's journal alone says."""
    if state in _SOURCE_GAVE_UP:
        return "committed"
    if alive and state in _BEFORE_THE_WORD:
        return "under_way"
    if state in _SOURCE_RUNS:
        return "aborted"
    return "in_doubt"  # go_given, in_doubt, or a word that we do not know


def ask_source(run: Run) -> Verdict:
    """The source's own view, read anew. Raises SessionLost, NodeError.

    A node that does not know the run says nothing about it: it was restarted, or another controller has ended the run.
    """
    entry = entry_of(run, run.plan.source_node, "source")
    return from_source_state(str(entry.get("state") or "none"), bool(entry.get("alive"))) if entry else "in_doubt"


def entry_of(run: Run, node: str, role: str) -> Mapping[str, Any] | None:
    answer = run.peers.get(node).call("runs", namespace=run.plan.namespace)
    for entry in answer.get("runs") or []:
        if entry.get("run") == run.id and entry.get("role") == role:
            return dict(entry)
    return None


def wait_decided(run: Run, *, timeout_s: float) -> Verdict:
    """Until neither ferry is at work any more. ``in_doubt`` when nobody can be asked until the deadline.

    A source that waits for a word of ours gets one: nobody else would cancel it.
    """
    deadline = run.tools.clock() + timeout_s
    cancelled = False
    verdict: Verdict = "in_doubt"
    while True:
        try:
            verdict = ask_source(run)
        except (SessionLost, NodeError) as exc:
            run.warn(f"node {run.plan.source_node} cannot be asked: {exc.message}")
            verdict = "in_doubt"
            break
        if verdict != "under_way":
            break
        late = run.tools.clock() >= deadline
        if not cancelled and (late or run.plan.mode == "successor"):
            cancelled = True
            deadline = max(deadline, run.tools.clock() + _CANCEL_S)
            with suppress(PodferryError):
                run.source.call("cancel", run=run.id, patience_s=5.0)
            continue
        if late:
            break
        run.tools.sleep(_PAUSE_S)
    return resolve(run) if verdict == "in_doubt" else verdict


def resolve(run: Run) -> Verdict:
    """The word is out and the source does not know: the target's record is the only truth.

    A target that has not run is given up first (surrender), so that there is nothing left to wait for; only a
    successor whose ferry still waits for it goes on. The source is thawed only on an aborted record. ``in_doubt`` when
    one of the two nodes cannot be asked.
    """
    try:
        record = run.target.call("record", run=run.id)
        state = str(record.get("state") or "none")
        if not record.get("resumed") and not (state in _LET_GO and _successor_awaited(run)):
            answer = run.target.call("surrender", run=run.id)
            state = "aborted" if answer.get("surrendered") else "going"
    except NodeError as exc:
        verdict = _forgotten(run) if exc.type == "not_found" else "in_doubt"
        if verdict == "in_doubt":
            run.fail(exc)
        return verdict
    except PodferryError as exc:
        run.fail(exc)
        return "in_doubt"
    try:
        if state in _LET_GO:
            run.source.call("settle", run=run.id, target_record=state)
            return "committed"
        run.source.call("thaw", run=run.id, target_record="aborted")
        return "aborted"
    except NodeError as exc:
        if exc.type == "not_found":  # its node was restarted: nothing of the run stands there, the record has decided
            return "committed" if state in _LET_GO else "aborted"
        # The source may have come to its own end meanwhile; its journal says which.
        try:
            verdict = ask_source(run)
        except PodferryError:
            verdict = "in_doubt"
        if verdict == "in_doubt":
            run.fail(exc)
        return verdict
    except SessionLost as exc:
        # The target's record decides whatever the source can be told.
        run.fail(exc)
        return "committed" if state in _LET_GO else "in_doubt"


def _forgotten(run: Run) -> Verdict:
    """The target's node does not know the run. When the source's does not either, the pod in the API tells.

    Another controller has ended the run (the moved pod has lost its mark), or both nodes were restarted.
    """
    plan = run.plan
    try:
        if entry_of(run, plan.source_node, "source") is not None:
            return "in_doubt"
        pod = run.tools.cluster.get_pod(plan.namespace, plan.target_pod)
    except (PodferryError, KubeError, KubeUnavailable):
        return "in_doubt"
    if pod is None or predicates.node_of(pod) != plan.target_node or predicates.terminating(pod):
        return "aborted"
    return "aborted" if ARRIVAL in predicates.annotations_of(pod) else "committed"


def _successor_awaited(run: Run) -> bool:
    entry = entry_of(run, run.plan.target_node, "target") if run.plan.mode == "successor" else None
    return bool(entry and entry.get("alive"))


def ways_out(run: Run) -> list[str]:
    """Commands for a person when nobody can be asked."""
    plan = run.plan
    look = f"ls /run/podferry/runs/{run.id}/"
    there = (
        f"2. If {plan.target_node} is back and shows thawed or record.done ({look}), the pod ran there: the source on "
        f"{plan.source_node} must go (docs/failures.md, in_doubt, step 2)."
    )
    back = (
        f"3. If {plan.target_node} shows neither, or is switched off for good (fenced), the source may go on once it is "
        "certain that the target never will (docs/failures.md, in_doubt, steps 3 and 4: the order counts)."
    )
    ways = [
        f"1. Bring both nodes back and run the play again: it settles run {run.id} by itself.",
        there,
        back,
    ]
    if plan.statefulset is not None:
        name = plan.statefulset["metadata"]["name"]
        ways.append(
            f"4. StatefulSet {name} is away until the run is settled. After 2. or 3. create it again by hand: it is in "
            f"/run/podferry/runs/{run.id}/journal.json of either node, under context.statefulset."
        )
    return ways
