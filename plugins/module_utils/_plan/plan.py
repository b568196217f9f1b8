# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The one function that decides: what would happen to this pod, and why not. No input or output of its own.

Check mode, diff mode, ``pod_migration_info`` and the real run all act on the Plan that comes out of here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .._kube import predicates
from . import (
    addresses,
    budgets,
    compatibility,
    disruption,
    estimate,
    manifest,
    nodes,
    owners,
    podspec,
    quota,
    rollout,
    statefulset,
    topology,
    volumes,
    workload,
)
from .facts import NodeFacts, PodInspection
from .options import HANDLER, MOVED_FROM, Options
from .refusals import Refusal, ordered, refuse

Obj = Mapping[str, Any]
Decision = Literal["move", "already_there", "refused"]


@dataclass(frozen=True)
class ImageState:
    """Is the image of a container on the target? ``error``: why it could not be pulled."""

    container: str
    ref: str
    present: bool
    pullable: bool = False
    error: str = ""


@dataclass(frozen=True)
class Snapshot:
    """All that was read before deciding. None: not read, because an earlier answer made it pointless."""

    run: str
    own_digest: str
    pod: Obj | None = None
    matches: Sequence[Obj] = ()
    """Pods that fit the question when it was not a name."""
    moved_to: Obj | None = None
    """The pod that says it was the asked one before."""
    elsewhere: Sequence[str] = ()
    """Other namespaces with a pod of this name."""
    chain: owners.OwnerChain = field(default_factory=owners.OwnerChain)
    siblings: Sequence[Obj] = ()
    """The pods of the namespace."""
    budgets: Sequence[Obj] = ()
    """The PodDisruptionBudgets of the namespace."""
    autoscalers: Sequence[Obj] = ()
    """The HorizontalPodAutoscalers of the namespace."""
    neighbours: topology.Neighbours = field(default_factory=topology.Neighbours)
    owner_dry_run_error: str | None = None
    """Why the API would not take the StatefulSet back."""
    source_node: Obj | None = None
    target_node: Obj | None = None
    target_read: bool = True
    runtime_class: Obj | None = None
    pods_on_target: Sequence[Obj] = ()
    name_holder: Obj | None = None
    """The pod that has the twin's name already."""
    inventory: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Node name to inventory hosts that stand for it."""
    session_errors: Mapping[str, str] = field(default_factory=dict)
    """Node name to why no session could be opened."""
    without_engine: Sequence[str] = ()
    """Nodes that were reached and have no node code."""
    runs_alive: Sequence[str] = ()
    """Sentences about other migrations of this pod that are under way."""
    source_facts: NodeFacts | None = None
    target_facts: NodeFacts | None = None
    inspection: PodInspection | None = None
    claims: Mapping[str, Obj | None] = field(default_factory=dict)
    """PersistentVolumeClaims that the pod names; None for one that does not exist."""
    volumes: Mapping[str, Obj | None] = field(default_factory=dict)
    """PersistentVolumes behind them, of those that may be read; None for one that does not exist."""
    images: Sequence[ImageState] = ()
    dry_run_error: str | None = None


@dataclass(frozen=True)
class Plan:
    """What would be done. With refusals nothing is done, and they say why."""

    decision: Decision
    refusals: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    namespace: str = ""
    pod: str = ""
    uid: str = ""
    source_node: str = ""
    target_node: str = ""
    target_pod: str = ""
    mode: owners.Mode | None = None
    owner: str = ""
    owner_uid: str | None = None
    statefulset: Mapping[str, Any] | None = None
    """What to create again when the pod has moved; its present object has ``owner_uid``."""
    early_labels: Mapping[str, str] = field(default_factory=dict)
    """Labels that a twin gets before it is Ready, because its readiness gates need them."""
    final_finalizers: tuple[str, ...] = ()
    tcp: str = "close"
    bandwidth: int = 0
    need_bytes: int = 0
    stage_bytes: int = 0
    """Disk for the copies of files that are made before the freeze; 0: none are."""
    memory_bytes: int = 0
    expected_freeze_s: float | None = None
    connections_closed: int = 0
    manifest: Mapping[str, Any] | None = None
    final_labels: Mapping[str, str] = field(default_factory=dict)
    deadlines: estimate.Deadlines = field(default_factory=lambda: estimate.deadlines(0))
    images_to_pull: tuple[ImageState, ...] = ()

    @property
    def changed(self) -> bool:
        return self.decision == "move"

    def to_dict(self) -> dict[str, Any]:
        """For the result of a task: what a person decides by, without the manifest."""
        return {
            "decision": self.decision,
            "refusals": [r.to_dict() for r in self.refusals],
            "warnings": list(self.warnings),
            "namespace": self.namespace,
            "pod": self.pod,
            "source_node": self.source_node,
            "target_node": self.target_node,
            "target_pod": self.target_pod,
            "mode": self.mode,
            "owner": self.owner,
            "tcp": self.tcp,
            "need_bytes": self.need_bytes,
            "stage_bytes": self.stage_bytes,
            "memory_bytes": self.memory_bytes,
            "expected_freeze_ms": None if self.expected_freeze_s is None else round(self.expected_freeze_s * 1000),
            "connections_closed": self.connections_closed,
        }


def plan(snapshot: Snapshot, options: Options) -> Plan:
    """Decide. Pure: the same snapshot gives the same plan."""
    if snapshot.pod is None:
        return _without_pod(snapshot, options)
    pod = snapshot.pod
    source = predicates.node_of(pod) or ""
    common: dict[str, Any] = {
        "namespace": options.namespace,
        "pod": predicates.name_of(pod),
        "uid": predicates.uid_of(pod),
        "source_node": source,
        "target_node": options.target,
        "owner": snapshot.chain.label,
        "tcp": options.tcp,
        "bandwidth": options.bandwidth,
    }
    if (
        source == options.target
        and options.source_policy == "freeze"
        and not predicates.terminating(pod)
        and not predicates.failed(pod)
        and not snapshot.runs_alive
    ):
        return Plan("already_there", target_pod=predicates.name_of(pod), **common)
    if (
        snapshot.moved_to is not None
        and options.source_policy == "freeze"
        and predicates.node_of(snapshot.moved_to) == options.target
        and not snapshot.runs_alive
    ):
        return Plan("already_there", target_pod=predicates.name_of(snapshot.moved_to), **common)

    refusals = _pod_refusals(pod)
    refusals += podspec.check_spec(pod, snapshot.claims)
    owner = predicates.controller_of(pod)
    warnings: list[str] = []
    if options.source_policy == "keep_running":
        mode: owners.Mode = "copy"
        refusals += _copy_refusals(source, options)
    else:
        mode, mode_refusals = owners.decide_mode(options.name, pod)
        refusals += mode_refusals + _owner_refusals(pod, mode, snapshot, warnings)
    refusals += addresses.check_addresses(pod, mode, snapshot.chain)
    refusals += _cluster_refusals(pod, source, snapshot, options)
    refusals += _node_refusals(pod, source, snapshot, options, twin=mode != "successor")

    name = predicates.name_of(pod)
    if mode == "twin":
        name = owners.twin_name(name, snapshot.run, MOVED_FROM in predicates.annotations_of(pod))
    elif mode == "copy":
        name = owners.copy_name(name, snapshot.run)
    if snapshot.name_holder is not None and mode != "successor":
        refusals.append(refuse("name_taken", f"A pod {options.namespace}/{name} exists already."))
    refusals += _dry_run(snapshot, mode, warnings)
    warnings += _warnings(pod, mode, snapshot.inspection, options)
    target_pod = manifest.build(pod, mode=mode, name=name, target_node=options.target, run=snapshot.run)
    kept: Mapping[str, Any] | None = None
    if snapshot.chain.statefulset is not None and mode == "successor":
        kept = statefulset.restorable(snapshot.chain.statefulset)
        refusals += statefulset.check_size(predicates.name_of(kept), kept, target_pod)
        warnings += statefulset.warnings(snapshot.chain.statefulset)

    inspection = snapshot.inspection
    need = budgets.need_bytes(inspection, options) if inspection else 0
    stage = inspection.stage_bytes if inspection and not options.through else 0
    timeout = snapshot.target_facts.runtime_request_timeout_s if snapshot.target_facts else None
    return Plan(
        "refused" if refusals else "move",
        refusals=tuple(ordered(refusals)),
        warnings=tuple(warnings),
        target_pod=name,
        mode=mode,
        owner_uid=str(owner.get("uid")) if owner is not None and mode != "copy" else None,
        need_bytes=need,
        stage_bytes=stage,
        memory_bytes=inspection.memory_bytes if inspection else 0,
        expected_freeze_s=estimate.freeze_s(inspection.need_bytes, len(inspection.containers)) if inspection else None,
        connections_closed=inspection.established if inspection else 0,
        statefulset=kept,
        early_labels=_early_labels(pod, mode, snapshot.chain),
        manifest=target_pod,
        final_labels=manifest.final_labels(pod) if mode != "copy" else {},
        final_finalizers=tuple(manifest.final_finalizers(pod)) if mode == "twin" else (),
        deadlines=estimate.deadlines(
            need,
            runtime_request_timeout_s=timeout,
            probe_budget_s=budgets.pod_budget_s(pod),
            twin=mode != "successor",
        ),
        images_to_pull=tuple(i for i in snapshot.images if not i.present and i.pullable),
        **common,
    )


def _owner_refusals(pod: Obj, mode: owners.Mode, snapshot: Snapshot, warnings: list[str]) -> list[Refusal]:
    """What the pod's owner, and those who watch over its pods, say against taking the source away."""
    found = owners.check_owner(pod, snapshot.chain, snapshot.siblings)
    found += owners.check_finalizers(pod, mode)
    found += owners.check_gates(pod, mode, snapshot.chain)
    scaling, more = rollout.check_autoscalers(snapshot.chain.named, snapshot.autoscalers)
    warnings += more
    if mode == "successor":
        found += disruption.check_budgets(pod, snapshot.budgets)
    return found + scaling


def _copy_refusals(source: str, options: Options) -> list[Refusal]:
    found = []
    if options.name == "keep":
        found.append(refuse("keep_with_copy", "The source keeps running, and name=keep was asked for."))
    if source == options.target:
        found.append(refuse("copy_same_node", f"The pod is on node {source}, which is the target."))
    return found


def _without_pod(snapshot: Snapshot, options: Options) -> Plan:
    """There is no (single) pod of this name: perhaps it has moved already."""
    common: dict[str, Any] = {
        "namespace": options.namespace,
        "pod": options.pod,
        "target_node": options.target,
        "tcp": options.tcp,
    }
    moved = snapshot.moved_to
    refusals = [refuse("migration_under_way", text) for text in snapshot.runs_alive]
    if moved is not None and predicates.node_of(moved) == options.target and not refusals:
        return Plan("already_there", target_pod=predicates.name_of(moved), source_node=options.target, **common)
    if len(snapshot.matches) > 1:
        names = ", ".join(sorted(predicates.name_of(m) for m in snapshot.matches))
        refusals.append(
            refuse("pod_ambiguous", f"{options.pod} in namespace {options.namespace} fits several pods: {names}.")
        )
    elif moved is not None:
        name, node = predicates.name_of(moved), predicates.node_of(moved)
        refusals.append(
            refuse(
                "pod_missing",
                f"Pod {options.namespace}/{options.pod} has moved to {node} and is called {name} now.",
                remedy=f"Use pod={name}.",
            )
        )
    elif not refusals:
        remedy = ""
        if snapshot.elsewhere:
            remedy = f"There is one in namespace {', '.join(sorted(snapshot.elsewhere))}: give namespace=."
        refusals.append(
            refuse("pod_missing", f"There is no pod {options.pod} in namespace {options.namespace}.", remedy=remedy)
        )
    if snapshot.target_node is None and snapshot.target_read:
        refusals.append(refuse("target_missing", f"The cluster has no node {options.target}."))
    return Plan("refused", refusals=tuple(ordered(refusals)), **common)


def _pod_refusals(pod: Obj) -> list[Refusal]:
    if not predicates.node_of(pod):
        return [refuse("pod_unassigned", "The pod is not on any node yet.")]
    if not predicates.running(pod):
        return [refuse("pod_not_running", f"The pod is not running: {predicates.why_not_ready(pod)}.")]
    if not predicates.container_ids(pod):
        return [refuse("pod_unassigned", "The kubelet has not named the pod's container yet.")]
    return []


def _cluster_refusals(pod: Obj, source: str, snapshot: Snapshot, options: Options) -> list[Refusal]:
    """What Kubernetes says: the target, the RuntimeClass, the inventory beside it."""
    found = nodes.check_target_node(pod, snapshot.target_node, options.target)
    if snapshot.target_node is not None:
        found += nodes.check_capacity(pod, snapshot.target_node, snapshot.pods_on_target)
        found += volumes.check_reach(snapshot.claims, snapshot.volumes, snapshot.target_node)
        found += topology.check_topology(
            pod, snapshot.source_node, snapshot.target_node, snapshot.neighbours, snapshot.pods_on_target
        )
    if source and snapshot.source_node is not None and not predicates.node_ready(snapshot.source_node):
        found.append(refuse("source_not_ready", f"Node {source} is not Ready."))
    found += nodes.check_runtime_class(snapshot.runtime_class, HANDLER)
    if source:
        found += nodes.check_inventory(source, snapshot.inventory.get(source, ()))
    if snapshot.target_node is not None:
        found += nodes.check_inventory(options.target, snapshot.inventory.get(options.target, ()))
    found += [
        refuse("node_unreachable", f"No session to node {node}: {why}") for node, why in snapshot.session_errors.items()
    ]
    found += [
        refuse("engine_missing", f"Node {node} does not have podferry's node code.") for node in snapshot.without_engine
    ]
    found += [refuse("migration_under_way", text) for text in snapshot.runs_alive]
    return found


def _node_refusals(pod: Obj, source: str, snapshot: Snapshot, options: Options, *, twin: bool) -> list[Refusal]:
    """What the nodes say, as far as they were asked."""
    found: list[Refusal] = []
    a, b, inspection = snapshot.source_facts, snapshot.target_facts, snapshot.inspection
    if a and b:
        found += compatibility.check_nodes(a, b, snapshot.own_digest, source_name=source, target_name=options.target)
    else:
        for name, facts in ((source, a), (options.target, b)):
            if facts:
                found += compatibility.check_node(name, facts, snapshot.own_digest)
    if options.through:
        found += compatibility.check_age(((source, a), (options.target, b)))
    if inspection:
        found += workload.check_workload(inspection, predicates.container_ids(pod), options.tcp)
        found += budgets.check_liveness(pod, inspection, twin=twin)
        if a:
            found += compatibility.check_sockets(inspection, a, source)
            found += compatibility.check_handlers(inspection, a, source)
        if b:
            found += budgets.check_cri_time(inspection, b, options.target, twin=twin)
        if a and b:
            found += compatibility.check_engines(pod, a, b, options.target)
            found += compatibility.check_confinement(inspection, a, b, options.target)
            found += budgets.check_memory(inspection, options, a, b, source_name=source, target_name=options.target)
            found += budgets.check_disk(inspection, a, b, source_name=source, target_name=options.target)
    for image in snapshot.images:
        if not image.present and not image.pullable:
            why = f": {image.error}" if image.error else ""
            found.append(
                refuse(
                    "image_missing",
                    f"Image {image.ref} of container {image.container} is not on node {options.target} and cannot be pulled{why}.",
                )
            )
    return found


def _dry_run(snapshot: Snapshot, mode: owners.Mode, warnings: list[str]) -> list[Refusal]:
    found: list[Refusal] = []
    if snapshot.owner_dry_run_error is not None:
        found.append(
            refuse("admission", f"The API would not take the StatefulSet back: {snapshot.owner_dry_run_error}")
        )
    error = snapshot.dry_run_error
    if error is None:
        return found
    if mode == "successor" and "exceeded quota" in error:
        # The trial counts beside the source, which a successor replaces.
        if quota.short_by_itself(error):
            reason = f"Even without the source the quota leaves no room for its successor: {error}"
            remedy = "Raise the quota, or use name=new for a pod of nobody once there is room for two."
            return [*found, refuse("admission", reason, remedy=remedy)]
        warnings.append(f"The quota leaves no room for a second pod; a successor takes the source's place: {error}")
        return found
    return [*found, refuse("admission", f"The API refuses the target pod: {error}")]


def _early_labels(pod: Obj, mode: owners.Mode, chain: owners.OwnerChain) -> Mapping[str, str]:
    if mode != "twin" or not owners.readiness_gates(pod):
        return {}
    return manifest.without_ours(owners.early_labels(pod, chain) or {})


def _warnings(pod: Obj, mode: owners.Mode, inspection: PodInspection | None, options: Options) -> list[str]:
    found = [f"The pod gets a new IP (now {predicates.pod_ip(pod)})."]
    if inspection:
        established = inspection.established
        if established and options.tcp == "close":
            found.append(
                f"{established} established TCP connections will be closed; peers see a reset when they next send."
            )
    if mode == "copy":
        found.append(
            "The source runs on and the copy goes its own way: what they do outside is done twice from here. The copy has none of the source's labels."
        )
    if mode == "successor":
        found.append("The pod keeps its name: one DELETE and one POST fall into the freeze.")
    gates = owners.readiness_gates(pod)
    if gates:
        found.append(
            f"The pod has the readiness gates {', '.join(gates)}: whoever sets them must set them on the moved pod as well. "
            "It is waited for until ready_timeout; then the run ends unfinished, and a later one goes on."
        )
    return found
