# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Which volumes can move: those whose files the target's kubelet makes again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._kube import predicates
from .nodes import selected
from .refusals import Refusal, refuse

Obj = Mapping[str, Any]

_MADE_AGAIN = frozenset(("configMap", "secret", "downwardAPI"))
_SHARED = frozenset(("nfs",))
_PROJECTED = frozenset(("serviceAccountToken", "configMap", "secret", "downwardAPI"))
_MOUNT_ACCEPTED = frozenset(("name", "mountPath", "readOnly", "recursiveReadOnly", "subPath", "subPathExpr"))
_MEDIA = (None, "", "Memory")
_MANY = frozenset(("ReadWriteMany", "ReadOnlyMany"))

#: Volume types whose refusal is for good or for now, in words.
_WHY = {
    "ephemeral": "its claim is bound to the source pod",
    "image": "image volumes are not carried yet",
}


def check_volumes(spec: Obj, claims: Mapping[str, Obj | None]) -> list[Refusal]:
    """Refusals for volumes of ``spec`` that are not carried. ``claims``: the claims it names, None where there is none."""
    found: list[Refusal] = []
    for volume in spec.get("volumes") or []:
        kinds = [key for key, value in volume.items() if key != "name" and value is not None]
        for kind in kinds or ["emptyDir"]:
            found += _check_volume(str(volume.get("name")), kind, volume.get(kind) or {}, claims)
    return found


def _check_volume(name: str, kind: str, source: Obj, claims: Mapping[str, Obj | None]) -> list[Refusal]:
    if kind in _MADE_AGAIN or kind in _SHARED:
        return []
    if kind == "emptyDir":
        medium = source.get("medium")
        return [] if medium in _MEDIA else [refuse("volume", f"Volume {name} is an emptyDir of medium {medium}.")]
    if kind == "persistentVolumeClaim":
        return _check_claim(name, str(source.get("claimName")), claims.get(str(source.get("claimName"))))
    if kind == "hostPath":
        return [refuse("host_path", f"Volume {name} is the path {source.get('path')} of the source node.")]
    if kind == "projected":
        return _check_projected(name, source)
    return [
        refuse(
            "volume",
            f"Volume {name} is of type {kind}: {_WHY.get(kind, 'this type is not on the list of accepted ones')}.",
        )
    ]


def _check_claim(name: str, claim: str, obj: Obj | None) -> list[Refusal]:
    if obj is None:
        return [refuse("volume", f"Volume {name} is the claim {claim}, which does not exist.")]
    spec: Obj = obj.get("spec") or {}
    if spec.get("volumeMode") == "Block":
        return [refuse("device", f"Volume {name} is a block device.")]
    modes = list((obj.get("status") or {}).get("accessModes") or spec.get("accessModes") or [])
    if _MANY.isdisjoint(modes):
        return [
            refuse(
                "volume_access", f"Volume {name} is the claim {claim} with access mode {', '.join(modes) or 'unknown'}."
            )
        ]
    return []


def check_reach(claims: Mapping[str, Obj | None], volumes: Mapping[str, Obj | None], target: Obj) -> list[Refusal]:
    """Can the target mount what is behind the claims?

    ``volumes``: PersistentVolumes by name; None for one that is gone, without those that may not be read.
    """
    found: list[Refusal] = []
    for claim, obj in claims.items():
        name = volume_of(obj)
        if name and name not in volumes:
            found.append(
                refuse(
                    "volume_affinity",
                    f"Which nodes reach volume {name} of claim {claim} may not be read: it cannot be checked.",
                    remedy="Grant 'get' on persistentvolumes (docs/rbac.yml: podferry-migrate-cluster).",
                )
            )
            continue
        spec: Obj = (volumes.get(name) or {}).get("spec") or {}
        required = (spec.get("nodeAffinity") or {}).get("required")
        if required and not selected(required, target):
            found.append(
                refuse(
                    "volume_affinity",
                    f"Node {predicates.name_of(target)} does not match the node affinity of volume {name} "
                    f"(claim {claim}).",
                )
            )
    return found


def volume_of(claim: Obj | None) -> str:
    """The PersistentVolume that a claim is bound to; '' for none."""
    return str(((claim or {}).get("spec") or {}).get("volumeName") or "")


def _check_projected(name: str, projected: Obj) -> list[Refusal]:
    return [
        refuse("volume", f"Volume {name} projects a {kind}, which is not on the list of accepted sources.")
        for source in projected.get("sources") or []
        for kind, value in source.items()
        if kind not in _PROJECTED and value is not None
    ]


def check_mounts(where: str, container: Obj) -> list[Refusal]:
    """Refusals for mounts of a container that are made in a way not carried."""
    found: list[Refusal] = []
    for mount in container.get("volumeMounts") or []:
        for field, value in sorted(mount.items()):
            if field in _MOUNT_ACCEPTED or value in (None, "", "None"):
                continue
            found.append(
                refuse(
                    "volume_mount",
                    f"{where} mounts {mount.get('name')} at {mount.get('mountPath')} with {field}={value}.",
                )
            )
    return found
