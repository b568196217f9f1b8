# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a dump's images say of its processes: who they are, what they have open, what they may do.

The images may come from anybody: every number in them is a claim. Field numbers are those of CRIU's ``images/*.proto``.
"""

from __future__ import annotations

import typing as t

from .._common.errors import InvalidInput
from .image import Message, parse
from .tcp import address

Images = t.Mapping[str, bytes]
"""Contents of image files by name."""

FD_TYPES = (
    "UND", "REG", "PIPE", "FIFO", "INETSK", "UNIXSK", "EVENTFD", "EVENTPOLL", "INOTIFY", "SIGNALFD", "PACKETSK", "TTY", "FANOTIFY",
    "NETLINKSK", "NS", "TUNF", "EXT", "TIMERFD", "MEMFD", "BPFMAP", "PIDFD",
)  # fmt: skip
_STATES = {1: "alive", 2: "dead", 3: "stopped", 6: "zombie"}
_TCP_STATES = (
    "", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN",
    "CLOSING", "NEW_SYN_RECV",
)  # fmt: skip
_SOCKET_TYPES = {1: "STREAM", 2: "DGRAM", 3: "RAW", 5: "SEQPACKET", 10: "PACKET"}
_PROTOCOLS = {1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPV6", 136: "UDPLITE"}
_ARCHITECTURES = {1: "x86_64", 2: "arm", 3: "aarch64", 4: "ppc64", 5: "s390", 6: "mips", 7: "loongarch64", 8: "riscv64"}
# file_entry: which field holds what kind of file.
_REG, _INET, _UNIX, _FIFO, _PIPE, _NETLINK, _PACKET = 3, 4, 16, 17, 18, 7, 6
_FILTER, _TSYNC = 2, 1  # SECCOMP_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC
_SMALL = ("pstree.img", "files.img", "inventory.img", "seccomp.img")
_BY_TASK = ("core-", "ids-", "fdinfo-", "fs-", "mm-", "creds-", "mountpoints-", "utsns-")


class File(t.NamedTuple):
    """A descriptor."""

    fd: int
    kind: str
    path: str
    """A regular file's path, a pipe's or a socket's number."""


class Socket(t.NamedTuple):
    """A socket behind a descriptor."""

    fd: int
    family: str
    protocol: str
    kind: str
    state: str
    local: str
    local_port: int
    remote: str
    remote_port: int


class Task(t.NamedTuple):
    """One process."""

    pid: int
    ppid: int
    threads: int
    command: str
    state: str
    executable: str
    directory: str
    root: str
    files: t.List[File]
    sockets: t.List[Socket]
    areas: t.Tuple[t.Tuple[int, int], t.Tuple[int, int]]
    """Where in memory its arguments and its environment lie: (begin, end)."""


class Rights(t.NamedTuple):
    """What a thread may do once it is restored."""

    pid: int
    uid: int
    capabilities: int
    """All of its sets together, one bit for each."""
    filtered: bool
    """A seccomp filter, or strict mode."""
    no_new_privs: bool


def wanted(name: str) -> bool:
    """Whether an image is needed here. Page files are not."""
    return name in _SMALL or (name.startswith(_BY_TASK) and name.endswith(".img"))


def architecture(images: Images) -> str:
    """The machine's architecture, as uname says it; empty when it is not known."""
    for name in sorted(images):
        if name.startswith("core-"):
            return _ARCHITECTURES.get(_first(images, name).number(1), "")
    return ""


def tasks(images: Images) -> list[Task]:
    """All processes, a parent before its children, and else by their numbers.

    :raises InvalidInput: the images are damaged, or do not fit each other.
    """
    entries = {message.number(1): message for message in map(Message, _entries(images, "pstree.img"))}
    found = _Files(images)
    order: list[int] = []
    waiting = sorted((pid for pid, entry in entries.items() if entry.number(2) not in entries), reverse=True)
    children: dict[int, list[int]] = {}
    for pid, entry in entries.items():
        children.setdefault(entry.number(2), []).append(pid)
    while waiting:
        pid = waiting.pop()
        order.append(pid)
        waiting += sorted(children.get(pid, []), reverse=True)
    if len(order) != len(entries):
        raise InvalidInput("the dump's processes are each other's parents")
    return [_task(images, pid, entries[pid], found) for pid in order]


def rights(images: Images) -> list[Rights]:
    """What each process and thread may do.

    :raises InvalidInput: an image of it is missing or damaged.
    """
    found = []
    for entry in map(Message, _entries(images, "pstree.img")):
        pid = entry.number(1)
        leader = _first(images, f"core-{pid}.img")
        task = leader.inner(3) or Message(b"")
        if _STATES.get(task.number(1), "") in ("zombie", "dead"):
            continue  # they have neither memory nor rights
        of_all = _filter_of_all(images, leader, task)
        for tid in sorted({pid, *entry.numbers(5)}):
            thread = _first(images, f"core-{tid}.img").inner(5)
            creds = thread.inner(10) if thread is not None else None
            if creds is None and f"creds-{tid}.img" in images:
                creds = _first(images, f"creds-{tid}.img")
            if thread is None or creds is None:
                raise InvalidInput(f"the dump does not say what thread {tid} may do")
            sets = [creds.numbers(field) for field in (9, 10, 11, 12, 19)]
            filtered = of_all or thread.number(11) != 0
            found.append(Rights(tid, creds.number(1), _bits(sets), filtered, creds.number(18) != 0))
    return found


def _filter_of_all(images: Images, leader: Message, task: Message) -> bool:
    """Whether a process' seccomp filter is set for all its threads at once: CRIU notes it with the leader only then."""
    if task.number(11):  # as old images have it
        return True
    thread = leader.inner(5) or Message(b"")
    if thread.number(11) != _FILTER or "seccomp.img" not in images:
        return False
    filters = _first(images, "seccomp.img").inners(1)
    place = thread.number(12)
    return place < len(filters) and bool(filters[place].number(3) & _TSYNC)


def statistics(content: bytes) -> dict[str, int]:
    """What CRIU measured (``stats-dump``): microseconds and pages."""
    _header, entries = parse(content, "stats-dump")
    dump = Message(entries[0]).inner(1) if entries else None
    names = {
        1: "freezing_us", 2: "frozen_us", 3: "memdump_us", 4: "memwrite_us", 5: "pages_scanned", 6: "pages_skipped_parent",
        7: "pages_written",
    }  # fmt: skip
    return {name: dump.number(field) for field, name in names.items()} if dump is not None else {}


def pages(pagemap: bytes, name: str) -> tuple[int, list[tuple[int, int]]]:
    """Of a process' memory: number of its page file, and (address, pages) of what lies in it, in the file's order.

    :raises InvalidInput: damaged.
    """
    _header, entries = parse(pagemap, name)
    if not entries:
        raise InvalidInput(f"{name} is empty")
    runs = []
    for entry in map(Message, entries[1:]):
        flags = entry.number(4, 4 if not entry.number(3) else 1)
        if flags & 4:  # present; else it is in a parent, or to be fetched later
            runs.append((entry.number(1), entry.number(5) or entry.number(2)))
    return Message(entries[0]).number(1), runs


def _task(images: Images, pid: int, entry: Message, files: _Files) -> Task:
    core = _first(images, f"core-{pid}.img").inner(3)
    if core is None:
        raise InvalidInput(f"core-{pid}.img says nothing of a process")
    state = _STATES.get(core.number(1), str(core.number(1)))
    opened: list[File] = []
    sockets: list[Socket] = []
    executable = directory = root = ""
    areas = ((0, 0), (0, 0))
    if state in ("alive", "stopped"):
        ids = _first(images, f"ids-{pid}.img")
        for item in map(Message, _entries(images, f"fdinfo-{ids.number(2)}.img")):
            opened.append(files.file(item.number(1), item.number(3), item.number(4)))
            socket = files.socket(item.number(1), item.number(3), item.number(4))
            if socket is not None:
                sockets.append(socket)
        place = _first(images, f"fs-{pid}.img")
        memory = _first(images, f"mm-{pid}.img")
        directory, root = files.path(place.number(1)), files.path(place.number(2))
        executable = files.path(memory.number(12))
        areas = ((memory.number(8), memory.number(9)), (memory.number(10), memory.number(11)))
    return Task(
        pid, entry.number(2), len(set(entry.numbers(5)) | {pid}), core.text(6), state, executable, directory, root, opened, sockets, areas,
    )  # fmt: skip


class _Files:
    """``files.img``, by the numbers that descriptors refer to."""

    def __init__(self, images: Images) -> None:
        self._entries: dict[int, Message] = {}
        if "files.img" in images:
            for message in map(Message, _entries(images, "files.img")):
                self._entries[message.number(2)] = message

    def _part(self, identifier: int, field: int) -> Message | None:
        entry = self._entries.get(identifier)
        return entry.inner(field) if entry is not None else None

    def path(self, identifier: int) -> str:
        """A regular file's or folder's path; empty when it is not known."""
        part = self._part(identifier, _REG)
        return part.text(6) if part is not None else ""

    def file(self, identifier: int, kind: int, fd: int) -> File:
        name = FD_TYPES[kind] if kind < len(FD_TYPES) else str(kind)
        part = self._part(identifier, _PIPE) if name == "PIPE" else None
        if name == "REG":
            return File(fd, name, self.path(identifier))
        if part is not None:
            return File(fd, name, f"pipe[{part.number(2)}]")
        return File(fd, name, f"{name}.{identifier}")

    def socket(self, identifier: int, kind: int, fd: int) -> Socket | None:
        name = FD_TYPES[kind] if kind < len(FD_TYPES) else ""
        if name == "INETSK":
            part = self._part(identifier, _INET)
            if part is not None:
                protocol = _PROTOCOLS.get(part.number(5), str(part.number(5)))
                return Socket(
                    fd, "INET6" if part.number(3) == 10 else "INET", protocol, _socket_type(part.number(4)), _tcp_state(part.number(6)),
                    address(part.numbers(11)), part.number(7), address(part.numbers(12)), part.number(8),
                )  # fmt: skip
        if name == "UNIXSK":
            part = self._part(identifier, _UNIX)
            if part is not None:
                path = _unix_name(part.data(11) or b"")
                return Socket(fd, "UNIX", "", _socket_type(part.number(3)), _tcp_state(part.number(4)), path, 0, "", 0)
        if name in ("NETLINKSK", "PACKETSK"):
            return Socket(fd, name[:-2], "", "", "", "", 0, "", 0)
        return None


def _unix_name(raw: bytes) -> str:
    """An abstract name begins with ``@`` here, as everywhere one reads it."""
    text = raw.rstrip(b"\0") if not raw.startswith(b"\0") else b"@" + raw[1:]
    return text.decode("utf-8", "replace").replace("\0", "@")


def _socket_type(number: int) -> str:
    return _SOCKET_TYPES.get(number, str(number))


def _tcp_state(number: int) -> str:
    return _TCP_STATES[number] if number < len(_TCP_STATES) else str(number)


def _bits(sets: t.Iterable[t.Sequence[int]]) -> int:
    """Capability sets are lists of 32-bit words."""
    value = 0
    for words in sets:
        for index, word in enumerate(words[:2]):
            value |= (word & 0xFFFFFFFF) << (32 * index)
    return value


def _entries(images: Images, name: str) -> list[bytes]:
    content = images.get(name)
    if content is None:
        raise InvalidInput(f"the dump has no {name}")
    return parse(content, name)[1]


def _first(images: Images, name: str) -> Message:
    entries = _entries(images, name)
    if not entries:
        raise InvalidInput(f"{name} is empty")
    return Message(entries[0])
