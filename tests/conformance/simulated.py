# SPDX-License-Identifier: Apache-2.0
"""Kubelets without nodes: they write the statuses that the stand-in's kubelet would, for containers that always start."""

from __future__ import annotations

import hashlib
import time
from types import SimpleNamespace
from typing import Any

from podferry_standin.api import defaults
from podferry_standin.api.controllers.base import Controller
from podferry_standin.api.registry import Registry
from podferry_standin.api.resources import NODES as NODE_RESOURCE
from podferry_standin.api.resources import PODS
from podferry_standin.kubelet import status
from podferry_standin.kubelet.order import is_sidecar
from podferry_standin.kubelet.states import EXITED, RUNNING

Obj = dict[str, Any]
NODES = ("nodea", "nodeb")
_CONDITIONS = (("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"), ("Ready", "True"))


class SimulatedKubelets(Controller):
    """One step a round for each pod: creating, sandbox up, running; ended, deleted."""

    watches = frozenset({"pods", "nodes"})

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self.held: set[str] = set()
        for number, name in enumerate(NODES):
            registry.create(
                NODE_RESOURCE, "", {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {}}
            )
            beat = {
                "lastHeartbeatTime": "2999-01-01T00:00:00Z",
                "lastTransitionTime": defaults.timestamp(),
                "reason": "Simulated",
                "message": "",
            }
            state = {
                "conditions": [{"type": kind, "status": value, **beat} for kind, value in _CONDITIONS],
                "addresses": [{"type": "InternalIP", "address": f"10.99.0.1{number + 1}"}],
            }
            registry.update(NODE_RESOURCE, "", name, {"status": state}, subresource="status")

    def reconcile(self) -> None:
        """All pods that have a node."""
        for pod in self.store.list(PODS):
            if pod["spec"].get("nodeName") in NODES:
                self._step(pod)

    def _step(self, pod: Obj) -> None:
        meta, old = pod["metadata"], pod["status"]
        going, held = "deletionTimestamp" in meta, meta["name"] in self.held
        if going and old["phase"] in ("Failed", "Succeeded"):
            self.registry.delete(PODS, meta["namespace"], meta["name"], {"gracePeriodSeconds": 0})
            return
        fresh = "startTime" not in old
        observed = old.get("observedGeneration") == meta.get("generation")
        containers = [
            status.ContainerView(spec, self._runtime(spec, pod, fresh, going and observed, held))
            for spec in pod["spec"]["containers"]
        ]
        init = [
            status.ContainerView(
                spec, self._runtime(spec, pod, fresh, (going and observed) or not is_sidecar(spec), held)
            )
            for spec in pod["spec"].get("initContainers") or []
        ]
        view = status.PodView(
            pod,
            "10.99.0.11",
            "containerd",
            "10.88.1.2",
            not fresh and not (going and observed),
            going and observed,
            containers,
            init,
        )
        self.set_status(PODS, pod, status.build(view))

    @staticmethod
    def _runtime(spec: Obj, pod: Obj, fresh: bool, ended: bool, held: bool) -> Any:
        if fresh or held:
            return None
        started = time.time_ns() // 10**9 * 10**9
        told = [*(pod["status"].get("containerStatuses") or []), *(pod["status"].get("initContainerStatuses") or [])]
        entry: Obj = next((item for item in told if item["name"] == spec["name"]), {})
        before = entry.get("state", {}).get("terminated")
        known = entry.get("state", {}).get("running") or before
        if known:
            started = (
                int(time.mktime(time.strptime(known["startedAt"], "%Y-%m-%dT%H:%M:%SZ"))) * 10**9
                - time.timezone * 10**9
            )
        return SimpleNamespace(
            id=hashlib.sha256(pod["metadata"]["uid"].encode()).hexdigest(),
            metadata=SimpleNamespace(name=spec["name"], attempt=0),
            state=EXITED if ended else RUNNING,
            started_at=started,
            finished_at=started if ended else 0,
            exit_code=before["exitCode"] if before else 137 if ended and "deletionTimestamp" in pod["metadata"] else 0,
            reason="",
            message="",
            image=SimpleNamespace(image=spec["image"]),
            image_ref="sha256:" + "0" * 64,
        )
