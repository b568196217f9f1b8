# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Questions about pods and nodes, as pure functions over what the API returned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Obj = Mapping[str, Any]


def metadata(obj: Obj) -> Mapping[str, Any]:
    return obj.get("metadata") or {}


def name_of(obj: Obj) -> str:
    return str(metadata(obj).get("name", ""))


def uid_of(obj: Obj) -> str:
    return str(metadata(obj).get("uid", ""))


def labels_of(obj: Obj) -> dict[str, str]:
    return dict(metadata(obj).get("labels") or {})


def annotations_of(obj: Obj) -> dict[str, str]:
    return dict(metadata(obj).get("annotations") or {})


def node_of(pod: Obj) -> str | None:
    return (pod.get("spec") or {}).get("nodeName") or None


def pod_ip(pod: Obj) -> str | None:
    return (pod.get("status") or {}).get("podIP") or None


def phase(pod: Obj) -> str:
    return str((pod.get("status") or {}).get("phase") or "Unknown")


def terminating(obj: Obj) -> bool:
    return bool(metadata(obj).get("deletionTimestamp"))


def condition(obj: Obj, kind: str) -> bool:
    """True when the object's condition ``kind`` reads ``True``."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(c.get("type") == kind and c.get("status") == "True" for c in conditions)


def ready(pod: Obj) -> bool:
    return not terminating(pod) and phase(pod) == "Running" and condition(pod, "Ready")


FROZEN = "PodferryFrozen"
"""Why a source reads not Ready that has been frozen for good: we said so."""


def was_ready(pod: Obj) -> bool:
    """Ready, or it would be if we had not marked it as frozen."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return ready(pod) or any(c.get("type") == "Ready" and c.get("reason") == FROZEN for c in conditions)


def running(pod: Obj) -> bool:
    """Phase Running, not terminating, and every container of it is running."""
    if terminating(pod) or phase(pod) != "Running":
        return False
    statuses = container_statuses(pod)
    return (
        bool(statuses)
        and len(statuses) == len(containers_of(pod))
        and all("running" in (s.get("state") or {}) for s in statuses)
    )


def failed(pod: Obj) -> bool:
    """The pod has ended and the kubelet will not start it again."""
    return phase(pod) in ("Failed", "Succeeded")


def sidecar(container: Obj) -> bool:
    """An init container that goes on beside the others."""
    return container.get("restartPolicy") == "Always"


def containers_of(pod: Obj) -> list[Obj]:
    """The containers that run for as long as the pod does, in the order in which the kubelet starts them."""
    spec = pod.get("spec") or {}
    return [c for c in spec.get("initContainers") or [] if sidecar(c)] + list(spec.get("containers") or [])


def init_containers_of(pod: Obj) -> list[Obj]:
    """The init containers that run to their end before the others start."""
    return [c for c in (pod.get("spec") or {}).get("initContainers") or [] if not sidecar(c)]


def status_of(pod: Obj, container: str) -> Mapping[str, Any]:
    """What the kubelet says about one container; empty when it says nothing."""
    status = pod.get("status") or {}
    told = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    return next((s for s in told if s.get("name") == container), {})


def container_statuses(pod: Obj) -> list[Mapping[str, Any]]:
    """The statuses of :func:`containers_of`, in that order (the API sorts them by name)."""
    found = [status_of(pod, str(c.get("name"))) for c in containers_of(pod)]
    return [status for status in found if status]


def container_ids(pod: Obj) -> dict[str, str]:
    """Container name to its id as the kubelet tells it (``containerd://<64 hexadecimal digits>``)."""
    return {str(s.get("name")): str(s["containerID"]) for s in container_statuses(pod) if s.get("containerID")}


def bare_id(container_id: str) -> str:
    """``containerd://abc`` to ``abc``."""
    return container_id.rpartition("://")[2]


def restarts(pod: Obj) -> dict[str, int]:
    """How often each container was started anew."""
    return {str(s.get("name")): int(s.get("restartCount") or 0) for s in container_statuses(pod)}


def ended(pod: Obj) -> bool:
    """Whether a container of it has ended, also when it was started anew since."""
    return any("terminated" in (s.get(when) or {}) for s in container_statuses(pod) for when in ("state", "lastState"))


def why_not_ready(pod: Obj) -> str:
    """The most telling sentence of a pod's status, for messages."""
    if terminating(pod):
        return "it is being deleted"
    status = pod.get("status") or {}
    for entry in container_statuses(pod):
        for state in (entry.get("state") or {}).items():
            if state[0] in ("waiting", "terminated"):
                detail = state[1] or {}
                words = " ".join(str(detail.get(k)) for k in ("reason", "message") if detail.get(k))
                return f"container {entry.get('name')} is {state[0]}: {words or 'no reason given'}"
    text = " ".join(str(status[k]) for k in ("reason", "message") if status.get(k))
    return f"its phase is {phase(pod)}" + (f": {text}" if text else "")


def controller_of(obj: Obj) -> Mapping[str, Any] | None:
    """The owner reference whose ``controller`` is true."""
    for reference in metadata(obj).get("ownerReferences") or []:
        if reference.get("controller"):
            return dict(reference)
    return None


def owned_by(obj: Obj, uid: str) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == uid


def node_ready(node: Obj) -> bool:
    return condition(node, "Ready")


def schedulable(node: Obj) -> bool:
    return not (node.get("spec") or {}).get("unschedulable")


def internal_ip(node: Obj) -> str | None:
    """The node's InternalIP, else its first address that is not a host name."""
    addresses = (node.get("status") or {}).get("addresses") or []
    for kind in ("InternalIP", "ExternalIP"):
        for address in addresses:
            if address.get("type") == kind:
                return str(address.get("address"))
    return None


def handlers_of(node: Obj) -> list[str] | None:
    """Runtime handlers that the kubelet reports; None when it reports none at all (before 1.30)."""
    handlers = (node.get("status") or {}).get("runtimeHandlers")
    if not handlers:
        return None
    return [str(h.get("name") or "") for h in handlers]
