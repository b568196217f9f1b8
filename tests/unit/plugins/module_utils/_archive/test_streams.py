# SPDX-License-Identifier: Apache-2.0
"""Compressed archives: bombs by ratio and by total, damage, and what is left behind when nobody reads on."""

from __future__ import annotations

import gzip
import io
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._archive import streams
from ansible_collections.podferry.live.plugins.module_utils._archive.errors import (
    DamagedArchive,
    NoCheckpoint,
    TooLarge,
)
from ansible_collections.podferry.live.plugins.module_utils._archive.streams import (
    DEFAULT,
    Digested,
    Limits,
    Part,
    open_file,
    unpacked,
)
from ansible_collections.podferry.live.plugins.module_utils._common.errors import CommandFailed, InvalidInput
from doubles import archives
from doubles.examples import examples

PACKERS = {"none": bytes, "gzip": gzip.compress, "zstd": archives.zstd}


def everything(data: bytes, limits: Limits = DEFAULT) -> bytes:
    with unpacked(io.BytesIO(data), limits) as stream:
        parts = []
        while block := stream.read(1 << 20):
            parts.append(block)
        return b"".join(parts)


@pytest.mark.parametrize("kind", PACKERS)
def test_each_compression_is_told_by_its_beginning(kind: str) -> None:
    assert everything(PACKERS[kind](b"hello" * 1000)) == b"hello" * 1000
    assert everything(PACKERS[kind](b"")) == b""


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_by_total(kind: str) -> None:
    with pytest.raises(TooLarge, match="more than 1000 bytes"):
        everything(PACKERS[kind](bytes(5000)), Limits(1000, 1 << 30))


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_by_ratio(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_RATIO_FLOOR", 2 << 20)
    bomb = PACKERS[kind](bytes(8 << 20))
    with pytest.raises(TooLarge, match="times its size"):
        everything(bomb, Limits(1 << 40, 100))
    assert len(everything(bomb, Limits(1 << 40, 1 << 20))) == 8 << 20


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_small_one_may_expand_as_it_likes(kind: str) -> None:
    assert len(everything(PACKERS[kind](bytes(1 << 20)), Limits(1 << 40, 1))) == 1 << 20


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_damage_is_told(kind: str) -> None:
    whole = PACKERS[kind](os.urandom(200_000))
    with pytest.raises(DamagedArchive):
        everything(whole[: len(whole) // 2])
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 0xFF
    with pytest.raises(DamagedArchive):
        everything(bytes(changed))


@settings(max_examples=examples(40))
@given(st.sampled_from(["gzip", "zstd"]), st.binary(max_size=3000), st.data())
def test_damage_is_told_or_harmless(kind: str, data: bytes, draw: st.DataObject) -> None:
    packed = bytearray(PACKERS[kind](data))
    packed[draw.draw(st.integers(0, len(packed) - 1))] ^= draw.draw(st.integers(1, 255))
    try:
        everything(bytes(packed))
    except InvalidInput:
        pass


def test_other_compressions_are_named() -> None:
    with pytest.raises(NoCheckpoint, match="xz or bzip2"):
        everything(b"\xfd7zXZ\x00....")


def test_without_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = archives.zstd(b"x")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CommandFailed, match="zstd"):
        everything(packed)


def test_who_stops_reading_leaves_nothing_running() -> None:
    before = threading.active_count()
    with unpacked(io.BytesIO(archives.zstd(os.urandom(4 << 20))), DEFAULT) as stream:
        assert stream.read(10)
    assert threading.active_count() == before


def test_a_feeder_that_fails_is_heard() -> None:
    class Breaks(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            data = super().read(count if count is None else min(count, 10))
            if not data:
                raise DamagedArchive("the blob is cut")
            return data

    broken = Breaks(archives.zstd(os.urandom(1000))[:-20])
    with pytest.raises(DamagedArchive, match="the blob is cut"), unpacked(broken, DEFAULT) as stream:
        while stream.read(1 << 20):
            pass


def test_a_blob_is_compared_at_its_end() -> None:
    with pytest.raises(DamagedArchive, match="something else"):
        stream = Digested(io.BytesIO(b"abc"), "0" * 64, 3)
        while stream.read(100):
            pass


@pytest.mark.parametrize("kind", ["fifo", "folder", "missing", "link"])
def test_only_regular_files_are_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(__file__)
    with pytest.raises(NoCheckpoint):
        open_file(str(path), follow=False)


def test_a_part_ends_where_the_file_does(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    with open_file(str(tmp_path / "x")) as stream:
        with pytest.raises(DamagedArchive):
            Part(stream, 2, 10)
        part = Part(stream, 1, 3)
        part.advance(1)
        assert part.read(100) == b"34" and part.read(100) == b""
        with pytest.raises(DamagedArchive):
            part.advance(1)
