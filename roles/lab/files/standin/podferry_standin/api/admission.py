# SPDX-License-Identifier: Apache-2.0
"""What admission adds to a pod and what it refuses: service account, RuntimeClass, quota."""

from __future__ import annotations

import secrets
from typing import Any

from . import errors
from .resources import BY_NAME, NAMESPACES, PODS, Resource
from .storage import Store

Obj = dict[str, Any]

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_SYSTEM_PRIORITIES = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def suffix() -> str:
    """Five characters as Kubernetes makes them for generated names."""
    return "".join(secrets.choice(_ALPHABET) for _round in range(5))


def namespace(store: Store, resource: Resource, obj: Obj) -> None:
    """The namespace has to be there, and not be going."""
    if not resource.namespaced:
        return
    name = obj["metadata"]["namespace"]
    found = store.find(NAMESPACES, "", name)
    if found is None:
        raise errors.not_found(NAMESPACES, name)
    if "deletionTimestamp" in found["metadata"]:
        why = f"unable to create new content in namespace {name} because it is being terminated"
        raise errors.forbidden(resource, obj["metadata"].get("name", ""), why)


def mutate_pod(store: Store, obj: Obj) -> None:
    """ServiceAccount and RuntimeClass admission.

    The recordings come from a cluster whose namespace had no ``default`` account: then nothing is mounted. Where
    an account exists its token is mounted, as everywhere else.
    """
    spec, name, where = obj["spec"], obj["metadata"].get("name", ""), obj["metadata"]["namespace"]
    wanted = spec.get("serviceAccountName") or spec.get("serviceAccount")
    account = store.find(BY_NAME["serviceaccounts"], where, wanted or "default")
    if account is None and wanted:
        why = f'error looking up service account {where}/{wanted}: serviceaccount "{wanted}" not found'
        raise errors.forbidden(PODS, name, why)
    if account is not None:
        spec["serviceAccountName"] = spec["serviceAccount"] = account["metadata"]["name"]
        if spec.get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
            _mount_token(spec)
    priority(store, obj)
    if handler := spec.get("runtimeClassName"):
        runtime = store.find(BY_NAME["runtimeclasses"], "", handler)
        if runtime is None:
            raise errors.forbidden(PODS, name, f'pod rejected: RuntimeClass "{handler}" not found')
        if fixed := (runtime.get("overhead") or {}).get("podFixed"):
            spec.setdefault("overhead", fixed)
        if chosen := (runtime.get("scheduling") or {}).get("nodeSelector"):
            spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **chosen}


def protect(store: Store, resource: Resource, obj: Obj) -> None:
    """Claims and volumes stay while they are in use; a claim that names no class gets the default one, if there is one."""
    finalizer = {"persistentvolumeclaims": "pvc-protection", "persistentvolumes": "pv-protection"}.get(resource.plural)
    if finalizer is None:
        return
    held = obj["metadata"].setdefault("finalizers", [])
    if f"kubernetes.io/{finalizer}" not in held:
        held.append(f"kubernetes.io/{finalizer}")
    if resource.plural == "persistentvolumeclaims" and obj["spec"].get("storageClassName") is None:
        for item in store.list(BY_NAME["storageclasses"]):
            notes = item["metadata"].get("annotations") or {}
            if notes.get("storageclass.kubernetes.io/is-default-class") == "true":
                obj["spec"]["storageClassName"] = item["metadata"]["name"]


def priority(store: Store, obj: Obj) -> None:
    """Priority admission: the number is the class's, whatever the pod says.

    :raises ApiError: 403 for an unknown class, or a number that is not the class's
    """
    spec, name = obj["spec"], obj["metadata"].get("name", "")
    classes = store.list(BY_NAME["priorityclasses"])
    wanted = spec.get("priorityClassName")
    if wanted in _SYSTEM_PRIORITIES:
        value, policy = _SYSTEM_PRIORITIES[wanted], "PreemptLowerPriority"
    else:
        found = next(
            (c for c in classes if (c["metadata"]["name"] == wanted if wanted else c.get("globalDefault"))), None
        )
        if wanted and found is None:
            raise errors.forbidden(PODS, name, f"no PriorityClass with name {wanted} was found")
        value = found["value"] if found is not None else 0
        policy = (found or {}).get("preemptionPolicy", "PreemptLowerPriority")
        if found is not None:
            spec["priorityClassName"] = found["metadata"]["name"]
    if spec.get("priority") not in (None, value):
        why = (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; priority admission "
            f"controller computed {value} from the given PriorityClass name"
        )
        raise errors.forbidden(PODS, name, why)
    spec.update(priority=value)
    spec.setdefault("preemptionPolicy", policy)


def _mount_token(spec: Obj) -> None:
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    bare = [c for c in containers if all(m["mountPath"] != TOKEN_PATH for m in c.get("volumeMounts", []))]
    if not bare:
        return
    volume = f"kube-api-access-{suffix()}"
    sources: list[Obj] = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
            }
        },
    ]
    spec.setdefault("volumes", []).append({"name": volume, "projected": {"sources": sources, "defaultMode": 0o644}})
    for container in bare:
        container.setdefault("volumeMounts", []).append({"name": volume, "readOnly": True, "mountPath": TOKEN_PATH})


def quota(store: Store, resource: Resource, obj: Obj) -> None:
    """ResourceQuota with a hard number of objects. The last word before storage, also in a dry run.

    :raises ApiError: 403
    """
    if not resource.namespaced:
        return
    meta = obj["metadata"]
    names = {f"count/{resource.qualified}"}
    if resource.plural in ("pods", "services", "configmaps", "secrets"):
        names.add(resource.plural)
    for item in store.list(BY_NAME["resourcequotas"], meta["namespace"]):
        hard = item["spec"].get("hard") or {}
        for limit in sorted(names & set(hard)):
            used = usage(store, resource, meta["namespace"])
            if used + 1 > int(hard[limit]):
                why = f"exceeded quota: {item['metadata']['name']}, requested: {limit}=1, used: {limit}={used}, limited: {limit}={hard[limit]}"
                raise errors.forbidden(resource, meta["name"], why)


def usage(store: Store, resource: Resource, where: str) -> int:
    """How many objects count against a quota: pods that have ended do not."""
    ended = ("Succeeded", "Failed")
    return sum(1 for item in store.list(resource, where) if (item.get("status") or {}).get("phase") not in ended)
