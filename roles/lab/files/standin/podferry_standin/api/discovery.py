# SPDX-License-Identifier: Apache-2.0
"""Discovery, version, and just enough OpenAPI for kubectl to leave validation to the server."""

from __future__ import annotations

from typing import Any

from .. import VERSION
from .resources import RESOURCES, REVIEWS, Resource

Obj = dict[str, Any]

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_SUB_VERBS = {
    "log": ["get"],
    "binding": ["create"],
    "eviction": ["create"],
    "token": ["create"],
    "exec": ["create", "get"],
}
_SUB_KINDS = {
    "binding": ("", "v1", "Binding"),
    "eviction": ("policy", "v1", "Eviction"),
    "scale": ("autoscaling", "v1", "Scale"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
    "exec": ("", "v1", "PodExecOptions"),
    "proxy": ("", "v1", "NodeProxyOptions"),
}


def version() -> Obj:
    """``/version``: it says that this is a stand-in."""
    return {
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": VERSION,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def groups() -> dict[str, list[str]]:
    """Group names with their versions."""
    found: dict[str, list[str]] = {}
    for resource in RESOURCES:
        versions = found.setdefault(resource.group, [])
        if resource.version not in versions:
            versions.append(resource.version)
    return found


def core_versions() -> Obj:
    """``/api``."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group(name: str) -> Obj | None:
    """``/apis/<group>``."""
    versions = groups().get(name)
    if not name or versions is None:
        return None
    listed = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": listed, "preferredVersion": listed[0]}


def group_list() -> Obj:
    """``/apis``."""
    found = [group(name) for name in groups() if name]
    bare = [{k: v for k, v in g.items() if k not in ("kind", "apiVersion")} for g in found if g]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": bare}


def resource_list(name: str, api_version: str) -> Obj | None:
    """``/api/v1`` and ``/apis/<group>/<version>``."""
    found = [r for r in RESOURCES if r.group == name and r.version == api_version]
    if not found:
        return None
    entries: list[Obj] = []
    for resource in found:
        entries.append(_entry(resource))
        entries += [_sub_entry(resource, sub) for sub in resource.subresources]
    full = f"{name}/{api_version}" if name else api_version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": full, "resources": entries}


def _entry(resource: Resource) -> Obj:
    entry: Obj = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": ["create"] if resource.plural in REVIEWS else _VERBS,
    }
    if resource.short:
        entry["shortNames"] = list(resource.short)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    return entry


def _sub_entry(resource: Resource, sub: str) -> Obj:
    entry: Obj = {
        "name": f"{resource.plural}/{sub}",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": _SUB_VERBS.get(sub, ["get", "patch", "update"]),
    }
    if sub in _SUB_KINDS:
        entry["group"], entry["version"], entry["kind"] = _SUB_KINDS[sub]
    return entry


def openapi_index() -> Obj:
    """``/openapi/v3``."""
    paths = {("api/v1" if not g else f"apis/{g}/{v}"): None for g, vs in groups().items() for v in vs}
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"} for path in paths}}


def openapi(path: str) -> Obj:
    """``/openapi/v3/<path>``: every resource takes ``fieldValidation``; schemas are open."""
    found = [r for r in RESOURCES if (f"apis/{r.group}/{r.version}" if r.group else f"api/{r.version}") == path]
    parameters = [
        {"name": n, "in": "query", "schema": {"type": "string"}} for n in ("dryRun", "fieldManager", "fieldValidation")
    ]
    paths: Obj = {}
    for resource in found:
        where = "/namespaces/{namespace}" if resource.namespaced else ""
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        operation = {
            "operationId": f"patch{resource.kind}",
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": kind,
        }
        paths[f"/{path}{where}/{resource.plural}/{{name}}"] = {"patch": operation}
    return {
        "openapi": "3.0.0",
        "info": {"title": "podferry lab stand-in", "version": VERSION},
        "paths": paths,
        "components": {"schemas": {}},
    }
