# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Which node takes a pod when nobody said: for each node its reasons against, or how well it would do. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from .._kube import predicates
from . import budgets, compatibility, nodes, topology, volumes
from .facts import NodeFacts, PodInspection
from .options import Options
from .plan import ImageState
from .refusals import Refusal, ordered, refuse

Obj = Mapping[str, Any]

_UNASKED = {"cpu": Decimal("0.1"), "memory": Decimal(200 * 1024**2)}
"""What a pod without requests counts for when nodes are compared, as the scheduler does it: else all went to one node."""
_IMAGE_BONUS = 0.1
_DIGITS = 4


@dataclass(frozen=True)
class Site:
    """A node that might take pods, and what could be learnt of it."""

    node: Obj
    hosts: Sequence[str] = ()
    """Inventory hosts that stand for it."""
    facts: NodeFacts | None = None
    error: str = ""
    """Why no session could be opened."""
    without_engine: bool = False
    drained: str = ""
    """Who drains it, as a sentence."""

    @property
    def name(self) -> str:
        return predicates.name_of(self.node)


@dataclass(frozen=True)
class Subject:
    """A pod that looks for a node."""

    pod: Obj
    source_name: str
    source: NodeFacts | None = None
    inspection: PodInspection | None = None
    images: Mapping[str, Sequence[ImageState]] = field(default_factory=dict)
    """Its images by node, of the nodes that were asked."""
    claims: Mapping[str, Obj | None] = field(default_factory=dict)
    volumes: Mapping[str, Obj | None] = field(default_factory=dict)
    """As ``volumes.check_reach`` takes them."""


@dataclass(frozen=True)
class Verdict:
    """One node: ``refusals`` against it, else its ``score`` (more is better)."""

    node: str
    refusals: tuple[Refusal, ...] = ()
    score: float = 0.0
    free: float = 0.0
    """The share of the node that would still be free, 0 to 1."""
    image_present: bool = False

    @property
    def fits(self) -> bool:
        return not self.refusals

    def to_dict(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "fits": self.fits,
            "score": self.score if self.fits else None,
            "free": self.free if self.fits else None,
            "image_present": self.image_present,
            "reasons": [r.to_dict() for r in self.refusals],
        }


@dataclass(frozen=True)
class Placement:
    """The node chosen ('' for none) and the verdict of each node that was looked at, the best first."""

    target: str
    verdicts: tuple[Verdict, ...] = ()


def place(
    subject: Subject,
    sites: Sequence[Site],
    pods: Sequence[Obj],
    *,
    all_nodes: Sequence[Obj],
    own_digest: str,
    options: Options,
    reserved: Mapping[str, int] | None = None,
) -> Placement:
    """Choose. The same input gives the same answer, whatever the order of ``sites``.

    ``all_nodes``: of the cluster, the pod's own and those that are no sites among them: pods are spread over all of them.
    ``pods``: all of the cluster, with those that are planned for a node already on it. ``reserved``: memory by node
    that pods planned for it will use and that its facts do not know of yet.
    """
    verdicts = [
        _judge(subject, site, all_nodes, pods, own_digest, options, (reserved or {}).get(site.name, 0))
        for site in sites
    ]
    verdicts.sort(key=lambda v: (not v.fits, -v.score, v.node))
    best = next((v.node for v in verdicts if v.fits), "")
    return Placement(best, tuple(verdicts))


def as_planned(pod: Obj, node: str) -> Obj:
    """The pod as it counts on a node that it is planned for."""
    return {**pod, "spec": {**(pod.get("spec") or {}), "nodeName": node}}


def _judge(
    subject: Subject,
    site: Site,
    all_nodes: Sequence[Obj],
    pods: Sequence[Obj],
    own_digest: str,
    options: Options,
    reserved: int,
) -> Verdict:
    pod, name = subject.pod, site.name
    # The pod itself leaves its node: it must not count twice when it is planned already.
    there = [p for p in pods if predicates.node_of(p) == name and predicates.uid_of(p) != predicates.uid_of(pod)]
    found = _of_node(subject, site, own_digest)
    found += volumes.check_reach(subject.claims, subject.volumes, site.node)
    found += nodes.check_capacity(pod, site.node, there)
    source = next((n for n in all_nodes if predicates.name_of(n) == subject.source_name), None)
    neighbours = topology.Neighbours(pods, everywhere=True, nodes=all_nodes)
    found += topology.check_topology(pod, source, site.node, neighbours, there)
    if site.facts and subject.source and subject.inspection:
        facts = replace(site.facts, mem_available=site.facts.mem_available - reserved)
        found += compatibility.check_confinement(subject.inspection, subject.source, facts, name)
        found += budgets.check_memory(
            subject.inspection, options, subject.source, facts, source_name=subject.source_name, target_name=name
        )
    images = subject.images.get(name)
    for image in images or ():
        if not image.present and not image.pullable:
            found.append(
                refuse("image_missing", f"Image {image.ref} is not on node {name} and cannot be pulled: {image.error}")
            )
    present = images is not None and all(image.present for image in images)
    if found:
        return Verdict(name, tuple(ordered(found)), image_present=present)
    free = round(free_share(pod, site.node, there), _DIGITS)
    return Verdict(
        name, score=round(free + (_IMAGE_BONUS if present else 0.0), _DIGITS), free=free, image_present=present
    )


def _of_node(subject: Subject, site: Site, own_digest: str) -> list[Refusal]:
    """What speaks against the node whatever its load."""
    name = site.name
    found = nodes.check_target_node(subject.pod, site.node, name)
    if site.drained:
        found = [r for r in found if r.code != "target_unschedulable"]
        found.append(refuse("target_unschedulable", f"Node {name} is being drained itself, {site.drained}"))
    found += nodes.check_inventory(name, site.hosts)
    if site.error:
        found.append(refuse("node_unreachable", f"No session to node {name}: {site.error}"))
    if site.without_engine:
        found.append(refuse("engine_missing", f"Node {name} does not have podferry's node code"))
    if site.facts and subject.source:
        found += compatibility.check_node(name, site.facts, own_digest)
        found += compatibility.check_pair(subject.source, site.facts, source_name=subject.source_name, target_name=name)
        found += compatibility.check_engines(subject.pod, subject.source, site.facts, name)
    return found


def free_share(pod: Obj, node: Obj, pods_there: Sequence[Obj]) -> float:
    """The mean of the shares of cpu, memory and pods that would still be free with the pod on the node, 0 to 1."""
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    there = [p for p in pods_there if not predicates.failed(p)]
    shares = []
    for resource in ("cpu", "memory"):
        room = nodes.quantity(allocatable.get(resource) or 0)
        if room > 0:
            taken = sum((_counted(p, resource) for p in (*there, pod)), Decimal(0))
            shares.append(max(0.0, float(1 - taken / room)))
    slots = nodes.quantity(allocatable.get("pods") or 0)
    if slots > 0:
        shares.append(max(0.0, float(1 - Decimal(len(there) + 1) / slots)))
    return sum(shares) / len(shares) if shares else 0.0


def _counted(pod: Obj, resource: str) -> Decimal:
    return nodes.request(pod, resource) or _UNASKED[resource]
