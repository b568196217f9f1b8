# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The archive as it lies on the node: its size, its digest, and that root alone can read it."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import os
import stat
import typing as t

from .errors import BadArchive
from .request import Request

_BLOCK = 1 << 20
_OTHERS = 0o077


@dataclasses.dataclass(frozen=True)
class Archive:
    """``tightened``: others than its owner could read or write it, and cannot any more."""

    path: str
    size: int
    sha256: str
    tightened: bool


def examine(path: str, owner: int = 0) -> Archive:
    """Read an archive, and take away the rights that a container runtime gave to others than its owner.

    :raises BadArchive: there is none, or what is there is not what a container runtime would leave.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadArchive(
            f"the archive {path} cannot be read on this host: {error.strerror}",
            "Run the task on the pod's node, as root (become), and where the kubelet's folders are.",
        ) from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != owner:
            raise BadArchive(
                f"{path} is not a file of root's (mode {found.st_mode:o}, owner {found.st_uid})",
                "Whoever may write there can forge archives: look at the folder's owner and mode.",
            )
        tightened = bool(found.st_mode & _OTHERS)
        if tightened:
            os.fchmod(descriptor, 0o600)
        digest, size = hashlib.sha256(), 0
        for block in iter(lambda: os.read(descriptor, _BLOCK), b""):
            digest.update(block)
            size += len(block)
    finally:
        os.close(descriptor)
    if not size:
        raise BadArchive(f"the archive {path} is empty", "Look into the log of the container runtime on the node.")
    return Archive(path, size, digest.hexdigest(), tightened)


def outlast_name(path: str, request: Request, now: t.Callable[[], float], sleep: t.Callable[[float], None]) -> None:
    """Wait until the second in the archive's name is over (on this node's clock), a moment at most.

    The kubelet names archives by the second, and containerd writes over one of the same name without emptying it first: two
    checkpoints within one second would leave one file, with the end of the other in it.
    """
    named = request.archive.fullmatch(os.path.basename(path))
    if named is None:
        return
    moment = datetime.datetime.fromisoformat(named.group(1).replace("Z", "+00:00")).timestamp()
    left = moment + 1 - now()
    if 0 < left <= 1:
        sleep(left)
