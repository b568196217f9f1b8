# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A store in a folder: a disk of the node, an NFS mount, a volume.

``NAMESPACE/POD/ID/`` holds the blobs of a checkpoint, ``manifest.json``, ``manifest.sig`` and a ``lease.HOLDER`` for each who uses it. Every file is
written under another name, flushed to the disk, and renamed; the manifest is the last. A folder without a manifest is one that is being written, or that
keeps pages of later checkpoints, or a leftover.

Who removes takes the manifest away first and looks for leases then; who uses a checkpoint takes the lease first and looks for the
manifest then. So of two at the same time at least one sees the other.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import typing as t
import uuid

from .._common import faults
from .._common.errors import InvalidInput, NotFound, StateConflict
from . import manifest as documents
from . import names
from .contract import LEASE_SECONDS, MANIFEST, SIGNATURE, Denied, Entry, Full, Lease
from .manifest import MAX_BYTES, Blob, Manifest
from .names import Place
from .silence import silent
from .spool import BLOCK, Pulse, Spool, no_pulse, write_all

_LEASE = re.compile(r"lease\.([A-Za-z0-9-]{1,64})")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_SIGNATURE = 4096
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class PathStore:
    """See :class:`.contract.Store`."""

    def __init__(self, root: str, pulse: Pulse = no_pulse) -> None:
        if not os.path.isabs(root) or os.path.normpath(root) in ("/", "//"):
            raise InvalidInput(f"the path of a store is absolute and not the root: {root!r}")
        self._root = root
        self._pulse = pulse

    def put(self, place: Place, blob: Blob, spool: Spool) -> bool:
        with self._folder(place, blob.origin, create=True) as folder:
            if self._same(folder, blob):
                return False
            with _New(folder, blob.name) as new:
                for block in spool.blocks():
                    new.write(block)
                    self._pulse()
                new.commit(self._pulse)
        return True

    def has(self, place: Place, blob: Blob, *, read: bool = False) -> bool:
        try:
            with self._folder(place, blob.origin) as folder:
                return self._same(folder, blob)
        except NotFound:
            return False

    def _same(self, folder: int, blob: Blob) -> bool:
        """Whether the blob is there and whole."""
        try:
            if _size(folder, blob.name) != blob.size:
                return False
            with Spool(blob.size) as spool:
                self._read(folder, blob.name, spool)
                return spool.measure(self._pulse) == (blob.size, blob.sha256)
        except NotFound:
            return False

    def get(self, place: Place, blob: Blob, spool: Spool) -> None:
        with self._folder(place, blob.origin) as folder:
            self._read(folder, blob.name, spool)

    def _read(self, folder: int, name: str, spool: Spool) -> None:
        with _open(folder, name) as stream:
            while True:
                block = stream.read(BLOCK)
                if not block:
                    return
                spool.write(block)
                self._pulse()

    def publish(self, manifest: Manifest, data: bytes, signature: str) -> None:
        place = manifest.place
        for blob in manifest.blobs:
            self._require(place, blob)
        with self._folder(place, manifest.id) as folder:
            if signature:
                with _New(folder, SIGNATURE) as new:
                    new.write(signature.encode("ascii"))
                    new.commit(self._pulse)
            with _New(folder, MANIFEST) as new:
                new.write(data)
                new.commit(self._pulse)

    def _require(self, place: Place, blob: Blob) -> None:
        with self._folder(place, blob.origin) as folder:
            size = _size(folder, blob.name)
        if size != blob.size:
            raise InvalidInput(f"{blob.key} has {size} bytes in the store instead of {blob.size}")

    def entries(self, namespace: str = "", pod: str = "") -> t.List[Entry]:
        found = []
        for place, identity in self._all(namespace, pod):
            with contextlib.suppress(NotFound, InvalidInput):
                found.append(self.entry(place, identity))
        return sorted(found, key=lambda entry: (entry.manifest.id, entry.manifest.place))

    def entry(self, place: Place, identity: str) -> Entry:
        with self._folder(place, identity) as folder:
            data = _small(folder, MANIFEST, MAX_BYTES)
            try:
                signature = _small(folder, SIGNATURE, _MAX_SIGNATURE).decode("ascii").strip()
            except NotFound:
                signature = ""
            except ValueError:
                raise InvalidInput(f"the signature of {identity} is no text") from None
        manifest = documents.parse(data)
        if (manifest.place, manifest.id) != (place, identity):
            raise InvalidInput(f"the manifest in {'/'.join(place)}/{identity} is that of another checkpoint")
        for blob in manifest.blobs:
            self._require(place, blob)
        return Entry(manifest, signature, data)

    def remove(self, place: Place, ids: t.Sequence[str]) -> int:
        for identity in ids:
            self._withdraw(place, identity)
        return self._sweep(place)

    def _withdraw(self, place: Place, identity: str) -> None:
        """Take the manifest away, unless somebody uses the checkpoint."""
        try:
            with self._folder(place, identity) as folder:
                self._free(folder, identity)
                hidden = f".{MANIFEST}.{uuid.uuid4().hex[:8]}.tmp"
                os.rename(MANIFEST, hidden, src_dir_fd=folder, dst_dir_fd=folder)
                os.fsync(folder)
                faults.point("store:remove:hidden")
                try:
                    self._free(folder, identity)
                except StateConflict:
                    os.rename(hidden, MANIFEST, src_dir_fd=folder, dst_dir_fd=folder)
                    raise
                os.unlink(hidden, dir_fd=folder)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(SIGNATURE, dir_fd=folder)
        except (FileNotFoundError, NotFound):
            return  # somebody was faster

    def _free(self, folder: int, identity: str) -> None:
        holders = self._live(folder)
        if holders:
            raise StateConflict(
                f"the checkpoint {identity} is in use by {', '.join(holders)}",
                "Wait until that run has ended; what was left behind by a crash ends by itself after 15 minutes.",
            )

    def sweep(self, namespace: str = "", pod: str = "", *, dry: bool = False) -> int:
        places = dict.fromkeys(place for place, _identity in self._all(namespace, pod))
        return sum(self._sweep(place, dry=dry) for place in places)

    def _sweep(self, place: Place, *, dry: bool = False) -> int:
        """Remove blobs without a manifest that refers to them, where nobody is writing."""
        kept = {blob.key for manifest in self._manifests(place) for blob in manifest.blobs}
        freed = 0
        for _place, identity in self._all(*place):
            with contextlib.suppress(NotFound), self._folder(place, identity) as folder:
                if self._live(folder) or _exists(folder, MANIFEST):
                    continue
                for name in os.listdir(folder):
                    if f"{identity}/{name}" not in kept and not _LEASE.fullmatch(name):
                        with contextlib.suppress(FileNotFoundError, NotFound):
                            size = _size(folder, name)
                            if not dry:
                                os.unlink(name, dir_fd=folder)
                            freed += size
                if dry:
                    continue
                faults.point("store:remove:swept")
                self._drop(place, identity, folder)
        return freed

    def _manifests(self, place: Place, about: str = "") -> t.Iterator[Manifest]:
        """Manifests that are there, even where a blob of theirs is not; ``about`` one checkpoint: those that name it."""
        for _place, identity in self._all(*place):
            try:
                with self._folder(place, identity) as folder:
                    data = _small(folder, MANIFEST, MAX_BYTES)
            except NotFound:
                continue
            if about.encode() not in data:
                continue
            try:
                yield documents.parse(data)
            except InvalidInput as error:
                raise StateConflict(
                    f"the manifest of {'/'.join(place)}/{identity} cannot be read, so nobody knows what it needs: {error.message}",
                    "Remove that folder by hand if you do not want the checkpoint.",
                ) from error

    def _drop(self, place: Place, identity: str, folder: int) -> None:
        """Remove the folder of a checkpoint, and those above it, if nothing but stale leases is left."""
        left = os.listdir(folder)
        if any(not _LEASE.fullmatch(name) for name in left):
            return
        for name in left:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
        path = os.path.join(self._root, *place)
        for step in (os.path.join(path, identity), path, os.path.dirname(path)):
            try:
                os.rmdir(step)
            except OSError:
                return

    def discard(self, place: Place, identity: str, holder: str) -> None:
        with contextlib.suppress(NotFound), self._folder(place, identity) as folder:
            if _exists(folder, MANIFEST):
                return
            self.release(place, identity, holder)
            if not self._live(folder):
                kept = {blob.key for manifest in self._manifests(place, identity) for blob in manifest.blobs}
                for name in os.listdir(folder):
                    if f"{identity}/{name}" not in kept:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(name, dir_fd=folder)
                self._drop(place, identity, folder)

    def lease(self, place: Place, identity: str, holder: str) -> None:
        name = f"lease.{names.valid_holder(holder)}"
        try:
            with self._folder(place, identity, create=True) as folder:
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(name, _NEW, 0o600, dir_fd=folder))
                os.utime(name, dir_fd=folder, follow_symlinks=False)
                os.fsync(folder)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise Full from error
            if error.errno not in (errno.EROFS, errno.EACCES):
                raise
            raise Denied(f"the store at {self._root} cannot be written to: {error.strerror}") from error

    def release(self, place: Place, identity: str, holder: str) -> None:
        with contextlib.suppress(NotFound, FileNotFoundError), self._folder(place, identity) as folder:
            os.unlink(f"lease.{names.valid_holder(holder)}", dir_fd=folder)
            if not _exists(folder, MANIFEST):
                self._drop(place, identity, folder)

    def leases(self, namespace: str = "", pod: str = "") -> t.List[Lease]:
        found = []
        for place, identity in self._all(namespace, pod):
            with contextlib.suppress(NotFound), self._folder(place, identity) as folder:
                found += [Lease(place, identity, holder) for holder in self._live(folder)]
        return found

    def _live(self, folder: int) -> t.List[str]:
        """Holders of leases that are not stale, by the clock of the file system."""
        held = []
        for name in os.listdir(folder):
            found = _LEASE.fullmatch(name)
            if found:
                with contextlib.suppress(FileNotFoundError):
                    held.append((found.group(1), os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime))
        if not held:
            return []
        with _New(folder, "clock") as probe:
            now = os.fstat(probe.descriptor).st_mtime
        return sorted(holder for holder, renewed in held if now - renewed < LEASE_SECONDS)

    def _all(self, namespace: str, pod: str) -> t.Iterator[t.Tuple[Place, str]]:
        """All folders of checkpoints; other things are none of ours."""
        for space in [namespace] if namespace else self._names():
            for name in [pod] if pod else self._names(space):
                try:
                    place = names.valid_place(space, name)
                except InvalidInput:
                    continue
                for identity in self._names(space, name):
                    with contextlib.suppress(InvalidInput):
                        yield place, names.valid_id(identity)

    def _names(self, *path: str) -> t.List[str]:
        try:
            with self._open(path) as folder:
                return sorted(os.listdir(folder))
        except NotFound:
            return []

    @contextlib.contextmanager
    def _folder(self, place: Place, identity: str, *, create: bool = False) -> t.Iterator[int]:
        names.valid_place(*place)
        with self._open((*place, names.valid_id(identity)), create=create) as folder:
            yield folder

    @contextlib.contextmanager
    def _open(self, path: t.Sequence[str], *, create: bool = False) -> t.Iterator[int]:
        """Open a folder below the root, no step of which may be a link.

        :raises NotFound: it is not there.
        :raises InvalidInput: others than root could read or write the store.
        """
        if create:
            os.makedirs(self._root, mode=0o700, exist_ok=True)
        try:
            current = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFound(f"there is no store at {self._root}") from error
        except OSError as error:
            raise InvalidInput(f"the store at {self._root} cannot be opened: {error.strerror}") from error
        try:
            if stat.S_IMODE(os.fstat(current).st_mode) & 0o077:
                raise InvalidInput(
                    f"others than the owner have access to the store at {self._root}", f"chmod 0700 {self._root}"
                )
            for step in path:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(step, 0o700, dir_fd=current)
                        os.fsync(current)
                try:
                    below = os.open(step, _FOLDER, dir_fd=current)
                except FileNotFoundError as error:
                    raise NotFound(f"the store at {self._root} has no {'/'.join(path)}") from error
                except NotADirectoryError as error:  # also a link
                    wrong = InvalidInput if create else NotFound
                    raise wrong(f"{'/'.join(path)} in the store at {self._root} is no folder") from error
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)


class _New:
    """A file under another name, gone again unless it is committed."""

    def __init__(self, folder: int, name: str) -> None:
        self._folder = folder
        self._name = name
        self._temporary = f".{name}.{uuid.uuid4().hex[:8]}.tmp"
        self.descriptor = os.open(self._temporary, _NEW, 0o600, dir_fd=folder)
        faults.point(f"store:{name}:created")

    def __enter__(self) -> _New:
        return self

    def write(self, block: t.Union[bytes, memoryview]) -> None:
        """:raises Full: there is no room."""
        try:
            write_all(self.descriptor, block)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise Full from error
            raise

    def commit(self, pulse: Pulse) -> None:
        """Flush it and give it its name."""
        faults.point(f"store:{self._name}:written")
        os.fsync(self.descriptor)
        faults.point(f"store:{self._name}:synced")
        pulse()
        os.rename(self._temporary, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        faults.point(f"store:{self._name}:renamed")
        os.fsync(self._folder)

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        os.close(self.descriptor)
        if silent(error):
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._temporary, dir_fd=self._folder)


def _open(folder: int, name: str) -> t.BinaryIO:
    """Open a regular file.

    :raises NotFound: it is not there.
    :raises InvalidInput: it is something else.
    """
    try:
        descriptor = os.open(name, _READ, dir_fd=folder)
    except FileNotFoundError as error:
        raise NotFound(f"{name} is missing in the store") from error
    except OSError as error:
        raise InvalidInput(f"{name} cannot be read from the store: {error.strerror}") from error
    stream = os.fdopen(descriptor, "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        stream.close()
        raise InvalidInput(f"{name} in the store is no file")
    return stream


def _size(folder: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    except FileNotFoundError as error:
        raise NotFound(f"{name} is missing in the store") from error


def _exists(folder: int, name: str) -> bool:
    return name in os.listdir(folder)


def _small(folder: int, name: str, most: int) -> bytes:
    with _open(folder, name) as stream:
        parts: t.List[bytes] = []
        left = most + 1
        while left > 0:
            block = stream.read(left)
            if not block:
                return b"".join(parts)
            parts.append(block)
            left -= len(block)
    raise InvalidInput(f"{name} in the store is too large")
