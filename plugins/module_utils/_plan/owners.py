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
from . import rollout, statefulset
from .options import MOVED_FROM, NameMode
from .refusals import Refusal, refuse
from .selectors import selector_matches

Obj = Mapping[str, Any]
Mode = Literal["twin", "copy", "successor"]
"""``twin``: beside the source, which ends when the twin is Ready. ``copy``: beside the source, which runs on."""

_TWIN_NAME = re.compile(r"-m[0-9a-f]{4}$")
_LONGEST = 63  # a pod's name becomes its host name; longer ones would be cut there
_MIRROR = "kubernetes.io/config.mirror"
_TEMPLATE_HASH = "pod-template-hash"
_NEVER = {"Job": "owner_job", "DaemonSet": "owner_daemonset"}
#: API groups of the kinds that are known here.
_GROUPS = {
    "Node": "", "Job": "batch", "DaemonSet": "apps", "StatefulSet": "apps", "ReplicaSet": "apps", "Deployment": "apps",
}  # fmt: skip


@dataclass(frozen=True)
class OwnerChain:
    """The pod's controllers from the nearest up, as read from the API; None for one that does not exist."""

    replicaset: Obj | None = None
    deployment: Obj | None = None
    statefulset: Obj | None = None

    @property
    def label(self) -> str:
        named = self.named
        return " ".join(named[0]) if named else "nobody"

    @property
    def named(self) -> list[tuple[str, str]]:
        """(kind, name) from the top down."""
        chain = (("Deployment", self.deployment), ("ReplicaSet", self.replicaset), ("StatefulSet", self.statefulset))
        return [(kind, predicates.name_of(obj)) for kind, obj in chain if obj is not None]


def check_owner(pod: Obj, chain: OwnerChain, siblings: Sequence[Obj] = ()) -> list[Refusal]:
    """Nobody, a ReplicaSet (by itself or under a Deployment) or a StatefulSet that stands still.

    ``siblings``: the pods of the namespace.
    """
    if _MIRROR in predicates.annotations_of(pod):
        return [refuse("static_pod", "The pod is the mirror of a static pod.")]
    references = predicates.metadata(pod).get("ownerReferences") or []
    if not references:
        return statefulset.check_orphan(pod)
    owner = predicates.controller_of(pod)
    kinds = " and ".join(f"{r.get('kind')} {r.get('name')}" for r in references)
    if len(references) > 1:
        return [refuse("owners_several", f"The pod belongs to {kinds}.")]
    if owner is None:
        return [refuse("owner", f"The pod belongs to {kinds} without a controller.")]
    kind = _known_kind(owner)
    if kind == "StatefulSet":
        return statefulset.check(pod, chain.statefulset, owner)
    if kind == "ReplicaSet":
        return _check_replicaset(pod, owner, chain, siblings)
    if kind == "Node":
        return [refuse("static_pod", "The pod belongs to its node.")]
    if kind in _NEVER:
        return [refuse(_NEVER[kind], f"The pod belongs to {kind} {owner.get('name')}.")]
    group = str(owner.get("apiVersion") or "").rpartition("/")[0]
    return [
        refuse("owner", f"The pod is owned by {owner.get('kind')} {owner.get('name')} of {group or 'the core API'}.")
    ]


def _known_kind(owner: Obj) -> str:
    """The owner's kind when it is Kubernetes' own of that name; an operator may have a StatefulSet of its own group."""
    group = str(owner.get("apiVersion") or "").rpartition("/")[0]
    kind = str(owner.get("kind"))
    return kind if _GROUPS.get(kind) == group else ""


def _check_replicaset(pod: Obj, owner: Obj, chain: OwnerChain, siblings: Sequence[Obj]) -> list[Refusal]:
    replicaset = chain.replicaset
    if replicaset is None or predicates.uid_of(replicaset) != owner.get("uid") or predicates.terminating(replicaset):
        return [refuse("owner_gone", f"ReplicaSet {owner.get('name')} does not exist any more.")]
    above = predicates.metadata(replicaset).get("ownerReferences") or []
    if [r for r in above if _known_kind(r) != "Deployment"]:
        kinds = " and ".join(f"{r.get('kind')} {r.get('name')}" for r in above)
        return [refuse("owner", f"The pod's ReplicaSet is owned by {kinds}.")]
    if above and chain.deployment is None:
        return [refuse("owner_gone", f"Deployment {above[0].get('name')} does not exist any more.")]
    return rollout.check(pod, replicaset, chain.deployment, siblings)


def may_settle(refusals: Sequence[Refusal]) -> bool:
    """Is one of these a state that passes by itself, mostly within seconds?"""
    return any(r.code in ("owner_not_stable", "deletion_cost") for r in refusals)


def decide_mode(name: NameMode, pod: Obj) -> tuple[Mode, list[Refusal]]:
    """``auto`` keeps the name of a pod whose name is its identity (nobody's, a StatefulSet's), and gives others a new one."""
    owner = predicates.controller_of(pod)
    if owner is not None and _known_kind(owner) == "StatefulSet":
        if name == "new":
            return "successor", [
                refuse("new_with_statefulset", "The pod belongs to a StatefulSet, and name=new was asked for.")
            ]
        return "successor", []
    if name == "keep" and owner is not None:
        return "twin", [refuse("keep_with_replicaset", "The pod belongs to a ReplicaSet, and name=keep was asked for.")]
    if name == "new" or owner is not None:
        return "twin", []
    return "successor", []


def early_labels(pod: Obj, chain: OwnerChain) -> dict[str, str] | None:
    """Labels that a twin with readiness gates gets before it is Ready; None: it has no way to become Ready.

    The gate's controller mostly finds pods as a Service does, by their labels, and the final ones must wait until the
    twin is Ready. A Deployment's Service does not know the pod-template-hash, its ReplicaSet does.
    """
    if chain.replicaset is None:
        return None
    selector = (chain.replicaset.get("spec") or {}).get("selector")
    labels = {k: v for k, v in predicates.labels_of(pod).items() if k != _TEMPLATE_HASH}
    return None if selector_matches(selector, labels) else labels


def check_gates(pod: Obj, mode: Mode, chain: OwnerChain) -> list[Refusal]:
    """Readiness gates: somebody else's word must come for the target as it came for the source."""
    gates = readiness_gates(pod)
    if not gates or mode == "successor" or early_labels(pod, chain) is not None:
        return []
    return [refuse("readiness_gates", f"The pod has the readiness gates {', '.join(gates)}, and would move as a twin.")]


def readiness_gates(pod: Obj) -> list[str]:
    return [str(g.get("conditionType")) for g in (pod.get("spec") or {}).get("readinessGates") or []]


def check_finalizers(pod: Obj, mode: Mode) -> list[Refusal]:
    """A successor needs the name at once; a finalizer holds it for as long as its owner likes."""
    finalizers = predicates.metadata(pod).get("finalizers") or []
    if mode != "successor" or not finalizers:
        return []
    return [refuse("finalizers", f"The pod has the finalizers {', '.join(finalizers)}.")]


def copy_name(pod_name: str, run: str) -> str:
    """``<pod>-c<4 hex digits of the run>``."""
    ending = f"-c{run[:4]}"
    return pod_name[: _LONGEST - len(ending)].rstrip("-.") + ending


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
