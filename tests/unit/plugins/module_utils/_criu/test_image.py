# SPDX-License-Identifier: Apache-2.0
"""Changing CRIU's images: connections that leave the pod are closed, others stay; System V objects stay in one image."""

from __future__ import annotations

import pathlib
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import DumpFailed, InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._criu import image, ipc, tcp
from doubles.examples import examples

HEADER = b"\x19\x43\x56\x54\x03\x30\x30\x56"


def message(*fields: tuple[int, int | bytes]) -> bytes:
    made = image.Message(b"")
    for number, value in fields:
        made.fields.append((number, 0 if isinstance(value, int) else 2, value))
    return made.encode()


def word(address: str) -> int:
    return int(struct.unpack("<I", bytes(int(part) for part in address.split(".")))[0])


def connection(source: tuple[str, int], destination: tuple[str, int], state: int = 1) -> bytes:
    inner = message(
        (1, 7), (2, 4711), (3, 2), (4, 1), (5, 6), (6, state), (7, source[1]), (8, destination[1]), (11, word(source[0])),
        (12, word(destination[0])), (99, b"a field of a later version"),
    )  # fmt: skip
    return message((1, 2), (2, 7), (4, inner))


LOCAL = connection(("127.0.0.1", 7000), ("127.0.0.1", 40000))
REMOTE = connection(("10.88.0.4", 40001), ("10.88.0.9", 5432))
ITSELF = connection(("10.88.0.4", 40002), ("10.88.0.4", 80))
LISTENING = connection(("0.0.0.0", 80), ("0.0.0.0", 0), state=10)


@pytest.fixture
def images(tmp_path: pathlib.Path) -> str:
    image.write(str(tmp_path / "files.img"), HEADER, [LOCAL, REMOTE, ITSELF, LISTENING, message((1, 1), (2, 3))])
    return str(tmp_path)


def test_connections(images: str) -> None:
    found = tcp.connections(images)
    assert [(end.source, end.inner) for end in found] == [
        (("127.0.0.1", 7000), True), (("10.88.0.4", 40001), False), (("10.88.0.4", 40002), False),
    ]  # fmt: skip
    assert found[0].other_end.source == ("127.0.0.1", 40000)


def test_close_what_leaves_the_pod(images: str) -> None:
    assert tcp.close(images, lambda end: not end.inner) == 2
    header, entries = image.read(f"{images}/files.img")
    assert header == HEADER
    assert (entries[0], entries[3]) == (LOCAL, LISTENING)
    closed = image.Message(image.Message(entries[1]).data(4) or b"")
    assert [closed.number(field) for field in (2, 6, 7, 8, 19)] == [4711, 7, 0, 0, 3]
    assert closed.data(99) == b"a field of a later version"
    assert [end.source for end in tcp.connections(images)] == [("127.0.0.1", 7000)]


def test_an_address_of_version_6() -> None:
    words = [0, 0, word("0.0.255.255"), word("127.0.0.1")]
    assert tcp.address(words) == "127.0.0.1"
    assert tcp.address([0, 0, 0, word("0.0.0.1")]) == "::1"
    assert tcp.address([]) == ""


@given(st.binary(max_size=200))
def test_what_is_no_image_is_refused_and_never_crashes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "files.img"
    path.write_bytes(data)
    try:
        _header, entries = image.read(str(path))
        for entry in entries:
            image.Message(entry)
    except InvalidInput:
        pass


@given(st.lists(st.tuples(st.integers(1, 1000), st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=40)))))
def test_a_message_is_written_as_it_was_read(fields: list[tuple[int, int | bytes]]) -> None:
    data = message(*fields)
    assert image.Message(data).encode() == data


def segment(identifier: int) -> bytes:
    return message((1, message((1, 0), (6, 0o600), (7, identifier))), (2, 4096))


def dumps(root: pathlib.Path, count: int) -> list[str]:
    folders = []
    for number in range(count):
        folder = root / str(number)
        folder.mkdir()
        image.write(str(folder / "ipcns-shm-11.img"), HEADER, [segment(5), segment(6), segment(7)])
        for kind in ("sem", "msg"):
            (folder / f"ipcns-{kind}-11.img").write_bytes(HEADER + b"objects with data behind their messages")
        folders.append(str(folder))
    return folders


def kept(folder: str) -> list[int]:
    return [ipc._segment(entry) for entry in image.read(f"{folder}/ipcns-shm-11.img")[1]]


def test_every_object_stays_in_one_image(tmp_path: pathlib.Path) -> None:
    first, second, third = dumps(tmp_path, 3)
    ipc.divide([first, second, third], [{6}, set(), {7}])
    assert (kept(first), kept(second), kept(third)) == ([5, 6], [], [7])
    assert pathlib.Path(first, "ipcns-sem-11.img").stat().st_size > 8
    assert [pathlib.Path(folder, "ipcns-msg-11.img").stat().st_size for folder in (second, third)] == [8, 8]


def test_a_segment_of_two_containers(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DumpFailed, match="attached in more than one container"):
        ipc.divide(dumps(tmp_path, 2), [{5, 6}, {6}])


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(st.integers(1, 20), st.integers(0, 1 << 64) | st.binary(max_size=40), max_size=6), max_size=3
    ),
    st.booleans(),
)
def test_any_list_of_files_or_segments(
    tmp_path: pathlib.Path, found: list[dict[int, int | bytes]], damaged: bool
) -> None:
    """Whatever the images hold, closing connections and dividing segments end in images or in an error of ours."""
    for name in ("files.img", "ipcns-shm-9.img", "ipcns-sem-9.img"):
        content = HEADER + b"".join(
            struct.pack("<I", len(raw)) + raw for raw in (message(*each.items()) for each in found)
        )
        (tmp_path / name).write_bytes(content[:-1] if damaged else content)
    try:
        ends = tcp.connections(str(tmp_path))
        assert tcp.close(str(tmp_path), lambda _end: True) == len(ends)
        assert tcp.connections(str(tmp_path)) == []
        ipc.divide([str(tmp_path), str(tmp_path)], [set(), set()])
    except (InvalidInput, DumpFailed):
        pass


def test_a_connection_that_is_told_twice() -> None:
    """CRIU puts both together; what is read here alone would be another connection."""
    hidden = connection(("10.0.0.1", 1), ("10.0.0.2", 2))
    with pytest.raises(InvalidInput, match="twice"):
        image.Message(hidden + message((4, b""))).data(4)
