# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A pod of a StatefulSet: may its owner be taken away for the time of the move, and how is it made again?

Its controller starts a pod of the same name at once when one is missing, so it must not be there between the source's
DELETE and the successor's POST. It is deleted with its pods orphaned, and created again; it adopts what it finds.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from typing import Any

from .._kube import predicates
from .refusals import Refusal, refuse
from .selectors import selector_matches

Obj = Mapping[str, Any]
JsonDict = dict[str, Any]

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
REVISION_LABEL = "controller-revision-hash"
_ORDINAL = re.compile(r"^(.+)-(\d+)$")
#: What a ferry's journal takes is 64 KiB; the rest of the run's context needs some of it.
_LARGEST = 60000
_CHANGED_BY_A_MOVE = frozenset(("runtimeClassName", "imagePullPolicy"))
#: Lists to which nobody may have added anything.
_COMPLETE = frozenset(("containers", "initContainers", "command", "args", "env", "envFrom"))
#: Marks of programs that make again what is missing, by themselves and within seconds.
_MAKERS = {
    "argocd.argoproj.io/": "Argo CD",
    "kustomize.toolkit.fluxcd.io/": "Flux",
    "helm.toolkit.fluxcd.io/": "Flux",
    "fleet.cattle.io/": "Fleet",
}


def set_name(pod: Obj) -> str:
    """The StatefulSet that made this pod, by its labels; '' for other pods."""
    name = predicates.name_of(pod)
    match = _ORDINAL.match(name)
    return match.group(1) if match and predicates.labels_of(pod).get(POD_NAME_LABEL) == name else ""


def restorable(statefulset: Obj) -> JsonDict:
    """What to POST to have it again: all that its user wrote, nothing that the API keeps."""
    meta = predicates.metadata(statefulset)
    kept = {key: copy.deepcopy(meta[key]) for key in ("name", "namespace", "labels", "annotations") if meta.get(key)}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": kept,
        "spec": copy.deepcopy(dict(statefulset.get("spec") or {})),
    }


def for_dry_run(manifest: Obj, run: str) -> JsonDict:
    """The manifest under a name that is free: would the API take the StatefulSet back?"""
    trial: JsonDict = copy.deepcopy(dict(manifest))
    trial["metadata"]["name"] = f"{trial['metadata']['name'][:40].rstrip('-.')}-try-{run}"
    return trial


def could_have_made(statefulset: Obj, pod: Obj) -> bool:
    """Would this StatefulSet make pods like this one, and no others?

    For a definition that was found on the pod itself, where whoever may annotate pods could have written it: a pod's
    specification cannot be changed, so nothing can come of a forged one but more pods of the same kind.
    """
    spec: Obj = statefulset.get("spec") or {}
    template: Obj = spec.get("template") or {}
    labels = predicates.labels_of(pod)
    claims = {
        (v.get("persistentVolumeClaim") or {}).get("claimName") for v in (pod.get("spec") or {}).get("volumes") or []
    }
    return (
        set_name(pod) == predicates.name_of(statefulset)
        and selector_matches(spec.get("selector"), labels)
        and bool((template.get("spec") or {}).get("containers"))
        and all(labels.get(key) == value for key, value in predicates.labels_of(template).items())
        and _within(template["spec"], pod.get("spec") or {})
        and _leaves_nothing_out(template["spec"], pod.get("spec") or {})
        and all(
            f"{predicates.name_of(claim)}-{predicates.name_of(pod)}" in claims
            for claim in spec.get("volumeClaimTemplates") or []
        )
    )


def _leaves_nothing_out(template: Obj, pod: Obj) -> bool:
    """What confines the pod is in the template as well."""

    def said(spec: Obj) -> Any:
        containers = [c for key in ("initContainers", "containers") for c in spec.get(key) or []]
        return spec.get("securityContext") or {}, [{k for k in c if k != "volumeMounts"} for c in containers]

    return bool(said(template) == said(pod))


def _within(template: Any, pod: Any, field: str = "") -> bool:
    """All that the template says is in the pod. What others have added (tokens, tolerations, a node) does not count."""
    if field in _CHANGED_BY_A_MOVE:
        return True
    if isinstance(template, Mapping):
        return isinstance(pod, Mapping) and all(_within(value, pod.get(key), key) for key, value in template.items())
    if isinstance(template, list) and isinstance(pod, list):
        if field in _COMPLETE and len(template) != len(pod):
            return False
        return all(any(_within(one, other) for other in pod) for one in template)
    return bool(template == pod)


def check_orphan(pod: Obj) -> list[Refusal]:
    """A pod that nobody owns and that was made by a StatefulSet: somebody has taken its owner away, perhaps for a moment."""
    name = set_name(pod)
    if not name:
        return []
    return [refuse("statefulset_away", f"The pod was made by StatefulSet {name} and has no owner now.")]


def check(pod: Obj, statefulset: Obj | None, owner: Obj) -> list[Refusal]:
    """All that its StatefulSet says against moving the pod."""
    if statefulset is None or predicates.uid_of(statefulset) != owner.get("uid"):
        return [refuse("owner_gone", f"StatefulSet {owner.get('name')} does not exist any more.")]
    name, meta = predicates.name_of(statefulset), predicates.metadata(statefulset)
    if predicates.terminating(statefulset):
        return [refuse("owner_gone", f"StatefulSet {name} is being deleted.")]
    found: list[Refusal] = []
    if meta.get("ownerReferences"):
        above = " and ".join(f"{r.get('kind')} {r.get('name')}" for r in meta["ownerReferences"])
        found.append(
            refuse(
                "owner",
                f"The pod's StatefulSet {name} is owned by {above}, which would make it again while the pod moves.",
            )
        )
    if meta.get("finalizers"):
        found.append(
            refuse("statefulset_finalizers", f"StatefulSet {name} has the finalizers {', '.join(meta['finalizers'])}.")
        )
    found += _check_claims(name, statefulset.get("spec") or {})
    return found + _check_count(pod, name, statefulset) + _check_revision(pod, name, statefulset)


def _check_claims(name: str, spec: Obj) -> list[Refusal]:
    policy = (spec.get("persistentVolumeClaimRetentionPolicy") or {}).get("whenDeleted")
    if policy != "Delete" or not spec.get("volumeClaimTemplates"):
        return []
    return [
        refuse(
            "statefulset_claims", f"StatefulSet {name} owns its volume claims (whenDeleted: Delete) and is recreated."
        )
    ]


def _check_count(pod: Obj, name: str, statefulset: Obj) -> list[Refusal]:
    spec: Obj = statefulset.get("spec") or {}
    status: Obj = statefulset.get("status") or {}
    wanted, there = int(spec.get("replicas", 1) or 0), int(status.get("replicas") or 0)
    if int(status.get("observedGeneration") or 0) < int(predicates.metadata(statefulset).get("generation") or 0):
        return [refuse("owner_not_stable", f"The controller of StatefulSet {name} has not seen its last change yet.")]
    if wanted != there:
        return [refuse("owner_not_stable", f"StatefulSet {name} wants {wanted} pods and has {there}.")]
    match = _ORDINAL.match(predicates.name_of(pod))
    first = int((spec.get("ordinals") or {}).get("start") or 0)
    if match is None or match.group(1) != name or not first <= int(match.group(2)) < first + wanted:
        return [refuse("owner_not_stable", f"StatefulSet {name} does not want pod {predicates.name_of(pod)} any more.")]
    if not selector_matches(spec.get("selector"), predicates.labels_of(pod)):
        return [refuse("owner_not_stable", f"The pod does not match the selector of StatefulSet {name}.")]
    return []


def _check_revision(pod: Obj, name: str, statefulset: Obj) -> list[Refusal]:
    """A new StatefulSet knows one revision, that of its template: pods of another would be replaced."""
    spec: Obj = statefulset.get("spec") or {}
    status: Obj = statefulset.get("status") or {}
    update = status.get("updateRevision")
    on_delete = (spec.get("updateStrategy") or {}).get("type") == "OnDelete"
    mine = predicates.labels_of(pod).get(REVISION_LABEL)
    updated, there = int(status.get("updatedReplicas") or 0), int(status.get("replicas") or 0)
    # With OnDelete currentRevision stays what it was, also when every pod has been replaced.
    if not update or mine != update or updated != there or (not on_delete and status.get("currentRevision") != update):
        how = (
            "waits for its pods to be deleted (OnDelete)"
            if on_delete
            else "is being rolled out, or stands at a partition"
        )
        return [
            refuse(
                "statefulset_revision",
                f"StatefulSet {name} {how}: {updated} of {there} pods are of revision {update}, this one is of {mine}.",
            )
        ]
    return []


def check_size(name: str, statefulset: Obj, manifest: Obj) -> list[Refusal]:
    """Both are kept in the journals of the run, for whoever has to make the StatefulSet again."""
    size = len(json.dumps({"statefulset": statefulset, "manifest": manifest}))
    if size <= _LARGEST:
        return []
    return [refuse("statefulset_size", f"StatefulSet {name} and its pod take {size} bytes, {_LARGEST} can be kept.")]


def warnings(statefulset: Obj) -> list[str]:
    """What the user should know about the object itself."""
    name = predicates.name_of(statefulset)
    found = [f"StatefulSet {name} is deleted (its pods stay) and created again: it gets a new UID."]
    marks = {**predicates.labels_of(statefulset), **predicates.annotations_of(statefulset)}
    for maker in sorted({who for prefix, who in _MAKERS.items() if any(key.startswith(prefix) for key in marks)}):
        found.append(
            f"StatefulSet {name} is kept by {maker}. Should it create the StatefulSet again before the pod has moved, the "
            "move is undone; suspend its synchronisation for the time of the move."
        )
    return found
