# SPDX-License-Identifier: Apache-2.0
"""StatefulSets: pods with ordinals and claims of their own, one after another; orphans with the right name are adopted."""

from __future__ import annotations

import copy
import re
from typing import Any

from .. import errors
from ..resources import BY_NAME, PODS, STATEFULSETS, Resource
from .base import Controller, adopt, controller_of, is_ready, owner_reference, pod_from, template_hash

Obj = dict[str, Any]

_COMPONENT = "statefulset-controller"
_CLAIMS, _REVISIONS = BY_NAME["persistentvolumeclaims"], BY_NAME["controllerrevisions"]
_HASH = "controller-revision-hash"
_POD_NAME, _POD_INDEX = "statefulset.kubernetes.io/pod-name", "apps.kubernetes.io/pod-index"


class StatefulSetController(Controller):
    """Keeps the ordinals of a StatefulSet."""

    watches = frozenset({"statefulsets", "pods", "persistentvolumeclaims"})

    def reconcile(self) -> None:
        """All StatefulSets."""
        for owner in self.store.list(STATEFULSETS):
            meta = owner["metadata"]
            pattern = re.compile(re.escape(meta["name"]) + r"-(\d+)$")
            named = [pod for pod in self.store.list(PODS, meta["namespace"]) if pattern.match(pod["metadata"]["name"])]
            pods = {_ordinal(pod): pod for pod in self.claim(STATEFULSETS, owner, named)}
            if "deletionTimestamp" in meta:
                status = owner.get("status") or {}
                self._status(owner, pods, status.get("currentRevision", ""), status.get("updateRevision", ""))
                continue
            current, update = self._revisions(owner)
            self._step(owner, pods, {_ordinal(pod) for pod in named}, current, update)
            self._status(owner, pods, current["metadata"]["name"], update["metadata"]["name"])

    # revisions

    def _revisions(self, owner: Obj) -> tuple[Obj, Obj]:
        """The revision that the pods come from and the one they go to; that of the template is made if it is missing."""
        meta, template = owner["metadata"], owner["spec"]["template"]
        all_ = self.store.list(_REVISIONS, meta["namespace"])
        mine = {
            item["metadata"]["name"]: item for item in all_ if (controller_of(item) or {}).get("uid") == meta["uid"]
        }
        hash_ = template_hash(template)
        name = f"{meta['name']}-{hash_}"
        if name not in mine:
            orphan = next((item for item in all_ if item["metadata"]["name"] == name), None)
            reference = owner_reference(STATEFULSETS, owner)
            if orphan is not None:
                mine[name] = self.registry.modify(_REVISIONS, orphan, lambda have: adopt(have, reference))
            else:
                labels = {
                    **((template.get("metadata") or {}).get("labels") or {}),
                    "controller.kubernetes.io/hash": hash_,
                }
                body: Obj = {
                    "metadata": {"name": name, "labels": labels, "ownerReferences": [reference]},
                    "data": {"spec": {"template": {**copy.deepcopy(template), "$patch": "replace"}}},
                    "revision": max((item["revision"] for item in mine.values()), default=0) + 1,
                }
                mine[name] = self.registry.create(_REVISIONS, meta["namespace"], body)
        update = mine[name]
        current = mine.get((owner.get("status") or {}).get("currentRevision", ""), update)
        self._forget(owner, mine, {current["metadata"]["name"], name})
        return current, update

    def _forget(self, owner: Obj, mine: dict[str, Obj], live: set[str]) -> None:
        """Old revisions beyond the limit."""
        old = sorted((item for name, item in mine.items() if name not in live), key=lambda item: int(item["revision"]))
        for item in old[: max(0, len(old) - owner["spec"]["revisionHistoryLimit"])]:
            self.registry.delete(_REVISIONS, item["metadata"]["namespace"], item["metadata"]["name"])

    # pods

    def _step(self, owner: Obj, pods: dict[int, Obj], taken: set[int], current: Obj, update: Obj) -> None:
        """Create the next that is missing, or delete the last that is too many: never both, never two when ordered."""
        spec = owner["spec"]
        ordered = spec["podManagementPolicy"] == "OrderedReady"
        first = (spec.get("ordinals") or {}).get("start", 0)
        wanted = range(first, first + spec["replicas"])
        for ordinal, pod in pods.items():
            self._keep_claims(owner, pod, condemned=ordinal not in wanted)
            self._identify(pod, ordinal)
        for ordinal in wanted:
            found = pods.get(ordinal)
            if found is None:
                if ordinal not in taken:
                    self._create(owner, ordinal, self._revision_for(owner, ordinal, current, update))
            elif (
                found["status"].get("phase") in ("Failed", "Succeeded") and "deletionTimestamp" not in found["metadata"]
            ):
                self._delete(owner, found)
            elif _healthy(found):
                continue
            if ordered:
                return
        extra = [pods[ordinal] for ordinal in sorted(pods, reverse=True) if ordinal not in wanted]
        for pod in extra:
            if "deletionTimestamp" not in pod["metadata"]:
                self._delete(owner, pod)
            if ordered:
                return
        self._update(
            owner, {ordinal: pods[ordinal] for ordinal in pods if ordinal in wanted}, update["metadata"]["name"]
        )

    def _identify(self, pod: Obj, ordinal: int) -> None:
        """An adopted pod is given the labels that its name stands for."""
        wanted = {_POD_NAME: pod["metadata"]["name"], _POD_INDEX: str(ordinal)}
        if not wanted.items() <= (pod["metadata"].get("labels") or {}).items():
            self.registry.modify(PODS, pod, lambda have: have["metadata"].setdefault("labels", {}).update(wanted))

    @staticmethod
    def _revision_for(owner: Obj, ordinal: int, current: Obj, update: Obj) -> Obj:
        """Below the partition pods are made as they were."""
        strategy = owner["spec"]["updateStrategy"]
        if strategy["type"] != "RollingUpdate":
            return update
        first = (owner["spec"].get("ordinals") or {}).get("start", 0)
        return current if ordinal < first + strategy["rollingUpdate"]["partition"] else update

    def _update(self, owner: Obj, pods: dict[int, Obj], revision: str) -> None:
        """RollingUpdate: from the last ordinal down, one at a time, each when the one before is healthy."""
        strategy = owner["spec"]["updateStrategy"]
        if strategy["type"] != "RollingUpdate":
            return
        first = (owner["spec"].get("ordinals") or {}).get("start", 0)
        for ordinal in sorted(pods, reverse=True):
            pod = pods[ordinal]
            if ordinal < first + strategy["rollingUpdate"]["partition"]:
                return
            if _label(pod) != revision and "deletionTimestamp" not in pod["metadata"]:
                self._delete(owner, pod)
                return
            if not _healthy(pod):
                return

    def _create(self, owner: Obj, ordinal: int, revision: Obj) -> None:
        meta, spec = owner["metadata"], owner["spec"]
        name = f"{meta['name']}-{ordinal}"
        template = {key: value for key, value in revision["data"]["spec"]["template"].items() if key != "$patch"}
        pod = pod_from(template, owner_reference(STATEFULSETS, owner))
        pod["metadata"].update(name=name, generateName=f"{meta['name']}-")
        labels = {_POD_INDEX: str(ordinal), _HASH: revision["metadata"]["name"], _POD_NAME: name}
        pod["metadata"].setdefault("labels", {}).update(labels)
        pod["spec"].update(hostname=name, subdomain=spec.get("serviceName", ""))
        claims = _claims(owner, ordinal)
        if claims:
            own = [{"name": key, "persistentVolumeClaim": {"claimName": value}} for key, value in claims.items()]
            pod["spec"]["volumes"] = [*own, *(v for v in pod["spec"].get("volumes") or [] if v["name"] not in claims)]
        try:
            if not self._make_claims(owner, ordinal):
                return
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

    # claims

    def _make_claims(self, owner: Obj, ordinal: int) -> bool:
        """The claims of an ordinal, those that are there are used; False while one of them is being deleted."""
        meta, spec = owner["metadata"], owner["spec"]
        names = _claims(owner, ordinal)
        for template in spec.get("volumeClaimTemplates") or []:
            given = template["metadata"]
            name = names[given["name"]]
            found = self.store.find(_CLAIMS, meta["namespace"], name)
            if found is not None and "deletionTimestamp" in found["metadata"]:
                return False
            if found is not None:
                continue
            labels = {**(given.get("labels") or {}), **(spec["selector"].get("matchLabels") or {})}
            body: Obj = {"metadata": {"name": name, "labels": labels}, "spec": copy.deepcopy(template["spec"])}
            if given.get("annotations"):
                body["metadata"]["annotations"] = dict(given["annotations"])
            if _policy(owner, "whenDeleted") == "Delete":
                body["metadata"]["ownerReferences"] = [_plain(STATEFULSETS, owner)]
            self.registry.create(_CLAIMS, meta["namespace"], body)
            pod = f"{meta['name']}-{ordinal}"
            message = f"create Claim {name} Pod {pod} in StatefulSet {meta['name']} success"
            self.event(_COMPONENT, STATEFULSETS, owner, "SuccessfulCreate", message)
        return True

    def _keep_claims(self, owner: Obj, pod: Obj, *, condemned: bool) -> None:
        """Who takes the claims along: nobody, the set, or the pod that is one too many."""
        wanted: Obj | None = None
        if condemned and _policy(owner, "whenScaled") == "Delete":
            wanted = _plain(PODS, pod)
        elif _policy(owner, "whenDeleted") == "Delete":
            wanted = _plain(STATEFULSETS, owner)
        for name in _claims(owner, _ordinal(pod)).values():
            found = self.store.find(_CLAIMS, owner["metadata"]["namespace"], name)
            if found is None:
                continue
            have = found["metadata"].get("ownerReferences") or []
            kept = [ref for ref in have if ref["kind"] not in ("StatefulSet", "Pod")] + ([wanted] if wanted else [])
            if kept != have:
                found["metadata"]["ownerReferences"] = kept
                self.registry.update(_CLAIMS, found["metadata"]["namespace"], name, found)

    # status

    def _status(self, owner: Obj, pods: dict[int, Obj], current: str, update: str) -> None:
        meta, spec, old = owner["metadata"], owner["spec"], owner.get("status") or {}
        ready = sum(1 for pod in pods.values() if is_ready(pod))
        staying = [pod for pod in pods.values() if "deletionTimestamp" not in pod["metadata"]]
        counts = {name: sum(1 for pod in staying if _label(pod) == name) for name in (current, update)}
        if (
            spec["updateStrategy"]["type"] == "RollingUpdate"
            and counts[update] == ready == len(pods) == spec["replicas"]
            and "deletionTimestamp" not in meta
        ):
            current = update
        generation = meta.get("generation", 1)
        if "deletionTimestamp" in meta:  # the real one no longer looks at it
            generation = old.get("observedGeneration", generation)
        status: Obj = {"observedGeneration": generation, "replicas": len(pods)}
        shown = (("readyReplicas", ready), ("currentReplicas", counts[current]), ("updatedReplicas", counts[update]))
        status.update({name: value for name, value in shown if value})
        status.update(currentRevision=current, updateRevision=update, collisionCount=0, availableReplicas=ready)
        self.set_status(STATEFULSETS, owner, status)


def _ordinal(pod: Obj) -> int:
    return int(pod["metadata"]["name"].rpartition("-")[2])


def _label(pod: Obj) -> str:
    return str((pod["metadata"].get("labels") or {}).get(_HASH, ""))


def _healthy(pod: Obj) -> bool:
    return is_ready(pod) and "deletionTimestamp" not in pod["metadata"]


def _claims(owner: Obj, ordinal: int) -> dict[str, str]:
    """The claims of an ordinal by the volume that is made of them."""
    templates = [item["metadata"]["name"] for item in owner["spec"].get("volumeClaimTemplates") or []]
    return {name: f"{name}-{owner['metadata']['name']}-{ordinal}" for name in templates}


def _policy(owner: Obj, when: str) -> str:
    return str((owner["spec"].get("persistentVolumeClaimRetentionPolicy") or {}).get(when, "Retain"))


def _plain(resource: Resource, owner: Obj) -> Obj:
    """A reference that lets the garbage collector follow, and no more."""
    meta = owner["metadata"]
    return {"apiVersion": resource.api_version, "kind": resource.kind, "name": meta["name"], "uid": meta["uid"]}
