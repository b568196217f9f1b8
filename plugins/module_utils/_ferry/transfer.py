# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Files from the source's tmpfs to the target's, sent while they are still being written.

CRIU only ever appends to its ``pages-*.img``: they travel while the dump goes on, so that little is left to send when
it ends. Everything else is small and follows. The manifest at the end names each file with size and SHA-256.
"""

from __future__ import annotations

import hashlib
import os
import re
import typing as t

from .._common.errors import DumpFailed, InvalidInput
from .link import BLOCK, Link, Message

_NAME = re.compile(
    r"[a-z0-9][a-z0-9.-]*/(criu/[A-Za-z0-9][A-Za-z0-9._-]*|[a-z0-9][a-z0-9-]*(\.\d{1,6})?\.tar|held\.json|log)"
)
STAGED = re.compile(r"([a-z0-9][a-z0-9.-]*/[a-z0-9][a-z0-9-]*)\.(\d{1,6})\.tar")
"""Archives of the rounds before the freeze: a tree, and a number that grows."""
_GROWING = re.compile(r"^pages-(\d+)\.img$")

MOST_FILES = 200_000
"""Each costs memory, however small it is."""

Manifest = t.Dict[str, t.Dict[str, t.Any]]


class Sender:
    """Sends the files below ``root``, each once, the growing ones as they grow."""

    def __init__(self, link: Link, root: str) -> None:
        self._link = link
        self._root = root
        self._sent: Manifest = {}
        self._open: _Growing | None = None
        self.bytes = 0

    def growing(self, container: str) -> bool:
        """Send what has been added to the page files of ``container`` since the last call; False when that was nothing."""
        folder = f"{container}/criu"
        moved = False
        for name in self._pages(folder):
            if self._open is None or self._open.name != name:
                self._finish()
                self._open = _Growing(name, os.path.join(self._root, name))
                self._link.send("file", name=name)
            moved = self._advance() or moved
        return moved

    def _pages(self, folder: str) -> list[str]:
        """Page files in the order in which CRIU writes them, from the open one on."""
        path = os.path.join(self._root, folder)
        numbers = sorted(int(found.group(1)) for found in map(_GROWING.match, _names(path)) if found)
        names = [f"{folder}/pages-{number}.img" for number in numbers]
        return [name for name in names if name not in self._sent]

    def _advance(self, pulse: t.Callable[[], None] | None = None) -> bool:
        moved = False
        while self._open is not None:
            if pulse is not None:
                pulse()
            block = self._open.stream.read(BLOCK)
            if not block:
                break
            self._open.digest.update(block)
            self._link.send_data(block)
            self._open.size += len(block)
            self.bytes += len(block)
            moved = True
        return moved

    def _finish(self, pulse: t.Callable[[], None] | None = None) -> None:
        self._advance(pulse)
        if self._open is None:
            return
        self._open.stream.close()
        self._sent[self._open.name] = {"size": self._open.size, "sha256": self._open.digest.hexdigest()}
        self._open = None

    def file(self, name: str, path: str = "", pulse: t.Callable[[], None] | None = None) -> None:
        """Send one file that is complete; from ``path`` when it does not lie below our root."""
        self._finish()
        self._open = _Growing(name, path or os.path.join(self._root, name))
        self._link.send("file", name=name)
        self._finish(pulse)

    def rest(self, container: str) -> None:
        """Send what is left of ``container`` once its dump has ended.

        :raises DumpFailed: CRIU went back to a file that counted as complete when the next one appeared.
        """
        self.growing(container)
        self._finish()
        folder = f"{container}/criu"
        for base in sorted(_names(os.path.join(self._root, folder))):
            name = f"{folder}/{base}"
            if name not in self._sent and not os.path.islink(os.path.join(self._root, name)):
                self.file(name)

        for name, sent in self._sent.items():
            if name.startswith(f"{folder}/") and os.path.getsize(os.path.join(self._root, name)) != sent["size"]:
                raise DumpFailed(f"{name} went on growing after it was sent", "Run the migration again.")

    def manifest(self) -> Manifest:
        """What was sent."""
        return dict(self._sent)


class _Growing:
    def __init__(self, name: str, path: str) -> None:
        self.name = name
        self.stream = open(path, "rb", buffering=0)
        self.digest = hashlib.sha256()
        self.size = 0


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


class Receiver:
    """Writes what a :class:`Sender` sends below ``root``; names and amounts are not trusted.

    :param containers: names that files may belong to.
    :param limit: bytes that may arrive in all below ``root``.
    :param staging: where what is sent before the freeze goes, ``staging_limit`` bytes at the most.
    """

    def __init__(
        self, root: str, containers: t.Collection[str], limit: int, staging: str = "", staging_limit: int = 0
    ) -> None:
        self._root = root
        self._containers = frozenset(containers)
        self._limits = {root: limit, staging: staging_limit}
        self._staging = staging
        self._place = root
        self._files: Manifest = {}
        self._stream: t.BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._name = ""
        self.bytes = 0

    def open(self, message: Message) -> None:
        """Begin the file that ``message`` names.

        :raises InvalidInput: a name that is not ours, or one that came before.
        """
        self.close()
        if len(self._files) >= MOST_FILES:
            raise InvalidInput(f"the source sent more than {MOST_FILES} files")
        name = str(message.get("name"))
        if not _NAME.fullmatch(name) or name.split("/", 1)[0] not in self._containers or name in self._files:
            raise InvalidInput(f"the source sent a file of the name {name!r}")
        self._place = self._staging if STAGED.fullmatch(name) else self._root
        path = os.path.join(self._place, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._stream = os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0)
        self._name, self._digest = name, hashlib.sha256()

    def data(self, block: memoryview) -> None:
        """Append to the open file.

        :raises InvalidInput: no file is open, or more came than was announced.
        :raises OSError: the tmpfs is full.
        """
        if self._stream is None:
            raise InvalidInput("the source sent data that belongs to no file")
        self.bytes += len(block)
        self._limits[self._place] -= len(block)
        if self._limits[self._place] < 0:
            where = "memory was reserved for" if self._place == self._root else "the disk was looked at for"
            raise InvalidInput(
                f"the source sent more bytes than {where}",
                "The pod has grown since the preflight: run the migration again.",
            )
        view = block
        while view:
            view = view[self._stream.write(view) :]
        self._digest.update(block)

    def close(self) -> None:
        """End the open file."""
        if self._stream is not None:
            size = self._stream.tell()
            self._stream.close()
            self._files[self._name] = {"size": size, "sha256": self._digest.hexdigest()}
            self._stream = None

    def verify(self, manifest: t.Mapping[str, t.Any]) -> None:
        """:raises InvalidInput: what arrived is not what was sent."""
        self.close()
        if dict(manifest) != self._files:
            wrong = sorted(
                name for name in set(manifest) | set(self._files) if manifest.get(name) != self._files.get(name)
            )
            raise InvalidInput(f"these files differ from what the source sent: {', '.join(wrong[:5])}")
