# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""One blob on its way to or from a store, in memory that has no name in any file system.

A blob is read back only after its size and SHA-256 were compared: no tool and no parser ever sees what the manifest does
not vouch for. A blob is as large as a part of a checkpoint at the most (:data:`.pages.PART` bytes before compression).
"""

from __future__ import annotations

import hashlib
import os
import typing as t

from .._common.errors import InvalidInput

BLOCK = 1 << 20
Pulse = t.Callable[[], None]
"""Called now and then during long work; may raise to stop it."""


def no_pulse() -> None:
    """The pulse of somebody who has nobody to answer."""


class Spool:
    """Bytes in a memfd. To be closed.

    :param limit: bytes that may be written; negative: any number.
    """

    def __init__(self, limit: int = -1) -> None:
        self._left = limit
        self.descriptor = os.memfd_create("podferry-blob", os.MFD_CLOEXEC)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.descriptor)

    def write(self, block: t.Union[bytes, bytearray, memoryview]) -> None:
        """Append.

        :raises InvalidInput: it becomes more than the limit.
        """
        if self._left >= 0:
            self._left -= len(block)
            if self._left < 0:
                raise InvalidInput("a stored file is larger than its manifest says")
        write_all(self.descriptor, block)

    @property
    def length(self) -> int:
        """How many bytes are in it."""
        return os.fstat(self.descriptor).st_size

    def measure(self, pulse: Pulse = no_pulse) -> t.Tuple[int, str]:
        """Size and SHA-256 of what is in it."""
        digest, size = hashlib.sha256(), 0
        for block in self.blocks():
            digest.update(block)
            size += len(block)
            pulse()
        return size, digest.hexdigest()

    def blocks(self) -> t.Iterator[bytes]:
        """All of it, from its beginning."""
        at = 0
        while True:
            block = os.pread(self.descriptor, BLOCK, at)
            if not block:
                return
            at += len(block)
            yield block

    def rewind(self) -> int:
        """The descriptor, for a program to read from its beginning."""
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        return self.descriptor


def write_all(descriptor: int, block: t.Union[bytes, bytearray, memoryview]) -> None:
    """write(2) until nothing is left."""
    view = memoryview(block)
    while view:
        view = view[os.write(descriptor, view) :]
