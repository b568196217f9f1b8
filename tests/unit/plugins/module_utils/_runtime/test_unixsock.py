# SPDX-License-Identifier: Apache-2.0
"""Unix sockets between containers: the kernel's table, read for real, and what is decided from it."""

from __future__ import annotations

import os
import pathlib
import socket
import time

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import CommandFailed
from ansible_collections.podferry.live.plugins.module_utils._runtime import aside as child
from ansible_collections.podferry.live.plugins.module_utils._runtime import unixsock
from ansible_collections.podferry.live.plugins.module_utils._runtime.aside import aside, take_descriptor
from ansible_collections.podferry.live.plugins.module_utils._runtime.unixsock import (
    DGRAM,
    LISTEN,
    STREAM,
    Entry,
    Holder,
    between,
)


def inode(end: socket.socket) -> int:
    return os.fstat(end.fileno()).st_ino


def own_table() -> dict[int, Entry]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as asked:
        return unixsock.table(asked)


def test_the_kernels_table(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as caller:
        server.bind(path)
        server.listen()
        caller.connect(path)
        waits = own_table()
        end, _address = server.accept()
        with end:
            caller.send(b"twelve bytes")
            seen = own_table()
    listening = waits[inode_of(waits, path.encode(), LISTEN)]
    assert listening.file == os.stat(path).st_ino & 0xFFFFFFFF
    assert listening.waiting
    (one,) = listening.waiting
    assert seen[one].peer in seen
    assert seen[seen[one].peer].peer == one
    accepted = seen[seen[one].peer]
    assert (accepted.name, accepted.queued, accepted.kind) == (path.encode(), 12, STREAM)
    assert seen[one].name == b""
    assert seen[listening.inode].waiting == ()


def inode_of(table: dict[int, Entry], name: bytes, state: int) -> int:
    return next(entry.inode for entry in table.values() if entry.name == name and entry.state == state)


def test_who_holds_a_socket() -> None:
    one, other = socket.socketpair()
    with one, other:
        found = unixsock.holders({"c": [os.getpid(), 1 << 30]})
        assert found[inode(one)] == [Holder("c", os.getpid(), one.fileno())]
        assert own_table()[inode(one)].peer == inode(other)
        copy = socket.socket(fileno=take_descriptor(os.getpid(), other.fileno()))
        with copy:
            one.send(b"x")
            assert (inode(copy), copy.recv(1)) == (inode(other), b"x")
            assert not os.get_inheritable(copy.fileno())


def test_a_child_makes_sockets_for_us() -> None:
    numbers = aside(lambda: [os.dup(0) for _round in range(450)])
    assert len(set(numbers)) == 450
    for number in numbers:
        os.close(number)


def test_a_child_that_fails_says_why() -> None:
    before = len(os.listdir("/proc/self/fd"))

    def work() -> list[int]:
        raise OSError("no such luck")

    with pytest.raises(CommandFailed, match="no such luck"):
        aside(work)

    def die() -> list[int]:
        raise MemoryError

    with pytest.raises(CommandFailed, match="ended without a word"):
        aside(die)
    assert len(os.listdir("/proc/self/fd")) == before


def held(**inodes: list[int]) -> dict[int, list[Holder]]:
    """Who holds what: containers a and b, and ``both``."""
    found: dict[int, list[Holder]] = {}
    for name, mine in inodes.items():
        for number in mine:
            found[number] = [Holder(one, 7, 3) for one in (("a", "b") if name == "both" else (name,))]
    return found


def entries(*found: Entry) -> dict[int, Entry]:
    return {entry.inode: entry for entry in found}


def test_a_connection_is_told_with_the_accepted_end_last() -> None:
    table = entries(Entry(1, STREAM, 1, peer=2, name=b"/talk/s"), Entry(2, STREAM, 1, peer=1), Entry(3, STREAM, 1, peer=4),
                    Entry(4, STREAM, 1, peer=3))  # fmt: skip
    found = between(table, held(a=[1, 3, 4], b=[2]))
    assert found == unixsock.Findings(((table[2], table[1]),))


def test_datagrams_call_by_name_or_are_a_pair() -> None:
    table = entries(
        Entry(1, DGRAM, 7, name=b"/talk/log"), Entry(2, DGRAM, 1, peer=1),
        Entry(3, DGRAM, 1, peer=4), Entry(4, DGRAM, 1, peer=3),
        Entry(5, DGRAM, 1, peer=6, name=b"/x"), Entry(6, DGRAM, 1, peer=5, name=b"/y"),
    )  # fmt: skip
    found = between(table, held(a=[1, 3, 5], b=[2, 4, 6]))
    assert found.pairs == ((table[3], table[4]),)
    assert found.calls == ((table[2], table[1]), (table[5], table[6]), (table[6], table[5]))
    assert found.problems == ()


def test_who_waits_to_be_accepted_calls_in_that_order() -> None:
    table = entries(
        Entry(1, STREAM, LISTEN, name=b"/talk/s", waiting=(9, 2, 8)), Entry(2, STREAM, 1), Entry(9, STREAM, 1)
    )
    found = between(table, held(a=[1, 8], b=[2, 9]))
    assert found.calls == ((table[9], table[1]), (table[2], table[1]))


@pytest.mark.parametrize(
    ("table", "who", "words"),
    [
        (entries(Entry(1, STREAM, LISTEN, name=b"\0x")), held(both=[1]), "socket @x is open in containers a and b"),
        (entries(Entry(1, STREAM, 1, peer=2)), held(a=[1], b=[2]), "another network namespace"),
        (
            entries(Entry(1, DGRAM, 1, peer=2, name=b"/x"), Entry(2, DGRAM, 1, peer=1)),
            held(a=[1], b=[2]),
            "cannot be called again",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_carried(table: dict[int, Entry], who: dict[int, list[Holder]], words: str) -> None:
    assert words in " ".join(between(table, who).problems)


def test_an_end_that_nobody_has_open_may_be_on_its_way() -> None:
    found = between(entries(Entry(1, STREAM, 1, peer=77), Entry(77, STREAM, 1, peer=1)), held(a=[1], b=[]))
    assert found == unixsock.Findings(outside=("a socket of container a is connected to a process outside the pod",))


def test_not_more_than_can_be_handed_over() -> None:
    table = entries(*(Entry(i, STREAM, 1, peer=i + 1) for i in range(2, 500, 2)),
                    *(Entry(i, STREAM, 1, peer=i - 1) for i in range(3, 501, 2)))  # fmt: skip
    found = between(table, held(a=list(range(2, 500, 2)), b=list(range(3, 501, 2))))
    assert found.problems == ("more than 200 unix sockets are connected between containers",)


def test_what_comes_and_goes_while_one_looks_is_left_out() -> None:
    """A connection that is accepted meanwhile has its other end in a process that was looked at before."""
    before = entries(Entry(1, STREAM, 1, peer=2), Entry(2, STREAM, 1, peer=1), Entry(3, STREAM, 1), Entry(6, STREAM, 7))
    after = entries(Entry(1, STREAM, 1, peer=2), Entry(2, STREAM, 1, peer=1), Entry(3, STREAM, 1, peer=4),
                    Entry(4, STREAM, 1, peer=3), Entry(5, STREAM, 1, peer=7))  # fmt: skip
    assert unixsock.steady(before, after).keys() == {1, 2}
    assert between(unixsock.steady(before, after), held(a=[1, 3, 5, 6], b=[2])).problems == ()


def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_SECONDS", 0.05)
    with pytest.raises(CommandFailed, match="longer than"):
        aside(lambda: time.sleep(60) or [])  # type: ignore[func-returns-value]
