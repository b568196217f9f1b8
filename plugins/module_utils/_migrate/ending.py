# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""After the commit: wait for the target, change the pods of the API over, end the source, leave nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._kube import predicates
from .._kube.errors import KubeError, KubeTimeout, KubeUnavailable
from .._plan.manifest import RUN_LABEL
from .._plan.options import ARRIVAL, DELETION_COST, LOWEST_COST, OWNER_AWAY
from . import decided, statefulset
from .errors import NodeError, SessionLost, Unfinished
from .lookout import Unrouted
from .patience import delete_and_wait, persist, wait_gone
from .peer import Peer
from .ports import JsonDict
from .run import Run

Obj = Mapping[str, Any]

_ADOPT_S = 30.0
_GONE_S = 60.0


def wait_ready(run: Run, *, node: str, must_be_ready: bool) -> JsonDict:
    """The moved pod must read Ready (or only running, when its source was not Ready either).

    Raises Unfinished when it does not come about, or when the container ended after it had been let go.
    """
    plan, tools = run.plan, run.tools

    def there(pod: Obj | None) -> bool:
        if pod is None or predicates.failed(pod) or predicates.ended(pod) or predicates.terminating(pod):
            return True
        return predicates.ready(pod) if must_be_ready else predicates.running(pod)

    def wait() -> JsonDict | None:
        return tools.cluster.wait_pod(plan.namespace, plan.target_pod, there, timeout_s=tools.ready_timeout_s)

    remedy = f"See 'kubectl -n {plan.namespace} describe pod {plan.target_pod}'; run the play again to go on once it is well."
    try:
        pod = persist(tools, f"see pod {plan.target_pod} ready", wait)
    except KubeTimeout as exc:
        raise Unfinished(f"the moved pod runs on {node} but is not Ready: {exc}", remedy) from exc
    if pod is None or predicates.terminating(pod):
        raise Unfinished(f"the moved pod {plan.target_pod} was deleted after it had been let go on {node}", remedy)
    if predicates.failed(pod) or predicates.ended(pod):
        raise Unfinished(
            f"the moved pod's container ended after it had been let go on {node}: {predicates.why_not_ready(pod)}",
            remedy,
        )
    if run.frozen_at is not None:
        run.report.until_ready_ms = round((tools.clock() - run.frozen_at) * 1000, 1)
    run.report.target.uid = predicates.uid_of(pod)
    run.report.target.ip = predicates.pod_ip(pod) or ""
    return pod


@contextlib.contextmanager
def unrouted(run: Run, *, ready: bool) -> Iterator[None]:
    """Services send nobody to the frozen source while the target is waited for. A copy's source is not frozen."""
    if run.plan.mode == "copy" or not ready:
        yield
        return
    watch = Unrouted(run, run.plan.pod, run.plan.uid)
    try:
        watch.mark()
    except KubeUnavailable:
        pass  # the watch does it as soon as it can
    except KubeError as exc:
        run.warn(f"Services go on sending to the frozen source until the target is Ready: {exc.message}")
    with watch:
        yield


def adopt(run: Run) -> None:
    """The ReplicaSet takes the target for its own and gives the source up (kubernetes-facts: deployment_adopt)."""
    plan, tools = run.plan, run.tools
    source = persist(tools, "read the source pod", lambda: tools.cluster.get_pod(plan.namespace, plan.pod))
    if source is not None and predicates.uid_of(source) == plan.uid and not predicates.terminating(source):
        _patch(run, plan.pod, annotations={DELETION_COST: LOWEST_COST})
    _give_labels(run)

    def released(pod: Obj | None) -> bool:
        return pod is None or predicates.uid_of(pod) != plan.uid or predicates.terminating(pod)

    try:
        persist(
            tools,
            "see the ReplicaSet release the source",
            lambda: tools.cluster.wait_pod(plan.namespace, plan.pod, released, timeout_s=_ADOPT_S),
        )
    except KubeTimeout:
        # Scaled up meanwhile, or a controller that is slow: the frozen source must not stay in its number.
        run.warn(f"the ReplicaSet did not give up pod {plan.pod} within {_ADOPT_S:.0f} s; it is deleted now")
        persist(
            tools,
            "delete the source pod",
            lambda: tools.cluster.delete_pod(plan.namespace, plan.pod, uid=plan.uid, grace_s=0),
        )
    target = persist(tools, "read the target pod", lambda: tools.cluster.get_pod(plan.namespace, plan.target_pod))
    if target is not None and plan.owner_uid and not predicates.owned_by(target, plan.owner_uid):
        run.warn(f"pod {plan.target_pod} is not owned by {plan.owner} (yet)")


def replace_bare(run: Run) -> None:
    """A pod of nobody under a new name: labels over, source deleted."""
    plan, tools = run.plan, run.tools
    _give_labels(run)
    persist(
        tools,
        "delete the source pod",
        lambda: tools.cluster.delete_pod(plan.namespace, plan.pod, uid=plan.uid, grace_s=0),
    )


def give_early_labels(run: Run) -> None:
    """Readiness gates are set by somebody who finds the pod by its labels; the ReplicaSet's own comes when it is Ready."""
    if run.plan.early_labels:
        _patch(run, run.plan.target_pod, labels=run.plan.early_labels)


def _give_labels(run: Run) -> None:
    _patch(run, run.plan.target_pod, labels=run.plan.final_labels, finalizers=run.plan.final_finalizers or None)


def tell_switchover(run: Run) -> None:
    """An Event on the moved pod at the moment from which it is the one that runs."""
    plan, report = run.plan, run.report
    if not report.target.uid:
        return  # an earlier run's, told when it happened
    there = {"metadata": {"namespace": plan.namespace, "name": plan.target_pod, "uid": report.target.uid}}
    downtime = "" if report.downtime_ms is None else f", downtime {report.downtime_ms} ms"
    text = f"runs on {plan.target_node} now, no longer on {plan.source_node} (run {run.id}{downtime})"
    run.tools.cluster.pod_event(there, reason="MigrationSwitchover", message=text)


def _patch(
    run: Run,
    name: str,
    *,
    labels: Mapping[str, str | None] | None = None,
    annotations: Mapping[str, str | None] | None = None,
    finalizers: Sequence[str] | None = None,
) -> None:
    """Patch metadata; a pod that is gone needs none."""
    tools, namespace = run.tools, run.plan.namespace
    try:
        persist(
            tools,
            f"change pod {name}",
            lambda: tools.cluster.patch_pod(
                namespace, name, labels=labels, annotations=annotations, finalizers=finalizers
            ),
        )
    except KubeError as exc:
        if not exc.not_found:
            raise


def end_source(run: Run) -> None:
    """Kill what is frozen (its pod is terminating by now) and see its pod go."""
    end_half(run, run.source)
    try:
        wait_gone(run.tools, run.plan.namespace, run.plan.pod, run.plan.uid, timeout_s=_GONE_S)
    except Unfinished as exc:
        # Its processes are gone for good; what is left is a name, kept by a finalizer or a kubelet that is away.
        run.warn(f"the source pod is still in the API: {exc.message}")


def end_target(run: Run) -> None:
    """Our marks go, then the record: from here on a restart starts from the image, as users expect.

    In this order a run that ends in between is found again by its record; without one a marked pod could not restart.
    """
    if run.report.downtime_ms is None:
        _recall_downtime(run)
    drop_marks(run, run.plan.target_pod)
    end_half(run, run.target)


def end_half(run: Run, peer: Peer) -> None:
    """End one half. Files that cannot be removed keep nobody from the rest: the pod has moved."""
    try:
        peer.call("finish", run=run.id, timeout_s=60.0)
    except NodeError as exc:
        if exc.type != "left_over":
            raise
        run.warn(f"node {peer.node}: {exc.message}. {exc.remedy}")


def _recall_downtime(run: Run) -> None:
    """Nobody heard the target's ``resumed``: its journal has the number."""
    entry = decided.entry_of(run, run.plan.target_node, "target")
    if entry is not None and entry.get("downtime_ms") is not None:
        run.report.downtime_ms = float(entry["downtime_ms"])


def drop_marks(run: Run, name: str) -> None:
    """Our run's label and annotation leave the pod; ``moved-from`` stays."""
    marks = {ARRIVAL: None} if run.plan.statefulset is None else {ARRIVAL: None, OWNER_AWAY: None}
    _patch(run, name, labels={RUN_LABEL: None}, annotations=marks)


def take_back(run: Run) -> None:
    """Before the commit: the source runs on; the target pod goes, then both ends. Errors become warnings.

    Raises Unfinished when the target turns out to have been let go, and OwnerAway when its StatefulSet cannot be put
    back: the journals, which hold it, stay then.
    """
    plan, tools = run.plan, run.tools
    _surrendered(run)
    gone = True
    try:
        target_uid = find_target(run)
        if target_uid is not None:
            delete_and_wait(tools, plan.namespace, plan.target_pod, target_uid)
    except (Unfinished, KubeError) as exc:
        gone = False
        run.warn(f"the target pod {plan.target_pod} is still there ({exc}); it cannot run, and the next run removes it")
    if gone:
        statefulset.give_back(run)
    elif plan.statefulset is not None and statefulset.taken(run):
        raise statefulset.OwnerAway(f"StatefulSet {statefulset.name_of(run)} is not there yet", "Run the play again.")
    for peer in (run.target, run.source):
        if peer is run.target and not gone:
            continue  # its record keeps every 'create' of that pod failing
        try:
            peer.call("finish", run=run.id, timeout_s=60.0, patience_s=20.0)
        except (SessionLost, NodeError) as exc:
            run.warn(f"node {peer.node}: the run's files are still there ({exc.message}); the next run removes them")


def _surrendered(run: Run) -> None:
    """The target's own word, under its lock, before anything of it is deleted: it has not run, and never will."""
    if run.plan.mode == "copy":
        return  # may have been let go: its source runs on in any case
    try:
        given_up = run.target.call("surrender", run=run.id, patience_s=20.0).get("surrendered")
    except (SessionLost, NodeError):
        return  # nothing of the run is there, or its node is away: its record refuses every start
    if not given_up:
        raise Unfinished(
            f"run {run.id} was about to be taken back, but its target was let go on {run.plan.target_node}",
            "Run the play again: it goes on from there.",
        )


def find_target(run: Run) -> str | None:
    """The uid of this run's target pod, if there is one. Raises Unfinished, KubeError."""
    plan, tools = run.plan, run.tools
    pod = persist(tools, "read the target pod", lambda: tools.cluster.get_pod(plan.namespace, plan.target_pod))
    if pod is None or predicates.annotations_of(pod).get(ARRIVAL) != run.id:
        return None
    if predicates.node_of(pod) != plan.target_node:
        return None
    return predicates.uid_of(pod)
