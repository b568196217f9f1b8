# SPDX-License-Identifier: Apache-2.0
"""The world with nodes that can be cordoned, several pods on them, and evictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._kube import predicates
from ansible_collections.podferry.live.plugins.module_utils._kube.cluster import FIELD_MANAGER
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError
from ansible_collections.podferry.live.plugins.module_utils._migrate.ports import Tools
from doubles import objects
from doubles.world import FakeCluster, World

JsonDict = dict[str, Any]


class Nodes(FakeCluster):
    """The API of a world, with what a drain asks of it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.nodes = {
            name: objects.node(name, {"metadata": {"resourceVersion": "1", "annotations": {}}}) for name in world.nodes
        }
        self.patches: list[tuple[str, JsonDict, bool | None]] = []
        self.manager = FIELD_MANAGER
        """Who patches, by whom the API keeps the cordon; '' for an API that keeps nothing."""
        self.budgets: dict[str, int] = {}
        """How often the eviction of a pod is refused."""
        self.grace: set[str] = set()
        """Pods that do not go while anybody looks."""
        self.evicted: list[str] = []

    def get_node(self, name: str) -> JsonDict | None:
        return self.nodes.get(name)

    def list_nodes(self) -> list[JsonDict]:
        return list(self.nodes.values())

    def list_pods(self, namespace: str | None, *, field_selector: str = "", label_selector: str = "") -> list[JsonDict]:
        listed = super().list_pods(namespace, field_selector=field_selector, label_selector=label_selector)
        if field_selector.startswith("spec.nodeName="):
            listed = [p for p in listed if predicates.node_of(p) == field_selector.partition("=")[2]]
        return listed

    def patch_node(
        self,
        name: str,
        *,
        annotations: Mapping[str, str | None],
        unschedulable: bool | None = None,
        seen: Mapping[str, Any] | None = None,
    ) -> JsonDict:
        node = self.nodes[name]
        meta = node["metadata"]
        if seen is not None and seen["metadata"]["resourceVersion"] != meta["resourceVersion"]:
            raise KubeError(409, "Conflict", "the object has been modified")
        self.patches.append((name, dict(annotations), unschedulable))
        changed = {**meta["annotations"], **annotations}
        spec = dict(node["spec"])
        managed = meta.get("managedFields", [])
        if unschedulable is not None and unschedulable != bool(spec.get("unschedulable")):
            entry = {"manager": self.manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:unschedulable": {}}}}
            others = [m for m in managed if "f:spec" not in m["fieldsV1"]]
            managed = [*others, entry] if self.manager and unschedulable else others
        if unschedulable is not None:
            spec["unschedulable"] = unschedulable
        self.nodes[name] = {
            **node,
            "spec": spec,
            "metadata": {
                **meta,
                "managedFields": managed,
                "resourceVersion": str(int(meta["resourceVersion"]) + 1),
                "annotations": {k: v for k, v in changed.items() if v is not None},
            },
        }
        return self.nodes[name]

    def evict_pod(self, namespace: str, name: str, *, uid: str) -> bool:
        if self.budgets.get(name, 0) > 0:
            self.budgets[name] -= 1
            raise KubeError(429, "TooManyRequests", "it would violate the pod's disruption budget")
        self.evicted.append(name)
        if name in self.grace:
            self.world.pods[name]["metadata"]["deletionTimestamp"] = "now"
            return True
        return self.world.pods.pop(name, None) is not None


def tools(world: World, cluster: Nodes) -> Tools:
    """Tools of the world, with that cluster."""
    return replace(world.tools(), cluster=cluster, who="me@here")
