# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What runs inside the pod, as the source node sees it: can it be dumped, and would it still be right elsewhere?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from .._kube import predicates
from .facts import ContainerInspection, PodInspection
from .options import TcpMode
from .refusals import Refusal, refuse

_HANDLERS = ("", "runc", "crun", "podferry", "default")
_CARRIED_MOUNTS = ("kubelet-volume", "sandbox", "standard")


def check_workload(inspection: PodInspection, expected_ids: Mapping[str, str], tcp: TcpMode) -> list[Refusal]:
    """All that the processes say against it. ``expected_ids``: container name to id, as the API tells."""
    found: list[Refusal] = []
    seen = {c.name: c for c in inspection.containers}
    for name, container_id in expected_ids.items():
        container = seen.get(name)
        known = predicates.bare_id(container_id)
        if container is None or predicates.bare_id(container.id) != known:
            found.append(
                refuse("not_in_runtime", f"The source node's runtime does not have container {name} as {known[:12]}.")
            )
        else:
            found += check_container(container, tcp)
    found += _check_segments(inspection.containers)
    return found + [refuse("unix_socket", f"In the pod, {words}.") for words in inspection.unix_problems]


def _check_segments(containers: Sequence[ContainerInspection]) -> list[Refusal]:
    """A restore attaches only the System V memory that it has made itself."""
    return [
        refuse("sysv_ipc", f"Containers {one.name} and {other.name} share System V memory: {_some(common)}.")
        for one, other in combinations(containers, 2)
        if (common := tuple(sorted(set(one.sysv_segments) & set(other.sysv_segments))))
    ]


def check_container(c: ContainerInspection, tcp: TcpMode) -> list[Refusal]:
    """One container."""
    found: list[Refusal] = []
    where = f"Container {c.name}"
    if c.frozen or c.status == "paused":
        found.append(refuse("frozen", f"{where} is frozen already."))
    elif c.status != "running":
        found.append(
            refuse("not_in_runtime", f"{where} is {c.status or 'in no known state'} on its node, not running.")
        )
    if c.runtime_handler not in _HANDLERS:
        found.append(refuse("runtime_class", f"{where} runs under the handler {c.runtime_handler}."))
    if c.rootfs_upper_bytes < 0:
        found.append(refuse("rootfs", f"{where} has a root file system that is not an overlay."))
    if c.foreign:
        found.append(refuse("exec_process", f"{where} has processes that entered from outside: {_some(c.foreign)}."))
    if c.tty or c.stdin:
        found.append(refuse("terminal", f"{where} has {'a terminal' if c.tty else 'its stdin held open'}."))
    if c.io_uring:
        found.append(refuse("io_uring", f"{where} uses io_uring: {_some(c.io_uring)}."))
    if c.devices:
        found.append(refuse("device", f"{where} has devices: {_some(c.devices)}."))
    if c.user_namespace:
        found.append(refuse("user_ns_inside", f"{where} has a user namespace."))
    if c.open_volume_files:
        found.append(refuse("open_volume_file", f"{where} has open: {_some(c.open_volume_files)}."))
    for mount in c.mounts:
        if mount.get("kind") not in _CARRIED_MOUNTS:
            found.append(
                refuse("host_path", f"{where} has {mount.get('source')} mounted at {mount.get('destination')}.")
            )
    return found + _check_sockets(where, c, tcp)


def _check_sockets(where: str, c: ContainerInspection, tcp: TcpMode) -> list[Refusal]:
    found: list[Refusal] = []
    s = c.sockets
    if tcp == "refuse" and s.established:
        found.append(refuse("tcp_established", f"{where} has {s.established} established TCP connections."))
    if s.bound_to_pod_ip:
        found.append(refuse("socket_pod_ip", f"{where} has sockets bound to the pod's IP: {_some(s.bound_to_pod_ip)}."))
    if s.udp_connected:
        found.append(refuse("udp_connected", f"{where} has {s.udp_connected} connected UDP sockets."))
    if s.unlistable:
        found.append(refuse("socket_unlistable", f"{where} has sockets that cannot be carried: {_some(s.unlistable)}."))
    return found


def _some(items: tuple[str, ...]) -> str:
    return ", ".join(items[:5]) + (f" and {len(items) - 5} more" if len(items) > 5 else "")
