# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Reading /proc: parsers of its tables, without an opinion on what they mean."""

from __future__ import annotations

import os
import signal
import socket
import struct
import typing as t

from .._common.files import read_text

TCP_ESTABLISHED, TCP_LISTEN = 1, 10


class Socket(t.NamedTuple):
    """One line of ``/proc/PID/net/{tcp,udp}{,6}``."""

    protocol: str
    local: str
    local_port: int
    remote: str
    remote_port: int
    state: int

    def __str__(self) -> str:
        return f"{self.protocol} {self.local}:{self.local_port}"

    @property
    def inner(self) -> bool:
        """Whether it is a connection over loopback, which stays within its pod."""
        return is_loopback(self.local) and is_loopback(self.remote)


def age(stat: str, uptime: str) -> float | None:
    """Return for how many seconds a process has been there; None when that cannot be told.

    :param stat: its ``/proc/PID/stat``.
    :param uptime: ``/proc/uptime``, of the same clock.
    """
    # The name of the program, in parentheses, may hold anything. Field 22, its start in ticks, is the 20th after it.
    words = stat.rpartition(")")[2].split()
    try:
        return float(uptime.split()[0]) - int(words[19]) / os.sysconf("SC_CLK_TCK")
    except (IndexError, ValueError):
        return None


def is_loopback(address: str) -> bool:
    """Whether an address is the machine's, or the pod's, own in every network."""
    return address.startswith("127.") or address == "::1"


def parse_address(text: str) -> tuple[str, int]:
    """Decode ``0100007F:1F90`` (IPv4, host byte order in words) or its IPv6 form."""
    host, _colon, port = text.partition(":")
    raw = bytes.fromhex(host)
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw[::-1]), int(port, 16)
    words = struct.unpack("<4I", raw)
    address = socket.inet_ntop(socket.AF_INET6, struct.pack(">4I", *words))
    return address[7:] if address.startswith("::ffff:") and "." in address else address, int(port, 16)


def parse_sockets(text: str, protocol: str) -> list[Socket]:
    """Parse one socket table."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) < 4:
            continue
        local, local_port = parse_address(words[1])
        remote, remote_port = parse_address(words[2])
        found.append(Socket(protocol, local, local_port, remote, remote_port, int(words[3], 16)))
    return found


def sockets(pid: int) -> list[Socket]:
    """All TCP and UDP sockets in the network namespace of ``pid``."""
    found: list[Socket] = []
    for protocol in ("tcp", "tcp6", "udp", "udp6"):
        try:
            found += parse_sockets(read_text(f"/proc/{pid}/net/{protocol}"), protocol)
        except OSError:
            continue
    return found


def status(pid: int) -> dict[str, str]:
    """``/proc/PID/status`` as a dictionary; empty when the process is gone."""
    try:
        lines = read_text(f"/proc/{pid}/status").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _colon, value in (line.partition(":") for line in lines)}


def inner_pid(pid: int) -> int:
    """The id that a process has in its own PID namespace, 0 when it is gone."""
    return int(status(pid).get("NSpid", "0").split()[-1])


def effective_ids(pid: int) -> tuple[int, int]:
    """The user and group that a process acts as, (0, 0) when it is gone."""
    fields = status(pid)
    return tuple(int(fields.get(name, "0 0").split()[1]) for name in ("Uid", "Gid"))  # type: ignore[return-value]


def being_ended(pid: int) -> bool:
    """Whether SIGTERM or SIGKILL waits for a process: what a runtime that stops a frozen container leaves there."""
    fields = status(pid)
    waiting = int(fields.get("SigPnd", "0"), 16) | int(fields.get("ShdPnd", "0"), 16)
    return bool(waiting & (1 << (signal.SIGTERM - 1) | 1 << (signal.SIGKILL - 1)))


def _mappings(pids: t.Iterable[int]) -> t.Iterator[list[str]]:
    """The words of every line of ``/proc/PID/maps`` that names a file; a process that is gone has none."""
    for pid in pids:
        try:
            lines = read_text(f"/proc/{pid}/maps").splitlines()
        except OSError:
            continue
        yield from (words for words in map(str.split, lines) if len(words) > 5)


def sysv_segments(pids: t.Iterable[int]) -> set[int]:
    """System V memory segments that processes have mapped, by their ids (the inode number of the mapping)."""
    return {int(words[4]) for words in _mappings(pids) if words[5].startswith("/SYSV")}


def descriptors(pid: int) -> list[str]:
    """What the open descriptors of ``pid`` point to."""
    found = []
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []
    for name in names:
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except OSError:
            continue
    return found


def opened(pid: int) -> set[tuple[int, int]]:
    """Device and inode of every file that a process has open or mapped."""
    found = set()
    for folder in (f"/proc/{pid}/fd", f"/proc/{pid}/map_files"):
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            try:
                status = os.stat(os.path.join(folder, name))
            except OSError:
                continue
            found.add((status.st_dev, status.st_ino))
    return found


def mapped_writable(pids: t.Iterable[int]) -> set[int]:
    """Inode numbers of files that processes share by a writable mapping."""
    return {int(words[4]) for words in _mappings(pids) if words[1][1] == "w" and words[1][3] == "s"}


def memory_bytes(pid: int) -> int:
    """Resident anonymous and shared memory of one process: what a dump of it holds at the most."""
    fields = status(pid)
    return sum(int(fields.get(name, "0 kB").split()[0]) * 1024 for name in ("RssAnon", "RssShmem", "VmSwap"))


def same_namespace(kind: str, one: int, other: int) -> bool:
    """Whether two processes share a namespace."""
    try:
        first, second = os.stat(f"/proc/{one}/ns/{kind}"), os.stat(f"/proc/{other}/ns/{kind}")
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
