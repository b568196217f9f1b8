# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Pods that nobody has decided about: still starting when the drain looked, or bound to the node just before its cordon.

Pure functions over what the API lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._kube import predicates
from .._plan.triage import stays
from .._report.drain import PodRecord
from .item import Item

Obj = Mapping[str, Any]

NOT_YET = frozenset(("pod_not_running", "pod_unassigned"))
"""Refusals that a pod loses by coming up."""
_COMING_UP = ("", "ContainerCreating", "PodInitializing")


def starting(pod: Obj) -> bool:
    """Is it on its way to run, as far as its kubelet says? One that crashes or lacks its image is not."""
    if predicates.running(pod) or predicates.failed(pod) or predicates.terminating(pod):
        return False
    status = pod.get("status") or {}
    return all(map(_inits, status.get("initContainerStatuses") or [])) and all(
        map(_comes_up, status.get("containerStatuses") or [])
    )


def _inits(status: Obj) -> bool:
    ended = (status.get("state") or {}).get("terminated")
    return _comes_up(status) if ended is None else ended.get("exitCode") == 0


def _comes_up(status: Obj) -> bool:
    state = status.get("state") or {}
    return "terminated" not in state and str((state.get("waiting") or {}).get("reason") or "") in _COMING_UP


def undecided(items: Sequence[Item], pods: Sequence[Obj]) -> list[Obj]:
    """Of the pods that are on the node now: those to decide about, for the first time or again."""
    known = {predicates.uid_of(item.pod): item for item in items if item.pod is not None}
    # An undone successor is back under its name with another uid: its own record tells of it.
    failed = {item.record.title for item in items if item.record.failed}

    def open_(pod: Obj) -> bool:
        item = known.get(predicates.uid_of(pod))
        return item.starting if item is not None else _title(pod) not in failed

    return [pod for pod in pods if not stays(pod) and open_(pod)]


def replaced(items: Sequence[Item], fresh: Sequence[Item]) -> list[Item]:
    """``items`` with what has been decided since, in the place of what was said of the same pod before."""
    by_uid = {predicates.uid_of(item.pod): item for item in fresh if item.pod is not None}
    kept = [by_uid.pop(predicates.uid_of(item.pod), item) if item.pod is not None else item for item in items]
    return kept + list(by_uid.values())


def still_there(items: Sequence[Item], pods: Sequence[Obj]) -> list[Item]:
    """Items for what is on the node at the end although nobody has decided about it."""
    known = {predicates.uid_of(item.pod) for item in items if item.pod is not None}
    return [_remains(pod, seen=predicates.uid_of(pod) in known) for pod in undecided(items, pods)]


def _remains(pod: Obj, *, seen: bool) -> Item:
    why = "it was still starting" if seen else "it was not there yet"
    return Item(
        PodRecord(
            str(predicates.metadata(pod).get("namespace")),
            predicates.name_of(pod),
            "leave",
            "undecided",
            reason="It is on the node still.",
            error=f"it is on the node still, and {why} when the drain looked ({predicates.why_not_ready(pod)})"
            if starting(pod)
            else f"it is on the node still, and {why} when the drain looked",
            remedy="Run the play again: it is looked at anew.",
        ),
        pod,
    )


def _title(pod: Obj) -> str:
    return f"{predicates.metadata(pod).get('namespace')}/{predicates.name_of(pod)}"
