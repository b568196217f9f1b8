# SPDX-License-Identifier: Apache-2.0
"""Endpoints and EndpointSlices of services with a selector."""

from __future__ import annotations

from typing import Any

from ..resources import BY_NAME, PODS
from .base import Controller, is_ready, owner_reference

Obj = dict[str, Any]

_SERVICES, _ENDPOINTS, _SLICES = BY_NAME["services"], BY_NAME["endpoints"], BY_NAME["endpointslices"]


class EndpointsController(Controller):
    """Lists the Ready pods behind each service."""

    watches = frozenset({"services", "pods"})

    def reconcile(self) -> None:
        """All services with a selector."""
        for service in self.store.list(_SERVICES):
            selector = service["spec"].get("selector")
            if not selector:
                continue
            meta = service["metadata"]
            pods = [
                pod
                for pod in self.store.list(PODS, meta["namespace"])
                if selector.items() <= (pod["metadata"].get("labels") or {}).items()
                and pod["status"].get("podIP")
                and pod["status"].get("phase") not in ("Succeeded", "Failed")
            ]
            self._endpoints(service, pods)
            self._slice(service, pods)

    def _endpoints(self, service: Obj, pods: list[Obj]) -> None:
        subset: Obj = {}
        for key, ready in (("addresses", True), ("notReadyAddresses", False)):
            found = [_address(pod) for pod in pods if _serves(pod) is ready]
            if found:
                subset[key] = found
        ports = [
            {k: v for k, v in {"name": p.get("name"), "port": _number(p), "protocol": p["protocol"]}.items() if v}
            for p in service["spec"].get("ports") or []
        ]
        body: Obj = {"subsets": [{**subset, "ports": ports}] if subset else []}
        self._put(_ENDPOINTS, service, service["metadata"]["name"], body, {})

    def _slice(self, service: Obj, pods: list[Obj]) -> None:
        ports = [
            {"name": p.get("name", ""), "port": _number(p), "protocol": p["protocol"]}
            for p in service["spec"].get("ports") or []
        ]
        endpoints = []
        for pod in pods:
            going = "deletionTimestamp" in pod["metadata"]
            conditions = {"ready": _serves(pod), "serving": is_ready(pod), "terminating": going}
            endpoints.append(
                {
                    "addresses": [pod["status"]["podIP"]],
                    "conditions": conditions,
                    "targetRef": _address(pod)["targetRef"],
                    "nodeName": pod["spec"].get("nodeName"),
                }
            )
        labels = {
            "kubernetes.io/service-name": service["metadata"]["name"],
            "endpointslice.kubernetes.io/managed-by": "podferry-standin",
        }
        body = {"addressType": "IPv4", "endpoints": endpoints, "ports": ports}
        self._put(_SLICES, service, f"{service['metadata']['name']}-standin", body, labels)

    def _put(self, resource: Any, service: Obj, name: str, body: Obj, labels: dict[str, str]) -> None:
        namespace = service["metadata"]["namespace"]
        current = self.store.find(resource, namespace, name)
        if current is None:
            reference = owner_reference(_SERVICES, service)
            self.registry.create(
                resource,
                namespace,
                {"metadata": {"name": name, "labels": labels, "ownerReferences": [reference]}, **body},
            )
        else:
            self.registry.modify(resource, current, lambda have: have.update(body))


def _serves(pod: Obj) -> bool:
    return is_ready(pod) and "deletionTimestamp" not in pod["metadata"]


def _number(port: Obj) -> int:
    target = port.get("targetPort", port["port"])
    return target if isinstance(target, int) else port["port"]


def _address(pod: Obj) -> Obj:
    meta = pod["metadata"]
    target = {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
    return {"ip": pod["status"]["podIP"], "nodeName": pod["spec"].get("nodeName"), "targetRef": target}
