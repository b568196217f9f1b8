# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Read everything a decision needs, touching nothing. One answer that makes another question pointless skips it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from .._kube import predicates
from .._kube.errors import KubeError, KubeUnavailable
from .._plan import containers as roster
from .._plan import manifest as manifests
from .._plan import rollout, topology, volumes
from .._plan import statefulset as statefulsets
from .._plan.facts import NodeFacts, PodInspection
from .._plan.options import HANDLER, Options
from .._plan.owners import OwnerChain, check_owner, decide_mode, find_moved, may_settle
from .._plan.plan import ImageState, Plan, Snapshot, plan
from .errors import NodeError, SessionLost
from .peer import Peers
from .ports import Tools

Obj = Mapping[str, Any]

_KIND_NAME = re.compile(r"^(deployment|deploy|replicaset|rs|statefulset|sts|pod)s?/(.+)$")
_PAUSE_S = 1.0


@dataclass(frozen=True)
class Question:
    """The pod that was asked for, resolved against the API."""

    name: str
    pod: Obj | None
    matches: tuple[Obj, ...] = ()
    siblings: tuple[Obj, ...] = field(default=(), repr=False)
    """The pods of the namespace, read only when the asked one is not there."""


def resolve(options: Options, tools: Tools) -> Question:
    """Find the pod: by name, by the Deployment or ReplicaSet that owns it, or by label selector."""
    kind = _KIND_NAME.match(options.pod)
    if kind is None and "=" not in options.pod:
        name = options.pod
    elif kind is not None and kind.group(1) == "pod":
        name = kind.group(2)
    else:
        matches = _select(
            kind.group(1) if kind else "", kind.group(2) if kind else options.pod, options.namespace, tools
        )
        if len(matches) == 1:
            return Question(predicates.name_of(matches[0]), matches[0], tuple(matches))
        if kind is not None and kind.group(1).startswith("st"):
            return Question(f"statefulset/{kind.group(2)}", None, tuple(matches))  # a run may have taken it away
        return Question(options.pod, None, tuple(matches))
    pod = tools.cluster.get_pod(options.namespace, name)
    siblings = tuple(tools.cluster.list_pods(options.namespace)) if pod is None else ()
    return Question(name, pod, siblings=siblings)


def _select(kind: str, what: str, namespace: str, tools: Tools) -> list[Obj]:
    """Living pods of a Deployment or ReplicaSet, or under a label selector."""
    if not kind:
        pods = tools.cluster.list_pods(namespace, label_selector=what)
    else:
        pods = [p for p in tools.cluster.list_pods(namespace) if _owned_by(p, kind, what, namespace, tools)]
    return [p for p in pods if not predicates.terminating(p) and not predicates.failed(p)]


def _owned_by(pod: Obj, kind: str, name: str, namespace: str, tools: Tools) -> bool:
    owner = predicates.controller_of(pod)
    if owner is None or owner.get("kind") != ("StatefulSet" if kind.startswith("st") else "ReplicaSet"):
        return False
    if not kind.startswith("d"):
        return owner.get("name") == name
    replicaset = tools.cluster.get_replicaset(namespace, str(owner.get("name")))
    above = predicates.controller_of(replicaset) if replicaset else None
    return above is not None and above.get("kind") == "Deployment" and above.get("name") == name


def gather(
    question: Question,
    options: Options,
    tools: Tools,
    peers: Peers,
    *,
    run: str,
    under_way: tuple[str, ...],
    patience_s: float = 0.0,
) -> tuple[Snapshot, Plan]:
    """A snapshot and the plan it gives. Raises KubeError, KubeUnavailable when the API itself fails.

    ``patience_s``: how long an owner that is not at rest is waited for.
    """
    base = Snapshot(
        run=run,
        own_digest=tools.own_digest,
        pod=question.pod,
        matches=question.matches,
        inventory={node: [h.name for h in hosts] for node, hosts in tools.inventory.items()},
        runs_alive=under_way,
        target_node=tools.cluster.get_node(options.target),
    )
    if question.pod is None:
        snapshot = replace(
            base,
            moved_to=find_moved(options.namespace, question.name, question.siblings),
            elsewhere=_elsewhere(question, options, tools),
        )
        return snapshot, plan(snapshot, options)
    pod = question.pod
    source = predicates.node_of(pod)
    if source == options.target and options.source_policy == "freeze":
        return base, plan(base, options)
    base = _owner_at_rest(base, pod, options, tools, patience_s)
    pod = base.pod or pod
    mode, _refusals = decide_mode(options.name, pod)
    claims = read_claims(pod, tools)
    neighbours = topology.Neighbours() if base.target_node is None else _neighbours(pod, base.siblings, tools)
    snapshot = replace(
        base,
        claims=claims,
        volumes=read_volumes(claims, tools),
        source_node=tools.cluster.get_node(source) if source else None,
        runtime_class=tools.cluster.get_runtime_class(HANDLER),
        pods_on_target=tuple(p for p in neighbours.pods if predicates.node_of(p) == options.target),
        neighbours=neighbours,
        budgets=tools.cluster.list_budgets(options.namespace) if mode == "successor" else (),
        moved_to=_twin_of(pod, options, base.siblings),
    )
    if plan(snapshot, options).decision == "already_there":
        return snapshot, plan(snapshot, options)
    snapshot = _ask_nodes(snapshot, pod, options, tools, peers)
    return _dry_run(snapshot, options, tools)


def read_claims(pod: Obj, tools: Tools) -> dict[str, Obj | None]:
    """The PersistentVolumeClaims that the pod names."""
    namespace = str(predicates.metadata(pod).get("namespace"))
    volumes = (pod.get("spec") or {}).get("volumes") or []
    names = [str(v["persistentVolumeClaim"].get("claimName")) for v in volumes if v.get("persistentVolumeClaim")]
    return {name: tools.cluster.get_claim(namespace, name) for name in names}


def read_volumes(claims: Mapping[str, Obj | None], tools: Tools) -> dict[str, Obj | None]:
    """The PersistentVolumes behind the claims; without those that may not be read."""
    found: dict[str, Obj | None] = {}
    for name in {volumes.volume_of(claim) for claim in claims.values()} - {""}:
        try:
            found[name] = tools.cluster.get_volume(name)
        except KubeError as exc:
            if exc.status != 403:
                raise
    return found


def _owner_at_rest(snapshot: Snapshot, pod: Obj, options: Options, tools: Tools, patience_s: float) -> Snapshot:
    """The pod and what owns it; a rollout or a scaling is given ``patience_s`` to come to its end."""
    deadline, told = tools.clock() + patience_s, False
    while True:
        chain = read_chain(pod, tools)
        seen = replace(
            snapshot,
            pod=pod,
            chain=chain,
            siblings=tuple(tools.cluster.list_pods(options.namespace)),
            autoscalers=tuple(tools.cluster.list_autoscalers(options.namespace)) if chain.named else (),
        )
        refusals = check_owner(pod, chain, seen.siblings) + rollout.check_autoscalers(chain.named, seen.autoscalers)[0]
        if not may_settle(refusals) or tools.clock() >= deadline:
            return seen
        if not told:
            told = True
            tools.reporter.phase("wait for the owner", "", refusals[0].reason)
        tools.sleep(_PAUSE_S)
        again = tools.cluster.get_pod(options.namespace, predicates.name_of(pod))
        if again is None or predicates.uid_of(again) != predicates.uid_of(pod):
            return seen  # the rollout has taken the pod itself
        pod = again


def _neighbours(pod: Obj, siblings: Sequence[Obj], tools: Tools) -> topology.Neighbours:
    """All pods, for the target's capacity and for those that want to be without this one; nodes if it depends on them.

    What may not be listed is left out: then the pods are those of our own namespace, and the kubelet has the word.
    """
    everyone = _if_allowed(lambda: tools.cluster.list_pods(None))
    pods = siblings if everyone is None else everyone
    nodes = _if_allowed(tools.cluster.list_nodes) if topology.asks_for_nodes(pod, pods) else None
    return topology.Neighbours(pods, everywhere=everyone is not None, nodes=nodes)


def _if_allowed(ask: Callable[[], Sequence[Obj]]) -> Sequence[Obj] | None:
    try:
        return ask()
    except KubeError as exc:
        if exc.status == 403:
            return None
        raise


def read_chain(pod: Obj, tools: Tools) -> OwnerChain:
    """What owns the pod: a StatefulSet, or a ReplicaSet and the Deployment above it."""
    owner = predicates.controller_of(pod)
    namespace = str(predicates.metadata(pod).get("namespace"))
    if owner is not None and owner.get("kind") == "StatefulSet":
        return OwnerChain(statefulset=tools.cluster.get_statefulset(namespace, str(owner.get("name"))))
    if owner is None or owner.get("kind") != "ReplicaSet":
        return OwnerChain()
    replicaset = tools.cluster.get_replicaset(namespace, str(owner.get("name")))
    above = predicates.controller_of(replicaset) if replicaset else None
    if above is None or above.get("kind") != "Deployment":
        return OwnerChain(replicaset)
    return OwnerChain(replicaset, tools.cluster.get_deployment(namespace, str(above.get("name"))))


def _elsewhere(question: Question, options: Options, tools: Tools) -> tuple[str, ...]:
    """Other namespaces with a pod of this name; a courtesy, so without the right to list there is none."""
    if question.matches or "=" in question.name or "/" in question.name:
        return ()
    try:
        pods = tools.cluster.list_pods(None, field_selector=f"metadata.name={question.name}")
    except (KubeError, KubeUnavailable):
        return ()
    found = {str(predicates.metadata(p).get("namespace")) for p in pods if predicates.name_of(p) == question.name}
    return tuple(sorted(found - {options.namespace}))


def _twin_of(pod: Obj, options: Options, siblings: Sequence[Obj]) -> Obj | None:
    """A living twin of this very pod (same uid), made by an earlier run."""
    found = find_moved(options.namespace, predicates.name_of(pod), siblings)
    if (
        found is None
        or predicates.uid_of(pod) not in predicates.annotations_of(found).get("podferry.live/moved-from", "").split()
    ):
        return None
    return found


def _ask_nodes(snapshot: Snapshot, pod: Obj, options: Options, tools: Tools, peers: Peers) -> Snapshot:
    """Facts of both nodes and the inside of the pod, both nodes at the same time."""
    source = predicates.node_of(pod) or ""
    wanted = [n for n in (source, options.target) if n and peers.known(n)]
    if snapshot.target_node is None:
        wanted = [n for n in wanted if n != options.target]
    errors: dict[str, str] = {}
    facts: dict[str, NodeFacts] = {}
    without_engine: list[str] = []

    def ask(node: str) -> None:
        try:
            peer = peers.get(node)
            peer.open()
            facts[node] = NodeFacts.parse(peer.call("facts", patience_s=0.0))
        except (SessionLost, NodeError) as exc:
            if isinstance(exc, NodeError) and exc.type == "engine_missing":
                without_engine.append(node)
            else:
                errors[node] = exc.message

    with ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(ask, wanted))
    inspection = None
    ids = predicates.container_ids(pod)
    if source in facts and ids and predicates.running(pod):
        try:
            inspection = PodInspection.parse(
                peers.get(source).call(
                    "inspect",
                    namespace=options.namespace,
                    pod=predicates.name_of(pod),
                    uid=predicates.uid_of(pod),
                    pod_ip=predicates.pod_ip(pod),
                    containers=containers(pod),
                    patience_s=0.0,
                )
            )
        except NodeError as exc:
            if exc.type == "not_found":
                inspection = PodInspection(())  # the plan says that the runtime does not know the container
            else:
                errors[source] = exc.message
        except SessionLost as exc:
            errors[source] = exc.message
    images: tuple[ImageState, ...] = ()
    if options.target in facts:
        try:
            images = tuple(image_state(pod, status, peers, options.target) for status in roster.statuses(pod))
        except (SessionLost, NodeError) as exc:
            errors[options.target] = exc.message
    return replace(
        snapshot,
        source_facts=facts.get(source),
        target_facts=facts.get(options.target),
        inspection=inspection,
        images=images,
        session_errors=errors,
        without_engine=tuple(sorted(without_engine)),
    )


def containers(pod: Obj) -> list[dict[str, str]]:
    """Containers as the ferries want them, in the order of their start: name and the kubelet's id."""
    return [{"name": name, "id": container_id} for name, container_id in predicates.container_ids(pod).items()]


def image_state(pod: Obj, status: Obj, peers: Peers, target: str) -> ImageState:
    """Is the image of one container on the target, under its name, or could it be pulled? Raises SessionLost, NodeError."""
    specs = [*predicates.init_containers_of(pod), *predicates.containers_of(pod)]
    spec: Obj = next((c for c in specs if c.get("name") == status.get("name")), {})
    ref = roster.image_of(pod, str(status.get("name")))
    image_id = image_id_of(status)
    answer = peers.get(target).call("image", patience_s=0.0, ref=ref, id=image_id)
    # Without a repository the digest names a locally made image, which no registry can be asked for.
    other = str(answer.get("other") or "")
    pullable = spec.get("imagePullPolicy") != "Never" and "@" in image_id and not other
    error = "" if pullable else "its pull policy or its missing repository digest forbids a pull of exactly this image"
    if other:
        error = f"its name stands for another image there ({other[:19]}), which the kubelet would start"
    return ImageState(str(status.get("name")), ref, bool(answer.get("present")), pullable, error)


def image_id_of(status: Obj) -> str:
    """What exactly runs, as the kubelet reports it: ``repository@sha256:...``, or ``sha256:...`` of a local image."""
    return str(status.get("imageID") or "").rpartition("://")[2]


def _dry_run(snapshot: Snapshot, options: Options, tools: Tools) -> tuple[Snapshot, Plan]:
    """Ask the API whether it would take the target pod, once the specification itself is acceptable."""
    draft = plan(snapshot, options)
    if draft.manifest is None or draft.mode is None:
        return snapshot, draft
    if draft.mode != "successor":
        holder = tools.cluster.get_pod(options.namespace, draft.target_pod)
        if holder is not None:
            snapshot = replace(snapshot, name_holder=holder)
    needs = {"runtime_class_missing", "target_missing"}
    if needs.isdisjoint(r.code for r in draft.refusals):
        try:
            tools.cluster.create_pod(
                options.namespace, manifests.for_dry_run(draft.manifest, snapshot.run), dry_run=True
            )
        except KubeError as exc:
            snapshot = replace(snapshot, dry_run_error=exc.message)
        if draft.statefulset is not None:
            trial = statefulsets.for_dry_run(draft.statefulset, snapshot.run)
            try:
                tools.cluster.create_statefulset(options.namespace, trial, dry_run=True)
            except KubeError as exc:
                snapshot = replace(snapshot, owner_dry_run_error=exc.message)
    return snapshot, plan(snapshot, options)
