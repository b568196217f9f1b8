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

from .._common.errors import DumpFailed, RestoreFailed
from .._common.files import read_json, write_json
from .._runtime import procfs

NAME = "held.json"
_MOST_BYTES = 8 << 20

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


def unpack(archive: str, volumes: t.Mapping[str, str]) -> None:
    """Put them into the target's volumes, where they are not there already.

    :raises RestoreFailed: the archive asks for something else than that.
    """
    for entry in read_json(archive):
        place, name = str(entry["mount"]), str(entry["path"])
        words = name.split("/")
        if place not in volumes or not all(word not in ("", ".", "..") for word in words):
            raise RestoreFailed(f"the source sent a file for {place!r}, {name!r}: there is no such volume")
        _put(volumes[place], words, entry)


def _put(root: str, words: t.Sequence[str], entry: Entry) -> None:
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
            stream.write(base64.b64decode(entry["data"], validate=True))
            stream.flush()
            os.fchown(descriptor, int(entry["uid"]), int(entry["gid"]))
            os.fchmod(descriptor, int(entry["mode"]) & 0o777)
            os.utime(descriptor, ns=(int(entry["mtime_ns"]), int(entry["mtime_ns"])))
    finally:
        os.close(folder)
