# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A pod of a ReplicaSet: does its owner stand still, and whom would it delete when it has one pod too many?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._kube import predicates
from .options import DELETION_COST, LOWEST_COST
from .refusals import Refusal, refuse
from .selectors import selector_matches

Obj = Mapping[str, Any]


def check(pod: Obj, replicaset: Obj, deployment: Obj | None, siblings: Sequence[Obj]) -> list[Refusal]:
    """All that the ReplicaSet, its Deployment and its other pods say against adding a twin."""
    name, spec = predicates.name_of(replicaset), replicaset.get("spec") or {}
    wanted = int(spec.get("replicas", 1) or 0)
    there = int((replicaset.get("status") or {}).get("replicas", 0) or 0)
    if deployment is not None:
        why = rolling(deployment)
        if why:
            return [refuse("owner_not_stable", f"Deployment {predicates.name_of(deployment)}: {why}.")]
    if wanted == 0 or wanted != there:
        return [refuse("owner_not_stable", f"ReplicaSet {name} wants {wanted} pods and has {there}.")]
    if not selector_matches(spec.get("selector"), predicates.labels_of(pod)):
        return [refuse("owner_not_stable", f"The pod does not match the selector of ReplicaSet {name}.")]
    return _check_victim(pod, replicaset, siblings)


def rolling(deployment: Obj) -> str:
    """Why a Deployment does not stand still; '' when it does."""
    spec, status = deployment.get("spec") or {}, deployment.get("status") or {}
    if predicates.terminating(deployment):
        return "it is being deleted"
    if int(status.get("observedGeneration") or 0) < int(predicates.metadata(deployment).get("generation") or 0):
        return "its controller has not seen its last change yet"
    wanted = int(spec.get("replicas", 1) or 0)
    updated, there = int(status.get("updatedReplicas") or 0), int(status.get("replicas") or 0)
    if updated == wanted == there:
        return ""
    progress = f"{there} pods are there, {updated} of them of its last revision, {wanted} are wanted"
    if spec.get("paused"):
        return f"its rollout is paused half way: {progress}"
    for condition in status.get("conditions") or []:
        if condition.get("type") == "Progressing" and condition.get("status") == "False":
            return f"its rollout has failed ({condition.get('reason')}): {progress}"
    return f"a rollout is under way: {progress}"


def _check_victim(pod: Obj, replicaset: Obj, siblings: Sequence[Obj]) -> list[Refusal]:
    """The source must be the one that the ReplicaSet gives up.

    It chooses pods that are Pending, then those that are not Ready, then the lowest deletion cost.
    """
    uid = predicates.uid_of(replicaset)
    others = [
        p
        for p in siblings
        if predicates.owned_by(p, uid)
        and predicates.uid_of(p) != predicates.uid_of(pod)
        and not predicates.terminating(p)
        and not predicates.failed(p)
    ]
    waiting = sorted(predicates.name_of(p) for p in others if not predicates.ready(p))
    if waiting:
        return [
            refuse(
                "owner_not_stable",
                f"Pod {', '.join(waiting)} is not Ready: its ReplicaSet would delete it in place of the source.",
            )
        ]
    return [
        refuse("deletion_cost", f"Pod {predicates.name_of(p)} has the deletion cost {deletion_cost(p)}.")
        for p in [pod, *others]
        if deletion_cost(p) <= int(LOWEST_COST)
    ]


def deletion_cost(pod: Obj) -> int:
    """As the ReplicaSet controller reads it: 0 without one, or with one that is no number."""
    try:
        return int(predicates.annotations_of(pod).get(DELETION_COST, "0"))
    except ValueError:
        return 0


def check_autoscalers(
    targets: Sequence[tuple[str, str]], autoscalers: Sequence[Obj]
) -> tuple[list[Refusal], list[str]]:
    """(refusals, warnings) for the HorizontalPodAutoscalers of these (kind, name)."""
    refusals: list[Refusal] = []
    warnings: list[str] = []
    for scaler in autoscalers:
        reference = (scaler.get("spec") or {}).get("scaleTargetRef") or {}
        target = (str(reference.get("kind")), str(reference.get("name")))
        if target not in targets:
            continue
        name, status = predicates.name_of(scaler), scaler.get("status") or {}
        current, desired = int(status.get("currentReplicas") or 0), int(status.get("desiredReplicas") or 0)
        if current != desired:
            refusals.append(
                refuse(
                    "owner_not_stable",
                    f"HorizontalPodAutoscaler {name} is scaling {' '.join(target)} from {current} to {desired}.",
                )
            )
        else:
            warnings.append(
                f"HorizontalPodAutoscaler {name} scales {' '.join(target)}. A scaling that begins during the move may cost "
                "another pod than its own choice; the moved pod is Ready before its source goes."
            )
    return refusals, warnings
