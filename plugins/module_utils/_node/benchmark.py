# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The floor under a migration, measured on a node: bare CRIU on a plain process, and the node's runc on a container.

Both move the same program that the migrated pod of the benchmark runs, from tmpfs to tmpfs, with nothing else around it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import typing as t

from .._common.errors import CommandFailed, DeadlineExceeded, FreezeFailed, PodferryError
from .._common.files import read_text, write_json
from .._criu.environment import environment
from .._criu.log import explain
from .._runtime import process
from .._runtime.cgroup import ROOT, Cgroup
from .proof import Tools, bundle_config, make_root

PROGRAM = """\
import os, sys, time
memory = bytearray(int(sys.argv[1]) << 20)
for page in range(0, len(memory), 4096):
    memory[page:page + 8] = (page + 1).to_bytes(8, "little")
out = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if len(sys.argv) > 2 else 1
tick = 0
while True:
    tick += 1
    os.write(out, b"tick %d %d %d\\n" % (tick, time.monotonic_ns(), time.time_ns()))
    time.sleep(0.01)
"""
"""``python3 -I -S -c PROGRAM MIB [FILE]``: touches that much memory and writes a line every 10 ms, with both clocks in ns."""

_SECONDS = 120.0


class Times(t.NamedTuple):
    """One round, in milliseconds."""

    dump_ms: float
    restore_ms: float


class Floor:
    """Rounds of dump and restore of a process of ``mib`` MiB. A context manager: leaving it removes everything.

    :param folder: where it works; made here, on tmpfs, for root only.
    """

    def __init__(self, tools: Tools, folder: str, mib: int) -> None:
        self._tools = tools
        self._folder = folder
        self._mib = mib
        self._name = os.path.basename(folder)
        self._pid = 0

    def __enter__(self) -> Floor:
        os.makedirs(os.path.dirname(self._folder), mode=0o700, exist_ok=True)
        os.mkdir(self._folder, mode=0o700)
        try:
            make_root(self._folder)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        try:
            if self._pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            for group in self._cgroups():
                with contextlib.suppress(FreezeFailed, OSError):
                    group.kill()
            with contextlib.suppress(PodferryError):
                self._call([*self._runtime(), "delete", "--force", self._name])
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def criu(self) -> Times:
        """Dump and restore a plain process with ``criu`` alone."""
        ticks, images = os.path.join(self._folder, "plain-ticks"), self._images("plain")
        plain = self._start(ticks)
        self._pid = plain.pid
        self._wait(ticks, 20)
        dump = self._time([self._tools.criu, "dump", "--tree", str(plain.pid), "--images-dir", images])
        _reap(plain)
        self._pid = 0  # from now on it may be anybody's
        count = _lines(ticks)
        restore = self._time([self._tools.criu, "restore", "--restore-detached", "--images-dir", images])
        self._pid = plain.pid
        self._wait(ticks, count + 5)
        os.kill(self._pid, signal.SIGKILL)
        self._gone(self._pid)
        self._pid = 0
        shutil.rmtree(images)
        os.unlink(ticks)
        return Times(dump, restore)

    def runc(self) -> Times:
        """Dump and restore a container with the node's runc: ``runc checkpoint`` and ``runc restore``."""
        ticks, images = os.path.join(self._folder, "proof", "ticks"), self._images("runc-images")
        bundle = os.path.join(self._folder, "source")
        config = bundle_config(self._folder, self._name, self._tools.systemd_cgroup)
        config["process"]["args"] = ["/usr/bin/python3", "-I", "-S", "-c", PROGRAM, str(self._mib), "/proof/ticks"]
        write_json(os.path.join(bundle, "config.json"), config)
        self._call([*self._runtime(), "run", "--detach", "--bundle", bundle, self._name])
        self._wait(ticks, 20)
        work = os.path.join(self._folder, "work")
        places = ["--image-path", images, "--work-path", work]
        dump = self._time([*self._runtime(), "checkpoint", *places, self._name])
        count = _lines(ticks)
        restore = self._time([*self._runtime(), "restore", "--detach", *places, "--bundle", bundle, self._name])
        self._wait(ticks, count + 5)
        for group in self._cgroups():
            group.kill()
        self._call([*self._runtime(), "delete", "--force", self._name])
        shutil.rmtree(images)
        os.unlink(ticks)
        return Times(dump, restore)

    def _start(self, ticks: str) -> subprocess.Popen[bytes]:
        """:raises CommandFailed: the node has no python3."""
        try:
            return subprocess.Popen(
                ["python3", "-I", "-S", "-c", PROGRAM, str(self._mib), ticks],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
        except OSError as error:
            raise CommandFailed(f"cannot start python3: {error.strerror}") from error

    def _images(self, name: str) -> str:
        path = os.path.join(self._folder, name)
        os.mkdir(path, mode=0o700)
        return path

    def _runtime(self) -> list[str]:
        words = [self._tools.runtime, "--root", os.path.join(self._folder, "runc")]
        return [*words, "--systemd-cgroup"] if self._tools.systemd_cgroup else words

    def _cgroups(self) -> list[Cgroup]:
        top = ROOT if os.path.exists(f"{ROOT}/cgroup.controllers") else f"{ROOT}/freezer"
        return [Cgroup.at(path) for path, _folders, _names in os.walk(top) if self._name in os.path.basename(path)]

    def _time(self, argv: t.Sequence[str]) -> float:
        began = time.monotonic()
        self._call(argv)
        return round((time.monotonic() - began) * 1000, 1)

    def _call(self, argv: t.Sequence[str]) -> None:
        """Run a program without a stream of ours, which a restored process would keep.

        :raises CommandFailed: it ended badly, or could not be started.
        :raises DeadlineExceeded: it did not end, and was killed.
        """
        # Without a network lock, as a migration has it.
        code = process.silent(argv, timeout=_SECONDS, env=environment(self._folder), cwd="/")
        if code != 0:
            folders = [os.path.join(self._folder, name) for name in ("work", "plain")]
            logs = [explain(os.path.join(folder, name)) for folder in folders for name in ("dump.log", "restore.log")]
            reason = "; ".join(filter(None, logs)) or "it left no reason"
            raise CommandFailed(f"{' '.join(argv[:4])} ended with {code}: {reason}")

    def _wait(self, path: str, count: int) -> None:
        deadline = time.monotonic() + _SECONDS
        while _lines(path) < count:
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"the process did not write {count} lines within {_SECONDS:g} s")
            time.sleep(0.01)

    @staticmethod
    def _gone(pid: int) -> None:
        """Wait until ``pid`` can be used again; a restored process is nobody's child that we could wait for."""
        deadline = time.monotonic() + 10
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.005)


def _reap(plain: subprocess.Popen[bytes]) -> None:
    """:raises DeadlineExceeded: it has been dumped, and does not end."""
    try:
        plain.wait(timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"the dumped process did not end within {_SECONDS:g} s") from error


def _lines(path: str) -> int:
    try:
        return read_text(path).count("\n")
    except OSError:
        return 0
