# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Memory for the dump, time for the freeze: what must be there before anything is stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._kube import predicates
from .estimate import MIB, freeze_s, inside_create_s
from .facts import NodeFacts, PodInspection
from .options import Options
from .refusals import Refusal, refuse

Obj = Mapping[str, Any]

_LEAST_MARGIN = 64 * MIB
_CRI_SHARE = 0.6  # of the kubelet's timeout: an estimate is an estimate
_DEFAULT_CRI_TIMEOUT_S = 120.0


def need_bytes(inspection: PodInspection, options: Options) -> int:
    """Bytes of tmpfs to have free on each node: the dump with its margin."""
    dump = inspection.need_bytes
    if options.through and inspection.stage_bytes:
        dump += inspection.tree_bytes
    return dump + max(int(dump * options.memory_margin), _LEAST_MARGIN)


def check_memory(
    inspection: PodInspection,
    options: Options,
    source: NodeFacts,
    target: NodeFacts,
    *,
    source_name: str,
    target_name: str,
) -> list[Refusal]:
    """The source holds the dump beside the process; the target holds the images and the restored process."""
    need = need_bytes(inspection, options)
    found: list[Refusal] = []
    for name, facts, wanted in (
        (source_name, source, need),
        (target_name, target, need + inspection.memory_bytes),
    ):
        if facts.mem_available < wanted:
            found.append(
                refuse(
                    "memory",
                    f"Node {name} has {mib(facts.mem_available)} of memory available; {mib(wanted)} are needed there.",
                )
            )
    return found


def check_dump(inspection: PodInspection, options: Options, facts: NodeFacts, name: str) -> list[Refusal]:
    """A node that only dumps holds the dump beside the process until it is stored, and copies of the files on its disk."""
    need = need_bytes(inspection, options) + inspection.stage_bytes
    found: list[Refusal] = []
    if facts.mem_available < need:
        found.append(
            refuse("memory", f"Node {name} has {mib(facts.mem_available)} of memory available; {mib(need)} are needed.")
        )
    if inspection.stage_bytes and facts.disk_available is not None and facts.disk_available < inspection.stage_bytes:
        found.append(
            refuse(
                "disk",
                f"Node {name} has {mib(facts.disk_available)} free in /var/lib; {mib(inspection.stage_bytes)} are needed.",
            )
        )
    return found


def check_disk(
    inspection: PodInspection, source: NodeFacts, target: NodeFacts, *, source_name: str, target_name: str
) -> list[Refusal]:
    """Copies of the pod's files wait on both disks; the target also takes them in."""
    wanted = inspection.stage_bytes
    found = []
    for name, facts, need in ((source_name, source, wanted), (target_name, target, wanted + inspection.tree_bytes)):
        if wanted and facts.disk_available is not None and facts.disk_available < need:
            found.append(
                refuse(
                    "disk",
                    f"Node {name} has {mib(facts.disk_available)} free in /var/lib; {mib(need)} are needed there.",
                )
            )
    return found


def check_cri_time(inspection: PodInspection, target: NodeFacts, target_name: str, *, twin: bool) -> list[Refusal]:
    """The restore happens inside one call of the target's kubelet to its runtime."""
    limit = target.runtime_request_timeout_s or _DEFAULT_CRI_TIMEOUT_S
    expected = inside_create_s(
        inspection.need_bytes, tree_bytes=inspection.tree_bytes, containers=len(inspection.containers), twin=twin
    )
    if expected <= _CRI_SHARE * limit:
        return []
    return [
        refuse(
            "freeze_too_long",
            f"The move would take about {expected:.0f} s inside a call that the kubelet of {target_name} gives {limit:.0f} s.",
        )
    ]


def probe_budget_s(probe: Obj) -> float | None:
    """Seconds of silence that an HTTP or gRPC probe survives for certain; None for other kinds of probes.

    TCP probes succeed on a frozen process (the kernel accepts), exec probes end in a runtime error that the
    kubelet throws away.
    """
    if not (probe.get("httpGet") or probe.get("grpc")):
        return None
    threshold = int(probe.get("failureThreshold") or 3)
    period = float(probe.get("periodSeconds") or 10)
    timeout = float(probe.get("timeoutSeconds") or 1)
    return (threshold - 1) * period - timeout


def pod_budget_s(pod: Obj) -> float | None:
    """The least budget of the pod's liveness probes; None without any that counts."""
    probes = [c.get("livenessProbe") or {} for c in predicates.containers_of(pod)]
    return min((b for b in map(probe_budget_s, probes) if b is not None), default=None)


def until_ready_s(container: Obj) -> float:
    """Seconds that a thawed container may take to be seen Ready: its own probes' first success, and the kubelet's word."""
    total = 1.5
    for field in ("startupProbe", "readinessProbe"):
        probe = container.get(field) or {}
        if probe:
            successes = int(probe.get("successThreshold") or 1)
            period = float(probe.get("periodSeconds") or 10)
            total += float(probe.get("initialDelaySeconds") or 0) + successes * period
    return total


def check_liveness(pod: Obj, inspection: PodInspection, *, twin: bool) -> list[Refusal]:
    """A liveness probe that gives up on the frozen source would have its kubelet start it anew.

    A successor's source is deleted before the restore; a twin's stays frozen until the target is Ready.
    """
    found: list[Refusal] = []
    for container in predicates.containers_of(pod):
        expected = freeze_s(inspection.need_bytes, len(inspection.containers)) + (
            until_ready_s(container) if twin else 0.0
        )
        budget = probe_budget_s(container.get("livenessProbe") or {})
        if budget is not None and budget < expected:
            found.append(
                refuse(
                    "liveness",
                    f"The livenessProbe of container {container.get('name')} survives {max(budget, 0.0):.1f} s of silence for certain; "
                    f"the source may stand frozen for {expected:.1f} s.",
                )
            )
    return found


def mib(size: int) -> str:
    """Bytes for a person."""
    return f"{size / MIB:.0f} MiB"
