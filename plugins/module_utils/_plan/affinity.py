# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Required affinity between pods: would this node bring together what must be apart, or part what must be together?

The kubelet does not look at it, so nobody would after us. Only the required rules; preferences are the scheduler's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._kube import predicates
from .owners import selector_matches

Obj = Mapping[str, Any]
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def conflict(pod: Obj, node: Obj, nodes: Mapping[str, Obj], pods: Sequence[Obj]) -> str:
    """Why required pod affinity or anti-affinity keeps the pod from ``node``; '' if it does not.

    ``pods``: all of the cluster, the pod itself is passed over; ``nodes`` by name.
    """
    others = [p for p in pods if predicates.uid_of(p) != predicates.uid_of(pod) and not predicates.failed(p)]
    return _apart(pod, node, nodes, others) or _together(pod, node, nodes, others)


def _apart(pod: Obj, node: Obj, nodes: Mapping[str, Obj], others: Sequence[Obj]) -> str:
    for mine in _terms(pod, "podAntiAffinity"):
        for other in others:
            if _matches(mine, pod, other, unknown=True) and _same_domain(mine, node, nodes, other):
                return f"has {_name(other)} in its {mine.get('topologyKey')}, which the pod's anti-affinity keeps away from"
    for other in others:
        for theirs in _terms(other, "podAntiAffinity"):
            if _matches(theirs, other, pod, unknown=True) and _same_domain(theirs, node, nodes, other):
                return f"has {_name(other)} in its {theirs.get('topologyKey')}, whose anti-affinity keeps the pod away"
    return ""


def _together(pod: Obj, node: Obj, nodes: Mapping[str, Obj], others: Sequence[Obj]) -> str:
    for term in _terms(pod, "podAffinity"):
        wanted = [other for other in others if _matches(term, pod, other, unknown=False)]
        if any(_same_domain(term, node, nodes, other) for other in wanted):
            continue
        if not wanted and _matches(term, pod, pod, unknown=False) and term.get("topologyKey") in _labels(node):
            continue  # the first of its kind may go anywhere
        return f"has no pod in its {term.get('topologyKey')} that the pod's affinity requires"
    return ""


def _terms(pod: Obj, kind: str) -> list[Obj]:
    affinity = (pod.get("spec") or {}).get("affinity") or {}
    return list((affinity.get(kind) or {}).get(_REQUIRED) or [])


def _matches(term: Obj, owner: Obj, other: Obj, *, unknown: bool) -> bool:
    """Does the term of ``owner`` speak of ``other``? ``unknown``: what to take for a selector of namespaces by label."""
    namespace = str(predicates.metadata(other).get("namespace"))
    named = list(term.get("namespaces") or [])
    by_label = term.get("namespaceSelector")
    if by_label is None:
        inside = namespace in (named or [str(predicates.metadata(owner).get("namespace"))])
    else:
        inside = not by_label or namespace in named or unknown
    selector = term.get("labelSelector")
    if not inside or selector is None:
        return False
    return not selector or selector_matches(selector, predicates.labels_of(other))


def _same_domain(term: Obj, node: Obj, nodes: Mapping[str, Obj], other: Obj) -> bool:
    key = str(term.get("topologyKey"))
    here = _labels(node).get(key)
    there = _labels(nodes.get(predicates.node_of(other) or "", {})).get(key)
    return here is not None and here == there


def _labels(node: Obj) -> dict[str, str]:
    return predicates.labels_of(node)


def _name(pod: Obj) -> str:
    return f"{predicates.metadata(pod).get('namespace')}/{predicates.name_of(pod)}"
