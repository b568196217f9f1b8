# SPDX-License-Identifier: Apache-2.0
"""ReplicaSets: adopt, create, and choose whom to delete as the real controller does."""

from __future__ import annotations

from typing import Any

from .. import errors
from ..resources import PODS, REPLICASETS
from .base import Controller, condition, is_active, is_ready, owner_reference, pod_from

Obj = dict[str, Any]

_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}
_COMPONENT = "replicaset-controller"


def victim_order(pod: Obj) -> tuple[Any, ...]:
    """Sorts first who is deleted first: unassigned, Pending, not Ready, low deletion cost, Ready for the shortest
    time, most restarts, youngest."""
    meta, status = pod["metadata"], pod["status"]
    ready = is_ready(pod)
    restarts = max((c.get("restartCount", 0) for c in status.get("containerStatuses") or []), default=0)
    return (
        bool(pod["spec"].get("nodeName")),
        _PHASES.get(status.get("phase", ""), 2),
        ready,
        _cost(meta),
        _Descending(condition(pod, "Ready").get("lastTransitionTime", "") if ready else ""),
        -restarts,
        _Descending(meta["creationTimestamp"]),
    )


def _cost(meta: Obj) -> int:
    try:
        return int((meta.get("annotations") or {}).get(_COST, "0"))
    except ValueError:
        return 0


class _Descending(str):
    """A string that sorts the other way round."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return str.__gt__(self, other)


class ReplicaSetController(Controller):
    """Keeps as many pods as a ReplicaSet asks for."""

    watches = frozenset({"replicasets", "pods"})

    def reconcile(self) -> None:
        """All ReplicaSets."""
        listed, revision = self.store.list(PODS), self.store.revision

        def fresh() -> list[Obj]:
            """The pods; listed again only when something was written: most rounds write nothing."""
            nonlocal listed, revision
            if revision != self.store.revision:
                listed, revision = self.store.list(PODS), self.store.revision
            return listed

        for owner in self.store.list(REPLICASETS):
            namespace = owner["metadata"]["namespace"]
            pods = self.claim(REPLICASETS, owner, [p for p in fresh() if p["metadata"]["namespace"] == namespace])
            active = [pod for pod in pods if is_active(pod)]
            if "deletionTimestamp" not in owner["metadata"]:
                self._scale(owner, active)
            self._status(owner, fresh())

    def _scale(self, owner: Obj, active: list[Obj]) -> None:
        meta, missing = owner["metadata"], owner["spec"]["replicas"] - len(active)
        for _round in range(missing):
            pod = pod_from(owner["spec"]["template"], owner_reference(REPLICASETS, owner))
            pod["metadata"]["generateName"] = f"{meta['name']}-"
            try:
                created = self.registry.create(PODS, meta["namespace"], pod)
            except errors.ApiError as error:
                self.event(
                    _COMPONENT, REPLICASETS, owner, "FailedCreate", f"Error creating: {error.message}", "Warning"
                )
                return
            self.event(
                _COMPONENT, REPLICASETS, owner, "SuccessfulCreate", f"Created pod: {created['metadata']['name']}"
            )
        for pod in sorted(active, key=victim_order)[: max(0, -missing)]:
            name = pod["metadata"]["name"]
            self.registry.delete(PODS, meta["namespace"], name)
            self.event(_COMPONENT, REPLICASETS, owner, "SuccessfulDelete", f"Deleted pod: {name}")

    def _status(self, owner: Obj, all_: list[Obj]) -> None:
        meta, spec = owner["metadata"], owner["spec"]
        pods = [p for p in all_ if any(r["uid"] == meta["uid"] for r in p["metadata"].get("ownerReferences") or [])]
        active = [pod for pod in pods if is_active(pod)]
        template = (spec["template"].get("metadata") or {}).get("labels") or {}
        labelled = sum(1 for p in active if template.items() <= (p["metadata"].get("labels") or {}).items())
        ready = sum(1 for p in active if is_ready(p))
        leaving = sum(
            1
            for p in pods
            if "deletionTimestamp" in p["metadata"] and p["status"].get("phase") not in ("Succeeded", "Failed")
        )
        status: Obj = {"replicas": len(active)}
        status.update(
            {
                k: v
                for k, v in (("fullyLabeledReplicas", labelled), ("readyReplicas", ready), ("availableReplicas", ready))
                if v
            }
        )
        status.update(terminatingReplicas=leaving, observedGeneration=meta.get("generation", 1))
        self.set_status(REPLICASETS, owner, status)
