# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Making sockets in another place (a network namespace, a root, an identity) without going there: a child does, and hands
over what it made. Descriptors of other processes are taken the same way CRIU's parasite gives them: as they are."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import typing as t

from .._common.errors import CommandFailed, PodferryError

_NEWNET = 0x40000000
_PIDFD_GETFD = 438  # the same number on every architecture
_SECONDS = 10.0
_AT_ONCE = 200  # of the 253 descriptors that one message may carry


def enter_network(path: str) -> None:
    """Put the calling thread into the network namespace at ``path``.

    :raises OSError: the kernel refuses.
    """
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc().setns(namespace, _NEWNET), path)
    finally:
        os.close(namespace)


def take_descriptor(pid: int, number: int) -> int:
    """A descriptor for what descriptor ``number`` of process ``pid`` is: the same open file, also of a frozen process.

    :raises OSError: there is no such process or descriptor.
    """
    handle = os.pidfd_open(pid)
    try:
        return int(_checked(_libc().syscall(_PIDFD_GETFD, handle, number, 0), f"descriptor {number} of process {pid}"))
    finally:
        os.close(handle)


def aside(work: t.Callable[[], t.Iterable[int]]) -> list[int]:
    """Let a child do ``work``, wherever it goes for it; returns descriptors for those that it returned, in their order.

    :raises CommandFailed: ``work`` raised something (its words are in the message), or has not ended after 10 s.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(_SECONDS)
    child = os.fork()
    if child == 0:
        _in_child(work, theirs)
    theirs.close()
    found: list[int] = []
    reason = "its child ended without a word"
    try:
        while True:
            message, numbers, _flags, _address = socket.recv_fds(ours, 1024, 253, socket.MSG_CMSG_CLOEXEC)
            found += numbers
            if message[:1] != b"+":
                reason = message[1:].decode(errors="replace") or reason
                break
    except socket.timeout:
        message, reason = b"", f"that took longer than {_SECONDS:g} s"
    finally:
        ours.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if message != b".":
        for number in found:
            os.close(number)
        raise CommandFailed(f"sockets could not be made: {reason}")
    return found


def _in_child(work: t.Callable[[], t.Iterable[int]], channel: socket.socket) -> t.NoReturn:
    """Nothing of the parent's may run on here, whatever happens."""
    try:
        made = list(work())
        for first in range(0, len(made), _AT_ONCE):
            socket.send_fds(channel, [b"+"], made[first : first + _AT_ONCE])
        channel.send(b".")
    except (OSError, ValueError, OverflowError, PodferryError) as error:
        channel.send(f"!{error}".encode()[:1000])
    finally:
        os._exit(0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, os.strerror(number), what)
    return result
