# SPDX-License-Identifier: Apache-2.0
"""Claims and volumes: matched, provisioned in the lab's shared folder, protected while in use, reclaimed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ... import quantities
from .. import selectors
from ..registry import Registry
from ..resources import BY_NAME, PODS
from .base import Controller

Obj = dict[str, Any]

CLASS = "lab-shared"
PROVISIONER = "podferry.live/lab-shared"
SERVER = "lab"  # of the nfs volumes: their path is one in the folder that all machines of the lab share
CLAIM_PROTECTION, VOLUME_PROTECTION = "kubernetes.io/pvc-protection", "kubernetes.io/pv-protection"

_CLAIMS, _VOLUMES, _CLASSES = BY_NAME["persistentvolumeclaims"], BY_NAME["persistentvolumes"], BY_NAME["storageclasses"]
_COMPONENT = "persistentvolume-controller"
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"


class VolumeController(Controller):
    """Binds claims, and makes and removes what is behind the class ``lab-shared``."""

    watches = frozenset({"persistentvolumeclaims", "persistentvolumes", "storageclasses", "pods"})

    def __init__(self, registry: Registry, shared: Path | None = None) -> None:
        """:param shared: the folder that all machines share; None: volumes have nothing behind them"""
        super().__init__(registry)
        self._shared = shared

    def reconcile(self) -> None:
        """All claims, then all volumes."""
        if self.store.find(_CLASSES, "", CLASS) is None:
            self.registry.create(_CLASSES, "", {"metadata": {"name": CLASS}, "provisioner": PROVISIONER})
        used = _used(self.store.list(PODS))
        for claim in self.store.list(_CLAIMS):
            self._claim(claim, used)
        for volume in self.store.list(_VOLUMES):
            self._volume(volume)

    # claims

    def _claim(self, claim: Obj, used: set[tuple[str, str]]) -> None:
        meta, key = claim["metadata"], (claim["metadata"]["namespace"], claim["metadata"]["name"])
        if "deletionTimestamp" in meta:
            if CLAIM_PROTECTION in (meta.get("finalizers") or []) and key not in used:
                self._drop(_CLAIMS, claim, CLAIM_PROTECTION)
            return
        if claim["status"].get("phase") == "Bound":
            if self.store.find(_VOLUMES, "", claim["spec"]["volumeName"]) is None:
                self.set_status(_CLAIMS, claim, {"phase": "Lost"})
            return
        volume = self._match(claim, waits=key not in used)
        if volume is not None:
            self._bind(claim, volume)

    def _match(self, claim: Obj, *, waits: bool) -> Obj | None:
        """The volume for a claim: the one it names, one that names it, the smallest that will do, or a new one."""
        spec = claim["spec"]
        volumes = self.store.list(_VOLUMES)
        if name := spec.get("volumeName"):
            named = next((v for v in volumes if v["metadata"]["name"] == name), None)
            return named if named is not None and _for(named, claim) is not False else None
        if ours := next((v for v in volumes if _for(v, claim) is True), None):
            return ours
        kind = self.store.find(_CLASSES, "", spec.get("storageClassName") or "")
        if waits and kind is not None and kind.get("volumeBindingMode") == "WaitForFirstConsumer":
            why = "waiting for first consumer to be created before binding"
            self._say(claim, "WaitForFirstConsumer", why)
            return None
        fitting = [v for v in volumes if _for(v, claim) is None and _fits(v, claim)]
        if fitting:
            return min(fitting, key=lambda v: quantities.quantity(v["spec"]["capacity"]["storage"]))
        if kind is not None and kind["provisioner"] == PROVISIONER and not spec.get("selector"):
            return self._provision(claim, kind)
        wanted = spec.get("storageClassName") or ""
        self._say(
            claim,
            "ProvisioningFailed" if wanted else "FailedBinding",
            f'storageclass.storage.k8s.io "{wanted}" not found'
            if wanted and kind is None
            else "no persistent volumes available for this claim and no storage class is set",
        )
        return None

    def _say(self, claim: Obj, reason: str, message: str, kind: str = "Normal") -> None:
        """Once: a claim that waits is looked at again and again."""
        about = claim["metadata"]["uid"]
        for event in self.store.list(BY_NAME["events"], claim["metadata"]["namespace"]):
            if (event["involvedObject"].get("uid"), event["reason"], event["message"]) == (about, reason, message):
                return
        self.event(_COMPONENT, _CLAIMS, claim, reason, message, kind)

    def _provision(self, claim: Obj, kind: Obj) -> Obj:
        meta, spec = claim["metadata"], claim["spec"]
        name = f"pvc-{meta['uid']}"
        path = f"/{meta['namespace']}-{meta['name']}-{name}"
        if self._shared is not None:
            folder = self._shared / path.lstrip("/")
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)
        body: Obj = {
            "metadata": {"name": name, "annotations": {_PROVISIONED_BY: PROVISIONER}},
            "spec": {
                "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                "nfs": {"server": SERVER, "path": path},
                "accessModes": spec["accessModes"],
                "claimRef": _reference(claim),
                "persistentVolumeReclaimPolicy": kind["reclaimPolicy"],
                "storageClassName": kind["metadata"]["name"],
                "volumeMode": spec["volumeMode"],
            },
        }
        if kind.get("mountOptions"):
            body["spec"]["mountOptions"] = kind["mountOptions"]
        volume = self.registry.create(_VOLUMES, "", body)
        self.event(_COMPONENT, _CLAIMS, claim, "ProvisioningSucceeded", f"Successfully provisioned volume {name}")
        return volume

    def _bind(self, claim: Obj, volume: Obj) -> None:
        spec, name = volume["spec"], volume["metadata"]["name"]

        def to_claim(have: Obj) -> None:
            have["spec"]["claimRef"] = _reference(claim)

        def to_volume(have: Obj) -> None:
            notes = have["metadata"].setdefault("annotations", {})
            notes["pv.kubernetes.io/bind-completed"] = "yes"
            if not have["spec"].get("volumeName"):
                notes["pv.kubernetes.io/bound-by-controller"] = "yes"
            have["spec"]["volumeName"] = name

        self.set_status(_VOLUMES, self.registry.modify(_VOLUMES, volume, to_claim), {"phase": "Bound"})
        bound = self.registry.modify(_CLAIMS, claim, to_volume)
        self.set_status(
            _CLAIMS, bound, {"phase": "Bound", "accessModes": spec["accessModes"], "capacity": spec["capacity"]}
        )

    # volumes

    def _volume(self, volume: Obj) -> None:
        meta, reference = volume["metadata"], volume["spec"].get("claimRef") or {}
        claim = self.store.find(_CLAIMS, reference.get("namespace", ""), reference.get("name", ""))
        held = claim is not None and reference.get("uid") == claim["metadata"]["uid"]
        if "deletionTimestamp" in meta:
            if VOLUME_PROTECTION in (meta.get("finalizers") or []) and not held:
                self._drop(_VOLUMES, volume, VOLUME_PROTECTION)
            return
        if held or (reference and not reference.get("uid")):
            return
        if not reference:
            self.set_status(_VOLUMES, volume, {"phase": "Available"})
            return
        self.set_status(_VOLUMES, volume, {"phase": "Released"})
        ours = (meta.get("annotations") or {}).get(_PROVISIONED_BY) == PROVISIONER
        if ours and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
            if self._shared is not None:
                shutil.rmtree(self._shared / volume["spec"]["nfs"]["path"].lstrip("/"), ignore_errors=True)
            self.registry.delete(_VOLUMES, "", meta["name"])

    def _drop(self, resource: Any, obj: Obj, finalizer: str) -> None:
        kept = [name for name in obj["metadata"]["finalizers"] if name != finalizer]
        self.registry.modify(resource, obj, lambda have: have["metadata"].update(finalizers=kept))


def _used(pods: list[Obj]) -> set[tuple[str, str]]:
    """Namespace and name of the claims of pods that have not ended."""
    return {
        (pod["metadata"]["namespace"], volume["persistentVolumeClaim"]["claimName"])
        for pod in pods
        if pod["status"].get("phase") not in ("Succeeded", "Failed")
        for volume in pod["spec"].get("volumes") or []
        if "persistentVolumeClaim" in volume
    }


def _reference(claim: Obj) -> Obj:
    meta = claim["metadata"]
    names = {"kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": meta["namespace"], "name": meta["name"]}
    return {**names, "uid": meta["uid"]}


def _for(volume: Obj, claim: Obj) -> bool | None:
    """Whether a volume is reserved for this claim; None if for nobody."""
    reference, meta = volume["spec"].get("claimRef"), claim["metadata"]
    if not reference:
        return None
    return (reference.get("namespace"), reference.get("name")) == (meta["namespace"], meta["name"]) and reference.get(
        "uid", meta["uid"]
    ) == meta["uid"]


def _fits(volume: Obj, claim: Obj) -> bool:
    have, want = volume["spec"], claim["spec"]
    selector = want.get("selector")
    return (
        "deletionTimestamp" not in volume["metadata"]
        and (have.get("storageClassName") or "") == (want.get("storageClassName") or "")
        and have["volumeMode"] == want["volumeMode"]
        and set(want["accessModes"]) <= set(have["accessModes"])
        and quantities.quantity(have["capacity"]["storage"])
        >= quantities.quantity(want["resources"]["requests"]["storage"])
        and (not selector or selectors.selects(selector, volume["metadata"].get("labels") or {}))
    )
