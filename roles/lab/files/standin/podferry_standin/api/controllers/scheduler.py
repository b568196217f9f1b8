# SPDX-License-Identifier: Apache-2.0
"""The scheduler: binds pods that have no node."""

from __future__ import annotations

from typing import Any

from .. import defaults, errors
from ..resources import BY_NAME, NODES, PODS
from .base import Controller, condition
from .placement import Snapshot, choose

Obj = dict[str, Any]

_COMPONENT = "default-scheduler"
_CLAIMS, _VOLUMES = BY_NAME["persistentvolumeclaims"], BY_NAME["persistentvolumes"]


class Scheduler(Controller):
    """Binds pods that have no node."""

    watches = frozenset({"pods", "nodes", "persistentvolumeclaims"})

    def reconcile(self) -> None:
        """All pods without a node."""
        pods = self.store.list(PODS)
        waiting = [
            pod
            for pod in pods
            if not pod["spec"].get("nodeName")
            and "deletionTimestamp" not in pod["metadata"]
            and pod["spec"]["schedulerName"] == _COMPONENT
            and not pod["spec"].get("schedulingGates")
        ]
        if not waiting:
            return
        placed = [
            p for p in pods if p["spec"].get("nodeName") and p["status"].get("phase") not in ("Succeeded", "Failed")
        ]
        cluster = Snapshot(self.store.list(NODES), placed)
        for pod in sorted(waiting, key=lambda p: (-p["spec"].get("priority", 0), p["metadata"]["creationTimestamp"])):
            self._place(pod, cluster)

    def _place(self, pod: Obj, cluster: Snapshot) -> None:
        problem, volumes = self._volumes(pod)
        fit, reasons = (None, [problem]) if problem else choose(pod, cluster, volumes)
        if fit is None:
            self._unschedulable(pod, reasons, len(cluster.nodes), of_pod=bool(problem))
            return
        meta = pod["metadata"]
        try:
            self.registry.bind(meta["namespace"], meta["name"], fit)
        except errors.ApiError:
            return
        cluster.pods.append({**pod, "spec": {**pod["spec"], "nodeName": fit}})
        message = f"Successfully assigned {meta['namespace']}/{meta['name']} to {fit}"
        self.event(_COMPONENT, PODS, pod, "Scheduled", message)

    def _volumes(self, pod: Obj) -> tuple[str, list[Obj]]:
        """What is wrong with the pod's claims, and the volumes behind them."""
        found = []
        for volume in pod["spec"].get("volumes") or []:
            if "persistentVolumeClaim" not in volume:
                continue
            name = volume["persistentVolumeClaim"]["claimName"]
            claim = self.store.find(_CLAIMS, pod["metadata"]["namespace"], name)
            if claim is None:
                return f'persistentvolumeclaim "{name}" not found', []
            if "deletionTimestamp" in claim["metadata"]:
                return f'persistentvolumeclaim "{name}" is being deleted', []
            bound = self.store.find(_VOLUMES, "", claim["spec"].get("volumeName") or "")
            if claim["status"].get("phase") != "Bound" or bound is None:
                return "pod has unbound immediate PersistentVolumeClaims", []
            found.append(bound)
        return "", found

    def _unschedulable(self, pod: Obj, reasons: list[str], nodes: int, *, of_pod: bool) -> None:
        """Said once, until the reasons change."""
        counts = ", ".join(reason if of_pod else f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
        message = f"0/{nodes} nodes are available: {counts}." if reasons else "no nodes available to schedule pods"
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
        others = [item for item in pod["status"].get("conditions") or [] if item["type"] != "PodScheduled"]
        self.set_status(PODS, pod, {**pod["status"], "conditions": [*others, new]})
        self.event(_COMPONENT, PODS, pod, "FailedScheduling", message, "Warning")
