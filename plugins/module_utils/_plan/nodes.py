# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What Kubernetes says about the two nodes: may this pod be put there, and is somebody there to do it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from .._kube import predicates
from .refusals import Refusal, refuse

Obj = Mapping[str, Any]

_SUFFIX = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1),
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15, "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30, "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50, "Ei": Decimal(2) ** 60,
}  # fmt: skip
_QUANTITY = re.compile(r"^([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)([numkKMGTPE]?i?)$")


def quantity(text: Any) -> Decimal:
    """A Kubernetes quantity as a number (``500m`` is 0.5, ``1Ki`` is 1024). Raises ValueError."""
    match = _QUANTITY.match(str(text))
    if match is None or match.group(2) not in _SUFFIX:
        raise ValueError(f"not a quantity: {text!r}")
    return Decimal(match.group(1)) * _SUFFIX[match.group(2)]


def check_target_node(pod: Obj, node: Obj | None, name: str) -> list[Refusal]:
    """State, taints and the pod's own constraints."""
    if node is None:
        return [refuse("target_missing", f"The cluster has no node {name}.")]
    found: list[Refusal] = []
    if not predicates.node_ready(node) or predicates.terminating(node):
        found.append(refuse("target_not_ready", f"Node {name} is not Ready."))
    if not predicates.schedulable(node):
        found.append(refuse("target_unschedulable", f"Node {name} is marked unschedulable."))
    spec: Obj = pod.get("spec") or {}
    for taint in untolerated(node, spec.get("tolerations") or []):
        found.append(refuse("target_taint", f"Node {name} has the taint {taint} and the pod does not tolerate it."))
    why = excluded(spec, node)
    if why:
        found.append(refuse("target_affinity", f"Node {name} {why}."))
    return found


def untolerated(node: Obj, tolerations: Sequence[Obj]) -> list[str]:
    """Taints (NoSchedule, NoExecute) of ``node`` without a toleration; ``unschedulable`` has its own refusal."""
    result = []
    for taint in (node.get("spec") or {}).get("taints") or []:
        if (
            taint.get("effect") not in ("NoSchedule", "NoExecute")
            or taint.get("key") == "node.kubernetes.io/unschedulable"
        ):
            continue
        if not any(_tolerates(t, taint) for t in tolerations):
            value = f"={taint['value']}" if taint.get("value") else ""
            result.append(f"{taint.get('key')}{value}:{taint.get('effect')}")
    return result


def _tolerates(toleration: Obj, taint: Obj) -> bool:
    """For good: one that ends (``tolerationSeconds``) would have the pod deleted a while after its move."""
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if taint.get("effect") == "NoExecute" and toleration.get("tolerationSeconds") is not None:
        return False
    operator, key = toleration.get("operator") or "Equal", toleration.get("key")
    if key in (None, ""):
        return bool(operator == "Exists")
    if key != taint.get("key"):
        return False
    return bool(
        operator == "Exists" or (operator == "Equal" and (toleration.get("value") or "") == (taint.get("value") or ""))
    )


def excluded(spec: Obj, node: Obj) -> str:
    """Why the kubelet of ``node`` would not admit the pod (node selector, required node affinity); '' if it would."""
    labels = predicates.labels_of(node)
    for key, value in (spec.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            return f"does not have the label {key}={value} of the pod's nodeSelector"
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None and not selected(required, node):
        return "does not match the pod's required node affinity"
    return ""


def selected(selector: Obj, node: Obj) -> bool:
    """Does a node selector, of which one term is enough, choose ``node``?"""
    labels, name = predicates.labels_of(node), predicates.name_of(node)
    return any(_term_matches(term, labels, name) for term in selector.get("nodeSelectorTerms") or [])


def _term_matches(term: Obj, labels: Mapping[str, str], name: str) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    return all(_matches(e, labels) for e in expressions) and all(_matches(f, {"metadata.name": name}) for f in fields)


def _matches(expression: Obj, labels: Mapping[str, str]) -> bool:
    """One node selector requirement, with Kubernetes' rules for absent keys."""
    operator, values = expression.get("operator"), expression.get("values") or []
    actual = labels.get(str(expression.get("key")))
    if operator == "Exists":
        return actual is not None
    if operator == "DoesNotExist":
        return actual is None
    if operator == "NotIn":
        return actual not in values
    if operator == "In":
        return actual in values
    try:  # Gt and Lt
        number, bound = int(str(actual)), int(values[0])
    except (ValueError, IndexError):
        return False
    return number > bound if operator == "Gt" else number < bound if operator == "Lt" else False


def check_capacity(pod: Obj, node: Obj, pods_there: Sequence[Obj]) -> list[Refusal]:
    """Do the pod's requests fit beside those of the pods that are on the node (the kubelet's own admission test)?"""
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    name = predicates.name_of(node)
    here = [p for p in pods_there if predicates.node_of(p) == name and not predicates.failed(p)]
    found = []
    if allocatable.get("pods") is not None and len(here) + 1 > quantity(allocatable["pods"]):
        found.append(
            refuse("target_capacity", f"Node {name} runs {len(here)} pods, its limit is {allocatable['pods']}.")
        )
    for resource in ("cpu", "memory", "ephemeral-storage"):
        wanted = request(pod, resource)
        if not wanted or allocatable.get(resource) is None:
            continue
        used = sum((request(p, resource) for p in here), Decimal(0))
        free = quantity(allocatable[resource]) - used
        if wanted > free:
            found.append(
                refuse(
                    "target_capacity",
                    f"The pod requests {wanted.normalize():f} of {resource}; node {name} has {max(free, Decimal(0)).normalize():f} left.",
                )
            )
    return found


def request(pod: Obj, resource: str) -> Decimal:
    """What the pod requests of a resource, as scheduler and kubelet count it."""
    spec: Obj = pod.get("spec") or {}
    own = _requested(spec, resource)
    wanted = _of_containers(spec, resource) if own is None else own
    return wanted + quantity((spec.get("overhead") or {}).get(resource, 0))


def _of_containers(spec: Obj, resource: str) -> Decimal:
    """The most that is asked for at one time: a sidecar stays, an init container runs beside the sidecars before it."""
    sidecars = starting = Decimal(0)
    for container in spec.get("initContainers") or []:
        wanted = _requested(container, resource) or Decimal(0)
        starting = max(starting, sidecars + wanted)
        if predicates.sidecar(container):
            sidecars += wanted
    running = sum((_requested(c, resource) or Decimal(0) for c in spec.get("containers") or []), sidecars)
    return max(running, starting)


def _requested(holder: Obj, resource: str) -> Decimal | None:
    """What a container, or the specification of a pod as a whole, says itself."""
    requests = (holder.get("resources") or {}).get("requests") or {}
    return quantity(requests[resource]) if requests.get(resource) is not None else None


def check_runtime_class(runtime_class: Obj | None, name: str) -> list[Refusal]:
    """The cluster's RuntimeClass must be ours: this handler, no overhead, no scheduling of its own."""
    if runtime_class is None:
        return [refuse("runtime_class_missing", f"The cluster has no RuntimeClass {name}.")]
    wrong = []
    if runtime_class.get("handler") != name:
        wrong.append(f"its handler is {runtime_class.get('handler')}")
    wrong += [f"it has {field}" for field in ("overhead", "scheduling") if runtime_class.get(field)]
    if wrong:
        return [refuse("runtime_class_missing", f"RuntimeClass {name} is not podferry's: {', '.join(wrong)}.")]
    return []


def check_inventory(node: str, hosts: Sequence[str]) -> list[Refusal]:
    """Exactly one inventory host must stand for a node."""
    if not hosts:
        return [refuse("node_not_in_inventory", f"No inventory host stands for node {node}.")]
    if len(hosts) > 1:
        return [refuse("node_ambiguous_in_inventory", f"Hosts {', '.join(sorted(hosts))} all stand for node {node}.")]
    return []
