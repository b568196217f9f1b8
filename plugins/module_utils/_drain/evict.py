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
from .item import Item
from .options import NodesApi

_PAUSE_S = 2.0


def evict(items: Sequence[Item], tools: Tools, cluster: NodesApi, stopped: Callable[[], bool]) -> None:
    """Each item gets its outcome: ``evicted``, or ``not_evicted`` with what kept it."""
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
        item.record.outcome = "not_evicted"
        item.record.error = item.record.error or "it was not gone when the drain ended"


def _step(item: Item, cluster: NodesApi, asked: set[int]) -> bool:
    """One try; True when the pod is gone."""
    record = item.record
    uid = predicates.uid_of(item.pod or {})
    try:
        if id(item) not in asked:
            if not cluster.evict_pod(record.namespace, record.pod, uid=uid):
                return _gone(item)
            asked.add(id(item))
            record.error = ""
        there = cluster.get_pod(record.namespace, record.pod)
    except KubeError as exc:
        record.error = f"the API does not allow its eviction: {exc.message}"
        return False
    except KubeUnavailable as exc:
        record.error = f"the API does not answer: {exc}"
        return False
    if there is None or predicates.uid_of(there) != uid:
        return _gone(item)
    return False


def _gone(item: Item) -> bool:
    item.record.outcome = "evicted"
    item.record.error = ""
    return True
