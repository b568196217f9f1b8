# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""CRIU's image files: two magic numbers, then entries of a 32-bit length and a protobuf message (criu.org, "Images").

Only the wire format is known here. Fields that nobody asked for are kept as they are, whatever CRIU's version means by them.
"""

from __future__ import annotations

import os
import struct
import typing as t

from .._common.errors import InvalidInput

HEADER_BYTES = 8
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
MOST_BYTES = 256 << 20

Field = t.Tuple[int, int, t.Union[int, bytes]]
"""Number, wire type, value."""


class Message:
    """A protobuf message as a list of fields."""

    def __init__(self, data: bytes) -> None:
        self.fields: list[Field] = []
        position = 0
        while position < len(data):
            key, position = _varint(data, position)
            number, wire = key >> 3, key & 7
            value: int | bytes
            if wire == _VARINT:
                value, position = _varint(data, position)
            else:
                if wire == _BYTES:
                    length, position = _varint(data, position)
                elif wire in (_FIXED32, _FIXED64):
                    length = 4 if wire == _FIXED32 else 8
                else:
                    raise InvalidInput(f"a message of CRIU's has a field of wire type {wire}")
                value, position = data[position : position + length], position + length
                if position > len(data):
                    raise InvalidInput("a message of CRIU's is cut off")
            self.fields.append((number, wire, value))

    def number(self, field: int, default: int = 0) -> int:
        """The value of a number; the last one counts, as protobuf says."""
        found = [value for number, _wire, value in self.fields if number == field and isinstance(value, int)]
        return found[-1] if found else default

    def numbers(self, field: int) -> list[int]:
        """All values of a repeated number, packed or not."""
        found: list[int] = []
        for number, _wire, value in self.fields:
            if number != field:
                continue
            if isinstance(value, int):
                found.append(value)
                continue
            position = 0
            while position < len(value):
                item, position = _varint(value, position)
                found.append(item)
        return found

    def inner(self, field: int) -> Message | None:
        """An inner message; None without one."""
        data = self.data(field)
        return None if data is None else Message(data)

    def inners(self, field: int) -> list[Message]:
        """All messages of a repeated field."""
        return [Message(value) for number, _wire, value in self.fields if number == field and isinstance(value, bytes)]

    def text(self, field: int) -> str:
        """A string; what is not UTF-8 in it is replaced."""
        return (self.data(field) or b"").decode("utf-8", "replace")

    def data(self, field: int) -> bytes | None:
        """The bytes of a string, of bytes or of an inner message; None without one."""
        found = [value for number, _wire, value in self.fields if number == field and isinstance(value, bytes)]
        if len(found) > 1:  # CRIU would put the parts together: what it reads and what we read must be the same
            raise InvalidInput("a message of CRIU's says something twice")
        return found[0] if found else None

    def set(self, field: int, value: int | bytes) -> None:
        """Give a field this one value, where it was or at the end."""
        wire = _VARINT if isinstance(value, int) else _BYTES
        places = [index for index, entry in enumerate(self.fields) if entry[0] == field]
        if places:
            self.fields[places[0]] = (field, wire, value)
            self.fields = [entry for index, entry in enumerate(self.fields) if index not in places[1:]]
        else:
            self.fields.append((field, wire, value))

    def encode(self) -> bytes:
        """The message as it is written."""
        parts = []
        for number, wire, value in self.fields:
            parts.append(_encoded(number << 3 | wire))
            if isinstance(value, int):
                parts.append(_encoded(value))
            else:
                parts.append((_encoded(len(value)) if wire == _BYTES else b"") + value)
        return b"".join(parts)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise InvalidInput("a message of CRIU's is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read(path: str) -> tuple[bytes, list[bytes]]:
    """The header and the entries of an image.

    :raises InvalidInput: it is none, or larger than such a list can be.
    """
    with open(path, "rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    return parse(content, os.path.basename(path))


def parse(content: bytes, name: str) -> tuple[bytes, list[bytes]]:
    """The header and the entries of an image's bytes.

    :raises InvalidInput: it is none, or larger than such a list can be.
    """
    if len(content) < HEADER_BYTES or len(content) > MOST_BYTES:
        raise InvalidInput(f"{name} is no image of CRIU's")
    entries = []
    position = HEADER_BYTES
    while position < len(content):
        if position + 4 > len(content):
            raise InvalidInput(f"{name} is cut off")
        (length,) = struct.unpack_from("<I", content, position)
        position += 4
        if position + length > len(content):
            raise InvalidInput(f"{name} is cut off")
        entries.append(content[position : position + length])
        position += length
    return content[:HEADER_BYTES], entries


def write(path: str, header: bytes, entries: t.Iterable[bytes]) -> None:
    """Write an image anew. On a tmpfs of ours that nobody else reads yet."""
    with open(path, "wb") as stream:
        stream.write(header)
        for entry in entries:
            stream.write(struct.pack("<I", len(entry)) + entry)


def clear(path: str) -> None:
    """Leave the header only."""
    os.truncate(path, HEADER_BYTES)
