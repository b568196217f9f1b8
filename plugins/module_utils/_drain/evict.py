# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Evicting what could not be moved, as its disruption budgets allow, until a deadline."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .._kube import predicates
from .._kube.errors import KubeError, KubeUnavailable
from .._migrate.ports import Tools
from .._report.drain import PodRecord
from .item import Item
from .options import NodesApi

_PAUSE_S = 2.0


def evict(items: Sequence[Item], tools: Tools, cluster: NodesApi, stopped: Callable[[], bool]) -> None:
    """Each item gets its outcome: ``evicted``, ``evicting`` when it is to go and has not gone yet, or ``not_evicted``."""
    asked: set[int] = set()
    open_items = list(items)
    while open_items:
        for item in list(open_items):
            if _step(item, cluster, asked):
                tools.reporter.phase("evicted", "", item.record.title)
                open_items.remove(item)
        if not open_items or stopped():
            break
        tools.sleep(_PAUSE_S)
    for item in open_items:
        _open(item.record, accepted=id(item) in asked)


def _open(record: PodRecord, *, accepted: bool) -> None:
    if accepted:
        record.outcome = "evicting"
        record.error = "its eviction was accepted, and it was not gone when the drain ended"
        record.remedy = "It goes when its grace period ends; give the drain a longer deadline to wait for that."
    else:
        record.outcome = "not_evicted"
        record.error = record.error or "its eviction was not accepted before the drain ended"


def _step(item: Item, cluster: NodesApi, asked: set[int]) -> bool:
    """One try; True when the pod is gone. A refusal alone does not say that it is: the pod is looked at."""
    record = item.record
    uid = predicates.uid_of(item.pod or {})
    if id(item) not in asked and _ask(record, cluster, uid):
        asked.add(id(item))
    try:
        there = cluster.get_pod(record.namespace, record.pod)
    except KubeError as exc:
        record.error = record.error or f"the API does not show the pod: {exc.message}"
        return False
    except KubeUnavailable as exc:
        record.error = record.error or f"the API does not answer: {exc}"
        return False
    if there is None or predicates.uid_of(there) != uid:
        return _gone(item)
    if predicates.terminating(there):  # by us, an answer being lost, or by somebody else: it goes
        asked.add(id(item))
    return False


def _ask(record: PodRecord, cluster: NodesApi, uid: str) -> bool:
    """Ask for the eviction; True when it is accepted. Else the record has what kept it."""
    try:
        record.error = ""
        return cluster.evict_pod(record.namespace, record.pod, uid=uid)
    except KubeError as exc:
        record.error = f"the API does not allow its eviction: {exc.message}"
    except KubeUnavailable as exc:
        record.error = f"the API does not answer: {exc}"
    return False


def _gone(item: Item) -> bool:
    item.record.outcome = "evicted"
    item.record.error = ""
    return True
