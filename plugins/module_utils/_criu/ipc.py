# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""System V IPC of a pod with several containers: they share one namespace, and CRIU dumps it whole with each of them.

Restored as dumped, the second container would find the first one's objects in its way. So every object stays in one image:
semaphores and queues in the first, a memory segment where it is attached (a restore attaches only what it made itself).
"""

from __future__ import annotations

import glob
import os
import typing as t

from .._common.errors import DumpFailed
from . import image

_DESCRIPTION, _ID = 1, 7  # ipc_shm_entry.desc, ipc_desc_entry.id


def divide(images: t.Sequence[str], attached: t.Sequence[t.AbstractSet[int]]) -> None:
    """Leave each object in one of the dumps at ``images``; ``attached`` are the segments that each container has mapped.

    :raises DumpFailed: a segment is mapped by more than one.
    """
    shared = {
        segment for index, mine in enumerate(attached) for other in attached[index + 1 :] for segment in mine & other
    }
    if shared:
        raise DumpFailed(
            f"System V shared memory {sorted(shared)} is attached in more than one container of the pod",
            "Use POSIX shared memory (/dev/shm) between containers.",
        )
    for index, folder in enumerate(images):
        if index:
            for kind in ("sem", "msg"):
                for path in glob.glob(os.path.join(folder, f"ipcns-{kind}-*.img")):
                    image.clear(path)
        for path in glob.glob(os.path.join(folder, "ipcns-shm-*.img")):
            header, entries = image.read(path)
            image.write(path, header, [entry for entry in entries if _place(_segment(entry), attached) == index])


def _segment(entry: bytes) -> int:
    return image.Message(image.Message(entry).data(_DESCRIPTION) or b"").number(_ID)


def _place(segment: int, attached: t.Sequence[t.AbstractSet[int]]) -> int:
    """Which container's image keeps the segment: the one that has it mapped, else the first."""
    return next((index for index, mine in enumerate(attached) if segment in mine), 0)
