# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The volumes of a pod as they lie on its node, found from the mounts of one of its containers."""

from __future__ import annotations

import os
import typing as t

from .._common.files import read_text
from . import oci

_ANCHORS = ("/etc/hosts", "/dev/termination-log")
_EMPTY_DIRS = "volumes/kubernetes.io~empty-dir"


class EmptyDir(t.NamedTuple):
    """A volume that lives and dies with its pod."""

    name: str
    path: str
    in_memory: bool


def pod_directory(config: t.Mapping[str, t.Any], uid: str) -> str | None:
    """The kubelet's folder of the pod, ``<root>/pods/<uid>``; None when no mount of the container comes from there."""
    sources = [oci.mount_source(config, destination) or "" for destination in _ANCHORS]
    sources += [str(mount.get("source", "")) for mount in config.get("mounts") or []]
    for source in sources:
        head, separator, _rest = source.partition(f"/pods/{uid}/")
        if separator:
            return f"{head}/pods/{uid}"
    return None


def empty_dirs(config: t.Mapping[str, t.Any], uid: str) -> list[EmptyDir]:
    """The emptyDir volumes of the pod that ``config`` is a container of, also those that only init containers use."""
    folder = os.path.join(pod_directory(config, uid) or "/nonexistent", _EMPTY_DIRS)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    return [EmptyDir(name, os.path.join(folder, name), os.path.ismount(os.path.join(folder, name))) for name in names]


def kubelet_volumes(config: t.Mapping[str, t.Any], uid: str) -> dict[str, str]:
    """Mount point to folder on the node, for volumes that the kubelet fills itself (ConfigMap, Secret, token…)."""
    plugins = ("configmap", "secret", "projected", "downward-api")
    found = {}
    for mount in config.get("mounts") or []:
        source = str(mount.get("source", ""))
        if any(f"/pods/{uid}/volumes/kubernetes.io~{plugin}/" in source for plugin in plugins):
            found[str(mount.get("destination"))] = source
    return found


def shared(config: t.Mapping[str, t.Any], uid: str, mounts: str = "/proc/self/mountinfo") -> list[str]:
    """Folders of writable volumes that other nodes mount too: file systems of their own that are not in memory."""
    kinds: dict[str, str] = {}
    for line in read_text(mounts).splitlines():
        fields, _dash, rest = line.partition(" - ")
        kinds[fields.split()[4]] = rest.split()[0]
    found = []
    for mount in config.get("mounts") or []:
        source = str(mount.get("source", ""))
        if f"/pods/{uid}/" not in source or "ro" in (mount.get("options") or []) or "~empty-dir/" in source:
            continue
        place = source
        while place not in kinds and place.count("/") > 1:
            place = os.path.dirname(place)
        if f"/pods/{uid}/" in place and kinds.get(place) != "tmpfs":
            found.append(place)
    return sorted(set(found))
