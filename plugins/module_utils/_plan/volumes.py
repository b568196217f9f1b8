# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Which volumes can move: those whose files the target's kubelet makes again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .refusals import Refusal, refuse

Obj = Mapping[str, Any]

_ACCEPTED = frozenset(("configMap", "secret", "downwardAPI", "projected"))
_PROJECTED = frozenset(("serviceAccountToken", "configMap", "secret", "downwardAPI"))
_MOUNT_ACCEPTED = frozenset(("name", "mountPath", "readOnly", "recursiveReadOnly"))

#: Volume types whose refusal is for good or for now, in words.
_WHY = {
    "emptyDir": "its files live on the source node and are not carried yet",
    "persistentVolumeClaim": "two pods would have it mounted during the move",
    "ephemeral": "its claim is bound to the source pod",
    "image": "image volumes are not carried yet",
    "nfs": "network file systems are not carried yet",
}


def check_volumes(spec: Obj) -> list[Refusal]:
    """Refusals for volumes of ``spec`` that are not carried."""
    found: list[Refusal] = []
    for volume in spec.get("volumes") or []:
        name = volume.get("name")
        kinds = [key for key, value in volume.items() if key != "name" and value is not None]
        for kind in kinds or ["emptyDir"]:
            if kind == "hostPath":
                found.append(
                    refuse(
                        "host_path", f"Volume {name} is the path {(volume[kind] or {}).get('path')} of the source node."
                    )
                )
            elif kind == "projected":
                found += _check_projected(str(name), volume[kind] or {})
            elif kind not in _ACCEPTED:
                why = _WHY.get(kind, "this type is not on the list of accepted ones")
                found.append(refuse("volume", f"Volume {name} is of type {kind}: {why}."))
    return found


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
