# SPDX-License-Identifier: Apache-2.0
"""Pages: what is packed comes back, each page is stored once, and an index from elsewhere cannot do harm."""

from __future__ import annotations

import pathlib
import random
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._store import pages
from ansible_collections.podferry.live.plugins.module_utils._store.pages import PAGE, Cutter, Index, Layout

NAME = "web/criu/pages-1.img"
OTHER = "web/rootfs.tar"


def identity(number: int) -> str:
    return f"20261125T1700{number:02}Z-0123456789ab"


class Packs:
    """Where packs go in these tests: memory."""

    def __init__(self) -> None:
        self.origin = ""
        self.stored: dict[str, bytes] = {}
        self._open = b""
        self._number = 0

    def begin(self, origin: str) -> None:
        self.origin, self._number = origin, 0

    def write(self, block: memoryview) -> None:
        self._open += bytes(block)

    def end(self) -> None:
        self.stored[f"{self.origin}/pages.{self._number}"] = self._open
        self._open, self._number = b"", self._number + 1

    @property
    def bytes(self) -> int:
        return sum(map(len, self.stored.values()))


def cut(
    folder: pathlib.Path, packs: Packs, number: int, files: dict[str, bytes], parent: Index | None, part: int
) -> Index:
    packs.begin(identity(number))
    cutter = Cutter(identity(number), packs, parent, part)
    for name, content in files.items():
        path = folder / "source"
        path.write_bytes(content)
        cutter.add(name, str(path))
    # what is read again when a pack is given up has to be there still
    for name, content in files.items():
        (folder / name.replace("/", "-")).write_bytes(content)
    cutter._sources = [(name, str(folder / name.replace("/", "-")), size) for name, _path, size in cutter._sources]
    return Index.from_bytes(cutter.finish().to_bytes())


def lay(folder: pathlib.Path, packs: Packs, index: Index) -> dict[str, bytes]:
    target = pathlib.Path(tempfile.mkdtemp(dir=folder))
    layout = Layout(index, str(target))
    layout.create()
    for number in layout.needed:
        content = memoryview(packs.stored[index.packs[number].key])
        at = 0

        def read(view: memoryview) -> int:
            nonlocal at
            block = content[at : at + len(view)]  # noqa: B023 - used up before the next round
            view[: len(block)] = block
            at += len(block)
            return len(block)

        layout.pack(number, read)
    return {name: (target / name).read_bytes() for name in index.files}


def page(value: int) -> bytes:
    """One of many pages, all different; 0 is the page of zeros."""
    return value.to_bytes(2, "little") * (PAGE // 2)


contents = st.lists(st.integers(0, 40), max_size=60).map(lambda values: b"".join(map(page, values)))
odd = st.tuples(contents, st.binary(min_size=1, max_size=PAGE + 3)).map(lambda parts: parts[0] + parts[1])
chains = st.lists(st.fixed_dictionaries({NAME: odd, OTHER: odd}), min_size=1, max_size=5)


@given(chain=chains, part=st.integers(1, 9))
@settings(max_examples=60)
def test_what_was_cut_comes_back(chain: list[dict[str, bytes]], part: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, packs = pathlib.Path(name), Packs()
        parent: Index | None = None
        made = []
        for number, files in enumerate(chain):
            parent = cut(folder, packs, number, files, parent, part)
            made.append(parent)
        for files, index in zip(chain, made, strict=True):
            assert lay(folder, packs, index) == files


@given(seed=st.integers(0, 2**32), steps=st.integers(2, 8), dirty=st.integers(0, 400))
@settings(max_examples=25)
def test_a_chain_stores_little_more_than_the_distinct_pages(seed: int, steps: int, dirty: int) -> None:
    """A process of 512 pages that writes to ``dirty`` of them between two checkpoints, some at random and some always the same."""
    rng = random.Random(seed)
    memory = [rng.randrange(1, 1 << 16) for _round in range(512)]
    seen: set[int] = set()
    fresh = iter(range(1 << 16, 1 << 30))
    with tempfile.TemporaryDirectory() as name:
        folder, packs = pathlib.Path(name), Packs()
        parent: Index | None = None
        for number in range(steps):
            seen.update(memory)
            content = b"".join(value.to_bytes(4, "little") * (PAGE // 4) for value in memory)
            parent = cut(folder, packs, number, {NAME: content}, parent, 64)
            for at in [*range(10), *rng.sample(range(512), dirty)]:
                memory[at] = next(fresh)
        assert packs.bytes < 1.2 * len(seen) * PAGE


def test_a_pack_of_which_little_is_left_is_given_up(tmp_path: pathlib.Path) -> None:
    packs = Packs()
    first = cut(tmp_path, packs, 0, {NAME: b"".join(map(page, range(1, 101)))}, None, 1000)
    kept = b"".join(map(page, [*range(1, 4), *range(200, 300), 0]))
    second = cut(tmp_path, packs, 1, {NAME: kept}, first, 1000)
    assert [pack.origin for pack in second.packs] == [identity(1)]
    assert lay(tmp_path, packs, second) == {NAME: kept}


def test_pages_that_come_back_are_known(tmp_path: pathlib.Path) -> None:
    packs = Packs()
    base = [*range(1, 101)]
    first = cut(tmp_path, packs, 0, {NAME: b"".join(map(page, base))}, None, 1000)
    second = cut(tmp_path, packs, 1, {NAME: b"".join(map(page, base[:50]))}, first, 1000)
    stored = packs.bytes
    third = cut(tmp_path, packs, 2, {NAME: b"".join(map(page, reversed(base)))}, second, 1000)
    assert packs.bytes == stored
    assert lay(tmp_path, packs, third) == {NAME: b"".join(map(page, reversed(base)))}


def test_zeros_are_not_stored_and_come_back_as_holes(tmp_path: pathlib.Path) -> None:
    packs = Packs()
    index = cut(tmp_path, packs, 0, {NAME: bytes(50 * PAGE) + b"x"}, None, 1000)
    assert packs.bytes == PAGE
    target = tmp_path / "target"
    layout = Layout(index, str(target))
    layout.create()
    assert (target / NAME).stat().st_blocks == 0
    assert (target / NAME).stat().st_size == 50 * PAGE + 1


@pytest.mark.parametrize("change", [b"", b"x"])
def test_a_pack_of_another_length_is_refused(tmp_path: pathlib.Path, change: bytes) -> None:
    packs = Packs()
    index = cut(tmp_path, packs, 0, {NAME: page(1) + page(2)}, None, 1000)
    packs.stored[index.packs[0].key] = packs.stored[index.packs[0].key][: -1 if not change else None] + change
    with pytest.raises(InvalidInput, match="pages than the index says"):
        lay(tmp_path, packs, index)


def valid() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        content = {NAME: b"".join(map(page, range(1, 9))), OTHER: page(3) + b"end"}
        return cut(pathlib.Path(name), Packs(), 0, content, None, 3).to_bytes()


VALID = valid()


@given(st.binary(max_size=300))
def test_a_hostile_index(data: bytes) -> None:
    for attempt in (data, b"podferry-index-1\n" + data):
        with pytest.raises(InvalidInput):
            Index.from_bytes(attempt)


@given(at=st.integers(0, len(VALID) - 1), value=st.integers(0, 255), end=st.integers(0, len(VALID)))
def test_a_damaged_index_is_refused_or_stays_inside(at: int, value: int, end: int) -> None:
    data = bytearray(VALID)
    data[at] = value
    for attempt in (bytes(data), VALID[:end], VALID + data[:end]):
        try:
            index = Index.from_bytes(attempt)
        except InvalidInput:
            continue
        stored = sum(pack.count for pack in index.packs)
        assert all(ref <= stored for ref in index.refs)
        assert len(index.refs) == sum(map(pages.page_count, index.files.values()))


@pytest.mark.parametrize(
    "header",
    [
        '{"packs":[],"files":[["../../etc/passwd",4096]]}',
        '{"packs":[],"files":[["web/criu/../../x",4096]]}',
        '{"packs":[],"files":[["web/log",4096],["web/log",4096]]}',
        '{"packs":[],"files":[["web/log",-1]]}',
        '{"packs":[],"files":[["web/log",true]]}',
        '{"packs":[],"files":[["web/log",1125899906842624]]}',
        '{"packs":[["20261125T170000Z-0123456789ab","state.0",1]],"files":[]}',
        '{"packs":[["20261125T170000Z-0123456789ab","pages.0",99999999]],"files":[]}',
        '{"packs":[["../x","pages.0",1]],"files":[]}',
        "[" * 100000,
    ],
)
def test_what_an_index_must_not_say(header: str) -> None:
    with pytest.raises(InvalidInput):
        Index.from_bytes(b"podferry-index-1\n" + header.encode() + b"\n" + bytes(28))


def test_many_files_are_not_open_at_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages._Files, "MOST", 2)
    packs = Packs()
    files: dict[str, Any] = {f"web/criu/pages-{n}.img": page(n + 1) + page(99) + page(n + 50) for n in range(7)}
    index = cut(tmp_path, packs, 0, files, None, 1000)
    assert lay(tmp_path, packs, index) == files
