# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Changes of a container's files as engines write them, in the form that :mod:`.._ferry.tree` lays out.

containerd writes an image layer (deletions are files called ``.wh.NAME``), CRI-O and podman a tar of what is new and a list of what is gone.
"""

from __future__ import annotations

import os
import sys
import tarfile
import typing as t

from .._ferry import tree
from . import tarstream
from .errors import NOT_TRUSTED, DamagedArchive, NoCheckpoint, TooLarge, UnsafeArchive
from .tarstream import FIFO, FILE, FOLDER, HARD_LINK, SYMLINK, Bytes, Entry

_WHITEOUT = ".wh."
_OPAQUE_WHITEOUT = ".wh..wh..opq"
_OWN_WHITEOUTS = ".wh..wh."
_MOST_DELETED = 1_000_000
_TYPES = {
    FILE: tarfile.REGTYPE,
    HARD_LINK: tarfile.LNKTYPE,
    SYMLINK: tarfile.SYMTYPE,
    FOLDER: tarfile.DIRTYPE,
    FIFO: tarfile.FIFOTYPE,
}


class Survey(t.NamedTuple):
    """What has to be known of a layer before the first of its files is laid out."""

    deleted: t.FrozenSet[str]
    opaque: t.FrozenSet[str]
    """Folders that hide what the image has there."""


def survey(stream: Bytes) -> Survey:
    """Look for deletions.

    :raises UnsafeArchive: a folder is to be emptied after something was put into it.
    """
    deleted: set[str] = set()
    opaque: set[str] = set()
    filled: set[str] = set()
    entered: set[str] = set()
    for entry in tarstream.entries(stream):
        name = tarstream.checked_name(entry.name)
        folder, base = os.path.split(name)
        if base == _OPAQUE_WHITEOUT:
            if not folder:
                raise UnsafeArchive("the changes of the files would remove all of the image", NOT_TRUSTED)
            opaque.add(folder)
        elif _is_note(name):
            continue
        elif base.startswith(_WHITEOUT):
            gone = base[len(_WHITEOUT) :]
            if gone in ("", ".", ".."):
                raise UnsafeArchive(f"the changes of the files hold {name!r}", NOT_TRUSTED)
            deleted.add(os.path.join(folder, gone))
        else:
            if entry.type == FOLDER and name in filled and name in opaque:
                raise UnsafeArchive(f"the changes of the files empty {name!r} after they fill it", NOT_TRUSTED)
            if entry.type == FOLDER:
                entered.add(name)
            filled.update(_above(name))
        if len(deleted) + len(opaque) + len(filled) > _MOST_DELETED:
            raise TooLarge("the changes of the files are too many", NOT_TRUSTED)
    tarstream.drain(stream)
    orphaned = sorted(folder for folder in opaque if folder not in entered)
    if orphaned:
        raise DamagedArchive(
            f"the changes of the files empty {orphaned[0]!r} without describing it", "Make a new checkpoint."
        )
    return Survey(frozenset(deleted), frozenset(opaque))


def deleted_files(listed: t.Any) -> frozenset[str]:
    """The names in a ``deleted.files``.

    :raises DamagedArchive: it is no list of names. :raises UnsafeArchive: one leads elsewhere.
    """
    if listed is None:
        return frozenset()
    if not isinstance(listed, list) or len(listed) > _MOST_DELETED or not all(isinstance(item, str) for item in listed):
        raise DamagedArchive("deleted.files is no list of names", "Make a new checkpoint.")
    names = [tarstream.checked_name(item.lstrip("/")) for item in listed]
    if "" in names:
        raise UnsafeArchive("deleted.files would remove all of the image", NOT_TRUSTED)
    return frozenset(names)


def rewrite(stream: Bytes | None, found: Survey, path: str, limit: int) -> int:
    """Write the archive at ``path`` that :func:`.._ferry.tree.unpack` lays out; returns its size.

    :param stream: the changes; None when there are only deletions.
    :raises UnsafeArchive: there is a device among them, or a name leads elsewhere. :raises TooLarge: more than ``limit`` bytes.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as sink:
        _write(stream, found, sink, limit)
        return sink.tell()


def measure(stream: Bytes | None, found: Survey) -> int:
    """The bytes that :func:`rewrite` writes: more than the changes have, if these are compressed, or many and small."""
    sink = _Counter()
    _write(stream, found, t.cast("t.IO[bytes]", sink), sys.maxsize)
    return sink.tell()


def _write(stream: Bytes | None, found: Survey, sink: t.IO[bytes], limit: int) -> None:
    with tarfile.TarFile(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT, copybufsize=1 << 20) as tar:
        for name in sorted(found.deleted):  # the image's; what is new under the same name comes after it
            info = tarfile.TarInfo(name)
            info.pax_headers = {tree.DELETED: "1"}
            tar.addfile(info)
            _check_room(sink, limit)
        if stream is not None:
            for entry in tarstream.entries(stream):
                _check_room(sink, limit - entry.size)
                _entry(tar, entry, found)
            tarstream.drain(stream)
    _check_room(sink, limit)


class _Counter:
    """Keeps nothing of what is written but how much it is."""

    def __init__(self) -> None:
        self._size = 0

    def write(self, data: bytes) -> int:
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size


def _entry(tar: tarfile.TarFile, entry: Entry, found: Survey) -> None:
    name = tarstream.checked_name(entry.name)
    if os.path.basename(name).startswith(_WHITEOUT) or _is_note(name):
        return
    if entry.type not in _TYPES:
        raise NoCheckpoint(f"the container made a device, {name!r}", "Pods that make device nodes are not supported.")
    if not name and entry.type != FOLDER:
        raise UnsafeArchive("the changes of the files have an entry without a name", NOT_TRUSTED)
    info = tarfile.TarInfo(name or ".")
    info.type = _TYPES[entry.type]
    info.mode, info.uid, info.gid, info.mtime = entry.mode, entry.uid, entry.gid, entry.mtime
    if entry.mtime.is_integer():  # a header of its own for the fraction would double small files
        info.mtime = int(entry.mtime)
    if entry.type == SYMLINK:
        info.linkname = entry.link
    elif entry.type == HARD_LINK:
        info.linkname = tarstream.checked_name(entry.link)
    notes = {tree.XATTR + key: value for key, value in entry.xattrs.items() if not key.startswith(tree.SKIPPED_XATTRS)}
    if name in found.opaque and entry.type == FOLDER:
        notes[tree.OPAQUE] = "1"
    info.pax_headers = notes
    if entry.type == FILE:
        info.size = entry.size
        tar.addfile(info, t.cast("t.IO[bytes]", _Whole(entry)))
    else:
        tar.addfile(info)


class _Whole:
    """An entry's data in blocks that are as large as they were asked for."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def read(self, count: int) -> bytes:
        data = self._entry.read(count)
        while 0 < len(data) < count:
            more = self._entry.read(count - len(data))
            if not more:
                break
            data += more
        return data


def _is_note(name: str) -> bool:
    """Whether it is something that aufs kept for itself, or below a mark of a deletion: no file of the container."""
    words = name.split("/")
    return words[-1].startswith(_OWN_WHITEOUTS) or any(word.startswith(_WHITEOUT) for word in words[:-1])


def _above(name: str) -> list[str]:
    found = []
    while "/" in name:
        name = name.rpartition("/")[0]
        found.append(name)
    return found


def _check_room(sink: t.IO[bytes], limit: int) -> None:
    if sink.tell() > limit:
        raise TooLarge("the changes of the files are more than was reserved for them", "Reserve more memory.")
