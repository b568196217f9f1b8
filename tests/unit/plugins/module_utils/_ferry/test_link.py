# SPDX-License-Identifier: Apache-2.0
"""The connection between ferries over a socket pair: framing, limits, silence, and ends that break."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput, LinkLost, PodferryError
from ansible_collections.podferry.live.plugins.module_utils._ferry import link as links
from ansible_collections.podferry.live.plugins.module_utils._ferry.link import BLOCK, MAX_JSON, Link, clock_offset


@pytest.fixture
def ends() -> Iterator[tuple[Link, Link]]:
    one, two = socket.socketpair()
    yield Link(one, 0.5), Link(two, 0.5)
    one.close()
    two.close()


@pytest.fixture
def raw() -> Iterator[tuple[socket.socket, Link]]:
    """A link whose other end speaks bytes."""
    one, two = socket.socketpair()
    yield one, Link(two, 0.3)
    one.close()
    two.close()


def frame(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">cI", kind, len(payload)) + payload


def test_messages_and_blocks_in_their_order(ends: tuple[Link, Link]) -> None:
    one, two = ends
    one.send("file", name="a")
    one.send_data(b"xyz")
    one.send_data(memoryview(b""))
    one.send("end")
    assert two.receive() == {"m": "file", "name": "a"}
    assert bytes(two.receive()) == b"xyz" and bytes(two.receive()) == b""  # type: ignore[arg-type]
    assert two.receive() == {"m": "end"}
    assert two.received == 3


@given(
    st.dictionaries(st.text(max_size=5).filter(lambda key: key not in ("m", "kind", "self")), st.text(), max_size=4),
    st.binary(max_size=2000),
)
def test_what_is_sent_is_what_comes(fields: dict[str, str], block: bytes) -> None:
    one, two = socket.socketpair()
    with one, two:
        left, right = Link(one, 1), Link(two, 1)
        left.send("x", **fields)
        left.send_data(block)
        assert right.receive() == {"m": "x", **fields}
        assert bytes(right.receive()) == block  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data",
    [
        frame(b"X", b"{}"), frame(b"J", b"[]"), frame(b"J", b'{"x": 1}'), frame(b"J", b'{"m": 1}'), frame(b"J", b"null"),
        struct.pack(">cI", b"J", MAX_JSON + 1), struct.pack(">cI", b"D", BLOCK + 1), struct.pack(">cI", b"D", 0xFFFFFFFF),
        b"GET / HTTP/1.1\r\n\r\n", frame(b"J", b"{"), frame(b"J", b"\xff\xfe"), frame(b"J", b"[" * 20000),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_not_our_protocol(raw: tuple[socket.socket, Link], data: bytes) -> None:
    raw[0].sendall(data)
    with pytest.raises(InvalidInput):
        raw[1].receive()


@pytest.mark.parametrize("data", [b"", b"J", struct.pack(">cI", b"J", 10) + b"{", struct.pack(">cI", b"D", 10) + b"x"])
def test_an_end_in_the_middle(raw: tuple[socket.socket, Link], data: bytes) -> None:
    raw[0].sendall(data)
    raw[0].close()
    with pytest.raises(LinkLost, match="closed the connection"):
        raw[1].receive()


def test_a_stall_in_the_middle(raw: tuple[socket.socket, Link]) -> None:
    raw[0].sendall(b"J\0")
    began = time.monotonic()
    with pytest.raises(LinkLost, match="broke"):
        raw[1].receive()
    assert time.monotonic() - began < 2


def test_an_end_that_takes_nothing(raw: tuple[socket.socket, Link]) -> None:
    with pytest.raises(LinkLost):
        for _count in range(100):
            raw[1].send_data(b"x" * BLOCK)


def test_a_failed_send_is_never_a_delivered_message(raw: tuple[socket.socket, Link]) -> None:
    """When ``send`` raises, the other end has at most a part of the frame: it cannot act upon it."""
    other, link = raw
    link._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with pytest.raises(LinkLost):
        while True:
            link.send("x", text="y" * 3000)
    sent = link.sent
    other.setblocking(False)
    data = b""
    try:
        while block := other.recv(65536):
            data += block
    except BlockingIOError:
        pass
    whole, payload = 0, 0
    while len(data) >= 5:
        size = struct.unpack(">I", data[1:5])[0]
        if len(data) < 5 + size:
            break
        whole, payload, data = whole + 1, payload + size, data[5 + size :]
    assert payload == sent


def test_silence(ends: tuple[Link, Link]) -> None:
    began = time.monotonic()
    with pytest.raises(LinkLost, match="silent"):
        ends[0].message(5.0)
    assert 0.4 < time.monotonic() - began < 3


def test_beats_keep_it_alive(ends: tuple[Link, Link], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = ends
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.03):
            two.beat()

    thread = threading.Thread(target=beat)
    thread.start()
    assert one.message(1.2) is None
    stop.set()
    thread.join()
    one.check_alive()


def test_no_message_in_time_is_none(ends: tuple[Link, Link]) -> None:
    assert ends[0].message(0.0) is None and ends[0].message(0.1) is None


def test_data_where_a_message_was_due(ends: tuple[Link, Link]) -> None:
    ends[0].send_data(b"x")
    with pytest.raises(InvalidInput, match="data came"):
        ends[1].message(1.0)


def test_readable_also_wakes_for_others(ends: tuple[Link, Link]) -> None:
    one, two = socket.socketpair()
    with one, two:
        one.send(b"x")
        began = time.monotonic()
        assert ends[0].readable(5.0, two) is False
        assert time.monotonic() - began < 2


def test_a_closed_link_says_so(ends: tuple[Link, Link]) -> None:
    ends[0].close()
    for broken in (lambda: ends[0].readable(0), lambda: ends[0].send("x"), ends[1].receive):
        with pytest.raises(PodferryError):
            broken()


def test_the_clocks_offset(ends: tuple[Link, Link], monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = ends
    shift = 3_600_000_000_000

    def answer() -> None:
        for _round in range(8):
            ping = two.receive()
            assert isinstance(ping, dict)
            two.send("pong", n=ping["n"], t=time.monotonic_ns() + shift)

    thread = threading.Thread(target=answer)
    thread.start()
    offset, trip = clock_offset(one)
    thread.join()
    assert abs(offset - shift) <= trip * 1e6 and trip < 500


@pytest.mark.parametrize(
    "answer", [{"m": "pong", "n": 5, "t": 1}, {"m": "go"}, {"m": "pong", "n": 0, "t": "late"}, {"m": "pong", "n": 0}]
)
def test_wrong_pongs(ends: tuple[Link, Link], answer: dict[str, object]) -> None:
    ends[1]._write(b"J", json.dumps(answer).encode())
    with pytest.raises(PodferryError):
        clock_offset(ends[0])


def test_a_ping_is_answered_while_waiting(ends: tuple[Link, Link]) -> None:
    ends[0].send("ping", n=3)
    ends[0].send("go")
    assert ends[1].message(1.0) == {"m": "go"}
    pong = ends[0].receive()
    assert isinstance(pong, dict) and pong["m"] == "pong" and pong["n"] == 3


def test_limits_are_what_both_versions_agreed_on() -> None:
    assert links.BLOCK == 1 << 20 and links.MAX_JSON == 4 << 20


@pytest.mark.parametrize("kind", ["beat", "ping"])
def test_an_end_that_only_says_that_it_is_alive(raw: tuple[socket.socket, Link], kind: str) -> None:
    """It must not keep us from our own deadlines: the pod stands frozen meanwhile."""
    other, link = raw

    def chatter() -> None:
        words = frame(b"J", json.dumps({"m": kind}).encode()) * 50
        try:
            while True:
                other.sendall(words)
        except OSError:
            pass

    talker = threading.Thread(target=chatter, daemon=True)
    talker.start()
    began = time.monotonic()
    try:
        assert link.message(0.2) is None
    except LinkLost:  # it does not take our answers
        assert kind == "ping"
    assert time.monotonic() - began < 2
    link.close()
    talker.join()


@given(
    st.binary(max_size=40)
    | st.tuples(st.sampled_from([b"J", b"D", b"x"]), st.binary(max_size=60)).map(lambda two: frame(*two))
)
def test_noise(data: bytes) -> None:
    one, two = socket.socketpair()
    with one, two:
        link = Link(two, 0.3)
        one.sendall(data)
        one.shutdown(socket.SHUT_WR)
        try:
            got = link.receive()
            assert isinstance(got, memoryview) or isinstance(got["m"], str)
        except PodferryError:
            pass


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["m", "n", "t"]), inner),
    max_leaves=6,
)


@given(json_values)
def test_any_json_is_a_message_or_refused(value: object) -> None:
    one, two = socket.socketpair()
    with one, two:
        link = Link(two, 0.3)
        one.sendall(frame(b"J", json.dumps(value).encode()))
        one.shutdown(socket.SHUT_WR)
        try:
            got = link.message(0.2)
            assert got is None or isinstance(got["m"], str)
        except PodferryError:
            pass
