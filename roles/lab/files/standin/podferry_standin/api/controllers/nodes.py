# SPDX-License-Identifier: Apache-2.0
"""Node lifecycle: a node whose kubelet stops reporting becomes NotReady, and so do its pods."""

from __future__ import annotations

import copy
import time
from typing import Any

from .. import defaults
from ..resources import NODES, PODS
from .base import CLOCK, Controller, condition
from .placement import UNSCHEDULABLE

Obj = dict[str, Any]

GRACE_SECONDS = 15.0
_STALL_SECONDS = 5.0
_NOT_READY, _UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"
_COMPONENT = "node-controller"


class NodeLifecycle(Controller):
    """Watches heartbeats by its own clock: when this process itself stood still, every node gets its time again."""

    watches = frozenset({"nodes", CLOCK})

    def __init__(self, registry: Any) -> None:
        super().__init__(registry)
        self._seen: dict[str, tuple[str, float]] = {}
        self._last = time.monotonic()

    def reconcile(self) -> None:
        """All nodes."""
        now = time.monotonic()
        if now - self._last > _STALL_SECONDS:
            self._seen.clear()
        self._last = now
        for node in self.store.list(NODES):
            name, ready = node["metadata"]["name"], condition(node, "Ready")
            self._taint(node)
            if not ready:
                continue
            beat = ready.get("lastHeartbeatTime", "") + ready.get("status", "")
            known = self._seen.get(name)
            if known is None:
                self.event(
                    _COMPONENT,
                    NODES,
                    node,
                    "RegisteredNode",
                    f"Node {name} event: Registered Node {name} in Controller",
                )
            if known is None or known[0] != beat:
                self._seen[name] = (beat, now)
            elif now - known[1] > GRACE_SECONDS and ready.get("status") in ("True", "False"):
                self._lost(node)

    def _lost(self, node: Obj) -> None:
        stamp = defaults.timestamp(self.registry.clock())
        status = copy.deepcopy(node["status"])
        for item in status["conditions"]:
            item.update(
                status="Unknown",
                reason="NodeStatusUnknown",
                message="Kubelet stopped posting node status.",
                lastTransitionTime=stamp,
            )
        self.set_status(NODES, node, status)
        self._taint({**node, "status": status})
        name = node["metadata"]["name"]
        self.event(_COMPONENT, NODES, node, "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        for pod in self.store.list(PODS):
            if pod["spec"].get("nodeName") == name and condition(pod, "Ready").get("status") == "True":
                pod_status = copy.deepcopy(pod["status"])
                for item in pod_status["conditions"]:
                    if item["type"] == "Ready":
                        item.update(status="False", lastTransitionTime=stamp)
                self.set_status(PODS, pod, pod_status)

    def _taint(self, node: Obj) -> None:
        """The taints that cordon and conditions stand for; those of others stay."""
        spec, ready = node.get("spec") or {}, condition(node, "Ready").get("status")
        wanted = [(UNSCHEDULABLE, "NoSchedule")] if spec.get("unschedulable") else []
        if ready in ("False", "Unknown"):
            key = _NOT_READY if ready == "False" else _UNREACHABLE
            wanted += [(key, "NoSchedule"), (key, "NoExecute")]
        have = spec.get("taints") or []
        own = {(t["key"], t["effect"]): t for t in have if t["key"] in (UNSCHEDULABLE, _NOT_READY, _UNREACHABLE)}
        if set(own) == set(wanted):
            return
        stamp = defaults.timestamp(self.registry.clock())
        taints = [t for t in have if (t["key"], t["effect"]) not in own]
        taints += [
            own.get((key, effect)) or {"key": key, "effect": effect, "timeAdded": stamp} for key, effect in wanted
        ]

        def change(stored: Obj) -> None:
            stored.setdefault("spec", {}).pop("taints", None)
            if taints:
                stored["spec"]["taints"] = taints

        self.registry.modify(NODES, node, change)
