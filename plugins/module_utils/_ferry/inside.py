# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Reading a tree that a program of the pod changes at the same time, from the host and as root.

The kernel never resolves a path of the pod for us: the program could put a link to the host's files where a folder was
a moment ago. We go down by descriptors, one name at a time and through no link, and what is read of an entry is read of
the one that was looked at. Paths that are too long together with where the tree lies on the host can be read so, too.
"""

from __future__ import annotations

import errno
import os
import stat
import typing as t

from .._common.errors import DumpFailed, InvalidInput

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_MOST_OPEN = 64
"""Folders of one path that are kept open: a program can nest more than a process may have descriptors."""
_LONGEST = 4095
"""Bytes of a path that the kernel takes (PATH_MAX with its end)."""
_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""It went away, or there is something else (a link, too) in its place or in that of a folder above it."""

Failed = t.Callable[[OSError, str], None]
"""Told of what cannot be read, with its name in the tree: raises, or leaves it out by returning."""


def standing(error: OSError, name: str) -> t.NoReturn:
    """A pod that stands frozen: nothing vanishes, so that nothing may be left out.

    :raises DumpFailed: always.
    """
    raise DumpFailed(
        f"{name!r} of the pod's files cannot be read: {error.strerror or error}",
        "Look at `dmesg` of the source node, and at what else changes the pod's files there.",
    ) from error


def running(error: OSError, name: str) -> None:
    """A pod that runs: what vanishes is left out, and a later look finds what there is instead.

    :raises DumpFailed: it did not vanish.
    """
    if error.errno not in _VANISHED:
        standing(error, name)


def estimating(_error: OSError, _name: str) -> None:
    """Nothing depends on a single entry."""


class Folders:
    """The folders of a tree, each opened from the one above it. A context manager."""

    def __init__(self, root: str) -> None:
        try:  # the root's own path is the host's: no program of the pod can replace a part of it
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            standing(error, root)
        self._folder = ""
        self._names: list[str] = []
        self._open: list[int] = []
        """Descriptors of the last folders of ``_names``; of all of them, unless they are too many."""

    def __enter__(self) -> Folders:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._shut(0)
        os.close(self._root)

    def at(self, folder: str) -> int:
        """A descriptor of a folder of the tree, the root's for ``""``; valid until the next call."""
        if folder == self._folder:
            return self._open[-1] if folder else self._root
        names = folder.split("/") if folder else []
        common = 0
        for mine, asked in zip(self._names, names):
            if mine != asked:
                break
            common += 1
        self._shut(common)
        if not self._open:
            self._shut(0)
        above = self._open[-1] if self._open else self._root
        try:
            for name in names[len(self._names) :]:
                above = os.open(name, _FOLDER, dir_fd=above)
                self._names.append(name)
                self._open.append(above)
                if len(self._open) > _MOST_OPEN:
                    os.close(self._open.pop(0))
        finally:
            self._folder = "/".join(self._names)
        return above

    def entry(self, name: str) -> int:
        """A new descriptor of an entry, which stands for just that entry, a link too, but does not open it yet.

        To open a FIFO would wait or wake its other end, and to open a device may do anything.
        """
        folder, _slash, base = name.rpartition("/")
        return os.open(base, os.O_PATH | os.O_NOFOLLOW, dir_fd=self.at(folder))

    def _shut(self, keep: int) -> None:
        """Close all below the first ``keep`` folders."""
        while len(self._names) > keep:
            self._names.pop()
            if self._open:
                os.close(self._open.pop())


def opened(entry: int) -> str:
    """A path of what a descriptor of :meth:`Folders.entry` stands for: the kernel goes there without any other path."""
    return f"/proc/self/fd/{entry}"


def walk(root: str, failed: Failed) -> t.Iterator[t.Tuple[str, os.stat_result]]:
    """Every entry with its status, the root as ``.``, a folder before what is in it."""
    with Folders(root) as folders:
        yield ".", os.fstat(folders.at(""))
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            inside: list[str] = []
            try:
                with os.scandir(folders.at(folder)) as entries:
                    for entry in entries:
                        name = f"{folder}/{entry.name}" if folder else entry.name
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except OSError as error:
                            failed(error, name)
                            continue
                        if stat.S_ISDIR(status.st_mode):
                            inside.append(name)
                        yield name, status
            except OSError as error:
                failed(error, folder or ".")
            waiting += inside


def in_order(names: t.Iterable[str]) -> list[str]:
    """A folder before what is in it."""
    return sorted(names, key=lambda name: "" if name == "." else name)


def check_length(name: str) -> None:
    """Refuse what only a program that changes its folder on the way can make.

    :raises InvalidInput: in the container, too, the path is longer than the kernel takes.
    """
    if len(name) * 4 >= _LONGEST and len(os.fsencode(name)) >= _LONGEST:  # no character takes more than four bytes
        raise InvalidInput(
            f"a path of the pod's files is longer than {_LONGEST} bytes: {name[:80]!r}…",
            "Let the application remove or rename its most deeply nested folders.",
        )
