# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Where the target's ferry lays out what arrived: root file systems, volumes, shared memory, files that are held open."""

from __future__ import annotations

import os
import typing as t

from .._common.errors import RestoreFailed
from .._runtime import oci
from .._runtime import volumes as pod_volumes
from . import held, tree
from .paths import VOLUMES
from .transfer import STAGED

Config = t.Mapping[str, t.Any]


class Layout:
    """Archives of one pod, and which of them have been laid out.

    :param images: folder of the archives of the freeze.
    :param staging: folder of the archives that came before it.
    """

    def __init__(self, images: str, staging: str) -> None:
        self._images = images
        self._staging = staging
        self._done: set[str] = set()
        self.pulse: tree.Pulse = lambda: None
        """Called now and then; may raise to stop."""

    def early(self, name: str, bundle: str, config: Config, uid: str) -> None:
        """Lay out what came in rounds, for the volumes and for the container ``name``."""
        for volume, path in self._volumes(config, uid).items():
            self._lay(f"{VOLUMES}/{volume}", path, final=False)
        self._lay(f"{name}/rootfs", _rootfs(bundle, config), final=False)

    def volumes(self, config: Config, uid: str) -> None:
        """Lay out all emptyDir volumes of the pod that ``config`` is a container of, and its shared memory."""
        for volume, path in self._volumes(config, uid).items():
            self._lay(f"{VOLUMES}/{volume}", path, final=True)

    def container(self, name: str, bundle: str, config: Config, uid: str) -> None:
        """Lay out what belongs to one container."""
        self._lay(f"{name}/rootfs", _rootfs(bundle, config), final=True)
        memory = oci.mount_source(config, "/dev/shm")
        if memory:
            self._lay(f"{name}/shm", memory, final=True)
        open_there = os.path.join(self._images, name, held.NAME)
        if os.path.exists(open_there):
            held.unpack(open_there, pod_volumes.kubelet_volumes(config, uid))

    def _volumes(self, config: Config, uid: str) -> dict[str, str]:
        """Volumes for which something arrived, with their folders on this node.

        :raises RestoreFailed: the target pod has no such volume.
        """
        arrived = set()
        for root in (self._images, self._staging):
            folder = os.path.join(root, VOLUMES)
            for name in os.listdir(folder) if os.path.isdir(folder) else []:
                staged = STAGED.fullmatch(f"{VOLUMES}/{name}")
                arrived.add((staged.group(1) if staged else f"{VOLUMES}/{name}"[:-4]).partition("/")[2])
        if not arrived:
            return {}
        there = {volume.name: volume.path for volume in pod_volumes.empty_dirs(config, uid)}
        missing = sorted(arrived - there.keys())
        if missing:
            raise RestoreFailed(
                f"the target pod has no emptyDir volumes {', '.join(missing)}",
                "An admission controller changed the pod.",
            )
        return {name: there[name] for name in sorted(arrived)}

    def _lay(self, name: str, root: str, *, final: bool) -> None:
        folder, base = os.path.split(os.path.join(self._staging, name))
        numbers = []
        for entry in os.listdir(folder) if os.path.isdir(folder) else []:
            staged = STAGED.fullmatch(f"{os.path.dirname(name)}/{entry}")
            if staged and staged.group(1) == name:
                numbers.append(int(staged.group(2)))
        archives = [os.path.join(folder, f"{base}.{number}.tar") for number in sorted(numbers)]
        last = os.path.join(self._images, f"{name}.tar")
        if final and os.path.exists(last):
            archives.append(last)
        for archive in archives:
            if archive not in self._done:
                tree.unpack(archive, root, self.pulse)
                self._done.add(archive)


def _rootfs(bundle: str, config: Config) -> str:
    return os.path.join(bundle, str((config.get("root") or {}).get("path", "rootfs")))
