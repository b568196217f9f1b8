# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What the API says about a pod before its kubelet is asked: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._common.errors import InvalidInput
from .errors import ContainerNotFound, NotRunning, PodElsewhere, PodNotFound

_KINDS = (("containers", "containerStatuses"), ("initContainers", "initContainerStatuses"),
          ("ephemeralContainers", "ephemeralContainerStatuses"))  # fmt: skip


def container_of(pod: Mapping[str, Any] | None, namespace: str, name: str, wanted: str, node: str) -> str:
    """Return the container that a checkpoint can be made of on this node now: the wanted one, else the only one.

    Raises PodNotFound, PodElsewhere, ContainerNotFound, NotRunning, InvalidInput.
    """
    title = f"pod {namespace}/{name}"
    if pod is None:
        raise PodNotFound(f"there is no {title}", "Check name and namespace.")
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    there = spec.get("nodeName")
    if there != node:
        raise PodElsewhere(
            f"{title} is on {there or 'no node'}, this task runs on {node}",
            "Run it on the pod's node (hosts or delegate_to); podferry_node_name where the host's name is not the node's.",
        )
    names = {kind: [str(one.get("name")) for one in spec.get(kind) or []] for kind, _statuses in _KINDS}
    if not wanted and len(names["containers"]) != 1:
        raise InvalidInput(f"{title} has several containers: {', '.join(names['containers'])}", "Name one.")
    chosen = wanted or names["containers"][0]
    known = [one for some in names.values() for one in some]
    if chosen not in known:
        raise ContainerNotFound(f"{title} has no container {chosen}", f"It has {', '.join(known)}.")
    states = {one.get("name"): one.get("state") or {} for _kind, key in _KINDS for one in status.get(key) or []}
    if "running" not in states.get(chosen, {}):
        raise NotRunning(f"container {chosen} of {title} does not run", "Only running containers can be checkpointed.")
    return chosen
