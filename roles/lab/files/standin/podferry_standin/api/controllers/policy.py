# SPDX-License-Identifier: Apache-2.0
"""The status of disruption budgets and of quotas."""

from __future__ import annotations

import math
from typing import Any

from .. import admission, selectors
from ..resources import BY_NAME, PODS
from .base import Controller, is_ready

Obj = dict[str, Any]


class DisruptionController(Controller):
    """Counts how many pods may be disrupted."""

    watches = frozenset({"poddisruptionbudgets", "pods"})

    def reconcile(self) -> None:
        """All budgets."""
        resource = BY_NAME["poddisruptionbudgets"]
        for budget in self.store.list(resource):
            meta, spec = budget["metadata"], budget["spec"]
            pods = [
                p
                for p in self.store.list(PODS, meta["namespace"])
                if selectors.selects(spec.get("selector"), p["metadata"].get("labels") or {})
            ]
            healthy = sum(1 for pod in pods if is_ready(pod) and "deletionTimestamp" not in pod["metadata"])
            if "maxUnavailable" in spec:
                desired = max(0, len(pods) - _of(spec["maxUnavailable"], len(pods)))
            else:
                desired = _of(spec.get("minAvailable", 0), len(pods))
            status = {
                "observedGeneration": meta.get("generation", 1),
                "disruptionsAllowed": max(0, healthy - desired),
                "currentHealthy": healthy,
                "desiredHealthy": desired,
                "expectedPods": len(pods),
            }
            self.set_status(resource, budget, status)


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
