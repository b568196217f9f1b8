# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Freezing, thawing and killing by cgroup, version 1 and 2.

Kernel: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst and cgroup-v2.rst (``cgroup.freeze``, ``cgroup.kill``).
"""

from __future__ import annotations

import os
import signal
import time
import typing as t

from .._common.errors import FreezeFailed, NotFound
from .._common.files import read_text, write_text
from . import vfork

ROOT = "/sys/fs/cgroup"
_POLL_SECONDS = 0.0005
_V1_ROUND = 50
"""Polls after which a v1 freeze that does not settle is undone and tried again, as runc does."""
_EXEC_SECONDS = 0.005
"""What a process gets to come from vfork to exec."""


def is_unified(root: str = ROOT) -> bool:
    """Whether this host uses cgroup v2 only (a v2 mount beside v1 controllers does not count)."""
    return os.path.exists(os.path.join(root, "cgroup.controllers"))


def parse_membership(text: str) -> dict[str, str]:
    """Parse ``/proc/PID/cgroup`` into controller -> path; the unified hierarchy has the key ``""``."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _number, _colon, rest = line.partition(":")
        controllers, _colon, path = rest.partition(":")
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


class Cgroup:
    """The cgroup of one container, with what a migration does to it.

    :param freezer: directory that freezes (v1: freezer hierarchy; v2: the unified one).
    :param usage: directory whose CPU accounting shows whether something ran.
    """

    def __init__(self, freezer: str, usage: str, unified: bool) -> None:
        self.path = freezer
        self._usage = usage
        self.unified = unified

    @classmethod
    def of_process(cls, pid: int, root: str = ROOT) -> Cgroup:
        """The cgroup that process ``pid`` is in.

        :raises NotFound: no such process, or it is in the root (which nobody may freeze).
        """
        try:
            membership = parse_membership(read_text(f"/proc/{pid}/cgroup"))
        except OSError as error:
            raise NotFound(f"process {pid} is gone") from error
        unified = is_unified(root)
        path = membership.get("" if unified else "freezer", "/")
        if path.strip("/") in ("", ".."):
            raise NotFound(f"process {pid} is in no cgroup of its own")
        if unified:
            directory = root + path
            return cls(directory, directory, True)
        return cls(f"{root}/freezer{path}", f"{root}/cpuacct{membership.get('cpuacct', path)}", False)

    @classmethod
    def at(cls, path: str) -> Cgroup:
        """The cgroup whose freezing directory is ``path`` (as :attr:`path` gave it, from a journal)."""
        if is_unified():
            return cls(path, path, True)
        return cls(path, path.replace(f"{ROOT}/freezer", f"{ROOT}/cpuacct", 1), False)

    def exists(self) -> bool:
        """Whether the cgroup is still there."""
        return os.path.isdir(self.path)

    def pids(self) -> list[int]:
        """All processes in it and below it (an empty list when it is gone)."""
        found: list[int] = []
        for folder, _folders, _names in os.walk(self.path):
            try:
                found.extend(int(word) for word in read_text(os.path.join(folder, "cgroup.procs")).split())
            except OSError:
                continue
        return found

    def usage_ns(self) -> int:
        """CPU time used so far, in nanoseconds (v2 counts microseconds). Grows only when something ran."""
        if not self.unified:
            return int(read_text(os.path.join(self._usage, "cpuacct.usage")))
        for line in read_text(os.path.join(self._usage, "cpu.stat")).splitlines():
            name, _space, value = line.partition(" ")
            if name == "usage_usec":
                return int(value) * 1000
        return 0

    def frozen(self) -> bool:
        """Whether the kernel says that every task in it stands still."""
        try:
            if self.unified:
                return "frozen 1" in read_text(os.path.join(self.path, "cgroup.events"))
            return read_text(os.path.join(self.path, "freezer.state")).strip() == "FROZEN"
        except OSError:
            return False

    def stands(self) -> bool:
        """Whether it is frozen with somebody in it: a group whose processes were killed still reads as frozen."""
        return self.frozen() and bool(self.pids())

    def _order(self, freeze: bool) -> None:
        if self.unified:
            write_text(os.path.join(self.path, "cgroup.freeze"), "1" if freeze else "0")
        else:
            write_text(os.path.join(self.path, "freezer.state"), "FROZEN" if freeze else "THAWED")

    def freeze(self, timeout: float) -> int:
        """Freeze and wait until everything stands, nothing of it between vfork and exec (see :mod:`vfork`).

        :param timeout: seconds; after them it is thawed again.
        :returns: CLOCK_MONOTONIC in ns just before the order that took effect.
        :raises FreezeFailed: it did not settle, or the cgroup is gone.
        """
        deadline = time.monotonic() + timeout
        try:
            began = time.monotonic_ns()
            while True:
                self._order(True)
                frozen = self._settles(deadline)
                caught = vfork.waiting(self.pids()) if frozen else []
                if frozen and not caught:
                    return began
                if time.monotonic() > deadline:
                    self._order(False)
                    raise self._not_frozen(timeout, caught)
                if caught or not self.unified:
                    # A v1 freeze can hang half way while the group forks: undo and try again (runc does the same).
                    self._order(False)
                    time.sleep(_EXEC_SECONDS if caught else _POLL_SECONDS)
                    began = time.monotonic_ns()
        except OSError as error:
            raise FreezeFailed(f"cannot freeze {self.path}: {error.strerror}") from error

    def _settles(self, deadline: float) -> bool:
        """Whether everything stands after some polls; false as well when the deadline has passed before."""
        for _poll in range(_V1_ROUND):
            if self.frozen():
                return True
            time.sleep(_POLL_SECONDS)
            if time.monotonic() > deadline:
                return False
        return False

    def _not_frozen(self, timeout: float, caught: t.Sequence[int]) -> FreezeFailed:
        if caught:
            return FreezeFailed(
                f"process {caught[0]} in {self.path} stood between vfork and exec for {timeout:g} s",
                "It waits for a program that it starts; CRIU cannot dump it there. Try again when it has started it.",
            )
        return FreezeFailed(
            f"{self.path} did not freeze within {timeout:g} s",
            "A task in uninterruptible sleep (a hung disk or NFS mount) keeps it from freezing.",
        )

    def thaw(self) -> None:
        """Let everything run again; nothing happens when it runs already or is gone.

        :raises FreezeFailed: the kernel refused or tasks still stand after a second.
        """
        if not self.exists():
            return
        try:
            self._order(False)
        except OSError as error:
            if not self.exists():
                return
            raise FreezeFailed(f"cannot thaw {self.path}: {error.strerror}") from error
        deadline = time.monotonic() + 1
        while self.frozen() and self.exists():
            if time.monotonic() > deadline:
                raise FreezeFailed(
                    f"{self.path} stays frozen after being thawed",
                    "Something above it is frozen, or another tool freezes it.",
                )
            time.sleep(_POLL_SECONDS)

    def kill(self, timeout: float = 10.0) -> None:
        """End every process in it without one more instruction of it being run.

        v2 has ``cgroup.kill`` for that, which works on frozen tasks. On v1 each process of the frozen group gets its
        SIGKILL first and is thawed then: it dies on its way back to user space.

        :raises FreezeFailed: processes are left after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while self.exists():
            pids = self.pids()
            if not pids:
                return
            if self.unified and os.path.exists(os.path.join(self.path, "cgroup.kill")):
                _ignore_gone(lambda: write_text(os.path.join(self.path, "cgroup.kill"), "1"))
            else:
                for pid in pids:
                    _signal(pid, signal.SIGKILL)
            _ignore_gone(lambda: self._order(False))
            if time.monotonic() > deadline:
                raise FreezeFailed(
                    f"processes {pids[:5]} in {self.path} do not die", "Look at `dmesg`: they hang in the kernel."
                )
            time.sleep(0.002)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _ignore_gone(action: t.Callable[[], None]) -> None:
    try:
        action()
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != 19:  # ENODEV: the cgroup went away while we wrote
            raise
