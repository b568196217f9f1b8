# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""PodDisruptionBudgets: a successor is away for the time of its freeze, like a pod that was evicted.

A twin is not: its source goes when the target is Ready. Between its thaw and that moment the budget counts one pod less,
because the source is marked as not Ready, as it is in truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._kube import predicates
from .refusals import Refusal, refuse
from .selectors import selector_matches

Obj = Mapping[str, Any]


def check_budgets(pod: Obj, budgets: Sequence[Obj]) -> list[Refusal]:
    """The rules of the eviction API, for the budgets that select the pod."""
    found = []
    for budget in budgets:
        spec, status = budget.get("spec") or {}, budget.get("status") or {}
        if not selector_matches(spec.get("selector"), predicates.labels_of(pod), empty=True) or _may_go(
            pod, spec, status
        ):
            continue
        name = predicates.name_of(budget)
        if int(status.get("observedGeneration") or 0) < int(predicates.metadata(budget).get("generation") or 0):
            found.append(refuse("disruption_budget", f"PodDisruptionBudget {name} has not been counted yet."))
        elif int(status.get("disruptionsAllowed") or 0) < 1:
            found.append(
                refuse(
                    "disruption_budget",
                    f"PodDisruptionBudget {name} allows no disruption now: {status.get('currentHealthy', 0)} healthy pods of "
                    f"{status.get('desiredHealthy', 0)} that must be.",
                )
            )
    return found


def _may_go(pod: Obj, spec: Obj, status: Obj) -> bool:
    """A pod that is not Ready counts for nothing: it may go unless its budget is short already."""
    if predicates.ready(pod):
        return False
    if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    healthy, desired = int(status.get("currentHealthy") or 0), int(status.get("desiredHealthy") or 0)
    return desired > 0 and healthy >= desired
