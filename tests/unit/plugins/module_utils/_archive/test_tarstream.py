# SPDX-License-Identifier: Apache-2.0
"""Tar archives: what Python's tarfile writes is read as it was meant, and nothing that anybody writes does more than fail."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._archive import tarstream
from ansible_collections.podferry.live.plugins.module_utils._archive.errors import DamagedArchive, UnsafeArchive
from doubles import archives

KINDS = (
    tarfile.REGTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
)
STYLES = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
words = st.text(st.characters(codec="ascii", min_codepoint=33, exclude_characters="/"), min_size=1, max_size=60)


class Trickle(io.BytesIO):
    """Gives a few bytes at a time, as a pipe may."""

    def read(self, count: int | None = -1, /) -> bytes:
        return super().read(min(count if count is not None and count >= 0 else 700, 700))


@st.composite
def members(draw: st.DrawFn) -> list[tuple[tarfile.TarInfo, bytes]]:
    found = []
    for name in draw(st.lists(st.lists(words, min_size=1, max_size=5).map("/".join), max_size=6)):
        kind = draw(st.sampled_from(KINDS))
        data = draw(st.binary(max_size=1500)) if kind == tarfile.REGTYPE else b""
        link = draw(words) if kind in (tarfile.LNKTYPE, tarfile.SYMTYPE) else ""
        numbers = {key: draw(st.integers(0, 0o777777)) for key in ("uid", "gid")}
        device = draw(st.integers(0, 255)) if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE) else 0
        found.append(
            archives.entry(name, data, kind, linkname=link, mode=draw(st.integers(0, 0o7777)), mtime=draw(st.integers(0, 1 << 32)),
                           devmajor=device, devminor=device, **numbers)
        )  # fmt: skip
    return found


@given(members(), st.sampled_from(STYLES))
def test_it_agrees_with_tarfile(made: list[tuple[tarfile.TarInfo, bytes]], style: int) -> None:
    try:
        packed = archives.tar(*made, style=style)
    except ValueError:  # too long a name for this style
        return
    read = []
    for entry in tarstream.entries(Trickle(packed)):
        data = b""
        while block := entry.read():
            data += block
        read.append(
            (entry.name.rstrip("/"), entry.type, data, entry.link, entry.mode, entry.uid, entry.gid, entry.mtime)
        )
    with tarfile.open(fileobj=io.BytesIO(packed)) as reference:
        expected = [
            (info.name, info.type.decode(), (reference.extractfile(info).read() if info.isreg() else b""),  # type: ignore[union-attr]
             info.linkname, info.mode, info.uid, info.gid, info.mtime)
            for info in reference
        ]  # fmt: skip
    assert read == expected


@given(st.binary(max_size=2048))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises((DamagedArchive, UnsafeArchive)):
        list(tarstream.entries(io.BytesIO(b"x" + noise)))


@given(members(), st.sampled_from(STYLES), st.data())
def test_damage_is_refused_or_harmless(
    made: list[tuple[tarfile.TarInfo, bytes]], style: int, data: st.DataObject
) -> None:
    try:
        packed = bytearray(archives.tar(*made, style=style))
    except ValueError:
        return
    for _round in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(packed[: data.draw(st.integers(0, len(packed)))])
    try:
        for entry in tarstream.entries(io.BytesIO(cut)):
            assert entry.size >= 0
            tarstream.checked_name(entry.name)
    except (DamagedArchive, UnsafeArchive):
        pass


def header(**fields: bytes) -> bytes:
    """A raw header with its checksum made right."""
    places = {"name": 0, "mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136, "type": 156, "magic": 257}
    raw = bytearray(archives.tar(archives.entry("a"))[:512])
    for key, value in fields.items():
        raw[places[key] : places[key] + len(value)] = value
    raw[148:156] = b"        "
    raw[148:156] = f"{sum(raw):06o}".encode() + b"\0 "
    return bytes(raw)


def read(raw: bytes) -> list[tarstream.Entry]:
    return list(tarstream.entries(io.BytesIO(raw + bytes(1024))))


@pytest.mark.parametrize(
    "raw",
    [
        header(size=b"\xff" * 12),
        header(size=b"\x80" + b"\xff" * 11),
        header(uid=b"\x80" + b"\xff" * 7),
        header(size=b"-0000000001\0"),
        header(size=b"zzzzzzzzzzz\0"),
        header(type=b"S"),
        header(type=b"V"),
        header(type=b"x", size=b"77777777777\0"),
        header(type=b"5", size=b"00000000010\0") + bytes(512),
    ],
    ids=["negative", "absurd", "user", "minus", "letters", "sparse", "volume", "header of 8 GiB", "folder with data"],
)  # fmt: skip
def test_what_no_engine_writes(raw: bytes) -> None:
    with pytest.raises((DamagedArchive, UnsafeArchive)):
        read(raw)


@pytest.mark.parametrize(
    "record",
    [
        b"GNU.sparse.major=1",
        b"size=-5",
        b"size=99999999999999999999",
        b"mtime=now",
        b"uid=x",
        b"path=a\0b",
        b"path=" + b"a" * 5000,
    ],
)
def test_extended_headers_that_lie(record: bytes) -> None:
    length = len(record) + 2
    length += len(str(length + len(str(length))))
    text = f"{length} ".encode() + record + b"\n"
    with pytest.raises((DamagedArchive, UnsafeArchive)):
        read(
            header(type=b"x", size=f"{len(text):011o}\0".encode())
            + text.ljust(-(-len(text) // 512) * 512, b"\0")
            + header()
        )


@pytest.mark.parametrize("text", [b"5 a=b", b"9 a=b\n", b"x a=b\n", b"7 ab=\n", b"0 a=b\n", b"4 ab\n"])
def test_records_of_the_wrong_length(text: bytes) -> None:
    with pytest.raises((DamagedArchive, UnsafeArchive)):
        read(header(type=b"x", size=f"{len(text):011o}\0".encode()) + text.ljust(512, b"\0") + header())


def extension(kind: bytes, payload: bytes) -> bytes:
    """An extended header and what it holds."""
    return header(type=kind, size=f"{len(payload):011o}\0".encode()) + payload.ljust(
        -(-len(payload) // 512) * 512, b"\0"
    )


def record(key: bytes, size: int) -> bytes:
    """A record of exactly this size."""
    start = str(size).encode() + b" " + key + b"="
    return start + b"v" * (size - len(start) - 1) + b"\n"


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_headers_without_end(kind: bytes) -> None:
    """Each is small; together, before an entry, they would fill the memory."""
    parts = [extension(kind, record(b"SCHILY.xattr.user.%02d" % number, 300_000)) for number in range(4)]
    with pytest.raises(UnsafeArchive, match="headers of more than"):
        read(b"".join(parts) + header())


def test_global_headers_without_end() -> None:
    """They hold for all entries that follow, so entries between them are no new beginning."""
    parts = [extension(b"g", record(b"SCHILY.xattr.user.%02d" % number, 300_000)) + header() for number in range(4)]
    with pytest.raises(UnsafeArchive, match="headers of more than"):
        read(b"".join(parts))


def test_large_headers_of_many_entries() -> None:
    parts = [extension(b"x", record(b"SCHILY.xattr.user.a", 600_000)) + header() for _round in range(4)]
    assert [len(entry.xattrs["user.a"]) > 500_000 for entry in read(b"".join(parts))] == [True] * 4


def test_only_what_means_something_is_kept() -> None:
    assert tarstream._records(record(b"comment", 100) + record(b"path", 20) + record(b"GNU.sparse.map", 40)).keys() == {
        "path",
        "GNU.sparse.map",
    }


@pytest.mark.parametrize("length", [1, 511, 513, 1000, 1030])
def test_an_archive_that_ends_early(length: int) -> None:
    whole = archives.tar(archives.entry("a", b"x" * 600))
    with pytest.raises(DamagedArchive):
        list(tarstream.entries(io.BytesIO(whole[:length])))


@pytest.mark.parametrize("name", ["/etc/passwd", "a/../b", "..", "../x", "a" * 300])
def test_names_that_lead_elsewhere(name: str) -> None:
    with pytest.raises(UnsafeArchive):
        tarstream.checked_name(name)


def test_names_have_one_form() -> None:
    assert tarstream.checked_name("./a//b/./c/") == "a/b/c"
    assert tarstream.checked_name("./") == ""


def test_extended_attributes_survive() -> None:
    info, data = archives.entry("a", b"x")
    info.pax_headers = {"SCHILY.xattr.user.note": "caf\udce9"}
    (entry,) = tarstream.entries(io.BytesIO(archives.tar((info, data))))
    assert entry.xattrs == {"user.note": "caf\udce9"}
