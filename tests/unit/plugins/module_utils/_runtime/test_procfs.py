# SPDX-License-Identifier: Apache-2.0
"""The tables of /proc."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from ansible_collections.podferry.live.plugins.module_utils._runtime import procfs

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0500F40A:1F90 0601F40A:D431 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
"""


def test_a_table() -> None:
    listening, established = procfs.parse_sockets(TCP, "tcp")
    assert (listening.local, listening.local_port, listening.state) == ("127.0.0.1", 8080, procfs.TCP_LISTEN)
    assert str(established) == "tcp 10.244.0.5:8080" and established.state == procfs.TCP_ESTABLISHED
    assert (established.remote, established.remote_port) == ("10.244.1.6", 54321)
    assert procfs.parse_sockets("", "tcp") == procfs.parse_sockets("header\nshort line\n", "tcp") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00000000:0000", ("0.0.0.0", 0)),
        ("0100007F:FFFF", ("127.0.0.1", 65535)),
        ("00000000000000000000000001000000:0050", ("::1", 80)),
        ("0000000000000000FFFF00000500F40A:0050", ("10.244.0.5", 80)),
        ("B80D0120000000000000000001000000:0001", ("2001:db8::1", 1)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert procfs.parse_address(text) == expected


def test_our_own_sockets() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try:
            listener = socket.create_server((address, 0), family=family)
        except OSError:
            continue  # no IPv6 here
        with listener:
            port = listener.getsockname()[1]
            found = [entry for entry in procfs.sockets(os.getpid()) if entry.local_port == port]
            assert [(entry.local, entry.state) for entry in found] == [(address, procfs.TCP_LISTEN)]


def test_ourselves() -> None:
    own = os.getpid()
    assert procfs.status(own)["Pid"] == str(own)
    assert procfs.memory_bytes(own) > 1 << 20
    with open("/dev/zero", "rb"):
        assert "/dev/zero" in procfs.descriptors(own)
    assert procfs.same_namespace("pid", own, os.getppid())


def test_who_is_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert (
        procfs.status(process.pid) == {} and procfs.descriptors(process.pid) == [] and procfs.sockets(process.pid) == []
    )
    assert procfs.memory_bytes(process.pid) == 0
    assert not procfs.same_namespace("pid", process.pid, os.getpid())


def test_the_age_of_a_process() -> None:
    with open("/proc/uptime", encoding="ascii") as uptime, open("/proc/self/stat", encoding="ascii") as stat:
        age = procfs.age(stat.read(), uptime.read())
    assert age is not None and 0 <= age < 24 * 3600
    assert procfs.age("", "100.0 1.0") is None
    assert procfs.age("9 (a) S 1", "") is None
