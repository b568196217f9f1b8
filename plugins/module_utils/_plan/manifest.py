# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The pod to create on the target: the source's specification, faithfully, with what must differ."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from .._kube import predicates
from . import addresses
from .options import ARRIVAL, COPIED_FROM, DELETION_COST, HANDLER, LOWEST_COST, MOVED_FROM
from .owners import Mode, moved_from

Obj = Mapping[str, Any]
JsonDict = dict[str, Any]

RUN_LABEL = "podferry.live/run"
_OWN_PREFIX = "podferry.live/"
#: Written by others about the one pod they are on; copied they would be lies. Others write them again for the target.
_ABOUT_ONE_POD = ("kubernetes.io/config.", "org.criu.")
#: Fields that the API makes again: an alias of serviceAccountName, the RuntimeClass's overhead, debug containers (refused).
_COMPUTED = ("serviceAccount", "overhead", "ephemeralContainers")


def build(source: Obj, *, mode: Mode, name: str, target_node: str, run: str) -> JsonDict:
    """The manifest to POST.

    A twin gets none of the source's labels (no selector may see it before it runs) and keeps the source's host name;
    ``final_labels`` and finalizers come when it is Ready. A successor gets them at once. Neither gets an owner: a
    controller adopts what it selects, and a reference to one that is gone would have the pod collected as garbage.

    ``priority`` and ``preemptionPolicy`` stay: the API compares them with what the class says now, and a difference is
    found by the dry run instead of being taken over in silence.
    """
    namespace = str(predicates.metadata(source).get("namespace") or "default")
    annotations = kept_annotations(source, mode)
    annotations[ARRIVAL] = run
    annotations[COPIED_FROM if mode == "copy" else MOVED_FROM] = moved_from(
        namespace, predicates.name_of(source), predicates.uid_of(source), predicates.node_of(source) or ""
    )
    labels = final_labels(source) if mode == "successor" else {}
    labels[RUN_LABEL] = run
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations},
        "spec": _spec(source, mode=mode, target_node=target_node),
    }


def _spec(source: Obj, *, mode: Mode, target_node: str) -> JsonDict:
    spec: JsonDict = copy.deepcopy(dict(source.get("spec") or {}))
    for field in _COMPUTED:
        spec.pop(field, None)
    spec["nodeName"] = target_node
    spec["runtimeClassName"] = HANDLER
    if mode != "successor" and not spec.get("hostname"):
        # The restored processes go on under the host name they know; exec'd ones and /etc/hosts shall agree.
        spec["hostname"] = _hostname(predicates.name_of(source))
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if container.get("imagePullPolicy") == "Always":
            # The image with the source's digest is on the target before this pod is created; a pull could change it.
            container["imagePullPolicy"] = "IfNotPresent"
    return spec


def _hostname(pod_name: str) -> str:
    """A pod's name as the kubelet makes a host name of it, fit for ``spec.hostname`` (one DNS label)."""
    return pod_name.replace(".", "-")[:63].rstrip("-")


def kept_annotations(source: Obj, mode: Mode) -> dict[str, str]:
    """The source's annotations that are as true of the target."""
    given = addresses.given(source)
    kept = {
        key: value
        for key, value in predicates.annotations_of(source).items()
        if key not in given and not key.startswith((_OWN_PREFIX, *_ABOUT_ONE_POD))
    }
    if mode != "successor":
        kept.pop(addresses.LAST_APPLIED, None)  # it is about a pod of another name
    if kept.get(DELETION_COST) == LOWEST_COST:
        kept.pop(DELETION_COST)  # ours, from the hand-over of a run that did not come to its end
    return kept


def final_labels(source: Obj) -> dict[str, str]:
    """The labels that the target carries in the end: the source's."""
    return without_ours(predicates.labels_of(source))


def without_ours(labels: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in labels.items() if not k.startswith(_OWN_PREFIX)}


def final_finalizers(source: Obj) -> list[str]:
    """Finalizers that a twin gets with its labels; before, they would keep one that is taken back."""
    return [str(f) for f in predicates.metadata(source).get("finalizers") or []]


def for_dry_run(manifest: Obj, run: str) -> JsonDict:
    """The manifest under a name that is free, so that a successor can be tried while its source is there."""
    trial: JsonDict = copy.deepcopy(dict(manifest))
    trial["metadata"]["name"] = f"{trial['metadata']['name'][:45].rstrip('-.')}-try-{run}"
    return trial


def for_return(manifest: Obj, *, source_node: str) -> JsonDict:
    """The successor's manifest turned back: the same pod, on the node where its dump was made (undo)."""
    back: JsonDict = copy.deepcopy(dict(manifest))
    back["spec"]["nodeName"] = source_node
    back["metadata"]["annotations"].pop(MOVED_FROM, None)
    return back
