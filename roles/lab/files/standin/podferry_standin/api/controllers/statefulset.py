# SPDX-License-Identifier: Apache-2.0
"""StatefulSets: pods with ordinals, one after another; orphans with the right name are adopted."""

from __future__ import annotations

import re
from typing import Any

from .. import errors
from ..resources import PODS, STATEFULSETS
from .base import Controller, is_ready, owner_reference, pod_from, template_hash

Obj = dict[str, Any]

_COMPONENT = "statefulset-controller"


class StatefulSetController(Controller):
    """Keeps the ordinals of a StatefulSet."""

    watches = frozenset({"statefulsets", "pods"})

    def reconcile(self) -> None:
        """All StatefulSets."""
        for owner in self.store.list(STATEFULSETS):
            meta = owner["metadata"]
            pattern = re.compile(re.escape(meta["name"]) + r"-(\d+)$")
            named = [pod for pod in self.store.list(PODS, meta["namespace"]) if pattern.match(pod["metadata"]["name"])]
            pods = {
                int(pod["metadata"]["name"].rpartition("-")[2]): pod for pod in self.claim(STATEFULSETS, owner, named)
            }
            taken = {int(pod["metadata"]["name"].rpartition("-")[2]) for pod in named}
            if "deletionTimestamp" not in meta:
                self._step(owner, pods, taken)
            self._status(owner, pods)

    def _step(self, owner: Obj, pods: dict[int, Obj], taken: set[int]) -> None:
        """Create the next that is missing, or delete the last that is too many: never both, never two when ordered."""
        meta, spec = owner["metadata"], owner["spec"]
        ordered = spec["podManagementPolicy"] == "OrderedReady"
        revision = f"{meta['name']}-{template_hash(spec['template'])}"
        for ordinal in range(spec["replicas"]):
            pod = pods.get(ordinal)
            if pod is None:
                if ordinal not in taken:
                    self._create(owner, ordinal, revision)
            elif pod["status"].get("phase") in ("Failed", "Succeeded") and "deletionTimestamp" not in pod["metadata"]:
                self._delete(owner, pod)
            elif is_ready(pod) and "deletionTimestamp" not in pod["metadata"]:
                continue
            if ordered:
                return
        extra = [pods[ordinal] for ordinal in sorted(pods, reverse=True) if ordinal >= spec["replicas"]]
        for pod in extra:
            if "deletionTimestamp" not in pod["metadata"]:
                self._delete(owner, pod)
            if ordered:
                return
        self._update(owner, pods, revision)

    def _update(self, owner: Obj, pods: dict[int, Obj], revision: str) -> None:
        """RollingUpdate: from the last ordinal down, one at a time."""
        strategy = owner["spec"]["updateStrategy"]
        if strategy["type"] != "RollingUpdate":
            return
        for ordinal in sorted(pods, reverse=True):
            pod = pods[ordinal]
            label = (pod["metadata"].get("labels") or {}).get("controller-revision-hash")
            if ordinal >= strategy["rollingUpdate"]["partition"] and label != revision:
                if "deletionTimestamp" not in pod["metadata"]:
                    self._delete(owner, pod)
                return

    def _create(self, owner: Obj, ordinal: int, revision: str) -> None:
        meta, spec = owner["metadata"], owner["spec"]
        name = f"{meta['name']}-{ordinal}"
        pod = pod_from(spec["template"], owner_reference(STATEFULSETS, owner))
        pod["metadata"].update(name=name, generateName=f"{meta['name']}-")
        labels = {
            "apps.kubernetes.io/pod-index": str(ordinal),
            "controller-revision-hash": revision,
            "statefulset.kubernetes.io/pod-name": name,
        }
        pod["metadata"].setdefault("labels", {}).update(labels)
        pod["spec"].update(hostname=name, subdomain=spec.get("serviceName", ""))
        try:
            self.registry.create(PODS, meta["namespace"], pod)
        except errors.ApiError as error:
            message = f"create Pod {name} in StatefulSet {meta['name']} failed error: {error.message}"
            self.event(_COMPONENT, STATEFULSETS, owner, "FailedCreate", message, "Warning")
            return
        self.event(
            _COMPONENT,
            STATEFULSETS,
            owner,
            "SuccessfulCreate",
            f"create Pod {name} in StatefulSet {meta['name']} successful",
        )

    def _delete(self, owner: Obj, pod: Obj) -> None:
        name = pod["metadata"]["name"]
        self.registry.delete(PODS, owner["metadata"]["namespace"], name)
        message = f"delete Pod {name} in StatefulSet {owner['metadata']['name']} successful"
        self.event(_COMPONENT, STATEFULSETS, owner, "SuccessfulDelete", message)

    def _status(self, owner: Obj, pods: dict[int, Obj]) -> None:
        meta = owner["metadata"]
        revision = f"{meta['name']}-{template_hash(owner['spec']['template'])}"
        ready = sum(1 for pod in pods.values() if is_ready(pod))
        current = sum(
            1
            for pod in pods.values()
            if (pod["metadata"].get("labels") or {}).get("controller-revision-hash") == revision
        )
        generation = meta.get("generation", 1)
        if "deletionTimestamp" in meta:  # the real one no longer looks at it
            generation = (owner.get("status") or {}).get("observedGeneration", generation)
        status: Obj = {"observedGeneration": generation, "replicas": len(pods)}
        status.update(
            {
                k: v
                for k, v in (("readyReplicas", ready), ("currentReplicas", current), ("updatedReplicas", current))
                if v
            }
        )
        status.update(currentRevision=revision, updateRevision=revision, collisionCount=0, availableReplicas=ready)
        self.set_status(STATEFULSETS, owner, status)
