# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Pods whose StatefulSet a run has taken away, and whose run nobody knows any more.

Both nodes were restarted, and their journals with them: what is left is the mark on the pod.
"""

from __future__ import annotations

from .._kube import predicates
from .._plan.plan import Plan
from .._plan.statefulset import could_have_made, restorable, set_name
from .._report.record import Report
from . import decided, statefulset
from .errors import PodferryError
from .gather import Question
from .leftovers import STATEFULSET_PREFIX
from .peer import Peers
from .ports import Tools
from .run import Run
from .session import EventLog


def statefulset_away(question: Question) -> str:
    """The StatefulSet that ought to own what was asked for, and does not; '' when nothing is missing."""
    if question.pod is None:
        return question.name.removeprefix(STATEFULSET_PREFIX) if question.name.startswith(STATEFULSET_PREFIX) else ""
    return "" if predicates.metadata(question.pod).get("ownerReferences") else set_name(question.pod)


def rescue(tools: Tools, peers: Peers, events: EventLog, namespace: str, name: str) -> bool:
    """Put StatefulSet ``name`` back as the mark of one of its pods has it. True when there was such a mark.

    Not while one of the two nodes still knows the run, or cannot be asked. Raises OwnerAway, KubeError.
    """
    for pod in tools.cluster.list_pods(namespace):
        told = statefulset.read_mark(pod)
        if told is None or told["statefulset"]["metadata"]["name"] != name:
            continue
        wanted = restorable(told["statefulset"])
        if not could_have_made(wanted, pod):
            continue  # written by somebody else, or changed: a person has to look at it
        plan = Plan(
            "move",
            namespace=namespace,
            pod=predicates.name_of(pod),
            uid=predicates.uid_of(pod),
            source_node=str(told.get("source_node")),
            target_node=str(told.get("target_node")),
            target_pod=predicates.name_of(pod),
            owner=f"StatefulSet {name}",
            statefulset=wanted,
        )
        run = Run(str(told["run"]), plan, tools, peers, events, Report(str(told["run"]), namespace, plan.pod))
        if not _forgotten(run):
            continue
        statefulset.put_back(run)
        statefulset.see_adopted(run)
        statefulset.mark(run, on=False)
        return True
    return False


def _forgotten(run: Run) -> bool:
    try:
        return not any(
            decided.entry_of(run, node, role)
            for node, role in ((run.plan.source_node, "source"), (run.plan.target_node, "target"))
        )
    except PodferryError:
        return False
