# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Where the pod's neighbours are: required pod affinity and anti-affinity, and topology spread.

``spec.nodeName`` passes the scheduler by, so what it would have checked is checked here. Preferences are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from .._kube import predicates
from .nodes import excluded, untolerated
from .refusals import Refusal, refuse
from .selectors import selector_matches

Obj = Mapping[str, Any]

_HOSTNAME = "kubernetes.io/hostname"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_BY_LABELS = "Let the rule name its namespaces, or choose another node."
_TO_LIST = "Grant 'list' on nodes and pods (docs/rbac.yml: podferry-capacity), or express the constraint without it."


@dataclass(frozen=True)
class Neighbours:
    """What must be known beyond the two nodes."""

    pods: Sequence[Obj] = ()
    everywhere: bool = False
    """``pods`` are those of all namespaces, not of the pod's only."""
    nodes: Sequence[Obj] | None = None
    """All nodes; None: they may not be listed, or nothing asks for them."""


def asks_for_nodes(pod: Obj, pods: Sequence[Obj]) -> bool:
    """Must the other nodes be known: for what this pod asks for, or for one of ``pods`` that wants to be without it?"""
    spec: Obj = pod.get("spec") or {}
    if _terms(spec, "podAffinity") or _terms(spec, "podAntiAffinity") or _spreads(spec):
        return True
    return any(
        term.get("topologyKey") != _HOSTNAME and _rejects(term, other, pod) is not False
        for other, term in _exclusions(pods, pod)
    )


def check_topology(
    pod: Obj, source: Obj | None, target: Obj, neighbours: Neighbours, pods_on_target: Sequence[Obj]
) -> list[Refusal]:
    """Would the scheduler put the pod (without its source) there?"""
    spec: Obj = pod.get("spec") or {}
    others = [p for p in neighbours.pods if _counts(p, pod)]
    found: list[Refusal] = []
    for kind in ("podAntiAffinity", "podAffinity"):
        for term in _terms(spec, kind):
            if not _same_domain(str(term.get("topologyKey")), source, target):
                found += _check_term(kind, term, pod, target, neighbours, others)
    for constraint in _spreads(spec):
        if not _same_domain(str(constraint.get("topologyKey")), source, target):
            found += _check_spread(constraint, pod, target, neighbours, others)
    return found + _check_those_there(pod, source, target, neighbours, pods_on_target)


def _check_term(
    kind: str, term: Obj, pod: Obj, target: Obj, neighbours: Neighbours, others: Sequence[Obj]
) -> list[Refusal]:
    key, name, spaces = str(term.get("topologyKey")), predicates.name_of(target), _spaces(term, pod)
    what = f"required {'anti-affinity' if kind == 'podAntiAffinity' else 'affinity'} by {key}"
    if spaces is not None and not spaces:
        return [_unchecked("target_pod_affinity", f"The pod's {what} chooses namespaces by their labels", _BY_LABELS)]
    if spaces != {_namespace(pod)} and not neighbours.everywhere:
        return [
            _unchecked(
                "target_pod_affinity", f"The pod's {what} looks at other namespaces, whose pods may not be listed"
            )
        ]
    if key != _HOSTNAME and neighbours.nodes is None:
        return [_unchecked("target_pod_affinity", f"The pod's {what} looks at other nodes, which may not be listed")]
    there = [
        p
        for p in others
        if _in_domain(p, key, target, neighbours.nodes or ()) and _selects(term, pod, p, spaces)
    ]  # fmt: skip
    if kind == "podAntiAffinity" and there:
        return [
            refuse(
                "target_pod_affinity",
                f"Node {name} is with pod {predicates.name_of(there[0])}, which the pod's {what} excludes.",
            )
        ]
    if kind == "podAffinity" and not there:
        if _selects(term, pod, pod, spaces) and not any(_selects(term, pod, p, spaces) for p in others):
            return []  # the first of its kind may go anywhere
        return [refuse("target_pod_affinity", f"Node {name} is with none of the pods that the pod's {what} asks for.")]
    return []


def _check_spread(
    constraint: Obj, pod: Obj, target: Obj, neighbours: Neighbours, others: Sequence[Obj]
) -> list[Refusal]:
    key, name = str(constraint.get("topologyKey")), predicates.name_of(target)
    if key not in predicates.labels_of(target):
        return [
            refuse("target_topology_spread", f"Node {name} does not have the label {key} by which the pod is spread.")
        ]
    if neighbours.nodes is None:
        return [_unchecked("target_topology_spread", f"The pod is spread by {key}, and nodes may not be listed")]
    eligible = [n for n in neighbours.nodes if key in predicates.labels_of(n) and _eligible(constraint, pod, n)]
    counts = {predicates.labels_of(n)[key]: 0 for n in eligible}
    domains = {predicates.name_of(n): predicates.labels_of(n)[key] for n in eligible}
    own = _namespace(pod)
    for other in others:
        domain = domains.get(predicates.node_of(other) or "")
        if domain is not None and _namespace(other) == own and _spread_selects(constraint, pod, other):
            counts[domain] += 1
    domain = predicates.labels_of(target)[key]
    least = min(counts.values(), default=0) if len(counts) >= int(constraint.get("minDomains") or 1) else 0
    skew = counts.get(domain, 0) + (1 if _spread_selects(constraint, pod, pod) else 0) - least
    allowed = int(constraint.get("maxSkew") or 1)
    if skew <= allowed:
        return []
    return [
        refuse(
            "target_topology_spread",
            f"On node {name} the pods would be spread by {key} with a skew of {skew}, {allowed} is allowed.",
        )
    ]


def _check_those_there(
    pod: Obj, source: Obj | None, target: Obj, neighbours: Neighbours, pods_on_target: Sequence[Obj]
) -> list[Refusal]:
    """Pods on the target, or with it in a zone, that want to be without this one."""
    unchecked: list[Refusal] = []
    for other, term in _exclusions(chain(pods_on_target, neighbours.pods), pod):
        key, rejects = str(term.get("topologyKey")), _rejects(term, other, pod)
        if rejects is False or _same_domain(key, source, target):
            continue
        near = _near(other, key, target, neighbours.nodes)
        if near is False:
            continue
        who = f"Pod {predicates.name_of(other)} on node {predicates.node_of(other)}"
        if near and rejects:
            return [refuse("target_pod_affinity", f"{who} has a required anti-affinity by {key} against this pod.")]
        what = f"{who} has a required anti-affinity by {key}, perhaps against this pod"
        if rejects is None:
            unchecked.append(_unchecked("target_pod_affinity", f"{what}: it chooses namespaces by labels", _BY_LABELS))
        else:
            unchecked.append(_unchecked("target_pod_affinity", f"{what}: other nodes may not be listed"))
    return unchecked[:1]


def _exclusions(pods: Iterable[Obj], pod: Obj) -> Iterator[tuple[Obj, Obj]]:
    """Required anti-affinities of others, each with whose it is."""
    for other in pods:
        terms = _terms(other.get("spec") or {}, "podAntiAffinity")
        if terms and _counts(other, pod):
            yield from ((other, term) for term in terms)


def _rejects(term: Obj, owner: Obj, pod: Obj) -> bool | None:
    """Does a term of ``owner`` select ``pod``? None: that hangs on the labels of its namespace."""
    spaces = _spaces(term, owner)
    if spaces is None or spaces:
        return _selects(term, owner, pod, spaces)
    if not _selects(term, owner, pod, None):
        return False
    return True if _namespace(pod) in (term.get("namespaces") or []) else None


def _unchecked(code: str, why: str, remedy: str = _TO_LIST) -> Refusal:
    return refuse(code, f"{why}: it cannot be checked.", remedy=remedy)


def _terms(spec: Obj, kind: str) -> Sequence[Obj]:
    return ((spec.get("affinity") or {}).get(kind) or {}).get(_REQUIRED) or []


def _spreads(spec: Obj) -> list[Obj]:
    constraints = spec.get("topologySpreadConstraints") or []
    return [c for c in constraints if c.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"]


def _spaces(term: Obj, pod: Obj) -> set[str] | None:
    """Namespaces that a term looks at; None: all; empty: they are chosen by labels that are not known here."""
    named, selector = set(term.get("namespaces") or []), term.get("namespaceSelector")
    if selector is None:
        return {str(n) for n in named} or {_namespace(pod)}
    return set() if selector else None


def _selects(term: Obj, owner: Obj, other: Obj, spaces: set[str] | None) -> bool:
    if spaces is not None and _namespace(other) not in spaces:
        return False
    return _matches(term, owner, other) and all(
        predicates.labels_of(other).get(key) != predicates.labels_of(owner).get(key)
        for key in term.get("mismatchLabelKeys") or []
        if key in predicates.labels_of(owner)
    )


def _spread_selects(constraint: Obj, pod: Obj, other: Obj) -> bool:
    return _matches(constraint, pod, other)


def _matches(rule: Obj, owner: Obj, other: Obj) -> bool:
    labels, mine = predicates.labels_of(other), predicates.labels_of(owner)
    same = all(labels.get(k) == mine[k] for k in rule.get("matchLabelKeys") or [] if k in mine)
    return same and selector_matches(rule.get("labelSelector"), labels, empty=True)


def _eligible(constraint: Obj, pod: Obj, node: Obj) -> bool:
    """Is the node's domain one of those among which pods are spread?"""
    spec: Obj = pod.get("spec") or {}
    if constraint.get("nodeAffinityPolicy", "Honor") == "Honor" and excluded(spec, node):
        return False
    return constraint.get("nodeTaintsPolicy", "Ignore") != "Honor" or not untolerated(
        node, spec.get("tolerations") or []
    )


def _in_domain(pod: Obj, key: str, target: Obj, nodes: Sequence[Obj]) -> bool:
    node = predicates.node_of(pod)
    if node is None:
        return False
    if node == predicates.name_of(target):
        return True
    if key == _HOSTNAME:
        return False
    domain = predicates.labels_of(target).get(key)
    return domain is not None and any(
        predicates.name_of(n) == node and predicates.labels_of(n).get(key) == domain for n in nodes
    )


def _near(pod: Obj, key: str, target: Obj, nodes: Sequence[Obj] | None) -> bool | None:
    """Is the pod's node of the target's domain? None: that other node is not known."""
    here = _in_domain(pod, key, target, nodes or ())
    unknown = nodes is None and key != _HOSTNAME and key in predicates.labels_of(target)
    return None if not here and unknown else here


def _same_domain(key: str, source: Obj | None, target: Obj) -> bool:
    """Within one domain a move changes nothing."""
    if source is None:
        return False
    here, there = predicates.labels_of(source).get(key), predicates.labels_of(target).get(key)
    return here is not None and here == there


def _counts(other: Obj, pod: Obj) -> bool:
    return (
        predicates.uid_of(other) != predicates.uid_of(pod)
        and not predicates.terminating(other)
        and not predicates.failed(other)
    )


def _namespace(pod: Obj) -> str:
    return str(predicates.metadata(pod).get("namespace") or "default")
