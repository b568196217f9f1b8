# SPDX-License-Identifier: Apache-2.0
"""The ``scale`` subresource."""

from __future__ import annotations

from typing import Any

from . import errors
from . import patch as patches

Obj = dict[str, Any]


def of(obj: Obj) -> Obj:
    """The ``Scale`` of a workload."""
    meta = obj["metadata"]
    labels = (obj["spec"].get("selector") or {}).get("matchLabels") or {}
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")},
        "spec": {"replicas": obj["spec"]["replicas"]},
        "status": {
            "replicas": (obj.get("status") or {}).get("replicas", 0),
            "selector": ",".join(f"{k}={v}" for k, v in sorted(labels.items())),
        },
    }


def changed(obj: Obj, body: Any, patch_type: str) -> int:
    """The number of replicas a client asks for by PUT or PATCH of the ``Scale``; 400 and 409 as for any object."""
    current = of(obj)
    wanted = patches.apply(current, body, patch_type) if patch_type else body
    version = (wanted.get("metadata") or {}).get("resourceVersion")
    if version and version != current["metadata"]["resourceVersion"]:
        raise errors.ApiError(
            409,
            "Conflict",
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    replicas = (wanted.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        raise errors.bad_request("spec.replicas is not a count")
    return replicas
