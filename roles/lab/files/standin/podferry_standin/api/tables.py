# SPDX-License-Identifier: Apache-2.0
"""``Table`` answers: the columns kubectl prints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from .resources import Resource

Obj = dict[str, Any]
Column = tuple[str, int]  # name, priority (0 always, 1 with -o wide)

_COLUMNS: dict[str, tuple[Column, ...]] = {
    "pods": (
        ("Name", 0),
        ("Ready", 0),
        ("Status", 0),
        ("Restarts", 0),
        ("Age", 0),
        ("IP", 1),
        ("Node", 1),
        ("Nominated Node", 1),
        ("Readiness Gates", 1),
    ),
    "nodes": (
        ("Name", 0),
        ("Status", 0),
        ("Roles", 0),
        ("Age", 0),
        ("Version", 0),
        ("Internal-IP", 1),
        ("External-IP", 1),
        ("OS-Image", 1),
        ("Kernel-Version", 1),
        ("Container-Runtime", 1),
    ),
    "deployments": (("Name", 0), ("Ready", 0), ("Up-to-date", 0), ("Available", 0), ("Age", 0)),
    "replicasets": (("Name", 0), ("Desired", 0), ("Current", 0), ("Ready", 0), ("Age", 0)),
    "statefulsets": (("Name", 0), ("Ready", 0), ("Age", 0)),
    "services": (("Name", 0), ("Type", 0), ("Cluster-IP", 0), ("External-IP", 0), ("Port(s)", 0), ("Age", 0)),
    "namespaces": (("Name", 0), ("Status", 0), ("Age", 0)),
    "events": (("Last Seen", 0), ("Type", 0), ("Reason", 0), ("Object", 0), ("Message", 0)),
    "runtimeclasses": (("Name", 0), ("Handler", 0), ("Age", 0)),
    "persistentvolumeclaims": (
        ("Name", 0),
        ("Status", 0),
        ("Volume", 0),
        ("Capacity", 0),
        ("Access Modes", 0),
        ("StorageClass", 0),
        ("Age", 0),
        ("VolumeMode", 1),
    ),
    "persistentvolumes": (
        ("Name", 0),
        ("Capacity", 0),
        ("Access Modes", 0),
        ("Reclaim Policy", 0),
        ("Status", 0),
        ("Claim", 0),
        ("StorageClass", 0),
        ("Age", 0),
        ("VolumeMode", 1),
    ),
    "storageclasses": (
        ("Name", 0),
        ("Provisioner", 0),
        ("ReclaimPolicy", 0),
        ("VolumeBindingMode", 0),
        ("AllowVolumeExpansion", 0),
        ("Age", 0),
    ),
    "poddisruptionbudgets": (
        ("Name", 0),
        ("Min Available", 0),
        ("Max Unavailable", 0),
        ("Allowed Disruptions", 0),
        ("Age", 0),
    ),
    "horizontalpodautoscalers": (
        ("Name", 0),
        ("Reference", 0),
        ("Targets", 0),
        ("MinPods", 0),
        ("MaxPods", 0),
        ("Replicas", 0),
        ("Age", 0),
    ),
    "endpointslices": (("Name", 0), ("AddressType", 0), ("Ports", 0), ("Endpoints", 0), ("Age", 0)),
    "endpoints": (("Name", 0), ("Endpoints", 0), ("Age", 0)),
    "controllerrevisions": (("Name", 0), ("Controller", 0), ("Revision", 0), ("Age", 0)),
    "priorityclasses": (("Name", 0), ("Value", 0), ("Global-Default", 0), ("Age", 0), ("PreemptionPolicy", 0)),
}
_PLAIN: tuple[Column, ...] = (("Name", 0), ("Age", 0))


def wanted(request: web.BaseRequest) -> bool:
    """Whether the client's first choice is a ``Table``."""
    return "as=Table" in request.headers.get("Accept", "").partition(",")[0]


def table(
    resource: Resource, items: list[Obj], revision: str, *, headers: bool = True, include: str = "Metadata"
) -> Obj:
    """A ``Table`` of the items; the rows carry the objects' metadata, or the whole object, as the client asks."""
    columns = _COLUMNS.get(resource.plural, _PLAIN)
    answer: Obj = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": revision}}
    answer["columnDefinitions"] = [
        {
            "name": name,
            "type": "string",
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": priority,
        }
        for name, priority in (columns if headers else ())
    ]
    answer["rows"] = [
        {"cells": _CELLS.get(resource.plural, _plain)(item), "object": _row_object(item, include)} for item in items
    ]
    return answer


def _row_object(item: Obj, include: str) -> Obj | None:
    if include == "None":
        return None
    if include == "Object":
        return item
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}


def age(stamp: str | None) -> str:
    """``12s``, ``3m5s``, ``2h4m``, ``3d``: as kubectl shortens durations."""
    if not stamp:
        return "<unknown>"
    then = datetime.fromisoformat(stamp.replace("Z", "+00:00"))
    seconds = max(0, int((datetime.now(UTC) - then).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return f"{minutes}m{seconds % 60}s" if seconds % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d"


def _age(item: Obj) -> str:
    return age(item["metadata"].get("creationTimestamp"))


def _plain(item: Obj) -> list[Any]:
    return [item["metadata"]["name"], _age(item)]


def pod_reason(pod: Obj) -> str:
    """The STATUS column."""
    return _summary(pod)[0]


def _summary(pod: Obj) -> tuple[str, int, int]:
    """STATUS, ready containers and restarts as kubectl's server-side printer counts them: sidecars are containers."""
    status, spec = pod.get("status") or {}, pod["spec"]
    reason = str(status.get("reason") or status.get("phase", ""))
    stay = {c["name"] for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"}
    init = status.get("initContainerStatuses") or []
    ready = 0
    initializing = ""
    for index, entry in enumerate(init):
        state, sidecar = entry.get("state") or {}, entry["name"] in stay
        ended, waiting = state.get("terminated"), (state.get("waiting") or {}).get("reason", "")
        if ended and ended.get("exitCode") == 0:
            continue
        if sidecar and entry.get("started"):
            ready += bool(entry.get("ready"))
            continue
        if ended:
            initializing = f"Init:{ended.get('reason') or 'ExitCode:' + str(ended.get('exitCode'))}"
        elif waiting and waiting != "PodInitializing":
            initializing = f"Init:{waiting}"
        else:
            initializing = f"Init:{index}/{len(spec['initContainers'])}"
        break
    restarts = sum(entry.get("restartCount", 0) for entry in init)
    initialized = any(c["type"] == "Initialized" and c["status"] == "True" for c in status.get("conditions") or [])
    if initializing and not initialized:
        reason = initializing
    else:
        restarts = sum(entry.get("restartCount", 0) for entry in init if entry["name"] in stay)
        running = False
        for container in reversed(status.get("containerStatuses") or []):
            state = container.get("state") or {}
            waiting, ended = (state.get("waiting") or {}).get("reason"), state.get("terminated") or {}
            restarts += container.get("restartCount", 0)
            ready += bool(container.get("ready"))
            running = running or bool(container.get("ready") and "running" in state)
            if waiting:
                reason = waiting
            elif ended:
                reason = ended.get("reason") or f"ExitCode:{ended.get('exitCode')}"
        if reason == "Completed" and running:
            reason = "Running"
    return ("Terminating" if "deletionTimestamp" in pod["metadata"] else reason), ready, restarts


def _pod(item: Obj) -> list[Any]:
    status, spec = item.get("status") or {}, item["spec"]
    reason, ready, restarts = _summary(item)
    gates = [gate["conditionType"] for gate in spec.get("readinessGates") or []]
    met = {c["type"] for c in status.get("conditions") or [] if c["status"] == "True"}
    stay = sum(1 for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always")
    return [
        item["metadata"]["name"],
        f"{ready}/{len(spec['containers']) + stay}",
        reason,
        restarts,
        _age(item),
        status.get("podIP") or "<none>",
        spec.get("nodeName") or "<none>",
        "<none>",
        f"{sum(1 for gate in gates if gate in met)}/{len(gates)}" if gates else "<none>",
    ]


def _node(item: Obj) -> list[Any]:
    status = item.get("status") or {}
    ready = next((c["status"] for c in status.get("conditions") or [] if c["type"] == "Ready"), "Unknown")
    state = "Ready" if ready == "True" else "NotReady"
    if (item.get("spec") or {}).get("unschedulable"):
        state += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    roles = ",".join(sorted(k[len(prefix) :] for k in item["metadata"].get("labels") or {} if k.startswith(prefix)))
    addresses = {a["type"]: a["address"] for a in status.get("addresses") or []}
    info = status.get("nodeInfo") or {}
    return [
        item["metadata"]["name"],
        state,
        roles or "<none>",
        _age(item),
        info.get("kubeletVersion", ""),
        addresses.get("InternalIP", "<none>"),
        addresses.get("ExternalIP", "<none>"),
        info.get("osImage", ""),
        info.get("kernelVersion", ""),
        info.get("containerRuntimeVersion", ""),
    ]


def _deployment(item: Obj) -> list[Any]:
    status = item.get("status") or {}
    ready = f"{status.get('readyReplicas', 0)}/{item['spec']['replicas']}"
    return [
        item["metadata"]["name"],
        ready,
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(item),
    ]


def _replicaset(item: Obj) -> list[Any]:
    status = item.get("status") or {}
    return [
        item["metadata"]["name"],
        item["spec"]["replicas"],
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        _age(item),
    ]


def _statefulset(item: Obj) -> list[Any]:
    return [
        item["metadata"]["name"],
        f"{(item.get('status') or {}).get('readyReplicas', 0)}/{item['spec']['replicas']}",
        _age(item),
    ]


def _service(item: Obj) -> list[Any]:
    spec = item["spec"]
    ports = ",".join(f"{port['port']}/{port['protocol']}" for port in spec.get("ports") or []) or "<none>"
    return [item["metadata"]["name"], spec["type"], spec.get("clusterIP") or "<none>", "<none>", ports, _age(item)]


def _namespace(item: Obj) -> list[Any]:
    return [item["metadata"]["name"], (item.get("status") or {}).get("phase", ""), _age(item)]


def _event(item: Obj) -> list[Any]:
    about = item.get("involvedObject") or {}
    last = item.get("lastTimestamp") or item.get("eventTime") or item["metadata"].get("creationTimestamp")
    return [
        age(last.split(".")[0].rstrip("Z") + "Z" if last else None),
        item.get("type", ""),
        item.get("reason", ""),
        f"{about.get('kind', '').lower()}/{about.get('name', '')}",
        (item.get("message") or "").strip(),
    ]


def _runtimeclass(item: Obj) -> list[Any]:
    return [item["metadata"]["name"], item["handler"], _age(item)]


_SHORT_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}


def _modes(modes: list[str] | None) -> str:
    return ",".join(_SHORT_MODES.get(mode, mode) for mode in modes or [])


def _claim(item: Obj) -> list[Any]:
    spec, status = item["spec"], item.get("status") or {}
    bound = bool(spec.get("volumeName"))
    return [
        item["metadata"]["name"],
        "Terminating" if "deletionTimestamp" in item["metadata"] else status.get("phase", ""),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "") if bound else "",
        _modes(status.get("accessModes")) if bound else "",
        spec.get("storageClassName", ""),
        _age(item),
        spec.get("volumeMode", ""),
    ]


def _volume(item: Obj) -> list[Any]:
    spec, claim = item["spec"], item["spec"].get("claimRef")
    return [
        item["metadata"]["name"],
        spec["capacity"]["storage"],
        _modes(spec.get("accessModes")),
        spec["persistentVolumeReclaimPolicy"],
        "Terminating" if "deletionTimestamp" in item["metadata"] else (item.get("status") or {}).get("phase", ""),
        f"{claim['namespace']}/{claim['name']}" if claim else "",
        spec.get("storageClassName", ""),
        _age(item),
        spec.get("volumeMode", ""),
    ]


def _storageclass(item: Obj) -> list[Any]:
    name = item["metadata"]["name"]
    notes = item["metadata"].get("annotations") or {}
    if notes.get("storageclass.kubernetes.io/is-default-class") == "true":
        name += " (default)"
    expansion = str(item.get("allowVolumeExpansion", False)).lower()
    return [name, item["provisioner"], item["reclaimPolicy"], item["volumeBindingMode"], expansion, _age(item)]


def _budget(item: Obj) -> list[Any]:
    spec, status = item["spec"], item.get("status") or {}
    limits = [str(spec.get(key, "N/A")) for key in ("minAvailable", "maxUnavailable")]
    return [item["metadata"]["name"], *limits, status.get("disruptionsAllowed", 0), _age(item)]


def _autoscaler(item: Obj) -> list[Any]:
    spec, status = item["spec"], item.get("status") or {}
    target = spec["scaleTargetRef"]
    return [
        item["metadata"]["name"],
        f"{target['kind']}/{target['name']}",
        "<unknown>" if spec.get("metrics") else "<none>",
        spec.get("minReplicas", 1),
        spec["maxReplicas"],
        status.get("currentReplicas", 0),
        _age(item),
    ]


def _few(values: list[str]) -> str:
    """The first three, as kubectl shortens lists."""
    rest = f" + {len(values) - 3} more..." if len(values) > 3 else ""
    return (",".join(values[:3]) + rest) or "<none>"


def _slice(item: Obj) -> list[Any]:
    ports = [str(port.get("port", "*")) for port in item.get("ports") or []]
    addresses = [address for endpoint in item.get("endpoints") or [] for address in endpoint["addresses"]]
    unset = "<unset>"
    return [item["metadata"]["name"], item["addressType"], _few(ports) if ports else unset, _few(addresses), _age(item)]


def _endpoints(item: Obj) -> list[Any]:
    found = [
        f"{address['ip']}:{port['port']}" if port else address["ip"]
        for subset in item.get("subsets") or []
        for port in subset.get("ports") or [None]
        for address in subset.get("addresses") or []
    ]
    return [item["metadata"]["name"], _few(found), _age(item)]


def _revision(item: Obj) -> list[Any]:
    owner = next((ref for ref in item["metadata"].get("ownerReferences") or [] if ref.get("controller")), None)
    name = f"{owner['kind'].lower()}.{owner['apiVersion'].partition('/')[0]}/{owner['name']}" if owner else "<none>"
    return [item["metadata"]["name"], name, item["revision"], _age(item)]


def _priorityclass(item: Obj) -> list[Any]:
    policy = item.get("preemptionPolicy", "PreemptLowerPriority")
    return [item["metadata"]["name"], item["value"], str(item.get("globalDefault", False)).lower(), _age(item), policy]


_CELLS = {
    "pods": _pod,
    "nodes": _node,
    "deployments": _deployment,
    "replicasets": _replicaset,
    "statefulsets": _statefulset,
    "services": _service,
    "namespaces": _namespace,
    "events": _event,
    "runtimeclasses": _runtimeclass,
    "persistentvolumeclaims": _claim,
    "persistentvolumes": _volume,
    "storageclasses": _storageclass,
    "poddisruptionbudgets": _budget,
    "horizontalpodautoscalers": _autoscaler,
    "endpointslices": _slice,
    "endpoints": _endpoints,
    "controllerrevisions": _revision,
    "priorityclasses": _priorityclass,
}
