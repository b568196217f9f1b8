# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A checkpoint of one container as others write it, member by member, without unpacking it to a disk.

Written by the kubelet's CRI (containerd, CRI-O) or by ``podman container checkpoint --export``: one tar, perhaps compressed, of
``config.dump``, ``spec.dump``, ``checkpoint/`` with CRIU's images, and more. Or an image of it: the same files in its layers.
"""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

from . import layout, tarstream
from .errors import EXPORT, NOT_TRUSTED, DamagedArchive, NoCheckpoint, TooLarge, UnsafeArchive
from .streams import DEFAULT, Limits, Part, compressed, open_file, unpacked
from .tarstream import FILE, FOLDER, SYMLINK, Bytes, Entry

CONFIG, SPEC, STATUS, NETWORK = "config.dump", "spec.dump", "status.dump", "network.status"
IMAGES = "checkpoint/"
ROOTFS, DELETED, SHM = "rootfs-diff.tar", "deleted.files", "devshm-checkpoint.tar"
LOGS = ("container.log", "ctr.log", "io.kubernetes.cri-o.LogPath")
"""The container's log, as containerd, podman and CRI-O name it."""
STATISTICS = "stats-dump"
_MOST_MEMBERS = 100_000
_MOST_DEPTH = 16
_MOST_JSON = 8 << 20


class Member:
    """One file of a checkpoint; to be read before the next one is asked for."""

    def __init__(self, name: str, size: int, mtime: float, stream: Bytes) -> None:
        self.name = name
        self.size = size
        self.mtime = mtime
        self._stream = stream

    def read(self, count: int) -> bytes:
        """The next ``count`` bytes; fewer only at the end."""
        data = self._stream.read(count)
        while 0 < len(data) < count:
            more = self._stream.read(count - len(data))
            if not more:
                break
            data += more
        return data

    def all(self, limit: int = _MOST_JSON) -> bytes:
        """Everything.

        :raises DamagedArchive: that is more than ``limit``.
        """
        if self.size > limit:
            raise DamagedArchive(f"{self.name} has {self.size} bytes, which is no sensible size for it", NOT_TRUSTED)
        return self.read(self.size)

    def json(self) -> t.Any:
        """What it says as JSON.

        :raises DamagedArchive: it is none.
        """
        return parse_json(self.all(), self.name)


def parse_json(data: bytes, name: str) -> t.Any:
    """JSON that somebody else wrote.

    :raises DamagedArchive: it is none. :raises UnsafeArchive: an object has a key twice; Go puts both values together, Python takes one.
    """

    def single(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise UnsafeArchive(f"{name} has an object with a key twice", NOT_TRUSTED)
        return found

    try:
        return json.loads(data, object_pairs_hook=single)
    except (ValueError, RecursionError) as error:
        raise DamagedArchive(f"{name} is no JSON", "Make a new checkpoint.") from error


class Checkpoint:
    """A checkpoint that can be read as often as it takes.

    :param path: of the archive, of a folder with an OCI layout, or of a tar of an image.
    :param reference: which image of a layout with several.
    """

    def __init__(self, path: str, limits: Limits = DEFAULT, reference: str = "") -> None:
        self.path = path
        self.limits = limits
        self.image: layout.Image | None = None
        """Set when it is an image."""
        if os.path.isdir(path):
            self.form = "oci-dir"
            self.image = layout.of_folder(path, reference)
        else:
            self.form = self._look(reference)

    def _look(self, reference: str) -> str:
        with open_file(self.path) as stream:
            beginning = stream.read(tarstream.BLOCK)
            if compressed(beginning):
                return "archive"
            if not tarstream.looks_like_tar(beginning):
                raise NoCheckpoint(f"{self.path} is no tar archive", EXPORT)
            found = layout.of_tar(self.path, stream, reference)
        if found is None:
            return "archive"
        self.image = found
        return found.form

    @property
    def annotations(self) -> t.Mapping[str, str]:
        """Of the image; nothing in them is to be relied on."""
        return self.image.annotations if self.image is not None else {}

    def stored(self) -> int:
        """Bytes that it takes where it is."""
        if self.image is not None:
            return self.image.size
        return os.stat(self.path).st_size

    def members(self) -> t.Iterator[Member]:
        """All files, in the archive's order.

        :raises UnsafeArchive, DamagedArchive, TooLarge: with or after any of them; only at the end is it known to be whole.
        """
        checks = _Checks(self.limits)
        for opened in self._streams():
            with opened as packed, unpacked(packed, self.limits) as stream:
                for entry in tarstream.entries(stream):
                    name = checks.enter(entry)
                    if entry.type == FILE:
                        yield Member(name, entry.size, entry.mtime, entry)
                tarstream.drain(stream)

    def _streams(self) -> t.Iterator[t.ContextManager[Bytes]]:
        if self.image is not None:
            yield from self.image.layers()
        else:
            yield _whole(self.path)

    @contextlib.contextmanager
    def member(self, name: str) -> t.Iterator[Member | None]:
        """One file by its name, or None."""
        with contextlib.closing(t.cast("t.Generator[Member, None, None]", self.members())) as members:
            yield next((member for member in members if member.name == name), None)


@contextlib.contextmanager
def _whole(path: str) -> t.Iterator[Bytes]:
    with open_file(path) as stream:
        yield Part(stream)


class _Checks:
    """What holds over all of an archive's entries."""

    def __init__(self, limits: Limits) -> None:
        self._left = limits.bytes
        self._limit = limits.bytes
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def enter(self, entry: Entry) -> str:
        """The entry's name, once nothing is wrong with it."""
        name = tarstream.checked_name(entry.name)
        if entry.type == SYMLINK and name == f"{IMAGES}parent":
            raise NoCheckpoint(
                "it holds only what changed since an earlier checkpoint",
                "Export it without `--with-previous`.",
            )
        if entry.type not in (FILE, FOLDER):
            raise UnsafeArchive(f"the archive holds {name!r}, which is neither a file nor a folder", NOT_TRUSTED)
        if not name and entry.type == FOLDER:
            return name
        words = name.split("/")
        if not name or len(words) > _MOST_DEPTH or not name.isprintable() or words[-1].startswith(".wh."):
            raise UnsafeArchive(f"the archive has the name {name!r}", NOT_TRUSTED)
        above = {"/".join(words[:count]) for count in range(1, len(words))}
        twice = name in self._files or (entry.type == FILE and name in self._folders) or above & self._files
        if twice:
            raise UnsafeArchive(f"the archive has {name!r} twice", NOT_TRUSTED)
        self._folders |= above
        if entry.type == FOLDER:
            self._folders.add(name)
            return name
        self._files.add(name)
        if len(self._files) > _MOST_MEMBERS or len(self._folders) > _MOST_MEMBERS:
            raise TooLarge(f"the archive has more than {_MOST_MEMBERS} files", NOT_TRUSTED)
        self._left -= entry.size
        if self._left < 0:
            raise TooLarge(
                f"the archive unpacks to more than {self._limit} bytes", "Allow more, if you know where it is from."
            )
        return name
