# SPDX-License-Identifier: Apache-2.0
"""Endpoints and EndpointSlices of services with a selector."""

from __future__ import annotations

from typing import Any

from ..resources import BY_NAME, PODS, Resource
from .base import Controller, controller_of, is_ready, owner_reference

Obj = dict[str, Any]

_SERVICES, _ENDPOINTS, _SLICES = BY_NAME["services"], BY_NAME["endpoints"], BY_NAME["endpointslices"]


class EndpointsController(Controller):
    """Lists the pods behind each service: what is Ready, what is not, what ends."""

    watches = frozenset({"services", "pods"})

    def reconcile(self) -> None:
        """All services with a selector."""
        services = [item for item in self.store.list(_SERVICES) if item["spec"].get("selector")]
        pods = [pod for pod in self.store.list(PODS) if _counts(pod)] if services else []
        for service in services:
            meta, selector = service["metadata"], service["spec"]["selector"]
            if "deletionTimestamp" in meta:
                continue
            behind = [
                pod
                for pod in pods
                if pod["metadata"]["namespace"] == meta["namespace"]
                and selector.items() <= (pod["metadata"].get("labels") or {}).items()
            ]
            self._endpoints(service, behind)
            self._slice(service, behind)

    def _endpoints(self, service: Obj, pods: list[Obj]) -> None:
        """The older kind: without pods that end."""
        always = service["spec"].get("publishNotReadyAddresses", False)
        listed = [pod for pod in pods if always or "deletionTimestamp" not in pod["metadata"]]
        subset: Obj = {}
        for key, ready in (("addresses", True), ("notReadyAddresses", False)):
            found = [_address(service, pod) for pod in listed if (always or is_ready(pod)) is ready]
            if found:
                subset[key] = found
        ports = [{key: value for key, value in port.items() if value} for port in _ports(service, listed)]
        if subset and ports:
            subset["ports"] = ports
        body: Obj = {"subsets": [subset] if subset else []}
        labels = {"endpoints.kubernetes.io/managed-by": "endpoint-controller", **_headless(service)}
        meta = service["metadata"]
        current = self.store.find(_ENDPOINTS, meta["namespace"], meta["name"])
        self._put(_ENDPOINTS, service, current, {"name": meta["name"], "labels": labels}, body)

    def _slice(self, service: Obj, pods: list[Obj]) -> None:
        always, meta = service["spec"].get("publishNotReadyAddresses", False), service["metadata"]
        endpoints = []
        for pod in pods:
            going, serving = "deletionTimestamp" in pod["metadata"], is_ready(pod)
            address = _address(service, pod)
            endpoint: Obj = {
                "addresses": [address["ip"]],
                "conditions": {"ready": always or (serving and not going), "serving": serving, "terminating": going},
            }
            if "hostname" in address:
                endpoint["hostname"] = address["hostname"]
            endpoint.update(targetRef=address["targetRef"], nodeName=address["nodeName"])
            endpoints.append(endpoint)
        labels = {
            "kubernetes.io/service-name": meta["name"],
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            **_headless(service),
        }
        current = next(
            (
                item
                for item in self.store.list(_SLICES, meta["namespace"])
                if (controller_of(item) or {}).get("uid") == meta["uid"]
            ),
            None,
        )
        body = {"addressType": "IPv4", "endpoints": endpoints, "ports": _ports(service, pods)}
        self._put(_SLICES, service, current, {"generateName": f"{meta['name']}-", "labels": labels}, body)

    def _put(self, resource: Resource, service: Obj, current: Obj | None, meta: Obj, body: Obj) -> None:
        if current is None:
            meta["ownerReferences"] = [owner_reference(_SERVICES, service)]
            self.registry.create(resource, service["metadata"]["namespace"], {"metadata": meta, **body})
        else:
            self.registry.modify(resource, current, lambda have: have.update(body))


def _counts(pod: Obj) -> bool:
    return bool(pod["status"].get("podIP")) and pod["status"].get("phase") not in ("Succeeded", "Failed")


def _headless(service: Obj) -> dict[str, str]:
    return {"service.kubernetes.io/headless": ""} if service["spec"].get("clusterIP") == "None" else {}


def _ports(service: Obj, pods: list[Obj]) -> list[Obj]:
    """The service's ports as the pods have them: a named one is looked up, and left out if no pod has it."""
    named = {
        port["name"]: port["containerPort"]
        for pod in pods
        for container in [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
        for port in container.get("ports") or []
        if port.get("name")
    }
    found = []
    for port in service["spec"].get("ports") or []:
        target = port.get("targetPort", port["port"])
        number = target if isinstance(target, int) else named.get(target)
        if number is not None:
            found.append({"name": port.get("name", ""), "port": number, "protocol": port["protocol"]})
    return found


def _address(service: Obj, pod: Obj) -> Obj:
    meta, spec = pod["metadata"], pod["spec"]
    target = {"kind": "Pod", "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"]}
    made: Obj = {"ip": pod["status"]["podIP"], "nodeName": spec.get("nodeName"), "targetRef": target}
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        made["hostname"] = spec["hostname"]
    return made
