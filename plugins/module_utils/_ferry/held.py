# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Files that processes hold open on volumes which the kubelet fills itself.

On the target such a volume is made anew, under other names (``..2026_11_25_…``), so that CRIU would not find what was open.
The open files come along and are put beside the new ones. The kubelet never looks there; they go with the pod.
"""

from __future__ import annotations

import base64
import os
import stat
import typing as t

from .._common.errors import DumpFailed, InvalidInput, RestoreFailed
from .._common.files import read_json, write_json
from .._runtime import procfs

NAME = "held.json"
_MOST_BYTES = 8 << 20
_MOST_ARCHIVE = 32 << 20
"""Names take their part, too."""
_MOST_ID = (1 << 32) - 2

Entry = t.Dict[str, t.Any]


def pick(opened: t.AbstractSet[tuple[int, int]], volumes: t.Mapping[str, str]) -> list[tuple[str, str]]:
    """(mount point, path below it) of the files with these devices and inodes: their names may go through links.

    :param volumes: mount point to folder on this node.
    """
    found = []
    for place in sorted(volumes):
        for folder, _folders, names in os.walk(volumes[place]):
            for name in names:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) in opened:
                    found.append((place, os.path.relpath(path, volumes[place])))
    return found


def pack(pids: t.Iterable[int], volumes: t.Mapping[str, str], archive: str) -> bool:
    """Write what is open to ``archive``; False when nothing is.

    :raises DumpFailed: it is too much.
    """
    entries: list[Entry] = []
    size = 0
    opened = {identity for pid in pids for identity in procfs.opened(pid)} if volumes else set()
    for place, name in pick(opened, volumes):
        path = os.path.join(volumes[place], name)
        status = os.lstat(path)
        size += status.st_size
        if size > _MOST_BYTES:
            raise DumpFailed(
                "more than 8 MiB of files are open on ConfigMap, Secret and token volumes",
                "Let the application close them.",
            )
        with open(path, "rb") as stream:
            data = base64.b64encode(stream.read()).decode()
        entries.append({"mount": place, "path": name, "mode": stat.S_IMODE(status.st_mode), "uid": status.st_uid,
                        "gid": status.st_gid, "mtime_ns": status.st_mtime_ns, "data": data})  # fmt: skip
    if entries:
        write_json(archive, entries)
    return bool(entries)


class _Held(t.NamedTuple):
    """One file."""

    mount: str
    words: t.List[str]
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    data: bytes


def unpack(archive: str, volumes: t.Mapping[str, str]) -> None:
    """Put them into the target's volumes, where they are not there already.

    :raises InvalidInput: the archive is none. :raises RestoreFailed: it asks for something else than that.
    """
    for entry in read(archive):
        if entry.mount not in volumes:
            raise RestoreFailed(
                f"the source sent a file for {entry.mount!r}, {'/'.join(entry.words)!r}: there is no such volume"
            )
        _put(volumes[entry.mount], entry)


def read(archive: str) -> list[_Held]:
    """The files in an archive that another node wrote.

    :raises InvalidInput: it is none.
    """
    if os.path.getsize(archive) > _MOST_ARCHIVE:
        raise InvalidInput("the source sent more open files than it may")
    try:
        found = read_json(archive)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("the source sent open files that cannot be read") from error
    if not isinstance(found, list):
        raise InvalidInput("the source sent open files that are no list")
    return [_parse(entry) for entry in found]


def _parse(entry: t.Any) -> _Held:
    if not isinstance(entry, dict):
        raise InvalidInput("the source sent an open file that is none")
    mount, path, data = entry.get("mount"), entry.get("path"), entry.get("data")
    if not isinstance(mount, str) or not isinstance(path, str) or not isinstance(data, str):
        raise InvalidInput("the source sent an open file without name or contents")
    words = path.split("/")
    if not all(_is_name(word) for word in words):
        raise InvalidInput(f"the source sent an open file of the name {path!r}")
    numbers: dict[str, int] = {}
    for name, most in (("mode", 0o7777), ("uid", _MOST_ID), ("gid", _MOST_ID), ("mtime_ns", 1 << 62)):
        number = entry.get(name)
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
            raise InvalidInput(f"the source sent an open file whose {name} is none")
        numbers[name] = number
    try:
        contents = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise InvalidInput("the source sent an open file whose contents cannot be read") from error
    return _Held(mount, words, data=contents, **numbers)


def _is_name(word: str) -> bool:
    try:
        return word not in ("", ".", "..") and "\0" not in word and len(os.fsencode(word)) <= 255
    except UnicodeEncodeError:
        return False


def _put(root: str, entry: _Held) -> None:
    words = entry.words
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        for word in words[:-1]:
            try:
                os.mkdir(word, 0o755, dir_fd=folder)
            except FileExistsError:
                pass
            inner = os.open(word, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            descriptor = os.open(words[-1], flags, 0o600, dir_fd=folder)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(entry.data)
            stream.flush()
            os.fchown(descriptor, entry.uid, entry.gid)
            os.fchmod(descriptor, entry.mode & 0o777)
            os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
    finally:
        os.close(folder)
