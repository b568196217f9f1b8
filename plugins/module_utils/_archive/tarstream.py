# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Tar archives as a stream of entries, read once from the beginning, with bounds on everything that the writer chooses.

Python's own tarfile trusts an archive with memory (the size of an extended header) and with meaning (sparse maps, old number
formats). What is not understood here is an error.
"""

from __future__ import annotations

import typing as t

from .errors import COPY_AGAIN, NOT_TRUSTED, DamagedArchive, UnsafeArchive

BLOCK = 512
FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, FOLDER, FIFO = "0", "1", "2", "3", "4", "5", "6"
_TYPES = frozenset((FILE, HARD_LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, FOLDER, FIFO))
_GLOBAL, _EXTENDED, _LONG_NAME, _LONG_LINK = "g", "x", "L", "K"
_MOST_HEADER_BYTES = 1 << 20
"""Of all extended headers before an entry; and of all global ones, which hold for the rest of the archive."""
_USED = ("path", "linkpath", "size", "uid", "gid", "mtime")
_USED_KINDS = ("GNU.sparse", "SCHILY.xattr.")
MOST_ENTRIES = 1_000_000
_MOST_NAME = 4096
_NUMBER_LIMIT = 1 << 62
_CHUNK = 1 << 20


class Bytes(t.Protocol):
    """What an archive is read from; ``read`` may give less than asked, and gives nothing at the end."""

    def read(self, count: int, /) -> bytes:
        """Up to ``count`` bytes."""


class Entry:
    """One entry. Its data can be read until the next entry is asked for."""

    __slots__ = (
        "_left",
        "_stream",
        "gid",
        "link",
        "major",
        "minor",
        "mode",
        "mtime",
        "name",
        "size",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(self, stream: Bytes, name: str, kind: str, size: int) -> None:
        self._stream = stream
        self._left = size
        self.name = name
        self.type = kind
        self.size = size
        self.mode = self.uid = self.gid = self.major = self.minor = 0
        self.mtime = 0.0
        self.link = ""
        self.xattrs: dict[str, str] = {}
        """Extended attributes; bytes that are not UTF-8 as surrogates."""

    def read(self, count: int = -1) -> bytes:
        """Up to ``count`` bytes of its data, nothing at its end.

        :raises DamagedArchive: the archive ends before.
        """
        wanted = self._left if count < 0 else min(count, self._left)
        if not wanted:
            return b""
        data = self._stream.read(wanted)
        if not data:
            raise DamagedArchive(f"the archive ends in the middle of {self.name!r}", COPY_AGAIN)
        self._left -= len(data)
        return data

    def skip(self) -> None:
        """Go over what is left of its data, without reading it where that is possible."""
        advance = getattr(self._stream, "advance", None)
        if advance is not None and self._left:
            advance(self._left)
            self._left = 0
        while self._left:
            self.read(_CHUNK)


def entries(stream: Bytes) -> t.Iterator[Entry]:
    """The entries of a tar archive, in their order, each with its extended headers applied.

    :raises DamagedArchive: it ends early or is none. :raises UnsafeArchive: it holds something that is never needed.
    """
    common: dict[str, bytes] = {}
    extended: dict[str, bytes] = {}
    long: dict[str, bytes] = {}
    count = 0
    common_left = left = _MOST_HEADER_BYTES
    while True:
        header = _exactly(stream, BLOCK, "where the next entry should begin")
        if not any(header):
            if long or left < _MOST_HEADER_BYTES:
                raise DamagedArchive("the archive ends after a header that belongs to an entry", COPY_AGAIN)
            return  # what follows the end mark is padding to the writer's block size, of whatever contents
        count += 1
        if count > MOST_ENTRIES:
            raise UnsafeArchive(f"the archive has more than {MOST_ENTRIES} entries", NOT_TRUSTED)
        kind = _checked_type(header)
        if kind in (_GLOBAL, _EXTENDED, _LONG_NAME, _LONG_LINK):
            data = _payload(stream, _number(header[124:136], "size"), common_left if kind == _GLOBAL else left)
            if kind == _GLOBAL:
                common_left -= len(data)
                common.update(_records(data))
                continue
            left -= len(data)
            if kind == _EXTENDED:
                extended.update(_records(data))
            else:
                long["path" if kind == _LONG_NAME else "linkpath"] = data.rstrip(b"\0")
            continue
        entry = _entry(stream, header, kind, {**common, **long, **extended})
        extended, long, left = {}, {}, _MOST_HEADER_BYTES
        yield entry
        entry.skip()
        if entry.size % BLOCK:
            _exactly(stream, BLOCK - entry.size % BLOCK, f"after {entry.name!r}")


def drain(stream: Bytes) -> None:
    """Read to the end: only there a digest or a compressed stream's checksum can be compared."""
    while stream.read(_CHUNK):
        pass


def looks_like_tar(beginning: bytes) -> bool:
    """Whether a file begins with the header of an entry."""
    return len(beginning) >= BLOCK and beginning[257:262] == b"ustar" and _checksum_fits(beginning[:BLOCK])


def _entry(stream: Bytes, header: bytes, kind: str, notes: t.Mapping[str, bytes]) -> Entry:
    if any(key.startswith("GNU.sparse") for key in notes):
        raise UnsafeArchive("the archive holds a sparse file, which no engine writes", NOT_TRUSTED)
    name = notes.get("path")
    if name is None:
        prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
        name = header[:100].split(b"\0", 1)[0]
        name = prefix + b"/" + name if prefix else name
    size = _decimal(notes["size"], "size") if "size" in notes else _number(header[124:136], "size")
    if kind != FILE:
        if size and kind != HARD_LINK:
            raise UnsafeArchive(f"the archive has data for {_text(name)!r}, which is no file", NOT_TRUSTED)
        if size:  # some writers repeat the size of what the link leads to
            size = 0
    entry = Entry(stream, _text(name), kind, size)
    entry.link = _text(notes.get("linkpath", header[157:257].split(b"\0", 1)[0]))
    entry.mode = _number(header[100:108], "mode") & 0o7777
    entry.uid = _decimal(notes["uid"], "uid") if "uid" in notes else _number(header[108:116], "uid")
    entry.gid = _decimal(notes["gid"], "gid") if "gid" in notes else _number(header[116:124], "gid")
    if max(entry.uid, entry.gid) >= (1 << 32) - 1:
        raise UnsafeArchive(f"{entry.name!r} belongs to a user or group that cannot be", NOT_TRUSTED)
    entry.mtime = _time(notes["mtime"]) if "mtime" in notes else float(_number(header[136:148], "time"))
    if kind in (CHARACTER, BLOCK_DEVICE):
        entry.major, entry.minor = _number(header[329:337], "device"), _number(header[337:345], "device")
    for key, value in notes.items():
        if key.startswith("SCHILY.xattr."):
            entry.xattrs[key[len("SCHILY.xattr.") :]] = value.decode("utf-8", "surrogateescape")
    return entry


def _exactly(stream: Bytes, count: int, where: str) -> bytes:
    data = stream.read(count)
    while len(data) < count:
        more = stream.read(count - len(data))
        if not more:
            raise DamagedArchive(f"the archive ends {where}", COPY_AGAIN)
        data += more
    return data


def _payload(stream: Bytes, size: int, most: int) -> bytes:
    if size > most:
        raise UnsafeArchive(f"the archive has extended headers of more than {_MOST_HEADER_BYTES} bytes", NOT_TRUSTED)
    padded = -(-size // BLOCK) * BLOCK
    return _exactly(stream, padded, "in an extended header")[:size] if padded else b""


def _checked_type(header: bytes) -> str:
    if not _checksum_fits(header):
        raise DamagedArchive("the archive has a header whose checksum is wrong", COPY_AGAIN)
    kind = chr(header[156])
    if kind in ("\0", "7"):  # as old and as contiguous as a plain file
        kind = FILE
    if kind == FILE and header[:100].split(b"\0", 1)[0].endswith(b"/") and not _number(header[124:136], "size"):
        kind = FOLDER  # as tar of 1988 wrote folders
    if kind not in _TYPES and kind not in (_GLOBAL, _EXTENDED, _LONG_NAME, _LONG_LINK):
        raise UnsafeArchive(f"the archive has an entry of type {kind!r}, which no engine writes", NOT_TRUSTED)
    return kind


def _checksum_fits(header: bytes) -> bool:
    try:
        stated = _number(header[148:156], "checksum")
    except (DamagedArchive, UnsafeArchive):
        return False
    blank = header[:148] + b" " * 8 + header[156:]
    return stated in (sum(blank), sum(byte - 256 if byte > 127 else byte for byte in blank))


def _number(field: bytes, what: str) -> int:
    """An octal number, or a binary one when the first bit says so."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        if field[0] == 0xFF or value >= _NUMBER_LIMIT:
            raise UnsafeArchive(f"the archive has a {what} that is negative or absurd", NOT_TRUSTED)
        return value
    text = field.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    if not all(0x30 <= byte <= 0x37 for byte in text):
        raise DamagedArchive(f"the archive has a {what} that is no number", COPY_AGAIN)
    return int(text, 8)


def _decimal(text: bytes, what: str) -> int:
    if not text.isdigit() or len(text) > 18:
        raise UnsafeArchive(f"the archive has a {what} of {text[:20]!r}", NOT_TRUSTED)
    return int(text)


def _time(text: bytes) -> float:
    whole, _dot, part = text.partition(b".")
    negative = whole.startswith(b"-")
    digits = whole[1:] if negative else whole
    if not digits.isdigit() or len(digits) > 12 or (part and not part.isdigit()):
        raise UnsafeArchive(f"the archive has a time of {text[:20]!r}", NOT_TRUSTED)
    value = float(b"%s.%s" % (digits, part[:9] or b"0"))
    return -value if negative else value


def _records(data: bytes) -> dict[str, bytes]:
    """The records ``LENGTH KEY=VALUE\\n`` of an extended header that mean something here."""
    found: dict[str, bytes] = {}
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        length = data[position:space] if space > 0 else b""
        if not length.isdigit():
            raise DamagedArchive("the archive has an extended header that is none", COPY_AGAIN)
        end = position + int(length)
        key, equals, value = data[space + 1 : end].partition(b"=")
        if end > len(data) or end <= space or not equals or not value.endswith(b"\n"):
            raise DamagedArchive("the archive has an extended header that is cut off", COPY_AGAIN)
        name = key.decode("utf-8", "surrogateescape")
        if name in _USED or name.startswith(_USED_KINDS):
            found[name] = value[:-1]
        position = end
    return found


def _text(raw: bytes) -> str:
    if len(raw) > _MOST_NAME or b"\0" in raw:
        raise UnsafeArchive("the archive has a name that no file system takes", NOT_TRUSTED)
    return raw.decode("utf-8", "surrogateescape")


def _fits(word: str) -> bool:
    try:
        return "\0" not in word and len(word.encode("utf-8", "surrogateescape")) <= 255
    except UnicodeEncodeError:  # half of a character, out of JSON
        return False


def checked_name(name: str) -> str:
    """An entry's name in its one form: relative, without ``.`` and without a slash at its end; empty for the root.

    :raises UnsafeArchive: it leads out of the archive, or is not to be told from another.
    """
    if name.startswith("/"):
        raise UnsafeArchive(f"the archive has the absolute name {name!r}", NOT_TRUSTED)
    words = [word for word in name.split("/") if word not in ("", ".")]
    if ".." in words:
        raise UnsafeArchive(f"the archive has the name {name!r}, which leads out of it", NOT_TRUSTED)
    if not all(_fits(word) for word in words):
        raise UnsafeArchive("the archive has a name that no file system takes", NOT_TRUSTED)
    return "/".join(words)
