# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Large files as 4 KiB pages, each stored once for a chain of checkpoints.

Pages lie in packs. An index lists the packs in use with a hash of every page in them, and for each file which page stands
where. So the index of a checkpoint is all that the next one needs to know what is stored already. All pages of all packs are
numbered through: a reference is one 32-bit number, 0 for a page of zeros and else the page's number plus one.
"""

from __future__ import annotations

import array
import dataclasses
import hashlib
import json
import os
import sys
import typing as t

from .._common.errors import InvalidInput
from . import manifest as documents
from . import names
from .spool import BLOCK, Pulse, no_pulse

PAGE = 4096
PART = 256 << 20
"""Bytes of a pack before compression."""
PART_PAGES = PART // PAGE
THRESHOLD = 1 << 20
"""Files of more bytes than this are cut in pages."""
HASH = 24
SPARSE_USE = 16
"""A pack of an earlier checkpoint is given up when less than one in so many of its pages is still needed: they are stored
again. This bounds what a restore reads for nothing, and costs at most a fifteenth more than the distinct pages."""
_BLOCK_PAGES = BLOCK // PAGE
_MAGIC = b"podferry-index-1\n"
_MAX_PAGES = (1 << 32) - 2
_MAX_HEADER = 64 << 20


def page_hash(page: t.Union[bytes, bytearray, memoryview]) -> bytes:
    """What a page is known by."""
    return hashlib.blake2b(page, digest_size=HASH).digest()


ZERO_HASH = page_hash(bytes(PAGE))


def page_count(size: int) -> int:
    """Pages that a file of ``size`` bytes takes; the last one is filled up with zeros."""
    return -(-size // PAGE)


@dataclasses.dataclass(frozen=True)
class Pack:
    """Pages that are stored together: the blob ``name`` of the checkpoint ``origin``."""

    origin: str
    name: str
    count: int

    @property
    def key(self) -> str:
        return f"{self.origin}/{self.name}"


@dataclasses.dataclass
class Index:
    """Which page of which pack stands where."""

    packs: t.List[Pack]
    hashes: bytearray
    files: t.Dict[str, int]
    """Name to size, in the order of the references."""
    refs: array.array[int]

    def to_bytes(self) -> bytes:
        """The stored form."""
        header = {
            "packs": [[pack.origin, pack.name, pack.count] for pack in self.packs],
            "files": list(self.files.items()),
        }
        refs = self.refs
        if sys.byteorder != "little":
            refs = self.refs[:]
            refs.byteswap()
        text = json.dumps(header, separators=(",", ":")).encode("ascii")
        return b"".join((_MAGIC, text, b"\n", self.hashes, refs.tobytes()))

    @classmethod
    def from_bytes(cls, data: bytes) -> Index:
        """Read an index that anybody may have written.

        :raises InvalidInput: it is not one.
        """
        end = data.find(b"\n", len(_MAGIC), len(_MAGIC) + _MAX_HEADER)
        if not data.startswith(_MAGIC) or end < 0:
            raise InvalidInput("the index of a checkpoint is none, or one of another version")
        try:
            header = json.loads(data[len(_MAGIC) : end].decode("ascii"))
        except (ValueError, RecursionError) as error:
            raise InvalidInput("the index of a checkpoint cannot be read") from error
        if not isinstance(header, dict) or set(header) != {"packs", "files"}:
            raise InvalidInput("the index of a checkpoint has other parts than packs and files")
        packs = [_pack(entry) for entry in _list(header["packs"])]
        files: t.Dict[str, int] = {}
        for entry in _list(header["files"]):
            name, size = _list(entry, 2)
            if names.valid_file(name) in files or not _number(size, 1, 1 << 50):
                raise InvalidInput(f"the index of a checkpoint names {name} twice, or with no size")
            files[name] = size
        stored = sum(pack.count for pack in packs)
        placed = sum(map(page_count, files.values()))
        if len({pack.key for pack in packs}) != len(packs) or stored > _MAX_PAGES:
            raise InvalidInput("the index of a checkpoint names a pack twice, or too many pages")
        at = end + 1
        if len(data) != at + stored * HASH + placed * 4:
            raise InvalidInput("the index of a checkpoint is too short or too long for what it lists")
        refs = array.array("I")
        refs.frombytes(data[at + stored * HASH :])
        if sys.byteorder != "little":
            refs.byteswap()
        if placed and max(refs) > stored:
            raise InvalidInput("the index of a checkpoint refers to a page that is in no pack")
        return cls(packs, bytearray(data[at : at + stored * HASH]), files, refs)


def _list(value: t.Any, length: int = -1) -> t.List[t.Any]:
    if not isinstance(value, list) or length not in (-1, len(value)):
        raise InvalidInput("the index of a checkpoint has something else where a list is due")
    return value


def _number(value: t.Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _pack(entry: t.Any) -> Pack:
    origin, name, count = _list(entry, 3)
    names.valid_id(origin)
    if not names.valid_blob(name).startswith(f"{documents.PAGES}.") or not _number(count, 1, PART_PAGES):
        raise InvalidInput("the index of a checkpoint has a pack of no pages, or of too many")
    return Pack(origin, name, count)


class _Known:
    """From a hash to the page's number: a table with open addressing, some 40 bytes a page."""

    def __init__(self, hashes: bytearray) -> None:
        self.hashes = hashes
        self.count = 0
        self._resize(max(1 << 12, 1 << (len(hashes) // HASH * 2).bit_length()))

    def _resize(self, slots: int) -> None:
        self._slots = array.array("I", bytes(4)) * slots
        self._mask = slots - 1
        total, self.count = len(self.hashes) // HASH, 0
        for number in range(total):
            start = number * HASH
            self._place(bytes(self.hashes[start : start + HASH]))

    def _place(self, key: bytes) -> None:
        self.count += 1
        slots, mask = self._slots, self._mask
        slot = hash(key) & mask  # keyed per process: nobody can choose pages that fall into one slot
        while slots[slot]:
            slot = (slot + 1) & mask
        slots[slot] = self.count

    def find(self, key: bytes) -> int:
        """The reference to that page, or 0."""
        slots, mask, hashes = self._slots, self._mask, self.hashes
        slot = hash(key) & mask
        while True:
            ref = slots[slot]
            if not ref or hashes[(ref - 1) * HASH : ref * HASH] == key:
                return ref
            slot = (slot + 1) & mask

    def add(self, key: bytes) -> int:
        """Number a new page, and return the reference to it."""
        self.hashes += key
        if self.count * 2 >= len(self._slots):
            self._resize(len(self._slots) * 2)
        else:
            self._place(key)
        return self.count


class Writer(t.Protocol):
    """Takes the pages of a pack, one after the other."""

    def write(self, block: memoryview) -> None:
        """Append one page or several."""

    def end(self) -> None:
        """The pack is complete; the next page begins another."""


class Cutter:
    """Cuts files in pages and hands new pages on.

    :param parent: the index of the checkpoint before.
    """

    def __init__(self, origin: str, writer: Writer, parent: Index | None = None, part_pages: int = PART_PAGES) -> None:
        self._origin = origin
        self._writer = writer
        self._part = part_pages
        self._packs = list(parent.packs) if parent else []
        self._known = _Known(bytearray(parent.hashes) if parent else bytearray())
        self._inherited = self._known.count
        self._sources: t.List[t.Tuple[str, str, int]] = []
        self._refs = array.array("I")
        self._filled = 0

    def add(self, name: str, path: str, pulse: Pulse = no_pulse) -> t.Tuple[int, str]:
        """Cut the file at ``path``; returns its size and SHA-256.

        :raises InvalidInput: it cannot be opened as a file.
        """
        digest, size = hashlib.sha256(), 0
        block = bytearray(BLOCK)
        whole = memoryview(block)
        with open_file(path) as stream:
            while True:
                count = _fill(stream, whole)
                if not count:
                    break
                size += count
                digest.update(whole[:count])
                pages = page_count(count)
                whole[count : pages * PAGE] = bytes(pages * PAGE - count)
                self._cut(whole[: pages * PAGE])
                pulse()
                if count < BLOCK:
                    break
        self._sources.append((name, path, size))
        return size, digest.hexdigest()

    def _cut(self, block: memoryview) -> None:
        known, refs = self._known, self._refs
        fresh = -1  # where a stretch of pages begins that nobody has stored
        for at in range(0, len(block), PAGE):
            key = page_hash(block[at : at + PAGE])
            ref = 0 if key == ZERO_HASH else known.find(key)
            if ref or key == ZERO_HASH:
                if fresh >= 0:
                    self._store(block[fresh:at])
                    fresh = -1
            else:
                ref = known.add(key)
                if fresh < 0:
                    fresh = at
            refs.append(ref)
        if fresh >= 0:
            self._store(block[fresh:])

    def _store(self, pages: memoryview) -> None:
        while pages:
            room = (self._part - self._filled) * PAGE
            self._writer.write(pages[:room])
            self._filled += len(pages[:room]) // PAGE
            pages = pages[room:]
            if self._filled == self._part:
                self._end()

    def _end(self) -> None:
        if self._filled:
            number = sum(pack.origin == self._origin for pack in self._packs)
            self._packs.append(Pack(self._origin, f"{documents.PAGES}.{number}", self._filled))
            self._filled = 0
            self._writer.end()

    def finish(self) -> Index:
        """Give up packs of which little is left in use, and return the index."""
        self._again()
        self._end()
        used = self._in_use()
        packs, hashes, shift = [], bytearray(), array.array("I", [0])
        at = 0
        for pack, uses in zip(self._packs, used):
            keep = uses > 0 or pack.origin == self._origin
            if keep:
                shift.extend(range(len(hashes) // HASH + 1, len(hashes) // HASH + 1 + pack.count))
                packs.append(pack)
                hashes += self._known.hashes[at * HASH : (at + pack.count) * HASH]
            else:
                shift.extend(array.array("I", bytes(4)) * pack.count)
            at += pack.count
        if len(packs) != len(self._packs):
            self._refs = array.array("I", map(shift.__getitem__, self._refs))
        return Index(packs, hashes, {name: size for name, _path, size in self._sources}, self._refs)

    def _in_use(self) -> t.List[int]:
        """How many pages of each pack are referred to."""
        seen = bytearray(self._known.count + 1)
        for ref in self._refs:
            seen[ref] = 1
        used, at = [], 1
        for pack in self._packs:
            used.append(sum(seen[at : at + pack.count]))
            at += pack.count
        return used

    def _again(self) -> None:
        """Store the pages anew that lie in packs which are not worth keeping."""
        leaving = bytearray(self._known.count + 1)
        at, some = 1, False
        for pack, uses in zip(self._packs, self._in_use()):
            if pack.origin != self._origin and 0 < uses * SPARSE_USE < pack.count:
                leaving[at : at + pack.count] = b"\1" * pack.count
                some = True
            at += pack.count
        if not some:
            return
        moved: t.Dict[int, int] = {}
        page = bytearray(PAGE)
        first = 0
        for _name, path, size in self._sources:
            with open_file(path) as stream:
                for number in range(first, first + page_count(size)):
                    ref = self._refs[number]
                    if ref < len(leaving) and leaving[ref]:
                        if ref not in moved:
                            view = memoryview(page)
                            offset = (number - first) * PAGE
                            count = os.preadv(stream.fileno(), [view], offset)
                            view[count:] = bytes(PAGE - count)
                            if page_hash(page) != self._known.hashes[(ref - 1) * HASH : ref * HASH]:
                                raise InvalidInput(f"{path} changed while it was stored")
                            moved[ref] = self._known.add(page_hash(page))
                            self._store(view)
                        self._refs[number] = moved[ref]
            first += page_count(size)


def open_file(path: str) -> t.BinaryIO:
    """Open a regular file, and nothing that a link leads to.

    :raises InvalidInput: it is none.
    """
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error


def _fill(stream: t.BinaryIO, view: memoryview) -> int:
    total = 0
    while total < len(view):
        count = stream.readinto(view[total:])  # type: ignore[attr-defined]
        if not count:
            break
        total += count
    return total


class _Stretch(t.NamedTuple):
    """Consecutive pages of a block of a pack, and of a file."""

    start: int
    length: int
    file: int
    page: int


class Layout:
    """The way back: takes the packs one after the other and fills files with them."""

    def __init__(self, index: Index, folder: str) -> None:
        self._index = index
        self._folder = folder
        self._names = list(index.files)
        self._blocks: t.Dict[t.Tuple[int, int], t.List[_Stretch]] = {}
        self._plan()

    @property
    def needed(self) -> t.List[int]:
        """Numbers of the packs that something is taken from."""
        return sorted({pack for pack, _block in self._blocks})

    def _plan(self) -> None:
        """Turn the references round: for each block of each pack, where its pages go."""
        place = array.array("I", [0])  # of each page: the block that it lies in
        blocks: t.List[t.Tuple[int, int, int]] = [(0, 0, 0)]
        first = 1
        for number, pack in enumerate(self._index.packs):
            for start in range(0, pack.count, _BLOCK_PAGES):
                count = min(_BLOCK_PAGES, pack.count - start)
                place.extend(array.array("I", [len(blocks)]) * count)
                blocks.append((number, start // _BLOCK_PAGES, first + start))
            first += pack.count
        refs, at = self._index.refs, 0
        for file, size in enumerate(self._index.files.values()):
            total = page_count(size)
            page = 0
            while page < total:
                ref = refs[at + page]
                if not ref:
                    page += 1
                    continue
                block, count = place[ref], 1
                while (
                    page + count < total
                    and refs[at + page + count] == ref + count
                    and ref + count < len(place)
                    and place[ref + count] == block
                ):
                    count += 1
                pack_number, inside, base = blocks[block]
                self._blocks.setdefault((pack_number, inside), []).append(_Stretch(ref - base, count, file, page))
                page += count
            at += total

    def create(self) -> None:
        """Make the files, full of holes."""
        for name, size in self._index.files.items():
            with create_file(self._folder, name) as stream:
                stream.truncate(size)

    def pack(self, number: int, read: t.Callable[[memoryview], int], pulse: Pulse = no_pulse) -> None:
        """Take the pages of the pack ``number`` from ``read``.

        :raises InvalidInput: it has less or more of them than the index says.
        """
        pack = self._index.packs[number]
        block = memoryview(bytearray(BLOCK))
        sizes = list(self._index.files.values())
        with _Files(self._folder, self._names) as files:
            for start in range(0, pack.count, _BLOCK_PAGES):
                wanted = min(_BLOCK_PAGES, pack.count - start) * PAGE
                if read(block[:wanted]) != wanted:
                    raise InvalidInput(f"{pack.key} holds fewer pages than the index says")
                for stretch in self._blocks.get((number, start // _BLOCK_PAGES), ()):
                    offset = stretch.page * PAGE
                    length = min(stretch.length * PAGE, sizes[stretch.file] - offset)
                    at = stretch.start * PAGE
                    _write_at(files.descriptor(stretch.file), block[at : at + length], offset)
                pulse()
            if read(block[:1]):
                raise InvalidInput(f"{pack.key} holds more pages than the index says")


def _write_at(descriptor: int, view: memoryview, offset: int) -> None:
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


class _Files:
    """Open files, not too many at once."""

    MOST = 100

    def __init__(self, folder: str, names: t.Sequence[str]) -> None:
        self._folder = folder
        self._names = names
        self._open: t.Dict[int, int] = {}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_error: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)

    def descriptor(self, number: int) -> int:
        found = self._open.pop(number, -1)
        if found < 0:
            if len(self._open) >= self.MOST:
                os.close(self._open.pop(next(iter(self._open))))
            path = os.path.join(self._folder, self._names[number])
            found = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._open[number] = found
        return found


def create_file(folder: str, name: str) -> t.BinaryIO:
    """Make the file ``name``, which must not be there, below ``folder``."""
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0)
