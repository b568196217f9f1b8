# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A pod's state folder as blobs, and back.

``pages.N`` are packs of pages (:mod:`.pages`), ``index.0`` says which page stands where, ``state.0`` is a plain tar of all small files, with
``files.json`` at its beginning: size and SHA-256 of every file of the folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import stat
import tarfile
import typing as t

from .._common.errors import InvalidInput
from . import codec, names, pages
from .manifest import INDEX, PAGES, STATE, Blob, Manifest
from .spool import BLOCK, Pulse, Spool, no_pulse

FILES = "files.json"
_TAR_BLOCK = 512
_MAX_FILES = 64 << 20
_MAX_INDEX = 16 << 20
_MAX_COUNT = 200_000
_MEMORY = re.compile(r"[^/]+/criu/pages-\d+\.img")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Out = t.Callable[[Blob, Spool], None]
"""Stores a blob whose contents are in the spool."""
Get = t.Callable[[Blob, Spool], None]
"""Fetches a blob into the spool."""


@dataclasses.dataclass(frozen=True)
class Packed:
    """What :func:`pack` made: all blobs of the checkpoint, and how much there was and was stored, in bytes."""

    blobs: t.Tuple[Blob, ...]
    memory: int
    files: int
    stored: int


@dataclasses.dataclass(frozen=True)
class Parent:
    """The checkpoint before, for pages that are stored already."""

    manifest: Manifest
    index: pages.Index


class _Packs:
    """Encodes packs and stores them."""

    def __init__(self, origin: str, out: Out, compression: str, recipient: str, pulse: Pulse) -> None:
        self._origin = origin
        self._out = out
        self._options = (compression, recipient)
        self._pulse = pulse
        self._spool: Spool | None = None
        self._encoder: codec.Encoder | None = None
        self.blobs: t.List[Blob] = []

    def write(self, block: memoryview) -> None:
        if self._encoder is None:
            self._spool = Spool()
            self._encoder = codec.Encoder(self._spool, *self._options)
        self._encoder.write(block)

    def end(self) -> None:
        encoder, spool = self._encoder, self._spool
        if encoder is None or spool is None:
            return
        encoder.finish()
        size, sha256 = spool.measure(self._pulse)
        blob = Blob(f"{PAGES}.{len(self.blobs)}", PAGES, size, sha256, self._origin)
        self._out(blob, spool)
        self.blobs.append(blob)
        self.close()

    def close(self) -> None:
        if self._encoder is not None:
            self._encoder.__exit__()
            self._encoder = None
        if self._spool is not None:
            self._spool.__exit__()
            self._spool = None


def pack(
    folder: str,
    out: Out,
    *,
    origin: str,
    parent: Parent | None = None,
    compression: str = "zstd",
    recipient: str = "",
    pulse: Pulse = no_pulse,
    part_pages: int = pages.PART_PAGES,
) -> Packed:
    """Store the files below ``folder`` as blobs of the checkpoint ``origin``.

    :raises InvalidInput: there is something in it that is no part of a pod's state.
    :raises CommandFailed: a tool failed.
    """
    found = listing(folder)
    sums: t.Dict[str, t.Dict[str, t.Any]] = {}
    small = []
    packs = _Packs(origin, out, compression, recipient, pulse)
    try:
        cutter = pages.Cutter(origin, packs, parent.index if parent else None, part_pages)
        for name, size in found.items():
            if size > pages.THRESHOLD:
                length, sha256 = cutter.add(name, os.path.join(folder, name), pulse)
                sums[name] = {"size": length, "sha256": sha256}
            else:
                small.append(name)
        index = cutter.finish()
    finally:
        packs.close()
    inherited = {blob.key: blob for blob in parent.manifest.blobs} if parent else {}
    blobs = [inherited[entry.key] for entry in index.packs if entry.origin != origin]
    blobs += packs.blobs

    def write_index(encoder: codec.Encoder) -> None:
        encoder.write(index.to_bytes())

    def write_state(encoder: codec.Encoder) -> None:
        _write_tar(encoder, folder, small, sums, pulse)

    for kind, write in ((INDEX, write_index), (STATE, write_state)):
        with Spool() as spool, codec.Encoder(spool, compression, recipient) as encoder:
            write(encoder)
            encoder.finish()
            size, sha256 = spool.measure(pulse)
            blob = Blob(f"{kind}.0", kind, size, sha256, origin)
            out(blob, spool)
            blobs.append(blob)
    memory = sum(entry["size"] for name, entry in sums.items() if _MEMORY.fullmatch(name))
    total = sum(entry["size"] for entry in sums.values())
    return Packed(tuple(blobs), memory, total - memory, sum(blob.size for blob in blobs if blob.origin == origin))


def listing(folder: str) -> t.Dict[str, int]:
    """Names and sizes of the files below ``folder``; links, sockets and pipes are CRIU's and ours, and no state.

    :raises InvalidInput: there is a file that is no part of a pod's state, or a folder that cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise InvalidInput(f"the state in {folder} is not there to be read: {error.strerror}") from error

    found = {}
    for top, folders, files in os.walk(folder, onerror=unreadable):
        folders.sort()
        for base in sorted(files):
            path = os.path.join(top, base)
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                found[names.valid_file(os.path.relpath(path, folder))] = status.st_size
    return found


def _write_tar(
    encoder: codec.Encoder, folder: str, small: t.Sequence[str], sums: t.Dict[str, t.Dict[str, t.Any]], pulse: Pulse
) -> None:
    """Write the small files, and before them the list of all, to which their own sums are added."""
    contents = {}
    for name in small:
        with pages.open_file(os.path.join(folder, name)) as stream:
            contents[name] = stream.read()
        sums[name] = {"size": len(contents[name]), "sha256": hashlib.sha256(contents[name]).hexdigest()}
        pulse()
    listed = json.dumps(sums, sort_keys=True, separators=(",", ":")).encode("ascii")
    for name, content in ((FILES, listed), *contents.items()):
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o600
        encoder.write(info.tobuf(tarfile.USTAR_FORMAT))
        encoder.write(content)
        encoder.write(bytes(-len(content) % _TAR_BLOCK))
        pulse()
    encoder.write(bytes(2 * _TAR_BLOCK))


class Listed(t.NamedTuple):
    """Size and SHA-256 of a file of the state."""

    size: int
    sha256: str


def read_files(data: bytes, limit: int) -> t.Dict[str, Listed]:
    """Read ``files.json``, whoever wrote it.

    :raises InvalidInput: it is none, or lists more than ``limit`` bytes.
    """
    try:
        found = json.loads(data.decode("ascii"))
    except (ValueError, RecursionError) as error:
        raise InvalidInput("the list of files of a checkpoint cannot be read") from error
    if not isinstance(found, dict) or len(found) > _MAX_COUNT:
        raise InvalidInput("the list of files of a checkpoint is none, or too long")
    listed = {}
    for name, entry in found.items():
        names.valid_file(name)
        if not isinstance(entry, dict) or set(entry) != {"size", "sha256"}:
            raise InvalidInput(f"{name} is listed without size and sum")
        size, sha256 = entry["size"], entry["sha256"]
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise InvalidInput(f"the size of {name} is no number")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise InvalidInput(f"the sum of {name} is no SHA-256")
        listed[name] = Listed(size, sha256)
    total = sum(entry.size for entry in listed.values())
    if total > limit:
        raise InvalidInput(
            f"the checkpoint holds {total} bytes, more than the {limit} that there is room for",
            "Choose a node with more free memory.",
        )
    return listed


def read_tar(data: bytes) -> t.Iterator[t.Tuple[str, memoryview]]:
    """Name and content of each entry. Regular files only, in the form that :func:`pack` writes.

    :raises InvalidInput: it is no such tar.
    """
    view = memoryview(data)
    at = 0
    while at + _TAR_BLOCK <= len(view):
        header = bytes(view[at : at + _TAR_BLOCK])
        if header == bytes(_TAR_BLOCK):
            if any(view[at:]) or len(view) - at != 2 * _TAR_BLOCK:
                raise InvalidInput("something follows the end of a checkpoint's state")
            return
        try:
            info = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise InvalidInput("the state of a checkpoint is no tar") from error
        if info.type != tarfile.REGTYPE or not 0 <= info.size <= _MAX_FILES:
            raise InvalidInput("the state of a checkpoint holds something else than small files")
        at += _TAR_BLOCK
        end = at + info.size
        padded = end + (-info.size % _TAR_BLOCK)
        if padded > len(view) or any(view[end:padded]):
            raise InvalidInput("the state of a checkpoint ends in the middle of a file")
        yield info.name, view[at:end]
        at = padded
    raise InvalidInput("the state of a checkpoint has no end")


def fetch(get: Get, blob: Blob, spool: Spool, pulse: Pulse) -> None:
    """Fetch a blob and compare it with what the manifest says.

    :raises InvalidInput: it is not what was stored.
    """
    get(blob, spool)
    if spool.measure(pulse) != (blob.size, blob.sha256):
        raise InvalidInput(
            f"{blob.key} is not what was stored: size or SHA-256 differ",
            "Take another checkpoint; this one is damaged.",
        )


def read_index(get: Get, manifest: Manifest, *, identity: str, limit: int, pulse: Pulse = no_pulse) -> pages.Index:
    """The index of a checkpoint.

    :param limit: bytes that it may have.
    :raises InvalidInput: it does not fit the manifest.
    """
    index = pages.Index.from_bytes(_whole(get, manifest, INDEX, identity, limit, pulse))
    if {entry.key for entry in index.packs} != {blob.key for blob in manifest.blobs if blob.kind == PAGES}:
        raise InvalidInput("the index and the manifest of a checkpoint name different packs")
    return index


def _whole(get: Get, manifest: Manifest, kind: str, identity: str, limit: int, pulse: Pulse) -> bytes:
    blob = manifest.blob(kind)
    with Spool(blob.size) as spool:
        fetch(get, blob, spool, pulse)
        with codec.Decoder(spool, manifest.compression, manifest.encryption, identity) as decoder:
            return decoder.all(limit)


def index_limit(limit: int) -> int:
    """Bytes that the index of ``limit`` bytes of state can have: 4 a page, and 24 for each of 16 pages that a pack may hold for one in use."""
    return _MAX_INDEX + limit // 8


def unpack(
    get: Get,
    manifest: Manifest,
    folder: str,
    *,
    identity: str = "",
    limit: int,
    pulse: Pulse = no_pulse,
) -> None:
    """Fill the empty ``folder`` with the state of a checkpoint. When it cannot be done, the folder is empty again.

    :param limit: bytes that the state may have.
    :raises InvalidInput: something is not what the manifest vouches for, or too much, or encrypted for somebody else.
    :raises CommandFailed: a tool failed.
    """
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.listdir(folder):
        raise InvalidInput(f"{folder} is not empty")
    try:
        _unpack(get, manifest, folder, identity, limit, pulse)
    except BaseException:
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.unlink(path)
        raise


def _unpack(get: Get, manifest: Manifest, folder: str, identity: str, limit: int, pulse: Pulse) -> None:
    entries = read_tar(_whole(get, manifest, STATE, identity, limit + _MAX_FILES, pulse))
    first, content = next(entries, ("", memoryview(b"")))
    if first != FILES:
        raise InvalidInput("the state of a checkpoint does not begin with its list of files")
    listed = read_files(bytes(content), limit)
    index = read_index(get, manifest, identity=identity, limit=index_limit(limit), pulse=pulse)
    for name, size in index.files.items():
        if name not in listed or listed[name].size != size:
            raise InvalidInput(f"{name} is not listed, or with another size")
    missing = set(listed) - set(index.files)
    for name, content in entries:
        if name not in missing or len(content) != listed[name].size:
            raise InvalidInput(f"{name!r} is not listed, is there twice, or has another size")
        missing.remove(name)
        with pages.create_file(folder, name) as stream:
            stream.write(content)
        pulse()
    if missing:
        raise InvalidInput(f"the checkpoint lacks {', '.join(sorted(missing)[:5])}")
    layout = pages.Layout(index, folder)
    layout.create()
    blobs = {blob.key: blob for blob in manifest.blobs}
    for number in layout.needed:
        blob = blobs[index.packs[number].key]
        with Spool(blob.size) as spool:
            fetch(get, blob, spool, pulse)
            with codec.Decoder(spool, manifest.compression, manifest.encryption, identity) as decoder:
                layout.pack(number, decoder.readinto, pulse)
    for name, entry in listed.items():
        _check(folder, name, entry, pulse)


def _check(folder: str, name: str, entry: Listed, pulse: Pulse) -> None:
    digest, size = hashlib.sha256(), 0
    with pages.open_file(os.path.join(folder, name)) as stream:
        while True:
            block = stream.read(BLOCK)
            if not block:
                break
            digest.update(block)
            size += len(block)
            pulse()
    if (size, digest.hexdigest()) != entry:
        raise InvalidInput(f"{name} is not what was stored")
