# SPDX-License-Identifier: Apache-2.0
"""API errors as ``Status`` objects, worded as kube-apiserver words them."""

from __future__ import annotations

from typing import Any

from .resources import Resource

Obj = dict[str, Any]


class ApiError(Exception):
    """A refusal with its HTTP code, reason and details."""

    def __init__(self, code: int, reason: str, message: str, details: Obj | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> Obj:
        """The ``Status`` object a client gets."""
        body: Obj = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            **({"reason": self.reason} if self.reason else {}),
        }
        if self.details is not None:
            body["details"] = self.details
        body["code"] = self.code
        return body


def _details(resource: Resource, name: str, *, kind: str = "") -> Obj:
    details: Obj = {"name": name}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = kind or resource.plural
    return details


def not_found(resource: Resource, name: str) -> ApiError:
    """404 for an object."""
    return ApiError(404, "NotFound", f'{resource.qualified} "{name}" not found', _details(resource, name))


def unknown_path() -> ApiError:
    """404 for a path that no resource serves."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(resource: Resource, name: str) -> ApiError:
    """409: the name is taken."""
    message = f'{resource.qualified} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(resource, name))


def conflict(resource: Resource, name: str, why: str) -> ApiError:
    """409: a precondition or a resourceVersion did not hold."""
    message = f'Operation cannot be fulfilled on {resource.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource, name))


def stale(resource: Resource, name: str) -> ApiError:
    """409: the object changed since the client read it."""
    why = "the object has been modified; please apply your changes to the latest version and try again"
    return conflict(resource, name, why)


def invalid(resource: Resource, name: str, field: str, reason: str, message: str) -> ApiError:
    """422 with one cause."""
    text = f'{resource.kind} "{name}" is invalid: {field}: {message}'
    details = _details(resource, name, kind=resource.kind)
    details["causes"] = [{"reason": reason, "message": message, "field": field}]
    return ApiError(422, "Invalid", text, details)


def forbidden(resource: Resource, name: str, why: str) -> ApiError:
    """403 from admission."""
    message = f'{resource.qualified} "{name}" is forbidden: {why}'
    return ApiError(403, "Forbidden", message, _details(resource, name))


def bad_request(message: str) -> ApiError:
    """400."""
    return ApiError(400, "BadRequest", message)


def expired(message: str) -> ApiError:
    """410: the history a watch asks for is gone; the client has to list again."""
    return ApiError(410, "Expired", message)


def success(resource: Resource, name: str, uid: str) -> Obj:
    """The ``Status`` of a deletion that is complete."""
    details = _details(resource, name)
    details["uid"] = uid
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
