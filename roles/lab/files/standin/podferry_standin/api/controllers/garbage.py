# SPDX-License-Identifier: Apache-2.0
"""What outlives its owner: dependents, orphans by request, contents of namespaces that go, old Events."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .. import defaults
from ..registry import Registry
from ..resources import BY_NAME, EVENTS, NAMESPACES, RESOURCES
from .base import Controller, release

Obj = dict[str, Any]

_ALWAYS = ("default", "kube-system", "kube-public", "kube-node-lease")
_EVENT_LIFE = timedelta(hours=1)
_OWNED = tuple(
    r
    for r in RESOURCES
    if r.plural
    in (
        "pods",
        "replicasets",
        "endpoints",
        "endpointslices",
        "configmaps",
        "secrets",
        "persistentvolumeclaims",
        "controllerrevisions",
    )
)
_OWNERS = tuple(r for r in RESOURCES if r.group in ("apps", "batch") or r.plural == "services")


class GarbageCollector(Controller):
    """Ends deletions with ``orphan`` and ``foregroundDeletion``, and deletes what lost its owner."""

    watches = frozenset(r.plural for r in (*_OWNED, *_OWNERS))

    def reconcile(self) -> None:
        """All owners and everything owned."""
        for resource in _OWNERS:
            for owner in self.store.list(resource):
                if "deletionTimestamp" in owner["metadata"]:
                    self._finish(resource, owner)
        self._collect()

    def _dependents(self, uid: str) -> list[tuple[Any, Obj]]:
        found = []
        for resource in _OWNED:
            for item in self.store.list(resource):
                if any(ref["uid"] == uid for ref in item["metadata"].get("ownerReferences") or []):
                    found.append((resource, item))
        return found

    def _finish(self, resource: Any, owner: Obj) -> None:
        meta, finalizers = owner["metadata"], owner["metadata"].get("finalizers") or []
        dependents = self._dependents(meta["uid"])
        if "orphan" in finalizers:
            for kind, item in dependents:
                self.registry.modify(kind, item, lambda have: release(have, meta["uid"]))
            done = "orphan"
        elif "foregroundDeletion" in finalizers:
            for kind, item in dependents:
                if "deletionTimestamp" not in item["metadata"]:
                    self.registry.delete(kind, item["metadata"].get("namespace", ""), item["metadata"]["name"])
            if dependents:
                return
            done = "foregroundDeletion"
        else:
            return
        kept = [name for name in finalizers if name != done]
        self.registry.modify(resource, owner, lambda have: have["metadata"].update(finalizers=kept))

    def _collect(self) -> None:
        """Delete what has owners of kinds served here, none of which exists any more."""
        alive = set().union(*(self.store.uids(resource) for resource in RESOURCES if resource is not EVENTS))
        served = {(r.api_version, r.kind) for r in _OWNERS} | {("v1", "Pod"), ("v1", "ConfigMap")}
        for resource in _OWNED:
            for item in self.store.list(resource):
                owners = item["metadata"].get("ownerReferences") or []
                known = [ref for ref in owners if (ref["apiVersion"], ref["kind"]) in served]
                lost = owners and len(known) == len(owners) and not any(ref["uid"] in alive for ref in owners)
                if lost and "deletionTimestamp" not in item["metadata"]:
                    self.registry.delete(resource, item["metadata"].get("namespace", ""), item["metadata"]["name"])


class NamespaceController(Controller):
    """Makes the standard namespaces, gives each the authority's certificate, empties those that go; expires Events."""

    watches = frozenset({r.plural for r in RESOURCES if r.namespaced} | {"namespaces"}) - {"events"}

    def __init__(self, registry: Registry, ca: str = "") -> None:
        super().__init__(registry)
        self._ca = ca

    def reconcile(self) -> None:
        """All namespaces."""
        for name in _ALWAYS:
            if self.store.find(NAMESPACES, "", name) is None:
                self.registry.create(NAMESPACES, "", {"metadata": {"name": name}})
        for namespace in self.store.list(NAMESPACES):
            if "deletionTimestamp" in namespace["metadata"]:
                self._empty(namespace)
            elif self.store.find(BY_NAME["configmaps"], namespace["metadata"]["name"], "kube-root-ca.crt") is None:
                body = {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": self._ca}}
                self.registry.create(BY_NAME["configmaps"], namespace["metadata"]["name"], body)
        limit = defaults.timestamp(self.registry.clock() - _EVENT_LIFE)
        for event in self.store.list(EVENTS):
            if (event.get("lastTimestamp") or event["metadata"]["creationTimestamp"]) < limit:
                self.store.remove(EVENTS, event)

    def _empty(self, namespace: Obj) -> None:
        name, left = namespace["metadata"]["name"], 0
        for resource in RESOURCES:
            if not resource.namespaced:
                continue
            for item in self.store.list(resource, name):
                left += 1
                if "deletionTimestamp" not in item["metadata"]:
                    self.registry.delete(resource, name, item["metadata"]["name"])
        if not left:
            self.store.remove(NAMESPACES, namespace)
