# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Look at a node and its pods, and decide for each: move where, leave, evict, and why. Touches nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Any, cast

from .._kube import predicates
from .._migrate import leftovers
from .._migrate.errors import NodeError, PodferryError, SessionLost
from .._migrate.gather import containers, image_state, read_claims, read_volumes
from .._migrate.migration import Migration
from .._migrate.peer import Peers
from .._migrate.ports import ClusterApi, Tools
from .._migrate.session import EventLog
from .._plan.facts import NodeFacts, PodInspection
from .._plan.options import Options
from .._plan.placement import Placement, Site, Subject, as_planned, place
from .._plan.plan import ImageState
from .._plan.refusals import refuse
from .._plan.triage import biggest_first, may_evict, stays
from .._report.drain import PodRecord
from .item import Item
from .latecomers import NOT_YET, starting
from .listed import Listed
from .options import DrainOptions, NodesApi
from .sessions import Remembered
from .signs import announced

Obj = Mapping[str, Any]
_ASKING = 4
_LOOK_S = 1.0
_NAMED = 3


class Survey:
    """The cluster as a drain sees it. Answers of the nodes are asked for once; what the API tells is read anew each time."""

    def __init__(self, options: DrainOptions, tools: Tools, cluster: NodesApi) -> None:
        self._options = options
        self._cluster = cluster
        self._listed = Listed(cluster)
        self._tools = replace(
            tools, cluster=cast(ClusterApi, self._listed), open_session=Remembered(tools.open_session).open
        )
        self._peers = Peers(self._tools, EventLog())
        self._planned: dict[str, tuple[Obj, str, int]] = {}
        """UID of a pod to the pod, the node that it is planned for, and its memory."""
        self._nodes: list[Obj] = []
        self._facts: dict[str, NodeFacts] = {}
        self._errors: dict[str, str] = {}
        self._without_engine: set[str] = set()
        self._lock = threading.Lock()

    def look(self, between: Callable[[], None] = lambda: None) -> list[Item]:
        """Every pod of the node with its decision. Raises KubeError, KubeUnavailable, PodferryError.

        ``between`` is called every now and then, and ends it by raising.
        """
        self._read_cluster()
        pods = self.listed()
        self._ask_facts(between)
        items = self._each(pods, between)
        return items + self._between_nodes(items)

    def listed(self) -> list[Obj]:
        """The pods asked for that are on the node now, big ones first. Raises KubeError, KubeUnavailable."""
        options = self._options
        pods = self._cluster.list_pods(
            options.namespace or None,
            field_selector=f"spec.nodeName={options.node}",
            label_selector=options.selector,
        )
        return sorted((p for p in pods if predicates.node_of(p) == options.node), key=biggest_first)

    def decide(self, pods: Sequence[Obj], between: Callable[[], None]) -> list[Item]:
        """What came later, as in ``look``."""
        with self._lock:
            self._read_cluster()
            return self._each(pods, between)

    def _each(self, pods: Sequence[Obj], between: Callable[[], None]) -> list[Item]:
        items = []
        for pod in pods:
            between()
            items.append(self._decide(pod))
        return items

    def place_again(self, item: Item) -> str:
        """Another look for a pod whose node did not take it; '' when none would."""
        if item.pod is None or self._options.target:
            return item.record.target
        with self._lock:
            self._read_cluster()
            placement = self._place(item.pod, self._inspect(item.pod))
            if placement.target:
                self._plan_for(item, item.pod, placement.target)
            return placement.target

    def close(self) -> None:
        self._peers.close()

    def _read_cluster(self) -> None:
        self._nodes = list(self._cluster.list_nodes())
        self._listed.read_pods()

    # -- one pod --------------------------------------------------------------------------------------------------

    def _decide(self, pod: Obj) -> Item:
        record = PodRecord(_namespace(pod), predicates.name_of(pod), "leave", outcome="left")
        item = Item(record, pod, owner_uid=str((predicates.controller_of(pod) or {}).get("uid") or ""))
        record.reason = stays(pod)
        if record.reason:
            return item
        earlier = self._earlier(pod)
        if earlier is not None and not earlier.at_work:
            record.decision, record.outcome = "move", "planned"
            record.target = earlier.target_node
            record.reason = f"An earlier run {earlier.run} has not been ended; it is gone on with."
            return item
        inspection = self._inspect(pod)
        item.size = record.size = inspection.need_bytes if inspection else 0
        placement = self._place(pod, inspection)
        record.nodes = [v.to_dict() for v in placement.verdicts]
        asked = placement.target or (placement.verdicts[0].node if placement.verdicts else "")
        if asked:
            plan, report = Migration(self._request(pod, asked), self._tools).preview()
            found = plan.refusals
            if plan.decision == "already_there":
                record.decision, record.outcome, record.target = "move", "planned", asked
                record.reason = "Its twin is there already; what is left of the move is ended."
                return item
            record.remedy = ""
            item.refusals = found
            if plan.decision == "move" and placement.target:
                record.decision, record.outcome = "move", "planned"
                record.target, record.target_pod = asked, report.target.pod
                record.reason = self._why(placement)
                self._plan_for(item, pod, asked)
                return item
            if not placement.target:
                # What speaks against the one node that was asked about stands beside each node already.
                of_node = {r.code for v in placement.verdicts for r in v.refusals}
                item.refusals = tuple(r for r in found if r.code not in of_node)
        if not item.refusals:
            item.refusals = (refuse("no_target", _nowhere(placement)),)
            record.outcome, record.remedy = "no_target", item.refusals[0].remedy
        record.refusals = [r.to_dict() for r in item.refusals]
        self._rest(item)
        item.starting = record.outcome == "left" and starting(pod) and {r.code for r in item.refusals} <= NOT_YET
        if item.starting:
            record.reason = "It is still starting: a drain waits for it a while, and decides then."
        return item

    def _rest(self, item: Item) -> None:
        """A pod that cannot move is left or evicted."""
        record = item.record
        record.reason = "It cannot be moved."
        if self._options.rest != "evict" or item.pod is None:
            return
        against = may_evict(item.pod, [r.code for r in item.refusals])
        if against:
            record.reason = f"It cannot be moved. {against}"
        else:
            record.decision, record.outcome = "evict", "planned"
            record.reason = "It cannot be moved: its owner creates it again elsewhere, from its image."

    def _why(self, placement: Placement) -> str:
        best = placement.verdicts[0]
        if self._options.target:
            return "As asked for."
        image = "image there" if best.image_present else "image to be pulled"
        return f"Most room ({best.free:.0%} left free), {image}."

    def _request(self, pod: Obj, target: str) -> Options:
        return request(self._options, _namespace(pod), predicates.name_of(pod), target)

    def _plan_for(self, item: Item, pod: Obj, target: str) -> None:
        self._planned[predicates.uid_of(pod)] = (pod, target, item.size)

    # -- where ----------------------------------------------------------------------------------------------------

    def _place(self, pod: Obj, inspection: PodInspection | None) -> Placement:
        options = self._options
        now = self._tools.wall()
        sites = []
        for node in self._nodes:
            name = predicates.name_of(node)
            if name == options.node or options.target not in ("", name):
                continue
            drain = announced(node, now)
            sites.append(
                Site(
                    node,
                    [h.name for h in self._tools.inventory.get(name, ())],
                    self._facts.get(name),
                    self._errors.get(name, ""),
                    name in self._without_engine,
                    drain.sentence if drain is not None else "",
                )
            )
        own = predicates.uid_of(pod)  # no obstacle to itself; its place stays reserved where no other is found
        reserved: dict[str, int] = {}
        for uid, (_pod, name, size) in self._planned.items():
            if uid != own:
                reserved[name] = reserved.get(name, 0) + size
        claims = read_claims(pod, self._tools)
        subject = Subject(
            pod,
            options.node,
            self._facts.get(options.node),
            inspection,
            self._images(pod, sites),
            claims,
            read_volumes(claims, self._tools),
        )
        return place(
            subject,
            sites,
            self._all_pods(),
            all_nodes=self._nodes,
            own_digest=self._tools.own_digest,
            options=self._request(pod, options.target),
            reserved=reserved,
        )

    def _all_pods(self) -> list[Obj]:
        """All pods of the cluster, planned ones where they will be. A moved pod is not counted twice."""
        listed: list[Obj] = []
        for pod in self._listed.pods:
            planned = self._planned.get(predicates.uid_of(pod))
            listed.append(as_planned(pod, planned[1]) if planned else pod)
        return listed

    def _images(self, pod: Obj, sites: Sequence[Site]) -> dict[str, Sequence[ImageState]]:
        found: dict[str, Sequence[ImageState]] = {}
        for site in sites:
            if site.facts is None or not predicates.schedulable(site.node):
                continue
            try:
                found[site.name] = [
                    image_state(pod, status, self._peers, site.name) for status in predicates.container_statuses(pod)
                ]
            except (SessionLost, NodeError):
                continue
        return found

    # -- the nodes ------------------------------------------------------------------------------------------------

    def _ask_facts(self, between: Callable[[], None]) -> None:
        """Facts of the node and of every node that could be a target, several at the same time."""
        names = []
        for node in self._nodes:
            name = predicates.name_of(node)
            wanted = name == self._options.node or (
                self._options.target in ("", name) and predicates.schedulable(node) and predicates.node_ready(node)
            )
            if wanted and self._peers.known(name):
                self._peers.get(name)
                names.append(name)
        with ThreadPoolExecutor(max_workers=_ASKING) as pool:
            asked = {pool.submit(self._facts_of, name) for name in names}
            try:
                while asked:
                    done, asked = wait(asked, timeout=_LOOK_S)
                    for one in done:
                        one.result()
                    between()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # those that are being asked are waited for
                raise

    def _facts_of(self, name: str) -> None:
        try:
            self._facts[name] = NodeFacts.parse(self._peers.get(name).call("facts", patience_s=0.0))
        except NodeError as exc:
            if exc.type == "engine_missing":
                self._without_engine.add(name)
            else:
                self._errors[name] = exc.message
        except SessionLost as exc:
            self._errors[name] = exc.message

    def _inspect(self, pod: Obj) -> PodInspection | None:
        """The same question as a migration's own, so that it is asked once."""
        if self._options.node not in self._facts or not predicates.running(pod):
            return None
        try:
            return PodInspection.parse(
                self._peers.get(self._options.node).call(
                    "inspect",
                    namespace=_namespace(pod),
                    pod=predicates.name_of(pod),
                    uid=predicates.uid_of(pod),
                    pod_ip=predicates.pod_ip(pod),
                    containers=containers(pod),
                    patience_s=0.0,
                )
            )
        except PodferryError:
            return None  # the migration's own plan says it with its reason

    # -- earlier runs ---------------------------------------------------------------------------------------------

    def _earlier(self, pod: Obj) -> leftovers.Leftover | None:
        """A run of this pod that left it in the middle, or is at work on it."""
        left = leftovers.find(
            self._tools, self._peers, _namespace(pod), [predicates.name_of(pod)], [self._options.node]
        )
        mine = [entry for entry in left if entry.source_node == self._options.node]
        # What is left of a checkpoint is removed by the move itself; one under way is waited for like another move.
        return next((entry for entry in mine if entry.moves or entry.at_work), None)

    def _between_nodes(self, items: Sequence[Item]) -> list[Item]:
        """Pods that an interrupted run has deleted here and not created there yet: the API does not list them."""
        if self._options.node not in self._facts or self._options.selector:
            return []
        seen = {(i.record.namespace, i.record.pod) for i in items}
        found = []
        try:
            told = self._peers.get(self._options.node).call("runs", namespace=None, patience_s=0.0).get("runs") or []
        except PodferryError:
            return []
        for entry in told:
            name = (str(entry.get("namespace")), str(entry.get("pod")))
            if (
                entry.get("role") != "source"
                or entry.get("mode") in leftovers.NO_MOVES
                or name in seen
                or entry.get("alive")
                or entry.get("controlled")
            ):
                continue
            if self._options.namespace not in ("", name[0]):
                continue
            record = PodRecord(*name, "move", target=str(entry.get("target_node") or ""))
            record.reason = f"An earlier run {entry.get('run')} has not been ended; it is gone on with."
            found.append(Item(record))
        return found


def request(options: DrainOptions, namespace: str, pod: str, target: str) -> Options:
    """One pod's migration as the drain asks for it. The cap is shared by those that send at the same time."""
    return Options(
        pod,
        target,
        namespace,
        name=options.name,
        tcp=options.tcp,
        bandwidth=options.bandwidth // max(options.freezes, 1),
    )


def _nowhere(placement: Placement) -> str:
    """The first reason of each node, of a few."""
    told = [v.refusals[0].reason for v in placement.verdicts if v.refusals]
    more = f" And {len(told) - _NAMED} nodes more." if len(told) > _NAMED else ""
    return f"No node can take the pod: {' '.join(told[:_NAMED]) or 'the cluster has no other.'}{more}"


def _namespace(pod: Obj) -> str:
    return str(predicates.metadata(pod).get("namespace"))
