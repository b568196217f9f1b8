# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""containerd's options about checkpoints, in a file of our own: what would be written, and how to take it out again.

``enable_criu`` (2.2.7, 2.3.4, 2.4 and later) is on by default: our file only matters where somebody switched it off.
``enable_experimental_restore_via_create`` (2.2.7 to 2.3) lets an image restore a process; off by default since an advisory.
"""

from __future__ import annotations

import typing as t

from .._common.errors import PodferryError
from .._runtime import cri, versions
from .abilities import CHECKPOINT_CALL, containerd_settings
from .containerd_handler import (
    BEGIN,
    CHECKPOINT_DROP_IN,
    END,
    NEW_FOLDER,
    FileChange,
    Situation,
    differences,
    drop_in_path,
    folder_is_ours,
    schema_of,
)

CRIU = "enable_criu"
RESTORE = "enable_experimental_restore_via_create"
_RESTORES = ([2, 1], [2, 4])
"""containerd restores in CreateContainer from the first on, and no longer from the second on."""


def wanted(situation: Situation, restore_via_create: bool) -> dict[str, bool]:
    """Return the options to switch on, out of those that this containerd knows.

    :raises PodferryError: what is asked for does not exist in it.
    """
    version, known = list(situation.version), containerd_settings(situation.config)
    name = f"containerd {versions.dotted(version)}"
    if version[:2] < CHECKPOINT_CALL["containerd"]:
        if restore_via_create:
            raise PodferryError(f"{name} neither checkpoints nor restores through the CRI", "Use 2.2.7 or 2.3.4.")
        return {}
    found = {CRIU: True} if CRIU in known else {}
    if restore_via_create:
        if RESTORE in known:
            found[RESTORE] = True
        elif not _RESTORES[0] <= version[:2] < _RESTORES[1]:
            raise PodferryError(
                f"{name} does not restore in CreateContainer: 2.1 to 2.3 do",
                "Restore through podferry's runtime handler instead; it needs no option.",
            )
    return found


def plan(situation: Situation, present: bool, restore_via_create: bool = False) -> list[FileChange]:
    """Return the change of our file; none where there is nothing to say.

    :raises PodferryError: there is something to say, and no folder that containerd imports.
    """
    path = drop_in_path(situation, CHECKPOINT_DROP_IN)
    old = situation.read(path) if path else None
    options = wanted(situation, restore_via_create) if present else {}
    known = containerd_settings(situation.config)
    needed = old is not None or any(known.get(name) != value for name, value in options.items())
    if path is None:
        if options and needed:
            raise PodferryError(
                f"containerd imports no folder, and {' and '.join(sorted(options))} would have to be set",
                f'Add `imports = ["/etc/containerd/conf.d/*.toml"]` to {situation.config_path}, or set it there.',
            )
        return []
    new = _render(situation, path, options) if options and needed else None
    return [FileChange(path, old, new)]


def _render(situation: Situation, path: str, options: t.Mapping[str, bool]) -> bytes:
    schema = schema_of(situation.read(situation.config_path), situation.config.config_version)
    plugin = cri.containerd_plugin(schema)
    folder = f"{NEW_FOLDER}\n" if folder_is_ours(situation, path) else ""
    lines = "".join(f"  {name} = {str(value).lower()}\n" for name, value in sorted(options.items()))
    return f'{BEGIN}\n{folder}version = {schema}\n[plugins."{plugin}"]\n{lines}{END}\n'.encode()


def check_effective(before: cri.CriConfig, after: cri.CriConfig, options: t.Mapping[str, bool]) -> None:
    """Check that containerd understood the file as it was meant, and everything else as before.

    :raises PodferryError: it did not.
    """
    effective = containerd_settings(after)
    lost = [name for name, value in options.items() if effective.get(name) != value]
    if lost:
        raise PodferryError(
            f"containerd does not see {' and '.join(lost)} as it was written",
            "A file that is imported later sets it; `containerd config dump` shows what containerd uses.",
        )
    changed = [
        name for name in differences(before.document, after.document) if name.rpartition(".")[2] not in (CRIU, RESTORE)
    ]
    if changed:
        raise PodferryError(
            f"containerd would understand its other settings differently: {', '.join(changed[:5])}",
            "Write what `containerd config dump` shows for them into containerd's configuration, and try again.",
        )
