# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The StatefulSet of a pod that moves: taken away before the freeze, put back when a pod of the name is there for good.

While it is away nobody makes a pod of that name but we. Before it is deleted its definition is in the run's context, in
the journals of both nodes, and on the pod as a mark; whoever ends the run puts it back first and removes both then.

The object in the API is also the lock that keeps two runs of one StatefulSet apart: the second does not find what it has
planned with. So only a run that has taken it away may put it back: another's would come back in the midst of its freeze.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .._kube import predicates
from .._kube.errors import KubeError, KubeTimeout, KubeUnavailable
from .._plan import statefulset as rules
from .._plan.options import OWNER_AWAY
from .errors import PodferryError, Unfinished
from .patience import persist
from .run import Run

Obj = Mapping[str, Any]

_PATIENCE_S = 15.0
_GONE_S = 30.0
_ADOPT_S = 30.0
_TRIES = 10
_PAUSE_S = 0.1
_CHANGED = "Run again: the plan is made anew."


class OwnerAway(Unfinished):
    """The pod runs, and its StatefulSet could not be put back."""

    type = "owner_away"


def name_of(run: Run) -> str:
    return predicates.name_of(run.plan.statefulset or {})


def take_away(run: Run, pod: Obj) -> None:
    """Delete the planned StatefulSet without its pods, and wait until it is gone. Raises PodferryError, KubeError.

    Whatever it raises, the object may be gone or going: the caller's way back puts it back.
    """
    if run.plan.statefulset is None:
        return
    with run.phase("take owner away", f"StatefulSet {name_of(run)}"):
        mark(run)
        for _try in range(_TRIES):
            there = _unchanged(run, pod)
            if _delete(run, there):
                break
        else:
            raise _restless(run)
        _see_gone(run)


def take_away_again(run: Run) -> None:
    """An undo that gave up has put it back, and the pod goes once more. Raises Unfinished, KubeError.

    Only in the form in which the run's journals have it: another could not be put back.
    """
    if run.plan.statefulset is None:
        return
    with run.phase("take owner away", f"StatefulSet {name_of(run)}"):
        try:
            _take_as_put_back(run)
        except PodferryError as exc:
            raise Unfinished(exc.message, exc.remedy) from exc


def _take_as_put_back(run: Run) -> None:
    for _try in range(_TRIES):
        there = _get(run)
        if there is None:
            return
        if predicates.terminating(there):
            break
        if rules.restorable(there) != run.plan.statefulset:
            raise PodferryError(
                f"StatefulSet {name_of(run)} has changed since run {run.id} put it back, and pod {run.plan.pod} must be "
                "made again without it",
                "Take the change back, or delete the StatefulSet with --cascade=orphan, and run the play again.",
            )
        if _delete(run, there):
            break
    else:
        raise _restless(run)
    _see_gone(run, may_stop=False)


def _restless(run: Run) -> PodferryError:
    return PodferryError(f"StatefulSet {name_of(run)} changes all the time", "Wait until it stands still.")


def _unchanged(run: Run, pod: Obj) -> Obj:
    """The StatefulSet as it is now, if it is still the planned one and stands still."""
    there = _get(run, _PATIENCE_S)
    if (
        there is None
        or predicates.uid_of(there) != run.plan.owner_uid
        or rules.restorable(there) != run.plan.statefulset
    ):
        raise PodferryError(f"StatefulSet {name_of(run)} has changed since the preflight", _CHANGED)
    refusals = rules.check(pod, there, {"uid": run.plan.owner_uid, "name": name_of(run)})
    if refusals:
        raise PodferryError(refusals[0].reason, refusals[0].remedy)
    return dict(there)


def _delete(run: Run, there: Obj) -> bool:
    """False when it has another version meanwhile (a status is enough): look again."""
    asked = 0
    run.owner_taken = True

    def delete() -> None:
        nonlocal asked
        asked += 1
        run.tools.cluster.orphan_statefulset(
            run.plan.namespace,
            name_of(run),
            uid=predicates.uid_of(there),
            resource_version=str(predicates.metadata(there).get("resourceVersion") or ""),
        )

    try:
        persist(run.tools, f"delete StatefulSet {name_of(run)}", delete, patience_s=_PATIENCE_S)
    except KubeError as exc:
        run.owner_taken = asked > 1  # refused at the first word, it was not deleted by us
        if exc.not_found and asked > 1:
            return True  # an answer was lost; it was ours
        if exc.conflict:
            # After a lost answer it may be our own order that has changed it: then it is going.
            now = _get(run, _PATIENCE_S)
            gone = now is None or predicates.terminating(now)
            run.owner_taken = gone and asked > 1
            return run.owner_taken
        raise
    return True


def _see_gone(run: Run, *, may_stop: bool = True) -> None:
    """Its controller and the garbage collector need a moment to let go of the pods."""
    deadline = run.tools.clock() + _GONE_S
    while True:
        there = _get(run, _PATIENCE_S)
        if there is None:
            return
        if not predicates.terminating(there):
            raise _made_again(run)
        if run.tools.clock() >= deadline:
            raise PodferryError(
                f"StatefulSet {name_of(run)} is still being deleted after {_GONE_S:.0f} s",
                "Look at its finalizers and at the kube-controller-manager.",
            )
        if may_stop:
            run.check_interrupt()
        run.tools.sleep(_PAUSE_S)


def mark(run: Run, *, on: bool = True) -> None:
    """Write on the source pod what is needed to have its StatefulSet again, for when both nodes have forgotten the run."""
    value = _mark(run) if on else None
    try:
        persist(
            run.tools,
            f"mark pod {run.plan.pod}",
            lambda: run.tools.cluster.patch_pod(run.plan.namespace, run.plan.pod, annotations={OWNER_AWAY: value}),
            patience_s=_PATIENCE_S,
        )
    except KubeError as exc:
        if on or not exc.not_found:
            raise


def marked(run: Run, manifest: Obj) -> Obj:
    """The same mark on the pod that takes the source's place."""
    if run.plan.statefulset is None:
        return manifest
    meta = manifest["metadata"]
    return {**manifest, "metadata": {**meta, "annotations": {**meta["annotations"], OWNER_AWAY: _mark(run)}}}


def _mark(run: Run) -> str:
    plan = run.plan
    told = {
        "run": run.id,
        "source_node": plan.source_node,
        "target_node": plan.target_node,
        "statefulset": plan.statefulset,
    }
    return json.dumps(told, separators=(",", ":"))


def read_mark(pod: Obj) -> Obj | None:
    """What a pod's mark says; None without one, or when it is not of ours."""
    try:
        told = json.loads(predicates.annotations_of(pod).get(OWNER_AWAY, ""))
        return dict(told) if told["run"] and told["statefulset"]["metadata"]["name"] else None
    except (ValueError, TypeError, KeyError):
        return None


def check_away(run: Run) -> None:
    """Nobody has made it again meanwhile (in the freeze: one GET, no patience). Raises PodferryError, KubeError."""
    if run.plan.statefulset is not None and _get(run, 3.0) is not None:
        raise _made_again(run)


def _made_again(run: Run) -> PodferryError:
    return PodferryError(
        f"somebody has created StatefulSet {name_of(run)} again while its pod moves",
        "Suspend whoever keeps it (Argo CD, Flux, an operator) for the time of the move.",
    )


def give_back(run: Run) -> None:
    """Before the commit: the source goes on, and has its StatefulSet again if this run has taken it. Raises OwnerAway.

    The mark goes in any case: one that stayed would bring back what its user deletes later.
    """
    if run.plan.statefulset is None:
        return
    was_taken = taken(run)
    if was_taken:
        put_back(run)
        see_adopted(run)
    try:
        if was_taken or _marked_by(run, _source_pod(run)):
            mark(run, on=False)
    except (KubeError, Unfinished) as exc:
        run.warn(f"pod {run.plan.pod} keeps the annotation {OWNER_AWAY}: {exc}")


def taken(run: Run) -> bool:
    """An earlier controller's order is known by its mark; a pod that is gone with it cannot tell, and counts as marked."""
    if run.owner_taken or not run.report.resumed_run:
        return run.owner_taken
    pod = _source_pod(run)
    return pod is None or predicates.uid_of(pod) != run.plan.uid or _marked_by(run, pod)


def _source_pod(run: Run) -> Any:
    plan = run.plan
    return persist(run.tools, "read the source pod", lambda: run.tools.cluster.get_pod(plan.namespace, plan.pod))


def _marked_by(run: Run, pod: Obj | None) -> bool:
    told = read_mark(pod) if pod is not None else None
    return told is not None and told["run"] == run.id


def put_back(run: Run) -> None:
    """Have the StatefulSet again, once, as its user wrote it. Raises OwnerAway.

    Only when the pod of the name is there and no step to come deletes it. May be called as often as one likes.
    """
    if run.plan.statefulset is None:
        return
    with run.phase("put owner back", f"StatefulSet {name_of(run)}"):
        try:
            _create(run)
        except (KubeError, KubeUnavailable, PodferryError) as exc:
            message = exc.message if isinstance(exc, (KubeError, PodferryError)) else str(exc)
            raise OwnerAway(
                f"StatefulSet {name_of(run)} is not there yet: {message}",
                "Run the play again: its definition is in the run's journals on both nodes, under 'context'.",
            ) from exc


def _create(run: Run) -> None:
    manifest = run.plan.statefulset or {}
    deadline = run.tools.clock() + _GONE_S
    while True:
        there = _get(run)
        if there is not None and not predicates.terminating(there):
            return  # never deleted, put back before, or made by its user
        if there is None:
            try:
                persist(
                    run.tools,
                    f"create StatefulSet {name_of(run)}",
                    lambda: run.tools.cluster.create_statefulset(run.plan.namespace, manifest),
                )
                return
            except KubeError as exc:
                if not exc.conflict:
                    raise
        if run.tools.clock() >= deadline:
            raise PodferryError("the old one is still being deleted")
        run.tools.sleep(_PAUSE_S)


def see_adopted(run: Run) -> None:
    """The controller takes the pod for its own, of its own revision. Only a warning: nothing could be done about it here."""
    plan = run.plan
    if plan.statefulset is None:
        return
    try:
        there = _get(run)
        uid = predicates.uid_of(there or {})

        def adopted(pod: Obj | None) -> bool:
            return pod is None or predicates.terminating(pod) or predicates.owned_by(pod, uid)

        pod = persist(
            run.tools,
            "see the StatefulSet adopt its pod",
            lambda: run.tools.cluster.wait_pod(plan.namespace, plan.pod, adopted, timeout_s=_ADOPT_S),
        )
        now = _get(run)
    except (KubeTimeout, KubeError, Unfinished) as exc:
        run.warn(f"StatefulSet {name_of(run)} has not adopted pod {plan.pod} yet: {exc}")
        return
    revision = ((now or {}).get("status") or {}).get("updateRevision")
    mine = predicates.labels_of(pod or {}).get(rules.REVISION_LABEL)
    if pod is not None and revision and mine != revision:
        run.warn(
            f"StatefulSet {name_of(run)} is at revision {revision} and pod {plan.pod} at {mine}: its controller may replace it"
        )


def _get(run: Run, patience_s: float | None = None) -> Any:
    return persist(
        run.tools,
        f"read StatefulSet {name_of(run)}",
        lambda: run.tools.cluster.get_statefulset(run.plan.namespace, name_of(run)),
        patience_s=patience_s,
    )
