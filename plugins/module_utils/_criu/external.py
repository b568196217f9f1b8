# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What CRIU mounts where a dump of another OCI runtime names it otherwise: lines of its configuration for a restore.

A masked path is a mount from outside. runc calls that of a file ``/dev/null`` and masks a folder by a tmpfs, which is in the
dump; crun calls that of a file by its path, and from 1.24 on masks folders by one empty folder, which it calls differently at
the dump and at the restore when it has a root of its own. The names here are constants or the target's own paths, so a dump
cannot name anything else of this node; a name that a dump does not use does nothing.
"""

from __future__ import annotations

import os
import typing as t

EMPTY = "/run/podferry/empty"
"""An empty folder of ours, which stays as long as the node is prepared."""
_CRUN_EMPTY = (
    "/run/crun/.empty-directory",
    "/run/runc/.empty-directory",
    "/run/containerd/runc/k8s.io/.empty-directory",
)


def options(config: t.Mapping[str, t.Any], is_folder: t.Callable[[str], bool] = os.path.isdir) -> list[str]:
    """The lines for a container of this configuration.

    :param is_folder: says what a masked path is on this node.
    """
    lines = [_line("/dev/null", "/dev/null"), *(_line(name, EMPTY) for name in _CRUN_EMPTY)]
    for path in (config.get("linux") or {}).get("maskedPaths") or []:
        name = str(path)
        if name.startswith("/") and name.isprintable() and " " not in name and "]" not in name:
            lines.append(_line(name, EMPTY if is_folder(name) else "/dev/null"))
    return list(dict.fromkeys(lines))


def _line(name: str, source: str) -> str:
    return f"external mnt[{name}]:{source}"
