# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Who owns the pod, and so: which way of changing pods is open, and under which name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .._kube import predicates
from .options import MOVED_FROM, NameMode
from .refusals import Refusal, refuse

Obj = Mapping[str, Any]
Mode = Literal["twin", "successor"]

_TWIN_NAME = re.compile(r"-m[0-9a-f]{4}$")
_LONGEST = 63  # a pod's name becomes its host name; longer ones would be cut there
_MIRROR = "kubernetes.io/config.mirror"


@dataclass(frozen=True)
class OwnerChain:
    """The pod's controllers from the nearest up, as read from the API; None for one that does not exist."""

    replicaset: Obj | None = None
    deployment: Obj | None = None

    @property
    def label(self) -> str:
        for kind, obj in (("Deployment", self.deployment), ("ReplicaSet", self.replicaset)):
            if obj is not None:
                return f"{kind} {predicates.name_of(obj)}"
        return "nobody"


def check_owner(pod: Obj, chain: OwnerChain) -> list[Refusal]:
    """Nobody, or a ReplicaSet that stands still (by itself or under a Deployment)."""
    annotations = predicates.annotations_of(pod)
    if _MIRROR in annotations:
        return [refuse("static_pod", "The pod is the mirror of a static pod.")]
    references = predicates.metadata(pod).get("ownerReferences") or []
    if not references:
        return []
    owner = predicates.controller_of(pod)
    if owner is None:
        kinds = ", ".join(f"{r.get('kind')} {r.get('name')}" for r in references)
        return [refuse("owner", f"The pod belongs to {kinds} without a controller.")]
    if owner.get("kind") == "Node":
        return [refuse("static_pod", "The pod belongs to its node.")]
    if owner.get("kind") != "ReplicaSet" or not str(owner.get("apiVersion", "")).startswith("apps/"):
        return [refuse("owner", f"The pod is owned by {owner.get('kind')} {owner.get('name')}.")]
    replicaset = chain.replicaset
    if replicaset is None or predicates.uid_of(replicaset) != owner.get("uid") or predicates.terminating(replicaset):
        return [refuse("owner_gone", f"ReplicaSet {owner.get('name')} does not exist any more.")]
    above = predicates.controller_of(replicaset)
    if above is not None and (
        above.get("kind") != "Deployment" or not str(above.get("apiVersion", "")).startswith("apps/")
    ):
        return [refuse("owner", f"The pod's ReplicaSet is owned by {above.get('kind')} {above.get('name')}.")]
    return _check_stable(pod, replicaset)


def _check_stable(pod: Obj, replicaset: Obj) -> list[Refusal]:
    name = predicates.name_of(replicaset)
    wanted = int((replicaset.get("spec") or {}).get("replicas", 1) or 0)
    there = int((replicaset.get("status") or {}).get("replicas", 0) or 0)
    if wanted == 0 or wanted != there:
        return [refuse("owner_not_stable", f"ReplicaSet {name} wants {wanted} pods and has {there}.")]
    if not selector_matches((replicaset.get("spec") or {}).get("selector") or {}, predicates.labels_of(pod)):
        return [refuse("owner_not_stable", f"The pod does not match the selector of ReplicaSet {name}.")]
    return []


def selector_matches(selector: Obj, labels: Mapping[str, str]) -> bool:
    """A label selector with matchLabels and matchExpressions; an empty one matches nothing here."""
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or []
    if not wanted and not expressions:
        return False
    if any(labels.get(k) != v for k, v in wanted.items()):
        return False
    for expression in expressions:
        key, operator, values = str(expression.get("key")), expression.get("operator"), expression.get("values") or []
        present = key in labels
        ok = {
            "In": present and labels.get(key) in values,
            "NotIn": not present or labels.get(key) not in values,
            "Exists": present,
            "DoesNotExist": not present,
        }.get(str(operator), False)
        if not ok:
            return False
    return True


def decide_mode(name: NameMode, owned: bool) -> tuple[Mode, list[Refusal]]:
    """``auto`` keeps the name of a pod that nobody owns (its name is its identity), and gives others a new one."""
    if name == "keep" and owned:
        return "twin", [refuse("keep_with_replicaset", "The pod belongs to a ReplicaSet, and name=keep was asked for.")]
    if name == "new" or owned:
        return "twin", []
    return "successor", []


def check_finalizers(pod: Obj, mode: Mode) -> list[Refusal]:
    """A successor needs the name at once; a finalizer holds it for as long as its owner likes."""
    finalizers = predicates.metadata(pod).get("finalizers") or []
    if mode == "twin" or not finalizers:
        return []
    return [refuse("finalizers", f"The pod has the finalizers {', '.join(finalizers)}.")]


def twin_name(pod_name: str, run: str, moved_before: bool) -> str:
    """``<pod>-m<4 hex digits of the run>``; a twin's twin replaces the ending, so that names do not grow."""
    base = _TWIN_NAME.sub("", pod_name) if moved_before else pod_name
    ending = f"-m{run[:4]}"
    return base[: _LONGEST - len(ending)].rstrip("-.") + ending


def moved_from(namespace: str, pod: str, uid: str, node: str) -> str:
    """The annotation by which a moved pod tells where it comes from."""
    return f"{namespace}/{pod} {uid} {node}"


def parse_moved_from(text: str) -> tuple[str, str, str, str] | None:
    """(namespace, pod, uid, node), or None when the text is not of ours."""
    match = re.match(r"^([^/ ]+)/([^ ]+) ([^ ]+) ([^ ]+)$", text)
    return (match.group(1), match.group(2), match.group(3), match.group(4)) if match else None


def find_moved(namespace: str, name: str, pods: Sequence[Obj]) -> Obj | None:
    """The living pod that says it was ``namespace/name`` before, the youngest if there are several."""
    found = []
    for pod in pods:
        origin = parse_moved_from(predicates.annotations_of(pod).get(MOVED_FROM, ""))
        if (
            origin
            and origin[:2] == (namespace, name)
            and not predicates.terminating(pod)
            and not predicates.failed(pod)
        ):
            found.append(pod)
    return max(found, key=lambda p: str(predicates.metadata(p).get("creationTimestamp")), default=None)
