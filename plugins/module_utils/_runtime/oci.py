# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What the runtimes write into a bundle's config.json about the container's identity.

Annotations of the pod and the image never count: only keys that containerd and CRI-O set themselves.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .._common.errors import InvalidInput

ARRIVAL = "podferry.live/arrival"


@dataclasses.dataclass(frozen=True)
class Identity:
    """Who a container is."""

    namespace: str
    pod: str
    uid: str
    container: str
    sandbox: bool


def identity(config: t.Mapping[str, t.Any]) -> Identity | None:
    """Return the identity in an OCI config, or None when no Kubernetes runtime wrote it."""
    notes = config.get("annotations") or {}
    prefix = "io.kubernetes.cri."
    if f"{prefix}container-type" in notes:
        return Identity(
            namespace=str(notes.get(f"{prefix}sandbox-namespace", "")),
            pod=str(notes.get(f"{prefix}sandbox-name", "")),
            uid=str(notes.get(f"{prefix}sandbox-uid", "")),
            container=str(notes.get(f"{prefix}container-name", "")),
            sandbox=notes[f"{prefix}container-type"] == "sandbox",
        )
    prefix = "io.kubernetes.cri-o."
    if f"{prefix}ContainerType" in notes:
        # k8s_POD_NAME? CRI-O: k8s_<pod>_<namespace>_<uid>_<attempt>; none of the parts can hold an underscore.
        parts = str(notes.get(f"{prefix}SandboxName", "")).split("_")
        if len(parts) != 5 or parts[0] != "k8s":
            raise InvalidInput(f"CRI-O's sandbox name {parts!r} is not of the form k8s_POD_NAMESPACE_UID_ATTEMPT")
        name = str(notes.get("io.kubernetes.container.name", ""))
        return Identity(parts[2], parts[1], parts[3], name, notes[f"{prefix}ContainerType"] == "sandbox")
    return None


def check_trusted(config: t.Mapping[str, t.Any]) -> None:
    """Refuse a container that names CRIU a configuration: CRIU runs as root and would run scripts named there.

    A pod's annotation can come as far as the bundle (CRI-O passes all of them).

    :raises InvalidInput: it does.
    """
    named = [key for key in config.get("annotations") or {} if str(key).startswith("org.criu.")]
    if named:
        raise InvalidInput(
            f"the pod is annotated with {', '.join(named)}, which would configure CRIU as root",
            "Remove the annotation and recreate the pod.",
        )


def mount_source(config: t.Mapping[str, t.Any], destination: str) -> str | None:
    """Where on the host the mount at ``destination`` comes from."""
    for mount in config.get("mounts") or []:
        if mount.get("destination") == destination:
            return str(mount.get("source", ""))
    return None


def destinations(config: t.Mapping[str, t.Any]) -> list[str]:
    """All mount points, sorted: both ends of a migration must have the same."""
    return sorted(str(mount.get("destination")) for mount in config.get("mounts") or [])


def namespace_path(config: t.Mapping[str, t.Any], kind: str) -> str | None:
    """The path of the namespace of ``kind`` that the container joins, or None when it makes its own."""
    for entry in (config.get("linux") or {}).get("namespaces") or []:
        if entry.get("type") == kind:
            return entry.get("path") or None
    return None
