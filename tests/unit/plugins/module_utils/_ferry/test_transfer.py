# SPDX-License-Identifier: Apache-2.0
"""Files on their way: growing ones, hostile names, too much, and what arrives changed."""

from __future__ import annotations

import os
import pathlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import DumpFailed, InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._ferry import transfer
from ansible_collections.podferry.live.plugins.module_utils._ferry.link import Link
from ansible_collections.podferry.live.plugins.module_utils._ferry.transfer import Receiver, Sender


class Pair:
    """A sender and a receiver, joined by a thread that takes what comes."""

    def __init__(self, root: pathlib.Path, limit: int = 1 << 30) -> None:
        self.source, self.target = root / "source", root / "target"
        (self.source / "web/criu").mkdir(parents=True)
        self.target.mkdir()
        one, two = socket.socketpair()
        self.link, self._other = Link(one, 10), Link(two, 10)
        self.sender = Sender(self.link, str(self.source))
        self.receiver = Receiver(str(self.target), ["web"], limit)
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        try:
            while True:
                frame = self._other.receive()
                if isinstance(frame, memoryview):
                    self.receiver.data(frame)
                elif frame["m"] == "file":
                    self.receiver.open(frame)
                else:
                    self.receiver.verify(frame["files"])
                    return
        except Exception as error:  # noqa: BLE001 - looked at by the test
            self.error = error
            self._other.close()

    def end(self) -> None:
        self.link.send("manifest", files=self.sender.manifest())
        self.wait()

    def wait(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()
        if self.error:
            raise self.error


@pytest.fixture
def pair(tmp_path: pathlib.Path) -> Pair:
    return Pair(tmp_path)


def content(root: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_files_that_grow_while_they_are_sent(pair: Pair) -> None:
    pages = pair.source / "web/criu/pages-1.img"
    with open(pages, "wb", buffering=0) as stream:
        for count in range(5):
            stream.write(os.urandom(700_000))
            assert pair.sender.growing("web") is True
            assert pair.sender.growing("web") is False, count
    (pair.source / "web/criu/pages-2.img").write_bytes(b"second")
    assert pair.sender.growing("web") is True
    with open(pair.source / "web/criu/pages-2.img", "ab") as more:
        more.write(b" and more")
    (pair.source / "web/criu/core-1.img").write_bytes(b"core")
    (pair.source / "web/rootfs.tar").write_bytes(b"tar")
    os.symlink("/etc/hostname", pair.source / "web/criu/parent")
    pair.sender.rest("web")
    pair.sender.file("web/rootfs.tar")
    pair.end()
    sent = content(pair.source)
    sent.pop("web/criu/parent", None)
    assert content(pair.target) == sent
    assert pair.sender.bytes == pair.receiver.bytes == sum(map(len, sent.values()))
    assert all(os.stat(pair.target / name).st_mode & 0o777 == 0o600 for name in sent)


def test_pages_are_sent_in_the_order_of_their_numbers(pair: Pair) -> None:
    for number in (10, 9, 2):
        (pair.source / f"web/criu/pages-{number}.img").write_bytes(str(number).encode())
    pair.sender.growing("web")
    pair.sender.rest("web")
    assert [name for name in pair.sender.manifest() if "pages" in name] == [
        f"web/criu/pages-{n}.img" for n in (2, 9, 10)
    ]
    pair.end()


def test_p3_a_file_that_grew_after_it_counted_as_complete(pair: Pair) -> None:
    (pair.source / "web/criu/pages-1.img").write_bytes(b"one")
    (pair.source / "web/criu/pages-2.img").write_bytes(b"two")
    pair.sender.growing("web")
    with open(pair.source / "web/criu/pages-1.img", "ab") as stream:
        stream.write(b" and what would be lost")
    with pytest.raises(DumpFailed, match=r"pages-1\.img went on growing"):
        pair.sender.rest("web")
    pair.end()


@pytest.fixture
def receiver(tmp_path: pathlib.Path) -> Receiver:
    return Receiver(str(tmp_path), ["web", "side.car"], 100)


@pytest.mark.parametrize(
    "name",
    [
        "", "web", "web/", "web/criu", "web/criu/", "/web/criu/a", "web/criu/../../x", "../web/criu/a", "web/../web/log", "db/criu/a",
        "web/criu/a/b", "web/criu/.hidden", "web/criu/-x", "web/criu/a\n", "web/log\n", "web/log/x", "web/criu/a\0b", "web//log",
        "WEB/log", "web/rootfs_tar", "web/criu/ä", None, 7, ["web/log"], {"a": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_hostile_names(receiver: Receiver, tmp_path: pathlib.Path, name: object) -> None:
    with pytest.raises(InvalidInput, match="sent a file of the name"):
        receiver.open({"m": "file", "name": name})
    assert content(tmp_path) == {}


def test_no_name_at_all(receiver: Receiver) -> None:
    with pytest.raises(InvalidInput):
        receiver.open({"m": "file"})


def test_a_name_twice(receiver: Receiver) -> None:
    receiver.open({"name": "web/log"})
    receiver.data(memoryview(b"x"))
    receiver.open({"name": "side.car/log"})
    with pytest.raises(InvalidInput):
        receiver.open({"name": "web/log"})


def test_a_name_twice_in_a_row_is_no_second_file(receiver: Receiver) -> None:
    receiver.open({"name": "web/log"})
    with pytest.raises((InvalidInput, FileExistsError)):
        receiver.open({"name": "web/log"})


def test_what_is_there_already_is_not_written_through(receiver: Receiver, tmp_path: pathlib.Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/log").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        receiver.open({"name": "web/log"})
    assert not (tmp_path / "victim").exists()


def test_data_without_a_file(receiver: Receiver) -> None:
    with pytest.raises(InvalidInput, match="belongs to no file"):
        receiver.data(memoryview(b"x"))


def test_more_than_was_announced(receiver: Receiver) -> None:
    receiver.open({"name": "web/log"})
    receiver.data(memoryview(b"x" * 60))
    receiver.open({"name": "side.car/log"})
    receiver.data(memoryview(b"x" * 40))
    with pytest.raises(InvalidInput, match="more bytes than memory was reserved for"):
        receiver.data(memoryview(b"x"))


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def apply(manifest: dict[str, Any]) -> dict[str, Any]:
        change(manifest)
        return manifest

    return apply


@pytest.mark.parametrize(
    "change",
    [
        lambda files: files.pop("web/log"),
        lambda files: files.update({"web/criu/more": {"size": 0, "sha256": ""}}),
        lambda files: files["web/log"].update(size=4),
        lambda files: files["web/log"].update(sha256="0" * 64),
        lambda files: files.clear(),
    ],
)
def test_what_arrived_is_not_what_was_sent(receiver: Receiver, change: Callable[[dict[str, Any]], object]) -> None:
    receiver.open({"name": "web/log"})
    receiver.data(memoryview(b"abc"))
    receiver.close()
    good = {"web/log": {"size": 3, "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}
    receiver.verify(good)
    with pytest.raises(InvalidInput, match="differ from what the source sent"):
        receiver.verify(changed(change)(good))


def test_a_receiver_that_refuses_ends_the_connection(tmp_path: pathlib.Path) -> None:
    pair = Pair(tmp_path, limit=10)
    (pair.source / "web/log").write_bytes(b"x" * 11)
    pair.sender.file("web/log")
    time.sleep(0)
    with pytest.raises(InvalidInput, match="more bytes than memory was reserved for"):
        pair.wait()


def test_files_without_end(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty file takes no byte of what was announced, but memory."""
    monkeypatch.setattr(transfer, "MOST_FILES", 3)
    for number in range(4):
        if number == 3:
            with pytest.raises(InvalidInput, match="more than 3 files"):
                receiver.open({"name": f"web/criu/x-{number}.img"})
        else:
            receiver.open({"name": f"web/criu/x-{number}.img"})
