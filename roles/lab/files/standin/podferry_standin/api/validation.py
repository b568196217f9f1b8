# SPDX-License-Identifier: Apache-2.0
"""What is refused with 422: names, missing fields, and changes to what must not change."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable
from typing import Any

from . import errors, selectors
from .resources import Resource

Obj = dict[str, Any]

_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
_LABEL_NAME = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$")
_LABEL_VALUE = re.compile(r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_NAME_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_SOURCES = ("nfs", "hostPath", "local", "csi", "iscsi", "fc", "cephfs", "rbd", "glusterfs")
POD_UPDATE_RULE = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def check(resource: Resource, obj: Obj) -> None:
    """Refuse an object that could not be stored by the real API server.

    :raises ApiError: 422
    """
    meta = obj["metadata"]
    name = meta.get("name", "")
    if len(name) > 253 or not _NAME.match(name):
        message = f'Invalid value: "{name}": {_NAME_RULE}'
        raise errors.invalid(resource, name, "metadata.name", "FieldValueInvalid", message)
    for key, value in (meta.get("labels") or {}).items():
        bare = key.rpartition("/")[2]
        if len(bare) > 63 or not _LABEL_NAME.match(bare):
            message = f"Invalid value: \"{key}\": name part must consist of alphanumeric characters, '-', '_' or '.'"
            raise errors.invalid(resource, name, "metadata.labels", "FieldValueInvalid", message)
        if not isinstance(value, str) or len(value) > 63 or not _LABEL_VALUE.match(value):
            message = (
                f'Invalid value: "{value}": a valid label must be an empty string or consist of alphanumeric characters'
            )
            raise errors.invalid(resource, name, "metadata.labels", "FieldValueInvalid", message)
    if resource.plural == "pods":
        _pod_spec(resource, name, obj["spec"], "spec")
    elif resource.plural == "persistentvolumes":
        given = [kind for kind in _SOURCES if kind in obj["spec"]]
        if not given:
            raise errors.invalid(
                resource, name, "spec", "FieldValueRequired", "Required value: must specify a volume type"
            )
        if len(given) > 1:
            message = "Forbidden: may not specify more than 1 volume type"
            raise errors.invalid(resource, name, f"spec.{given[1]}", "FieldValueForbidden", message)
    elif resource.plural in ("deployments", "replicasets", "statefulsets"):
        spec = obj["spec"]
        claims = {item["metadata"]["name"] for item in spec.get("volumeClaimTemplates") or []}
        _pod_spec(resource, name, spec["template"]["spec"], "spec.template.spec", claims)
        labels = spec["template"].get("metadata", {}).get("labels") or {}
        if not selectors.selects(spec["selector"], labels):
            message = f"Invalid value: {json.dumps(labels)}: `selector` does not match template `labels`"
            raise errors.invalid(resource, name, "spec.template.metadata.labels", "FieldValueInvalid", message)


def require(resource: Resource, obj: Obj) -> None:
    """Refuse an object without the fields that defaulting builds on."""
    name = obj["metadata"].get("name", "")
    needs: dict[str, tuple[str, ...]] = {
        "pods": ("spec.containers",),
        "deployments": ("spec.selector", "spec.template.spec.containers"),
        "replicasets": ("spec.selector", "spec.template.spec.containers"),
        "statefulsets": ("spec.selector", "spec.template.spec.containers"),
        "services": ("spec",),
        "runtimeclasses": ("handler",),
        "poddisruptionbudgets": ("spec",),
        "resourcequotas": ("spec",),
        "persistentvolumeclaims": ("spec.accessModes", "spec.resources.requests.storage"),
        "persistentvolumes": ("spec.capacity.storage", "spec.accessModes"),
        "storageclasses": ("provisioner",),
        "horizontalpodautoscalers": ("spec.scaleTargetRef", "spec.maxReplicas"),
    }
    for path in needs.get(resource.plural, ()):
        here: Any = obj
        for step in path.split("."):
            here = here.get(step) if isinstance(here, dict) else None
        if not here and not (here == {} and path == "spec"):
            raise errors.invalid(resource, name, path, "FieldValueRequired", "Required value")


def _pod_spec(resource: Resource, name: str, spec: Obj, path: str, claims: Iterable[str] = ()) -> None:
    seen: set[str] = set()
    volumes = {volume["name"] for volume in spec.get("volumes", [])} | set(claims)
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group, [])):
            here = f"{path}.{group}[{index}]"
            if not container.get("name"):
                raise errors.invalid(resource, name, f"{here}.name", "FieldValueRequired", "Required value")
            if container["name"] in seen:
                message = f'Duplicate value: "{container["name"]}"'
                raise errors.invalid(resource, name, f"{here}.name", "FieldValueDuplicate", message)
            seen.add(container["name"])
            if not container.get("image") and resource.plural == "pods":
                raise errors.invalid(resource, name, f"{here}.image", "FieldValueRequired", "Required value")
            if group == "initContainers" and container.get("restartPolicy") != "Always":
                for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                    if container.get(field):
                        message = "Forbidden: may not be set for init containers without restartPolicy=Always"
                        raise errors.invalid(resource, name, f"{here}.{field}", "FieldValueForbidden", message)
            for number, mount in enumerate(container.get("volumeMounts", [])):
                if mount["name"] not in volumes:
                    message = f'Not found: "{mount["name"]}"'
                    raise errors.invalid(
                        resource, name, f"{here}.volumeMounts[{number}].name", "FieldValueNotFound", message
                    )


def check_update(resource: Resource, old: Obj, new: Obj) -> None:
    """Refuse changes to immutable fields.

    :raises ApiError: 422
    """
    name = old["metadata"]["name"]
    if resource.plural == "pods":
        _pod_update(resource, name, old["spec"], new["spec"])
    elif resource.plural in ("deployments", "replicasets") and old["spec"]["selector"] != new["spec"]["selector"]:
        message = f"Invalid value: {json.dumps(new['spec']['selector'])}: field is immutable"
        raise errors.invalid(resource, name, "spec.selector", "FieldValueInvalid", message)
    elif resource.plural == "statefulsets":
        mutable = {
            "replicas",
            "template",
            "updateStrategy",
            "persistentVolumeClaimRetentionPolicy",
            "minReadySeconds",
            "ordinals",
            "revisionHistoryLimit",
        }
        if _without(old["spec"], mutable) != _without(new["spec"], mutable):
            message = (
                "Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
                "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
            )
            raise errors.invalid(resource, name, "spec", "FieldValueForbidden", message)
    elif resource.plural == "persistentvolumeclaims":
        mutable = {"resources", "volumeAttributesClassName"} | (
            set() if old["spec"].get("volumeName") else {"volumeName"}
        )
        if _without(old["spec"], mutable) != _without(new["spec"], mutable):
            message = (
                "Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName "
                "for bound claims"
            )
            raise errors.invalid(resource, name, "spec", "FieldValueForbidden", message)
    elif resource.plural == "persistentvolumes":
        before, after = ({k: obj["spec"][k] for k in _SOURCES if k in obj["spec"]} for obj in (old, new))
        if before != after:
            message = "Forbidden: spec.persistentvolumesource is immutable after creation"
            raise errors.invalid(resource, name, "spec.persistentvolumesource", "FieldValueForbidden", message)
    elif resource.plural == "runtimeclasses" and old["handler"] != new["handler"]:
        message = f'Invalid value: "{new["handler"]}": field is immutable'
        raise errors.invalid(resource, name, "handler", "FieldValueInvalid", message)


def _without(spec: Obj, names: set[str]) -> Obj:
    return {key: value for key, value in spec.items() if key not in names}


def _pod_update(resource: Resource, name: str, old: Obj, new: Obj) -> None:
    if len(old["containers"]) != len(new["containers"]):
        message = "Forbidden: pod updates may not add or remove containers"
        raise errors.invalid(resource, name, "spec.containers", "FieldValueForbidden", message)
    before, after = _mutable_removed(old), _mutable_removed(new)
    kept = all(item in (new.get("tolerations") or []) for item in old.get("tolerations") or [])
    if before == after and kept:
        return
    lines = []
    for key in sorted(set(before) | set(after)):
        if before.get(key) != after.get(key):
            shown = key[0].upper() + key[1:]
            lines += [f'- "{shown}": {json.dumps(before.get(key))},', f'+ "{shown}": {json.dumps(after.get(key))},']
    message = POD_UPDATE_RULE + "\n@@ @@\n" + "\n".join(lines) + "\n"
    raise errors.invalid(resource, name, "spec", "FieldValueForbidden", message)


def _mutable_removed(spec: Obj) -> Obj:
    result = copy.deepcopy(_without(spec, {"activeDeadlineSeconds", "tolerations", "schedulingGates"}))
    for container in [*result.get("initContainers", []), *result["containers"]]:
        container.pop("image", None)
    if result.get("terminationGracePeriodSeconds", 0) < 0:
        result["terminationGracePeriodSeconds"] = 1
    return result
