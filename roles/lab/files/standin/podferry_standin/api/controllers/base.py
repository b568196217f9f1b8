# SPDX-License-Identifier: Apache-2.0
"""What controllers share: owners, readiness, Events."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from abc import ABC, abstractmethod
from typing import Any

from .. import defaults, selectors
from ..registry import Registry
from ..resources import EVENTS, PODS, Resource

Obj = dict[str, Any]

CLOCK = "clock"  # among what a controller watches: it wants to be called every second
_HASH_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Controller(ABC):
    """Makes what is stored agree with what is asked for, in one call, as often as it is called."""

    watches: frozenset[str] = frozenset()

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.store = registry.store

    @abstractmethod
    def reconcile(self) -> None:
        """Do what there is to do now."""

    def event(
        self, component: str, resource: Resource, about: Obj, reason: str, message: str, kind: str = "Normal"
    ) -> None:
        """Record an Event; the same one again counts up."""
        meta = about["metadata"]
        namespace = meta.get("namespace") or "default"
        stamp = defaults.timestamp(self.registry.clock())
        for event in self.store.list(EVENTS, namespace):
            if event["involvedObject"].get("uid") == meta["uid"] and (event["reason"], event["message"]) == (
                reason,
                message,
            ):
                event.update(count=event.get("count", 1) + 1, lastTimestamp=stamp)
                self.store.replace(EVENTS, event)
                return
        reference = {
            "kind": resource.kind,
            "name": meta["name"],
            "uid": meta["uid"],
            "apiVersion": resource.api_version,
        }
        reference["resourceVersion"] = meta.get("resourceVersion", "")
        if meta.get("namespace"):
            reference["namespace"] = meta["namespace"]
        body: Obj = {
            "metadata": {"name": f"{meta['name']}.{time.time_ns():x}"},
            "involvedObject": reference,
            "reason": reason,
        }
        body.update(
            message=message,
            source={"component": component},
            firstTimestamp=stamp,
            lastTimestamp=stamp,
            count=1,
            type=kind,
        )
        body.update(eventTime=None, reportingComponent=component, reportingInstance="")
        self.registry.create(EVENTS, namespace, body)

    def set_status(self, resource: Resource, obj: Obj, status: Obj) -> None:
        """Write a status if it differs."""
        if obj.get("status") != status:
            self.registry.modify(resource, obj, lambda have: have.update(status=status), subresource="status")

    def claim(self, resource: Resource, owner: Obj, pods: list[Obj]) -> list[Obj]:
        """The pods that are this owner's: its own that it selects, and orphans that it selects, which it adopts.

        Own pods that the selector no longer matches are released. Nothing is adopted by an owner that is going.
        """
        selector, uid = owner["spec"]["selector"], owner["metadata"]["uid"]
        going = "deletionTimestamp" in owner["metadata"]
        mine: list[Obj] = []
        for pod in pods:
            reference = controller_of(pod)
            matches = selectors.selects(selector, pod["metadata"].get("labels") or {})
            if reference is not None:
                if reference["uid"] != uid:
                    continue
                if matches:
                    mine.append(pod)
                elif not going:
                    self.registry.modify(PODS, pod, lambda have: release(have, uid))
            elif matches and not going and "deletionTimestamp" not in pod["metadata"]:
                reference = owner_reference(resource, owner)
                mine.append(self.registry.modify(PODS, pod, lambda have, ref=reference: adopt(have, ref)))  # type: ignore[misc]
        return mine


def controller_of(obj: Obj) -> Obj | None:
    """The owner reference with ``controller: true``."""
    return next((ref for ref in obj["metadata"].get("ownerReferences") or [] if ref.get("controller")), None)


def owner_reference(resource: Resource, owner: Obj) -> Obj:
    """A controlling reference to the owner."""
    meta = owner["metadata"]
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def adopt(obj: Obj, reference: Obj) -> None:
    """Add an owner."""
    obj["metadata"].setdefault("ownerReferences", []).append(reference)


def release(obj: Obj, uid: str) -> None:
    """Take an owner away."""
    kept = [ref for ref in obj["metadata"].get("ownerReferences") or [] if ref["uid"] != uid]
    obj["metadata"]["ownerReferences"] = kept


def is_active(pod: Obj) -> bool:
    """Neither ended nor being deleted."""
    return pod["status"].get("phase") not in ("Succeeded", "Failed") and "deletionTimestamp" not in pod["metadata"]


def condition(obj: Obj, kind: str) -> Obj:
    """A condition by type; empty if there is none."""
    found: Obj = next((c for c in (obj.get("status") or {}).get("conditions") or [] if c["type"] == kind), {})
    return found


def is_ready(pod: Obj) -> bool:
    """The Ready condition."""
    return bool(condition(pod, "Ready").get("status") == "True")


def template_hash(template: Obj) -> str:
    """A short stable name for a pod template: the same template gives the same hash."""
    bare = copy.deepcopy(template)
    (bare.get("metadata") or {}).get("labels", {}).pop("pod-template-hash", None)
    digest = hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).digest()
    return "".join(_HASH_ALPHABET[byte % len(_HASH_ALPHABET)] for byte in digest[:10])


def pod_from(template: Obj, reference: Obj) -> Obj:
    """A pod of a template, owned."""
    meta = template.get("metadata") or {}
    pod: Obj = {"metadata": {"ownerReferences": [reference]}, "spec": copy.deepcopy(template["spec"])}
    for key in ("labels", "annotations", "finalizers"):
        if meta.get(key):
            pod["metadata"][key] = copy.deepcopy(meta[key])
    return pod
