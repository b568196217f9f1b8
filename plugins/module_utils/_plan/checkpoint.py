# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Can a pod be dumped where it is, to be restored later? And may what was dumped be restored on this node?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._kube import predicates
from . import budgets, compatibility, estimate, nodes, podspec, workload
from .facts import NodeFacts, PodInspection
from .options import Options
from .refusals import Refusal, ordered, refuse

Obj = Mapping[str, Any]

_OUTSIDE = ("persistentVolumeClaim", "hostPath", "nfs", "csi", "iscsi", "ephemeral")
"""Volumes whose files are not the pod's own: a checkpoint names them, and does not hold them."""
_ABOUT_OTHER_NODES = frozenset(
    ("extra_networks", "host_path", "host_port", "localhost_profile", "volume", "volume_access")
)
"""What keeps a pod from another node does not keep it from being dumped where it is."""


@dataclass(frozen=True)
class Subject:
    """What was read about one pod; ``facts`` and ``inspection`` are None where the node could not be asked."""

    pod: Obj
    hosts: Sequence[str]
    """Inventory hosts that stand for its node."""
    own_digest: str
    facts: NodeFacts | None = None
    inspection: PodInspection | None = None
    error: str = ""
    """Why the node could not be asked."""
    told: Obj = field(default_factory=dict, repr=False)
    """The node's facts as it told them, to be kept with the checkpoint."""


def check_source(subject: Subject, options: Options) -> list[Refusal]:
    """All that keeps the pod from being dumped. Its owner does not matter: it stays where it is."""
    pod = subject.pod
    name = predicates.node_of(pod) or ""
    if not name or not predicates.running(pod):
        return [refuse("pod_not_running", f"The pod is not running: {predicates.why_not_ready(pod)}.")]
    found = [r for r in podspec.check_spec(pod, {}) if r.code not in _ABOUT_OTHER_NODES]
    found += nodes.check_inventory(name, subject.hosts)
    if subject.error:
        found.append(refuse("node_unreachable", f"No session to node {name}: {subject.error}"))
    facts, inspection = subject.facts, subject.inspection
    if facts is not None:
        found += compatibility.check_node(name, facts, subject.own_digest)
    if inspection is not None:
        seen = workload.check_workload(inspection, predicates.container_ids(pod), options.tcp)
        found += [r for r in seen if r.code not in _ABOUT_OTHER_NODES]
        found += budgets.check_liveness(pod, inspection, twin=False)
        if facts is not None:
            found += compatibility.check_sockets(inspection, facts, name)
            found += budgets.check_dump(inspection, options, facts, name)
    return ordered(found)


def warnings(subject: Subject) -> list[str]:
    """What a checkpoint of this pod will not hold."""
    volumes = (subject.pod.get("spec") or {}).get("volumes") or []
    outside = sorted(str(v.get("name")) for v in volumes if any(kind in v for kind in _OUTSIDE))
    found = []
    if outside:
        found.append(
            f"The files of the volumes {', '.join(outside)} are not part of the checkpoint: a restore meets what is there then."
        )
    if subject.inspection is not None and subject.inspection.established:
        found.append(
            f"{subject.inspection.established} TCP connections are closed in the checkpoint; the pod keeps them."
        )
    return found


def deadlines(pod: Obj, inspection: PodInspection | None, options: Options) -> estimate.Deadlines:
    """Seconds for the steps on the node; the freeze stays below what the pod's probes survive."""
    need = budgets.need_bytes(inspection, options) if inspection else 0
    return estimate.deadlines(need, probe_budget_s=budgets.pod_budget_s(pod), twin=False)


def check_target(
    taken: NodeFacts, target: NodeFacts, own_digest: str, *, source_name: str, target_name: str, need: int, memory: int
) -> list[Refusal]:
    """May a state that was taken under ``taken`` go on here? ``need``: bytes of its images, ``memory`` of its processes."""
    found = compatibility.check_node(target_name, target, own_digest)
    found += compatibility.check_pair(taken, target, source_name=source_name, target_name=target_name)
    if target.mem_available < need + memory:
        found.append(
            refuse(
                "memory",
                f"Node {target_name} has {budgets.mib(target.mem_available)} of memory available; "
                f"{budgets.mib(need + memory)} are needed there.",
            )
        )
    return ordered(found)
