# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Mount points of a container on its two nodes: which may differ, and how what is missing is put in place.

A dump names every bind mount by its place in the container, and a restore must know what to mount there on this node. Two
container engines make the same mounts for the same pod, except for the files in :data:`ENGINE_FILES`.
"""

from __future__ import annotations

import os
import typing as t

from .._common.files import write_json
from . import oci

ENGINE_FILES: t.Mapping[str, str] = {"/run/.containerenv": "podferry.containerenv"}
"""Empty files that CRI-O binds into every container and containerd does not: place, and the name of ours in the bundle."""

Config = t.Mapping[str, t.Any]


def unlike(source: t.Iterable[str], config: Config) -> list[str]:
    """Mount points that only one of the two has, and that neither engine makes by itself; sorted.

    :param source: the mount points of the container that was dumped.
    :param config: the bundle's configuration on this node.
    """
    return sorted((set(source) ^ set(oci.destinations(config))) - set(ENGINE_FILES))


def completed(source: t.Iterable[str], config: Config, bundle: str) -> dict[str, t.Any] | None:
    """The configuration with the engine's files that the dump has and this node's engine does not make; None: it has all.

    What is mounted is a file of the bundle, never a path that the other node named.
    """
    missing = sorted((set(source) & set(ENGINE_FILES)) - set(oci.destinations(config)))
    if not missing:
        return None
    added = [
        {
            "destination": place, "type": "bind", "source": os.path.join(bundle, ENGINE_FILES[place]),
            "options": ["bind", "rw", "nosuid", "nodev", "noexec"],
        }
        for place in missing
    ]  # fmt: skip
    return {**config, "mounts": [*(config.get("mounts") or []), *added]}


def complete(bundle: str, config: Config, source: t.Iterable[str]) -> Config:
    """Write what :func:`completed` says into the bundle. It stays there: the next dump needs it too.

    :returns: the configuration as it is now.
    :raises OSError: the bundle cannot be written.
    """
    changed = completed(source, config, bundle)
    if changed is None:
        return config
    for place in ENGINE_FILES.values():
        descriptor = os.open(
            os.path.join(bundle, place), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644
        )
        os.close(descriptor)
    write_json(os.path.join(bundle, "config.json"), changed, 0o644)
    return changed
