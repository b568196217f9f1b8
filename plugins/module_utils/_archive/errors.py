# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What can be wrong with a checkpoint that somebody else wrote. Each is an :class:`InvalidInput`, so that nobody mistakes it for ours."""

from __future__ import annotations

from .._common.errors import InvalidInput


class DamagedArchive(InvalidInput):
    """It ends too early, or its contents contradict each other."""

    kind = "archive_damaged"


class UnsafeArchive(InvalidInput):
    """It holds what no engine writes: a link, a device, a path that leads out of it, the same name twice."""

    kind = "archive_unsafe"


class TooLarge(InvalidInput):
    """It is larger, or unpacks to more, than was allowed."""

    kind = "archive_too_large"


class NoCheckpoint(InvalidInput):
    """It is something else than a checkpoint of one container, or a form of it that we do not read."""

    kind = "archive_no_checkpoint"


class WrongCheckpoint(InvalidInput):
    """It is a checkpoint of another container than the one that was asked for."""

    kind = "archive_wrong_checkpoint"


class AsksForHost(InvalidInput):
    """Its metadata would give the restored container something of the host: devices, mounts, hooks."""

    kind = "archive_asks_for_host"


COPY_AGAIN = "Copy it again, or make a new checkpoint."
NOT_TRUSTED = "Do not use it: no engine writes this. Find out where it comes from."
EXPORT = "Give the file that the kubelet, CRI-O, containerd or `podman container checkpoint --export` wrote, or an image of it."
