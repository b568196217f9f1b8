# SPDX-License-Identifier: Apache-2.0
"""Deployments: one ReplicaSet a template, and the pods moved from old ones to the new one."""

from __future__ import annotations

import copy
import math
from typing import Any

from .. import defaults
from ..resources import DEPLOYMENTS, REPLICASETS
from .base import Controller, controller_of, owner_reference, template_hash

Obj = dict[str, Any]

_REVISION = "deployment.kubernetes.io/revision"
_COMPONENT = "deployment-controller"


class DeploymentController(Controller):
    """Rolls Deployments forward."""

    watches = frozenset({"deployments", "replicasets", "pods"})

    def reconcile(self) -> None:
        """All Deployments."""
        for owner in self.store.list(DEPLOYMENTS):
            if "deletionTimestamp" in owner["metadata"]:
                continue
            new, old = self._replicasets(owner)
            if not owner["spec"].get("paused"):
                self._roll(owner, new, old)
            self._status(self.store.get(DEPLOYMENTS, owner["metadata"]["namespace"], owner["metadata"]["name"]))

    def _owned(self, owner: Obj) -> list[Obj]:
        meta = owner["metadata"]
        found = self.store.list(REPLICASETS, meta["namespace"])
        return [rs for rs in found if (controller_of(rs) or {}).get("uid") == meta["uid"]]

    def _replicasets(self, owner: Obj) -> tuple[Obj, list[Obj]]:
        """The ReplicaSet of the template, made if it is missing, and the others."""
        hash_ = template_hash(owner["spec"]["template"])
        owned = self._owned(owner)
        new = next((rs for rs in owned if template_hash(rs["spec"]["template"]) == hash_), None)
        old = [rs for rs in owned if new is None or rs["metadata"]["uid"] != new["metadata"]["uid"]]
        return new or self._create(owner, hash_, old), old

    def _create(self, owner: Obj, hash_: str, old: list[Obj]) -> Obj:
        meta, spec = owner["metadata"], owner["spec"]
        revision = (
            max((int((rs["metadata"].get("annotations") or {}).get(_REVISION, "0")) for rs in old), default=0) + 1
        )
        template, selector = copy.deepcopy(spec["template"]), copy.deepcopy(spec["selector"])
        template.setdefault("metadata", {}).setdefault("labels", {})["pod-template-hash"] = hash_
        selector.setdefault("matchLabels", {})["pod-template-hash"] = hash_
        replicas = spec["replicas"] if not old else 0
        body: Obj = {
            "metadata": {
                "name": f"{meta['name']}-{hash_}",
                "labels": dict(template["metadata"]["labels"]),
                "annotations": {_REVISION: str(revision)},
                "ownerReferences": [owner_reference(DEPLOYMENTS, owner)],
            },
            "spec": {"replicas": replicas, "selector": selector, "template": template},
        }
        created = self.registry.create(REPLICASETS, meta["namespace"], body)
        self.registry.modify(
            DEPLOYMENTS,
            owner,
            lambda have: have["metadata"].setdefault("annotations", {}).update({_REVISION: str(revision)}),
        )
        if replicas:
            self._say(owner, created, 0, replicas)
        return created

    def _say(self, owner: Obj, rs: Obj, before: int, after: int) -> None:
        direction = "up" if after > before else "down"
        message = f"Scaled {direction} replica set {rs['metadata']['name']} from {before} to {after}"
        self.event(_COMPONENT, DEPLOYMENTS, owner, "ScalingReplicaSet", message)

    def _resize(self, owner: Obj, rs: Obj, replicas: int) -> None:
        before = rs["spec"]["replicas"]
        if replicas != before:
            self.registry.modify(REPLICASETS, rs, lambda have: have["spec"].update(replicas=replicas))
            self._say(owner, rs, before, replicas)

    def _roll(self, owner: Obj, new: Obj, old: list[Obj]) -> None:
        spec = owner["spec"]
        wanted, running = (
            spec["replicas"],
            [rs for rs in old if rs["spec"]["replicas"] or (rs.get("status") or {}).get("replicas")],
        )
        if not running:
            self._resize(owner, new, wanted)
            return
        if spec["strategy"]["type"] == "Recreate":
            for rs in running:
                self._resize(owner, rs, 0)
            if not any(
                (rs.get("status") or {}).get("replicas") or (rs.get("status") or {}).get("terminatingReplicas")
                for rs in running
            ):
                self._resize(owner, new, wanted)
            return
        rolling = spec["strategy"]["rollingUpdate"]
        surge, unavailable = (
            _share(rolling["maxSurge"], wanted, up=True),
            _share(rolling["maxUnavailable"], wanted, up=False),
        )
        if not surge and not unavailable:
            unavailable = 1
        total = new["spec"]["replicas"] + sum(rs["spec"]["replicas"] for rs in running)
        self._resize(owner, new, min(wanted, new["spec"]["replicas"] + max(0, wanted + surge - total)))
        available = sum((rs.get("status") or {}).get("availableReplicas", 0) for rs in [new, *running])
        spare = available - (wanted - unavailable)
        for rs in running:
            unready = rs["spec"]["replicas"] - (rs.get("status") or {}).get("availableReplicas", 0)
            drop = min(rs["spec"]["replicas"], max(0, unready) + max(0, spare))
            spare -= max(0, drop - max(0, unready))
            self._resize(owner, rs, rs["spec"]["replicas"] - drop)

    def _status(self, owner: Obj) -> None:
        owned = self._owned(owner)
        hash_ = template_hash(owner["spec"]["template"])
        new = next((rs for rs in owned if template_hash(rs["spec"]["template"]) == hash_), None)

        def total(field: str, sets: list[Obj]) -> int:
            return sum((rs.get("status") or {}).get(field, 0) for rs in sets)

        wanted, available = owner["spec"]["replicas"], total("availableReplicas", owned)
        counts = (
            ("replicas", total("replicas", owned)),
            ("updatedReplicas", total("replicas", [new] if new else [])),
            ("readyReplicas", total("readyReplicas", owned)),
            ("availableReplicas", available),
            ("unavailableReplicas", max(0, wanted - available)),
        )
        status: Obj = {"observedGeneration": owner["metadata"].get("generation", 1)}
        status.update({name: value for name, value in counts if value})
        status["terminatingReplicas"] = total("terminatingReplicas", owned)
        enough = available >= wanted - _share(
            (owner["spec"]["strategy"].get("rollingUpdate") or {}).get("maxUnavailable", 0), wanted, up=False
        )
        done = available >= wanted and total("replicas", owned) == wanted
        name = new["metadata"]["name"] if new else ""
        status["conditions"] = [
            self._condition(owner, "Available", enough, *(_AVAILABLE if enough else _UNAVAILABLE)),
            self._condition(owner, "Progressing", True, *_progress(name, done)),
        ]
        self.set_status(DEPLOYMENTS, owner, status)

    def _condition(self, owner: Obj, kind: str, value: bool, reason: str, message: str) -> Obj:
        state = "True" if value else "False"
        have: Obj = next((c for c in (owner.get("status") or {}).get("conditions") or [] if c["type"] == kind), {})
        stamp = defaults.timestamp(self.registry.clock())
        if (have.get("status"), have.get("reason"), have.get("message")) == (state, reason, message):
            return have
        changed = have.get("lastTransitionTime") if have.get("status") == state else stamp
        return {
            "type": kind,
            "status": state,
            "lastUpdateTime": stamp,
            "lastTransitionTime": changed,
            "reason": reason,
            "message": message,
        }


_AVAILABLE = ("MinimumReplicasAvailable", "Deployment has minimum availability.")
_UNAVAILABLE = ("MinimumReplicasUnavailable", "Deployment does not have minimum availability.")


def _progress(name: str, done: bool) -> tuple[str, str]:
    if done:
        return "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.'
    return "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.'


def _share(value: Any, of: int, *, up: bool) -> int:
    """A number or a percentage of the replicas."""
    if isinstance(value, str) and value.endswith("%"):
        part = of * int(value[:-1]) / 100
        return math.ceil(part) if up else math.floor(part)
    return int(value)
