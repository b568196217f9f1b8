# SPDX-License-Identifier: Apache-2.0
"""Where a pod can go: the scheduler's filters as pure functions over what is stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ...quantities import quantity
from .. import selectors
from .base import condition, controller_of

Obj = dict[str, Any]

_AFFINITY = "node(s) didn't match Pod's node affinity/selector"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


@dataclass
class Snapshot:
    """Nodes, and the pods that have one and have not ended."""

    nodes: list[Obj]
    pods: list[Obj] = field(default_factory=list)

    def on(self, node: str) -> list[Obj]:
        """The pods of a node."""
        return [pod for pod in self.pods if pod["spec"]["nodeName"] == node]

    def domain(self, node: str, key: str) -> str | None:
        """The value of a topology label on a node."""
        found = next((n for n in self.nodes if n["metadata"]["name"] == node), None)
        return None if found is None else (found["metadata"].get("labels") or {}).get(key)


def choose(pod: Obj, cluster: Snapshot, volumes: Iterable[Obj] = ()) -> tuple[str | None, list[str]]:
    """A node, or the reasons of all against it: where fewest of the pod's siblings are, then fewest pods."""
    reasons, fitting = [], []
    for node in cluster.nodes:
        reason = objection(pod, node, cluster, volumes)
        if reason is None:
            fitting.append(node["metadata"]["name"])
        else:
            reasons.append(reason)
    owner = (controller_of(pod) or {}).get("uid")

    def load(name: str) -> tuple[int, int, str]:
        there = cluster.on(name)
        siblings = sum(1 for p in there if owner and (controller_of(p) or {}).get("uid") == owner)
        return siblings, len(there), name

    return min(fitting, key=load, default=None), reasons


def objection(pod: Obj, node: Obj, cluster: Snapshot | None = None, volumes: Iterable[Obj] = ()) -> str | None:
    """Why a pod cannot go to a node; None if it can."""
    cluster = cluster or Snapshot([node])
    spec, labels = pod["spec"], node["metadata"].get("labels") or {}
    tolerations = spec.get("tolerations") or []
    cordon = {"key": UNSCHEDULABLE, "effect": "NoSchedule"}
    if (node.get("spec") or {}).get("unschedulable") and not any(tolerates(item, cordon) for item in tolerations):
        return "node(s) were unschedulable"
    if condition(node, "Ready").get("status") != "True":
        return "node(s) were not ready"
    for taint in (node.get("spec") or {}).get("taints") or []:
        if taint["effect"] != "PreferNoSchedule" and not any(tolerates(item, taint) for item in tolerations):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    if not _selected(spec, node):
        return _AFFINITY
    if lacking := _insufficient(pod, node, cluster.on(node["metadata"]["name"])):
        return lacking
    for volume in volumes:
        required = (volume["spec"].get("nodeAffinity") or {}).get("required")
        if required and not any(_term(term, node) for term in required["nodeSelectorTerms"]):
            return "node(s) didn't match PersistentVolume's node affinity"
    if not _spread(pod, node, cluster):
        return "node(s) didn't match pod topology spread constraints"
    return _between(pod, labels, cluster)


def _selected(spec: Obj, node: Obj) -> bool:
    """nodeSelector and required node affinity."""
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED)
    return not required or any(_term(term, node) for term in required["nodeSelectorTerms"])


def _term(term: Obj, node: Obj) -> bool:
    labels, fields = node["metadata"].get("labels") or {}, {"metadata.name": node["metadata"]["name"]}
    expressions, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not by_field:
        return False
    return all(selectors.expression(item, labels) for item in expressions) and all(
        selectors.expression(item, fields) for item in by_field
    )


def tolerates(toleration: Obj, taint: Obj) -> bool:
    """Whether a toleration accepts a taint."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


# resources


def requests(spec: Obj) -> dict[str, float]:
    """What a pod asks for: its containers and sidecars together, or more while an init container runs."""

    def of(container: Obj) -> dict[str, float]:
        asked = (container.get("resources") or {}).get("requests") or {}
        return {name: quantity(value) for name, value in asked.items()}

    def plus(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
        return {name: one.get(name, 0) + other.get(name, 0) for name in one | other}

    stay: dict[str, float] = {}
    peak: dict[str, float] = {}
    for container in spec.get("initContainers") or []:
        with_it = plus(stay, of(container))
        if container.get("restartPolicy") == "Always":
            stay = with_it
        peak = {name: max(peak.get(name, 0), with_it.get(name, 0)) for name in peak | with_it}
    for container in spec["containers"]:
        stay = plus(stay, of(container))
    total = {name: max(stay.get(name, 0), peak.get(name, 0)) for name in stay | peak}
    return plus(total, {name: quantity(value) for name, value in (spec.get("overhead") or {}).items()})


def _insufficient(pod: Obj, node: Obj, there: list[Obj]) -> str | None:
    free = {name: quantity(value) for name, value in (node["status"].get("allocatable") or {}).items()}
    if "pods" in free and len(there) + 1 > free["pods"]:
        return "Too many pods"
    if not free:
        return None
    used = [requests(other["spec"]) for other in there]
    for name, wanted in sorted(requests(pod["spec"]).items()):
        if wanted and wanted > free.get(name, 0) - sum(item.get(name, 0) for item in used) + 1e-9:
            return f"Insufficient {name}"
    return None


# other pods


def _matches(term: Obj, of: Obj, other: Obj) -> bool:
    """Whether a pod affinity term of one pod means another pod."""
    spaces = term.get("namespaces") or ([] if "namespaceSelector" in term else [of["metadata"]["namespace"]])
    inside = other["metadata"]["namespace"] in spaces or term.get("namespaceSelector") == {}
    return inside and selectors.selects(term.get("labelSelector"), other["metadata"].get("labels") or {})


def _terms(pod: Obj, kind: str) -> list[Obj]:
    found: list[Obj] = ((pod["spec"].get("affinity") or {}).get(kind) or {}).get(_REQUIRED) or []
    return found


def _between(pod: Obj, labels: dict[str, str], cluster: Snapshot) -> str | None:
    """Required affinity and anti-affinity between pods, in both directions."""

    def beside(term: Obj, other: Obj) -> bool:
        key = term["topologyKey"]
        return key in labels and cluster.domain(other["spec"]["nodeName"], key) == labels[key]

    for term in _terms(pod, "podAffinity"):
        partners = [other for other in cluster.pods if _matches(term, pod, other)]
        if not any(beside(term, other) for other in partners) and (partners or not _matches(term, pod, pod)):
            return "node(s) didn't match pod affinity rules"
    for term in _terms(pod, "podAntiAffinity"):
        if any(_matches(term, pod, other) and beside(term, other) for other in cluster.pods):
            return "node(s) didn't match pod anti-affinity rules"
    for other in cluster.pods:
        if any(_matches(term, other, pod) and beside(term, other) for term in _terms(other, "podAntiAffinity")):
            return "node(s) didn't satisfy existing pods anti-affinity rules"
    return None


def _spread(pod: Obj, node: Obj, cluster: Snapshot) -> bool:
    """Topology spread constraints that must hold."""
    name = node["metadata"]["name"]
    for constraint in pod["spec"].get("topologySpreadConstraints") or []:
        if constraint.get("whenUnsatisfiable") == "ScheduleAnyway":
            continue
        key, term = constraint["topologyKey"], {"labelSelector": constraint.get("labelSelector")}
        counts: dict[str, int] = {}
        for candidate in cluster.nodes:
            domain = cluster.domain(candidate["metadata"]["name"], key)
            if domain is not None and _selected(pod["spec"], candidate):
                here = [
                    p for p in cluster.on(candidate["metadata"]["name"]) if "deletionTimestamp" not in p["metadata"]
                ]
                counts[domain] = counts.get(domain, 0) + sum(1 for other in here if _matches(term, pod, other))
        mine = cluster.domain(name, key)
        if mine not in counts:
            return False
        itself = 1 if _matches(term, pod, pod) else 0
        if counts[mine] + itself - min(counts.values()) > constraint["maxSkew"]:
            return False
    return True
