# SPDX-License-Identifier: Apache-2.0
"""Unix sockets between containers where they arrive: each end gets back what lay in its queue, and nothing else."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import struct
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import CommandFailed, RestoreFailed
from ansible_collections.podferry.live.plugins.module_utils._criu import image, unix
from ansible_collections.podferry.live.plugins.module_utils._ferry import reunion, sockets
from ansible_collections.podferry.live.plugins.module_utils._ferry.paths import RunPaths
from ansible_collections.podferry.live.plugins.module_utils._ferry.reunion import Reunion, parse
from unit.plugins.module_utils._criu.test_unix import HEADER, entry, message

CONFIG = {"linux": {"namespaces": [{"type": "network", "path": "/net"}]}}
RUN = "0123456789ab"
PAIR = {"kind": int(socket.SOCK_SEQPACKET), "name": b"\0x".hex(),
        "ends": [{"container": "a", "inode": 71, "peer": [7, 8]}, {"container": "b", "inode": 72, "peer": [9, 10]}]}  # fmt: skip
CALL = {"caller": {"container": "b", "pid": 12, "descriptor": 5}, "callee": {"container": "a", "pid": 1, "descriptor": 3},
        "name": b"/talk/log".hex()}  # fmt: skip


def dump(folder: pathlib.Path, number: int, inode: int, packets: list[bytes], **more: Any) -> None:
    folder.mkdir(parents=True)
    image.write(str(folder / "files.img"), HEADER, [entry(number, inode, **more)])
    with open(folder / "sk-queues.img", "wb") as stream:
        stream.write(HEADER)
        for data in packets:
            head = message((1, number), (2, len(data)))
            stream.write(struct.pack("<I", len(head)) + head + data)


@pytest.fixture
def run(tmp_path: pathlib.Path) -> RunPaths:
    found = RunPaths(RUN, str(tmp_path))
    found.create()
    return found


@pytest.fixture
def arrival(tmp_path: pathlib.Path, run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> Reunion:
    """Two containers with one connection, shut down for writing at one end."""
    dump(tmp_path / "a", 5, 71, [b"to a", b"a second one"], shutdown=2)
    dump(tmp_path / "b", 6, 72, [b"to b"])
    (tmp_path / "a" / sockets.NAME).write_text(json.dumps({"pairs": [PAIR], "calls": []}))
    monkeypatch.setattr(unix, "SO_SNDBUFFORCE", socket.SO_SNDBUF)
    monkeypatch.setattr(unix, "_SO_RCVBUFFORCE", socket.SO_RCVBUF)
    monkeypatch.setattr(
        reunion, "aside", lambda _work: [end.detach() for end in socket.socketpair(socket.AF_UNIX, PAIR["kind"])]
    )
    return Reunion(run, {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")})


def taken(answer: dict[str, Any], inode: int) -> socket.socket:
    """What the handler of a container takes from the ferry."""
    assert answer["pid"] == os.getpid()
    assert answer["sockets"].keys() == {str(inode)}
    return socket.socket(fileno=os.dup(answer["sockets"][str(inode)]))


def test_both_ends_get_what_was_on_its_way(arrival: Reunion, run: RunPaths) -> None:
    with taken(arrival.hand_out("a", CONFIG), 71) as a, taken(arrival.hand_out("b", CONFIG), 72) as b:
        assert os.path.exists(run.incomplete)
        a.setblocking(False)
        with pytest.raises(BlockingIOError):
            a.recv(100)
        arrival.complete({"a": [], "b": []})
        assert not os.path.exists(run.incomplete)
        assert [a.recv(100), a.recv(100), b.recv(100)] == [b"to a", b"a second one", b"to b"]
        with pytest.raises(BlockingIOError):
            a.recv(100)
        assert b.recv(100) == b""
        b.send(b"on")
        assert a.recv(100) == b"on"
        a.close()
        assert b.recv(1) == b""  # the ferry has let go


def test_a_dump_without_the_socket_is_not_let_go(arrival: Reunion, run: RunPaths, tmp_path: pathlib.Path) -> None:
    arrival.hand_out("a", CONFIG)
    image.write(str(tmp_path / "b" / "files.img"), HEADER, [])
    with pytest.raises(RestoreFailed, match=r"container b lacks unix sockets \[72\]"):
        arrival.complete({"a": [], "b": []})
    assert os.path.exists(run.incomplete)
    arrival.close()


def test_a_pod_without_such_sockets(run: RunPaths, tmp_path: pathlib.Path) -> None:
    plain = Reunion(run, {"a": str(tmp_path / "a")})
    assert plain.hand_out("a", {}) == {}
    plain.complete({"a": []})
    assert not os.path.exists(run.incomplete)


def test_a_socket_calls_again(run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, with what is on its way to whom it calls."""
    _pairs, (call,) = parse({"pairs": [], "calls": [CALL]}, ["a", "b"])
    name = b"\0podferry-test-" + os.urandom(8)
    monkeypatch.setattr(reunion.procfs, "inner_pid", lambda pid: {os.getpid(): 12, 4711: 1}[pid])
    processes = {"a": [4711], "b": [os.getpid()]}
    monkeypatch.setattr(reunion, "_become", lambda end: None)
    monkeypatch.setattr(reunion.os, "setgroups", lambda groups: None)
    monkeypatch.setattr(reunion.sockets, "stand_where", lambda pid: None)
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end,
    ):
        server.bind(name)
        call = call._replace(name=name, caller=call.caller._replace(descriptor=end.fileno()))
        reunion._call(call.callee, [call], processes)
        assert os.get_blocking(end.fileno())
        assert end.getpeername() == name
        end.send(b"here")
        assert server.recv(10) == b"here"
        gone = call._replace(name=name + b"-not-there")
        with pytest.raises(CommandFailed, match="refused"):
            reunion._call(gone.callee, [gone], processes)
    with pytest.raises(RestoreFailed, match="process 12 of container b"):
        reunion._process(call.caller, {"b": []})


@pytest.mark.parametrize(
    "wrong",
    [
        {"pairs": [{**PAIR, "kind": 3}], "calls": []},
        {"pairs": [{**PAIR, "name": "00" * 109}], "calls": []},
        {"pairs": [{**PAIR, "ends": PAIR["ends"][:1]}], "calls": []},  # type: ignore[index]
        {"pairs": [{**PAIR, "ends": [{**PAIR["ends"][0], "container": "../x"}, PAIR["ends"][1]]}], "calls": []},  # type: ignore[index]
        {"pairs": [{**PAIR, "ends": [{**PAIR["ends"][0], "peer": [1]}, PAIR["ends"][1]]}], "calls": []},  # type: ignore[index]
        {"pairs": [PAIR] * 201, "calls": []},
        {"pairs": [], "calls": [{**CALL, "callee": {"container": "z", "pid": 1, "descriptor": 3}}]},
        {"pairs": []},
    ],
)
def test_what_the_source_says_is_not_trusted(wrong: dict[str, Any], tmp_path: pathlib.Path, run: RunPaths) -> None:
    (tmp_path / sockets.NAME).write_text(json.dumps(wrong))
    with pytest.raises(RestoreFailed, match="not understood"):
        Reunion(run, {"a": str(tmp_path), "b": str(tmp_path)}).hand_out("a", CONFIG)
