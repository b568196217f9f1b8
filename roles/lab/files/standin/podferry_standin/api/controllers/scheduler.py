# SPDX-License-Identifier: Apache-2.0
"""The scheduler: the first Ready, schedulable node that the pod accepts."""

from __future__ import annotations

from typing import Any

from .. import defaults, errors, selectors
from ..resources import NODES, PODS
from .base import Controller, condition

Obj = dict[str, Any]

_COMPONENT = "default-scheduler"


class Scheduler(Controller):
    """Binds pods that have no node."""

    watches = frozenset({"pods", "nodes"})

    def reconcile(self) -> None:
        """All pods without a node."""
        waiting = [
            pod
            for pod in self.store.list(PODS)
            if not pod["spec"].get("nodeName")
            and "deletionTimestamp" not in pod["metadata"]
            and pod["spec"]["schedulerName"] == _COMPONENT
            and not pod["spec"].get("schedulingGates")
        ]
        nodes = self.store.list(NODES) if waiting else []
        for pod in waiting:
            reasons = {node["metadata"]["name"]: objection(pod, node) for node in nodes}
            fit = next((name for name, reason in reasons.items() if reason is None), None)
            if fit is None:
                self._unschedulable(pod, [reason for reason in reasons.values() if reason])
                continue
            meta = pod["metadata"]
            try:
                self.registry.bind(meta["namespace"], meta["name"], fit)
            except errors.ApiError:
                continue
            message = f"Successfully assigned {meta['namespace']}/{meta['name']} to {fit}"
            self.event(_COMPONENT, PODS, pod, "Scheduled", message)

    def _unschedulable(self, pod: Obj, reasons: list[str]) -> None:
        counts = ", ".join(f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
        message = (
            f"0/{len(reasons)} nodes are available: {counts}." if reasons else "no nodes available to schedule pods"
        )
        if condition(pod, "PodScheduled").get("message") == message:
            return
        new = {
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "reason": "Unschedulable",
            "message": message,
        }
        new["lastTransitionTime"] = defaults.timestamp(self.registry.clock())
        self.set_status(PODS, pod, {**pod["status"], "conditions": [new]})
        self.event(_COMPONENT, PODS, pod, "FailedScheduling", message, "Warning")


def objection(pod: Obj, node: Obj) -> str | None:
    """Why a pod cannot go to a node; None if it can."""
    spec, labels = pod["spec"], node["metadata"].get("labels") or {}
    if (node.get("spec") or {}).get("unschedulable"):
        return "node(s) were unschedulable"
    if condition(node, "Ready").get("status") != "True":
        return "node(s) were not ready"
    for taint in (node.get("spec") or {}).get("taints") or []:
        if taint["effect"] != "PreferNoSchedule" and not any(
            tolerates(item, taint) for item in spec.get("tolerations") or []
        ):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return "node(s) didn't match Pod's node affinity/selector"
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if required and not any(_term(term, labels) for term in required["nodeSelectorTerms"]):
        return "node(s) didn't match Pod's node affinity/selector"
    return None


def _term(term: Obj, labels: dict[str, str]) -> bool:
    return all(selectors.expression(item, labels) for item in term.get("matchExpressions") or [])


def tolerates(toleration: Obj, taint: Obj) -> bool:
    """Whether a toleration accepts a taint."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
