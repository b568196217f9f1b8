# SPDX-License-Identifier: Apache-2.0
"""The ``eviction`` subresource: a deletion that disruption budgets have a say in."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from . import defaults, errors, selectors

Obj = dict[str, Any]

ALLOWED = "DisruptionAllowed"
_VIOLATES = "Cannot evict pod as it would violate the pod's disruption budget."


def budget_for(pod: Obj, budgets: list[Obj]) -> Obj | None:
    """The budget that has to be asked; None if none has a say.

    :raises ApiError: 500 for a pod with more than one, as the real API has it
    """
    if pod["status"].get("phase") in ("Pending", "Succeeded", "Failed") or "deletionTimestamp" in pod["metadata"]:
        return None
    labels = pod["metadata"].get("labels") or {}
    found = [budget for budget in budgets if selectors.selects(budget["spec"].get("selector"), labels)]
    if len(found) > 1:
        message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise errors.ApiError(500, "", message)
    if not found:
        return None
    (budget,), status = found, found[0]["status"]
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])
    if not ready:
        if budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
            return None
        if status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0:
            return None
    return budget


def spend(budget: Obj, pod: str, moment: datetime) -> Obj:
    """The budget's status after one more disruption.

    :raises ApiError: 429 when there is none left
    """
    meta, status = budget["metadata"], dict(budget["status"])
    if status.get("observedGeneration", 0) < meta.get("generation", 1):
        raise _refusal(f"The disruption budget {meta['name']} is still being processed by the server.", retry=10)
    if status.get("disruptionsAllowed", 0) < 1:
        failed = next((c for c in status.get("conditions") or [] if c["reason"] == "SyncFailed"), None)
        if failed is not None:
            raise _refusal(
                f"The disruption budget {meta['name']} does not allow evicting pods currently because it failed sync: "
                f"{failed['message']}"
            )
        raise _refusal(
            f"The disruption budget {meta['name']} needs {status.get('desiredHealthy', 0)} healthy pods "
            f"and has {status.get('currentHealthy', 0)} currently"
        )
    status["disruptionsAllowed"] -= 1
    status["disruptedPods"] = {**(status.get("disruptedPods") or {}), pod: defaults.timestamp(moment)}
    return status


def _refusal(why: str, retry: int = 0) -> errors.ApiError:
    details: Obj = {"causes": [{"reason": "DisruptionBudget", "message": why}]}
    if retry:
        details["retryAfterSeconds"] = retry
    return errors.ApiError(429, "TooManyRequests", _VIOLATES, details)


def target_condition(generation: int, moment: datetime) -> Obj:
    """What an evicted pod says about its end."""
    return {
        "type": "DisruptionTarget",
        "observedGeneration": generation,
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": defaults.timestamp(moment),
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
