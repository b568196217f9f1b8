# SPDX-License-Identifier: Apache-2.0
"""The verbs: create, update, patch, delete with what each kind does around them. HTTP and the controllers call this."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from . import admission, defaults, errors, eviction, selectors, validation
from . import patch as patches
from .resources import BY_NAME, NAMESPACES, NODES, PODS, Resource
from .storage import Store

Obj = dict[str, Any]
Clock = Callable[[], datetime]

_SYSTEM_META = (
    "uid",
    "creationTimestamp",
    "namespace",
    "name",
    "generateName",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_ENDED = ("Succeeded", "Failed")


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Registry:
    """The API without HTTP."""

    def __init__(self, store: Store, clock: Clock = now) -> None:
        self.store = store
        self.clock = clock

    # reading

    def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        """One object; 404."""
        return self.store.get(resource, namespace, name)

    def list(self, resource: Resource, namespace: str = "", labels: str = "", fields: str = "") -> list[Obj]:
        """Objects that both selectors match."""
        by_label, by_field = selectors.labels(labels), selectors.fields(fields)
        return [obj for obj in self.store.list(resource, namespace) if by_label(obj) and by_field(obj)]

    # writing

    def create(self, resource: Resource, namespace: str, body: Obj, *, dry_run: bool = False) -> Obj:
        """Default, admit, validate, store. 403, 404, 409 or 422 when it may not be."""
        obj = self._new(resource, namespace, body)
        meta = obj["metadata"]
        if not meta.get("name"):
            if not meta.get("generateName"):
                raise errors.invalid(
                    resource,
                    "",
                    "metadata.name",
                    "FieldValueRequired",
                    "Required value: name or generateName is required",
                )
            meta["name"] = meta["generateName"] + admission.suffix()
        admission.namespace(self.store, resource, obj)
        validation.require(resource, obj)
        if resource is PODS:
            admission.mutate_pod(self.store, obj)
        admission.protect(self.store, resource, obj)
        if fill := defaults.DEFAULTS.get(resource.plural):
            fill(obj)
        if resource.plural == "services":
            self._cluster_address(obj)
        validation.check(resource, obj)
        admission.quota(self.store, resource, obj)
        obj.pop("status", None) if "status" in resource.subresources and resource.plural != "nodes" else None
        if resource is PODS:
            obj["status"] = {"phase": "Pending", "qosClass": defaults.qos_class(obj["spec"])}
        elif resource.plural in defaults.INITIAL_STATUS:
            obj["status"] = copy.deepcopy(defaults.INITIAL_STATUS[resource.plural])
        if dry_run:
            if self.store.find(resource, namespace, meta["name"]) is not None:
                raise errors.already_exists(resource, meta["name"])
            obj["metadata"] = defaults.order_metadata(meta)
            return obj
        return self._store_new(resource, obj)

    def _new(self, resource: Resource, namespace: str, body: Obj) -> Obj:
        given = body.get("metadata") or {}
        if given.get("namespace") and resource.namespaced and given["namespace"] != namespace:
            message = "the namespace of the provided object does not match the namespace sent on the request"
            raise errors.bad_request(message)
        obj: Obj = {"kind": resource.kind, "apiVersion": resource.api_version}
        meta = {
            key: copy.deepcopy(given[key])
            for key in ("name", "generateName", "labels", "annotations", "ownerReferences", "finalizers")
            if given.get(key)
        }
        if resource.namespaced:
            meta["namespace"] = namespace
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = defaults.timestamp(self.clock())
        if resource.has_generation:
            meta["generation"] = 1
        obj["metadata"] = meta
        obj.update(
            {key: copy.deepcopy(value) for key, value in body.items() if key not in ("kind", "apiVersion", "metadata")}
        )
        return obj

    def _store_new(self, resource: Resource, obj: Obj) -> Obj:
        meta = obj["metadata"]
        meta["resourceVersion"] = "0"
        obj["metadata"] = defaults.order_metadata(meta)
        return self.store.create(resource, obj)

    def _cluster_address(self, obj: Obj) -> None:
        spec = obj["spec"]
        if spec["type"] == "ExternalName":
            return
        if spec.get("clusterIP"):
            spec.setdefault("clusterIPs", [spec["clusterIP"]])
            return
        taken = {item["spec"].get("clusterIP") for item in self.store.list(BY_NAME["services"])}
        spec["clusterIP"] = next(address for n in range(1, 250) if (address := f"10.96.0.{n}") not in taken)
        spec["clusterIPs"] = [spec["clusterIP"]]

    def update(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Obj,
        *,
        subresource: str = "",
        dry_run: bool = False,
        manager: str = "unknown",
    ) -> Obj:
        """Replace an object or its status. 404, 409 on a stale resourceVersion, 422 on an immutable field."""
        current = self.store.get(resource, namespace, name)
        given = body.get("metadata") or {}
        if given.get("name", name) != name:
            raise errors.bad_request(
                f"the name of the object ({given['name']}) does not match the name on the URL ({name})"
            )
        if given.get("uid") and given["uid"] != current["metadata"]["uid"]:
            why = f"Precondition failed: UID in precondition: {given['uid']}, UID in object meta: {current['metadata']['uid']}"
            raise errors.conflict(resource, name, why)
        if given.get("resourceVersion") and given["resourceVersion"] != current["metadata"]["resourceVersion"]:
            raise errors.stale(resource, name)
        if subresource == "status":
            new = {**current, "status": copy.deepcopy(body.get("status") or {})}
            if resource is PODS:
                defaults.pod_status(new["status"])
        else:
            new = self._merged(resource, current, body)
            if resource is NODES:
                self._own_cordon(current, new, manager)
        if new == current or dry_run:
            return new
        meta = new["metadata"]
        if "deletionTimestamp" in meta and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds"):
            return self.store.remove(resource, new)
        return self.store.replace(resource, new)

    def _own_cordon(self, current: Obj, new: Obj, manager: str) -> None:
        """The one thing that ``managedFields`` are kept for here: who has cordoned a node."""
        managed = current["metadata"].get("managedFields")
        wish = bool((new.get("spec") or {}).get("unschedulable"))
        if wish != bool((current.get("spec") or {}).get("unschedulable")):
            entry = {
                "manager": manager,
                "operation": "Update",
                "apiVersion": "v1",
                "time": defaults.timestamp(self.clock()),
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:unschedulable": {}}},
            }
            managed = [entry] if wish else None
        if managed:
            new["metadata"]["managedFields"] = managed

    def _merged(self, resource: Resource, current: Obj, body: Obj) -> Obj:
        new = copy.deepcopy({**body, "kind": resource.kind, "apiVersion": resource.api_version})
        meta = {
            key: value
            for key, value in (new.get("metadata") or {}).items()
            if key in ("labels", "annotations", "ownerReferences", "finalizers")
        }
        meta.update(
            {key: current["metadata"][key] for key in (*_SYSTEM_META, "resourceVersion") if key in current["metadata"]}
        )
        new["metadata"] = defaults.order_metadata(meta)
        if "status" in resource.subresources:
            new.pop("status", None)
            if "status" in current:
                new["status"] = current["status"]
        validation.require(resource, new)
        if fill := defaults.DEFAULTS.get(resource.plural):
            fill(new)
        if resource.plural == "services":
            new["spec"].setdefault("clusterIP", current["spec"].get("clusterIP"))
            self._cluster_address(new)
        validation.check_update(resource, current, new)
        validation.check(resource, new)
        if resource.has_generation and new.get("spec") != current.get("spec"):
            new["metadata"]["generation"] = current["metadata"].get("generation", 0) + 1
        return new

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Any,
        content_type: str,
        *,
        subresource: str = "",
        dry_run: bool = False,
        manager: str = "unknown",
    ) -> Obj:
        """Apply a patch to what is stored. An apply patch creates what is missing."""
        current = self.store.find(resource, namespace, name)
        if current is None:
            if content_type == "application/apply-patch+yaml" and isinstance(change, dict):
                change.setdefault("metadata", {})["name"] = name
                return self.create(resource, namespace, change, dry_run=dry_run)
            raise errors.not_found(resource, name)
        version = current["metadata"]["resourceVersion"]
        patched = patches.apply(current, change, content_type)
        if patched["metadata"].get("resourceVersion") != version:
            raise errors.stale(resource, name)
        return self.update(
            resource, namespace, name, patched, subresource=subresource, dry_run=dry_run, manager=manager
        )

    def modify(self, resource: Resource, obj: Obj, change: Callable[[Obj], None], *, subresource: str = "") -> Obj:
        """For controllers: change the stored object by a function."""
        meta = obj["metadata"]
        current = self.store.get(resource, meta.get("namespace", ""), meta["name"])
        change(current)
        return self.update(resource, meta.get("namespace", ""), meta["name"], current, subresource=subresource)

    def delete(
        self, resource: Resource, namespace: str, name: str, options: Obj | None = None, *, dry_run: bool = False
    ) -> Obj:
        """Delete, or begin to: the object as it is then, or a ``Status`` when it is gone and was not a pod."""
        options = options or {}
        obj = self.store.get(resource, namespace, name)
        self._preconditions(resource, obj, options.get("preconditions") or {})
        meta = obj["metadata"]
        if resource is PODS:
            return self._delete_pod(obj, options, dry_run)
        if resource is NAMESPACES:
            return self._begin(resource, obj, [], dry_run, phase="Terminating")
        policy = options.get("propagationPolicy") or ("Orphan" if options.get("orphanDependents") else "Background")
        finalizer = {"Orphan": "orphan", "Foreground": "foregroundDeletion"}.get(policy)
        if finalizer is not None and resource.has_generation:
            return self._begin(resource, obj, [finalizer], dry_run)
        if meta.get("finalizers"):
            return self._begin(resource, obj, [], dry_run)
        if not dry_run:
            self.store.remove(resource, obj)
        return errors.success(resource, name, meta["uid"])

    def _begin(self, resource: Resource, obj: Obj, finalizers: Sequence[str], dry_run: bool, phase: str = "") -> Obj:
        """Mark for deletion; whoever owns the finalizers ends it."""
        meta = obj["metadata"]
        if "deletionTimestamp" not in meta:
            meta["deletionTimestamp"] = defaults.timestamp(self.clock())
            if phase:
                obj["status"] = {**obj.get("status", {}), "phase": phase}
            else:
                meta["deletionGracePeriodSeconds"] = 0
            if resource.has_generation:
                meta["generation"] = meta.get("generation", 0) + 1
        meta["finalizers"] = sorted({*meta.get("finalizers", []), *finalizers})
        obj["metadata"] = defaults.order_metadata(meta)
        return obj if dry_run else self.store.replace(resource, obj)

    def _preconditions(self, resource: Resource, obj: Obj, wanted: Obj) -> None:
        meta = obj["metadata"]
        if wanted.get("uid") and wanted["uid"] != meta["uid"]:
            why = (
                f"the UID in the precondition ({wanted['uid']}) does not match the UID in record ({meta['uid']}). "
                "The object might have been deleted and then recreated"
            )
            raise errors.conflict(resource, meta["name"], why)
        if wanted.get("resourceVersion") and wanted["resourceVersion"] != meta["resourceVersion"]:
            why = (
                f"the ResourceVersion in the precondition ({wanted['resourceVersion']}) does not match the ResourceVersion in record "
                f"({meta['resourceVersion']}). The object might have been modified"
            )
            raise errors.conflict(resource, meta["name"], why)

    def _delete_pod(self, obj: Obj, options: Obj, dry_run: bool) -> Obj:
        """Graceful deletion: the kubelet ends it with grace 0. Grace 0 is gone at once, whatever the kubelet does."""
        meta, spec = obj["metadata"], obj["spec"]
        asked = options.get("gracePeriodSeconds")
        grace = int(asked if asked is not None else spec.get("terminationGracePeriodSeconds", 30))
        if not spec.get("nodeName") or obj["status"].get("phase") in _ENDED:
            grace = 0
        if grace < 0:
            grace = 1
        if "deletionTimestamp" in meta:
            if meta.get("deletionGracePeriodSeconds") == 0:  # only finalizers are waited for
                return obj
            if grace >= meta.get("deletionGracePeriodSeconds", 0) > 0 or (asked is None and grace > 0):
                return obj
        else:
            meta["generation"] = meta.get("generation", 0) + 1
        meta["deletionTimestamp"] = defaults.timestamp(self.clock() + timedelta(seconds=grace))
        meta["deletionGracePeriodSeconds"] = grace
        obj["metadata"] = defaults.order_metadata(meta)
        if dry_run:
            return obj
        marked = self.store.replace(PODS, obj)
        if grace == 0 and not meta.get("finalizers"):
            return self.store.remove(PODS, marked)
        return marked

    def bind(self, namespace: str, name: str, node: str) -> None:
        """Put a pod on a node, once."""
        pod = self.store.get(PODS, namespace, name)
        if pod["spec"].get("nodeName"):
            raise errors.conflict(PODS, name, f'pod {name} is already assigned to node "{pod["spec"]["nodeName"]}"')
        if "deletionTimestamp" in pod["metadata"]:
            raise errors.conflict(PODS, name, f"pod {name} is being deleted, cannot be assigned to a host")
        pod["spec"]["nodeName"] = node
        scheduled = {
            "type": "PodScheduled",
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": defaults.timestamp(self.clock()),
        }
        others = [item for item in pod["status"].get("conditions", []) if item["type"] != "PodScheduled"]
        pod["status"]["conditions"] = [*others, scheduled]
        self.store.replace(PODS, pod)

    def evict(self, namespace: str, name: str, options: Obj | None, *, dry_run: bool = False) -> None:
        """Delete unless a disruption budget says no (429)."""
        pod, budgets = self.store.get(PODS, namespace, name), BY_NAME["poddisruptionbudgets"]
        wanted = (options or {}).get("preconditions") or {}
        self._preconditions(PODS, pod, wanted)
        budget = eviction.budget_for(pod, self.store.list(budgets, namespace))
        if budget is not None:
            spent = eviction.spend(budget, name, self.clock())
            if not dry_run:
                self.update(
                    budgets, namespace, budget["metadata"]["name"], {**budget, "status": spent}, subresource="status"
                )
        if not dry_run and "deletionTimestamp" not in pod["metadata"]:
            mark = eviction.target_condition(pod["metadata"].get("generation", 1), self.clock())
            others = [c for c in pod["status"].get("conditions") or [] if c["type"] != mark["type"]]
            pod["status"]["conditions"] = [*others, mark]
            self.store.replace(PODS, pod)
        met = {**(options or {}), "preconditions": {k: v for k, v in wanted.items() if k == "uid"}}
        self.delete(PODS, namespace, name, met, dry_run=dry_run)
