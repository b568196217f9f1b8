# SPDX-License-Identifier: Apache-2.0
"""Unix sockets in CRIU's images: what a socket had, what lay in its queue, and what a restore of one container must not do."""

from __future__ import annotations

import fcntl
import os
import pathlib
import socket
import struct

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import DumpFailed, InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._criu import image, unix

HEADER = b"\x19\x43\x56\x54\x03\x30\x30\x56"


def message(*fields: tuple[int, int | bytes]) -> bytes:
    made = image.Message(b"")
    for number, value in fields:
        made.fields.append((number, 0 if isinstance(value, int) else 2, value))
    return made.encode()


OPTIONS = message((1, 100000), (2, 90000), (3, 1), (4, 500000), (5, 0), (6, 0), (9, 1), (11, 1), (24, 7))


def entry(number: int, inode: int, **more: int | bytes) -> bytes:
    fields: dict[int, int | bytes] = {
        1: number, 2: inode, 3: 1, 4: more.get("state", 1), 5: os.O_RDWR | os.O_NONBLOCK, 6: more.get("uflags", 0), 7: 0,
        8: more.get("peer", 0), 9: more.get("fown", message((1, 0), (5, 0))), 10: more.get("opts", OPTIONS),
        11: more.get("name", b""),
    }  # fmt: skip
    if "shutdown" in more:
        fields[12] = more["shutdown"]
    if more.get("name"):
        fields.update({13: message((1, 0o777), (2, 0), (3, 0)), 14: b"/talk", 15: 1})
    fields[16] = 9
    return message((1, 11), (2, number), (16, message(*fields.items())))


ACCEPTED = entry(5, 71, peer=72, name=b"/talk/s", shutdown=2)
EXTERNAL = entry(6, 72, uflags=1, state=10)
CALLER = entry(7, 73, peer=74)
OTHER = entry(8, 75, peer=76)
FILE = message((1, 1), (2, 3), (3, message((1, 3))))


@pytest.fixture
def images(tmp_path: pathlib.Path) -> str:
    image.write(str(tmp_path / "files.img"), HEADER, [FILE, ACCEPTED, EXTERNAL, CALLER, OTHER])
    with open(tmp_path / "sk-queues.img", "wb") as stream:
        stream.write(HEADER)
        for owner, data, more in ((5, b"one", ()), (8, b"not ours", ()), (5, b"two", ((4, message((1, 1), (2, 9))),))):
            head = message((1, owner), (2, len(data)), *more)
            stream.write(struct.pack("<I", len(head)) + head + data)
    return str(tmp_path)


def test_what_a_socket_had(images: str) -> None:
    found = unix.sockets(images, {71, 72, 99})
    assert found.keys() == {71}
    assert (found[71].number, found[71].shutdown, found[71].signals) == (5, 2, False)
    assert found[71].options.number(1) == 100000


def test_what_lay_in_a_queue_in_its_order(images: str) -> None:
    assert unix.packets(images, {5}) == [unix.Packet(5, b"one", False), unix.Packet(5, b"two", True)]
    assert unix.packets(images, {6}) == []
    os.truncate(f"{images}/sk-queues.img", os.path.getsize(f"{images}/sk-queues.img") - 1)
    with pytest.raises(InvalidInput, match="cut off"):
        unix.packets(images, {5})
    os.unlink(f"{images}/sk-queues.img")
    assert unix.packets(images, {5}) == []


def test_mended_for_the_restore_of_one_container(images: str) -> None:
    unix.mend(images, {71}, {73})
    header, entries = image.read(f"{images}/files.img")
    assert header == HEADER
    assert [entries[index] for index in (0, 2, 4)] == [FILE, EXTERNAL, OTHER]
    accepted, caller = (image.Message(image.Message(entries[index]).data(16) or b"") for index in (1, 3))
    assert accepted.data(11) == b""  # else CRIU would remove the file of who listens there
    assert not {field[0] for field in accepted.fields} & {13, 14, 15}
    assert (accepted.number(6), accepted.number(8), accepted.number(16)) == (4, 72, 9)
    assert (caller.number(8), caller.number(4), caller.number(6)) == (0, 7, 0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"fown": message((1, 0), (5, 12))}, "asked for signals"),
        ({"opts": image.Message(OPTIONS).encode() + b"\x81\x01" + b"\0" * 8}, "has a filter"),
    ],
)
def test_what_cannot_be_given_to_a_new_socket(tmp_path: pathlib.Path, more: dict[str, bytes], words: str) -> None:
    image.write(str(tmp_path / "files.img"), HEADER, [entry(5, 71, **more)])
    found = unix.sockets(str(tmp_path), {71}).values()
    with pytest.raises(DumpFailed, match=words):
        unix.check(found, [], {71: 0})


def test_every_byte_and_no_open_file(images: str) -> None:
    found = unix.sockets(images, {71}).values()
    bare = [unix.Packet(5, b"one", False), unix.Packet(5, b"two", False), unix.Packet(8, b"other", False)]
    unix.check(found, bare, {71: 6})
    unix.check(found, bare, {})  # datagrams: the kernel does not tell
    with pytest.raises(DumpFailed, match="of 7 bytes"):
        unix.check(found, bare, {71: 7})
    with pytest.raises(DumpFailed, match="open file"):
        unix.check(found, unix.packets(images, {5}), {71: 6})


def test_options() -> None:
    assert unix.external([3, 4]) == ["external unix[3]", "external unix[4]"]
    assert unix.inherited({71: 300}) == ["inherit-fd fd[300]:socket:[71]"]


def test_a_new_socket_gets_what_the_old_one_had(images: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # What needs privileges has a twin that does not.
    monkeypatch.setattr(unix, "SO_SNDBUFFORCE", socket.SO_SNDBUF)
    monkeypatch.setattr(unix, "_SO_RCVBUFFORCE", socket.SO_RCVBUF)
    like = unix.sockets(images, {71})[71]
    end, other = socket.socketpair()
    with end, other:
        unix.settle(end, like)
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 100000
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 90000
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED) == 1
        assert struct.unpack("@ll", end.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, 16)) == (1, 500000)
        assert struct.unpack("@ii", end.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 7)
        assert fcntl.fcntl(end, fcntl.F_GETFL) & os.O_NONBLOCK
        assert other.recv(1) == b""  # shut down for writing
        other.send(b"still")
        assert end.recv(5) == b"still"
