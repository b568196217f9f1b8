# SPDX-License-Identifier: Apache-2.0
"""The status of disruption budgets and of quotas."""

from __future__ import annotations

import math
from typing import Any

from .. import admission, defaults, selectors
from ..eviction import ALLOWED
from ..resources import BY_KIND, BY_NAME, DEPLOYMENTS, PODS
from .base import Controller, controller_of, is_ready

Obj = dict[str, Any]


class DisruptionController(Controller):
    """Counts how many pods may be disrupted, against what their controllers want."""

    watches = frozenset({"poddisruptionbudgets", "pods", "replicasets", "deployments", "statefulsets"})

    def reconcile(self) -> None:
        """All budgets."""
        resource = BY_NAME["poddisruptionbudgets"]
        for budget in self.store.list(resource):
            self.set_status(resource, budget, self._status(budget))

    def _status(self, budget: Obj) -> Obj:
        meta, spec, old = budget["metadata"], budget["spec"], budget.get("status") or {}
        pods = [
            p
            for p in self.store.list(PODS, meta["namespace"])
            if selectors.selects(spec.get("selector"), p["metadata"].get("labels") or {})
        ]
        generation = meta.get("generation", 1)
        try:
            expected, desired = self._wanted(spec, pods)
        except _Unknown as error:
            failed = self._condition(old, "False", "SyncFailed", str(error), generation)
            return {**old, "disruptionsAllowed": 0, "observedGeneration": generation, "conditions": [failed]}
        names = {pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}
        evicted = {name: since for name, since in (old.get("disruptedPods") or {}).items() if name in names}
        healthy = sum(
            1
            for pod in pods
            if is_ready(pod) and "deletionTimestamp" not in pod["metadata"] and pod["metadata"]["name"] not in evicted
        )
        allowed = max(0, healthy - desired) if expected > 0 else 0
        reason = "SufficientPods" if allowed else "InsufficientPods"
        status: Obj = {
            "observedGeneration": generation,
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": desired,
            "expectedPods": expected,
            "conditions": [self._condition(old, "True" if allowed else "False", reason, "", generation)],
        }
        if evicted:
            status["disruptedPods"] = evicted
        return status

    def _wanted(self, spec: Obj, pods: list[Obj]) -> tuple[int, int]:
        """How many pods there should be, and how many of them healthy."""
        if "maxUnavailable" in spec:
            expected = self._scale(pods)
            return expected, max(0, expected - _of(spec["maxUnavailable"], expected))
        limit = spec.get("minAvailable", 1)
        if isinstance(limit, str):
            expected = self._scale(pods)
            return expected, _of(limit, expected)
        return len(pods), int(limit)

    def _scale(self, pods: list[Obj]) -> int:
        """The replicas of the pods' controllers; pods without one do not count."""
        found: dict[str, int] = {}
        for pod in pods:
            reference, namespace = controller_of(pod), pod["metadata"]["namespace"]
            if reference is None:
                continue
            resource = BY_KIND.get((reference["apiVersion"], reference["kind"]))
            owner = self.store.find(resource, namespace, reference["name"]) if resource is not None else None
            if owner is None or owner["metadata"]["uid"] != reference["uid"]:
                raise _Unknown(f'found no controllers for pod "{pod["metadata"]["name"]}"')
            above = controller_of(owner)
            if above is not None and above["kind"] == "Deployment":
                owner = self.store.find(DEPLOYMENTS, namespace, above["name"]) or owner
            if "replicas" not in owner["spec"]:
                raise _Unknown(f"{resource.qualified if resource else ''} does not implement the scale subresource")
            found[owner["metadata"]["uid"]] = owner["spec"]["replicas"]
        return sum(found.values())

    def _condition(self, old: Obj, state: str, reason: str, message: str, generation: int) -> Obj:
        have: Obj = next((c for c in old.get("conditions") or [] if c["type"] == ALLOWED), {})
        since = have.get("lastTransitionTime") if have.get("status") == state else None
        return {
            "type": ALLOWED,
            "status": state,
            "observedGeneration": generation,
            "lastTransitionTime": since or defaults.timestamp(self.registry.clock()),
            "reason": reason,
            "message": message,
        }


class _Unknown(Exception):
    """A pod whose controller says no number."""


def _of(value: Any, total: int) -> int:
    if isinstance(value, str):
        return math.ceil(total * int(value.rstrip("%")) / 100)
    return int(value)


class QuotaController(Controller):
    """Writes what is used against each hard limit on a number of objects."""

    watches = frozenset({"resourcequotas", "pods", "services", "configmaps", "secrets"})

    def reconcile(self) -> None:
        """All quotas."""
        resource = BY_NAME["resourcequotas"]
        for quota in self.store.list(resource):
            hard, used = quota["spec"].get("hard") or {}, {}
            for limit in hard:
                counted = BY_NAME.get(limit.removeprefix("count/").partition(".")[0])
                if counted is not None:
                    used[limit] = str(admission.usage(self.store, counted, quota["metadata"]["namespace"]))
            self.set_status(resource, quota, {"hard": hard, "used": used})
