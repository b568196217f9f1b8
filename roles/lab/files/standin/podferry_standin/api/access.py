# SPDX-License-Identifier: Apache-2.0
"""The two reviews that kubelets ask for: whose token this is, and whether somebody may, by the RBAC objects that are stored.

The API itself does not check RBAC: whoever it knows may do everything.
"""

from __future__ import annotations

from typing import Any

from .registry import Registry
from .resources import BY_NAME
from .tokens import Signer

Obj = dict[str, Any]
_MASTERS = "system:masters"


def review_token(signer: Signer, body: Obj) -> Obj:
    """The answer to a TokenReview."""
    user = signer.user(str((body.get("spec") or {}).get("token") or ""))
    if user is None:
        return {**body, "status": {"user": {}, "error": "invalid bearer token"}}
    return {**body, "status": {"authenticated": True, "user": user, "audiences": ["podferry-standin"]}}


def review_access(registry: Registry, body: Obj) -> Obj:
    """The answer to a SubjectAccessReview."""
    spec = body.get("spec") or {}
    return {**body, "status": {"allowed": allowed(registry, spec)}}


def allowed(registry: Registry, spec: Obj) -> bool:
    """Whether a bound role has a rule for it."""
    user, groups = str(spec.get("user") or ""), set(spec.get("groups") or [])
    attributes = spec.get("resourceAttributes") or {}
    if _MASTERS in groups:
        return True
    namespace = attributes.get("namespace") or ""
    bindings = registry.list(BY_NAME["clusterrolebindings"], "")
    bindings += registry.list(BY_NAME["rolebindings"], namespace) if namespace else []
    roles = {("ClusterRole", "", one["metadata"]["name"]): one for one in registry.list(BY_NAME["clusterroles"], "")}
    if namespace:
        for one in registry.list(BY_NAME["roles"], namespace):
            roles["Role", namespace, one["metadata"]["name"]] = one
    for binding in bindings:
        if not any(_is(subject, user, groups) for subject in binding.get("subjects") or []):
            continue
        ref = binding["roleRef"]
        role = roles.get((ref["kind"], namespace if ref["kind"] == "Role" else "", ref["name"]), {})
        if any(_covers(rule, attributes) for rule in role.get("rules") or []):
            return True
    return False


def _is(subject: Obj, user: str, groups: set[str]) -> bool:
    if subject["kind"] == "ServiceAccount":
        return user == f"system:serviceaccount:{subject.get('namespace')}:{subject['name']}"
    return user == subject["name"] if subject["kind"] == "User" else subject["name"] in groups


def _covers(rule: Obj, attributes: Obj) -> bool:
    wanted = attributes.get("resource", "")
    if attributes.get("subresource"):
        wanted += f"/{attributes['subresource']}"
    names = rule.get("resourceNames") or []
    return (
        _has(rule.get("verbs"), attributes.get("verb", ""))
        and _has(rule.get("apiGroups"), attributes.get("group") or "")
        and (
            _has(rule.get("resources"), wanted) or f"*/{attributes.get('subresource')}" in (rule.get("resources") or [])
        )
        and (not names or attributes.get("name") in names)
    )


def _has(listed: list[str] | None, wanted: str) -> bool:
    return "*" in (listed or []) or wanted in (listed or [])
