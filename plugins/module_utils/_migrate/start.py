# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Bring both ferries up and connect them. The pod runs on; nothing of it is touched."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

from .._kube import predicates
from .._plan import containers as roster
from .._plan.refusals import Refusal, refuse
from .._store import names as stored
from .errors import DeadlineExceeded, NodeError, PodferryError, SessionLost
from .gather import containers, image_id_of
from .keys import make_pair
from .ports import JsonDict
from .run import Run
from .session import Event

_STAGE_LEAST_S = 120.0
_STAGE_SLOWEST_BYTES_S = 2 * 1024 * 1024
_START_TIMEOUT_S = 60.0
_PULL_TIMEOUT_S = 900.0


class RefusedNow(Exception):
    """What only trying could tell, before the pod was touched."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


def pull_images(run: Run, pod: Any) -> None:
    """Put the pod's exact image onto the target. Raises RefusedNow."""
    for image in run.plan.images_to_pull:
        status = predicates.status_of(pod, image.container)
        run.tools.reporter.phase("pull image", run.plan.target_node, image.ref)
        try:
            run.target.call("image_pull", timeout_s=_PULL_TIMEOUT_S, ref=image.ref, id=image_id_of(status))
        except NodeError as exc:
            raise RefusedNow(
                refuse(
                    "image_missing",
                    f"Image {image.ref} cannot be pulled on node {run.plan.target_node}: {exc.message}.",
                )
            ) from exc


def start_ferries(run: Run, pod: Any, target_node: Any) -> None:
    """Raises RefusedNow (nothing is left behind by the caller's clean-up), NodeError, SessionLost."""
    plan, host = run.plan, run.target.host
    address = host.address or predicates.internal_ip(target_node) or ""
    source_keys, target_keys = make_pair(run.id)
    common: JsonDict = {
        "run": run.id,
        "mode": plan.mode,
        "namespace": plan.namespace,
        "need_bytes": plan.need_bytes,
        "stage_bytes": plan.stage_bytes,
        "tcp": plan.tcp,
        "deadlines": plan.deadlines.to_dict(),
        "source_pod": plan.pod,
        "target_pod": plan.target_pod,
        "source_node": plan.source_node,
        "target_node": plan.target_node,
        "context": context(run),
        **roster.settings(pod),
    }
    names = containers(pod)
    put, get = _detour(run, pod)
    target = run.target.call(
        "ferry_start",
        timeout_s=_START_TIMEOUT_S,
        role="target",
        pod=plan.target_pod,
        containers=[c["name"] for c in names],
        listen={"address": address, "ports": list(host.ports)},
        tls=target_keys.to_dict(),
        through=get,
        **common,
    )
    port = int(target["port"])
    if put is not None:
        put["recipient"] = str(target["recipient"])
    try:
        run.source.call(
            "ferry_start",
            timeout_s=_START_TIMEOUT_S,
            role="source",
            pod=plan.pod,
            uid=plan.uid,
            pod_ip=pod["status"].get("podIP"),
            containers=names,
            peer={"address": address, "port": port},
            bandwidth=plan.bandwidth,
            tls=source_keys.to_dict(),
            through=put,
            **common,
        )
    except NodeError as exc:
        if exc.type == "link_lost":
            raise RefusedNow(refuse("ferry_unreachable", f"{exc.message}.", remedy=exc.remedy)) from exc
        if exc.type == "state_conflict":  # it began after our preflight had looked
            raise RefusedNow(refuse("migration_under_way", f"{exc.message}.")) from exc
        raise


def _detour(run: Run, pod: Any) -> tuple[JsonDict | None, JsonDict | None]:
    """How the source's and the target's ferry reach the store that the state goes through; None: it does not."""
    detour, plan = run.tools.detour, run.plan
    if detour is None:
        return None, None
    now = datetime.datetime.fromtimestamp(run.tools.wall(), datetime.UTC)
    fields: JsonDict = {
        "id": stored.new_id(now, run.id),
        "namespace": plan.namespace,
        "pod": plan.pod,
        "uid": plan.uid,
        "node": plan.source_node,
        "created": stored.written(now),
        "kind": "pod",
        "containers": [
            {"name": str(s.get("name")), "image": roster.image_of(pod, str(s.get("name"))), "image_id": image_id_of(s)}
            for s in predicates.container_statuses(pod)
        ],
        "facts": {},
    }
    run.through = fields
    way: JsonDict = {"id": fields["id"], "fields": fields, "store": detour.spec(fields, plan.need_bytes)}
    return way, dict(way)


def stage_files(run: Run) -> None:
    """Let the ferries copy the pod's files in rounds while it runs on. Raises PodferryError; nothing is touched by it."""
    run.source.call("stage", run=run.id)

    def ended() -> bool:
        run.check_interrupt()
        return run.end is not None or not run.source.alive

    def wanted(event: Event) -> bool:
        return event.role == "source" and event.name in ("staged", "end", "ferry_ended")

    seconds = _STAGE_LEAST_S + run.plan.stage_bytes / _STAGE_SLOWEST_BYTES_S
    event = run.wait_event(wanted, timeout_s=seconds, on_tick=ended)
    if event is not None and event.name == "staged":
        return
    run.fail_from(run.target_failure)
    run.fail_from(run.end)
    raise DeadlineExceeded(
        f"copying the pod's files did not come to an end within {seconds:.0f} s"
        if run.end is None
        else "copying the pod's files failed",
        "See the ferries' journals: 'journalctl -u podferry-*' on both nodes.",
    )


def context(run: Run) -> JsonDict:
    """What a later controller needs to go on with this run; the ferries keep it without looking at it."""
    plan = run.plan
    return {
        "manifest": plan.manifest,
        "source_node": plan.source_node,
        "target_node": plan.target_node,
        "final_labels": dict(plan.final_labels),
        "final_finalizers": list(plan.final_finalizers),
        "early_labels": dict(plan.early_labels),
        "owner_uid": plan.owner_uid,
        "statefulset": plan.statefulset,
        "deadlines": plan.deadlines.to_dict(),
        "source_uid": plan.uid,
        "by": run.tools.who,
        "since": run.report.started_at,
    }


def clean_up(run: Run) -> None:
    """Nothing was committed and there is no target pod: end both ferries, quietly."""
    for peer in (run.source, run.target):
        with contextlib.suppress(PodferryError):
            peer.call("cancel", run=run.id, patience_s=5.0)
    for peer in (run.target, run.source):
        try:
            peer.call("finish", run=run.id, patience_s=20.0)
        except (SessionLost, NodeError) as exc:
            run.warn(f"node {peer.node}: the run's files are still there ({exc.message}); the next run removes them")
