# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Which pods of a node are nobody's to move, and what becomes of those that cannot be moved. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .._kube import predicates
from .estimate import MIB
from .nodes import request

Obj = Mapping[str, Any]
Rest = Literal["leave", "evict"]

_GIB = 1024 * MIB
_MIRROR = "kubernetes.io/config.mirror"

_BEGIN_AND_END_S = 120.0
_EACH_S = 60.0
_PER_GIB_S = 800.0  # KubeVirt's completionTimeoutPerGiB: 1.3 MiB/s, below which nobody waits


def stays(pod: Obj) -> str:
    """Why the pod stays on its node whatever is asked for; '' when it is to go."""
    owner = predicates.controller_of(pod) or {}
    if _MIRROR in predicates.annotations_of(pod) or owner.get("kind") == "Node":
        return "It is the mirror of a static pod, which belongs to its node's kubelet."
    if owner.get("kind") == "DaemonSet":
        return f"It belongs to DaemonSet {owner.get('name')}, which keeps one on every node."
    if predicates.failed(pod):
        return f"It has ended ({predicates.phase(pod)})."
    if predicates.terminating(pod):
        return "It is being deleted already."
    return ""


def may_evict(pod: Obj, codes: Sequence[str]) -> str:
    """Why a pod that cannot be moved is not evicted either although that was asked for; '' when it is."""
    if "migration_under_way" in codes:
        return "It is not evicted: somebody else is moving it."
    if predicates.controller_of(pod) is None:
        return "It is not evicted: nobody owns it, so nobody would create it again."
    return ""


def biggest_first(pod: Obj) -> tuple[Any, ...]:
    """Sorts pods so that the big ones find their place while there is most room; equal ones by name."""
    return (-request(pod, "memory"), -request(pod, "cpu"), _namespace(pod), predicates.name_of(pod))


def deadline_s(sizes: Sequence[int], at_once: int) -> float:
    """Seconds that a drain of pods of these sizes (bytes) may take when nobody said."""
    work = sum(_EACH_S + size / _GIB * _PER_GIB_S for size in sizes)
    longest = max((_EACH_S + size / _GIB * _PER_GIB_S for size in sizes), default=0.0)
    return _BEGIN_AND_END_S + max(work / max(at_once, 1), longest)


def _namespace(pod: Obj) -> str:
    return str(predicates.metadata(pod).get("namespace"))
