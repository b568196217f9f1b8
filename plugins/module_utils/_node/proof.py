# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The proof that a node can do what a migration asks of it: a real dump, and a real restore that ends frozen.

A small process counts in a container of its own, made by the node's runc or crun without the container runtime. It goes the way of a
migrated pod, with the same code: freeze, dump, kill, restore with the action script that freezes, thaw. Everything lives in
one folder on tmpfs and in two cgroups, and is gone afterwards.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import time
import typing as t

from .._common.errors import CommandFailed, DeadlineExceeded, FreezeFailed, PodferryError, RestoreFailed
from .._common.files import read_text, write_json
from .._criu import dump, external, restore
from .._criu.environment import environment, restore_options
from .._criu.log import explain
from .._runtime import oci, process
from .._runtime.cgroup import ROOT, Cgroup, is_unified
from .._runtime.container import Container

FEATURES = ("mem_dirty_track", "uffd", "timens", "pidfd_store", "network_lock_nftables", "pagemap_scan")
"""What ``criu check --feature`` is asked; none of them is needed for a plain migration."""

COUNTER = ("/bin/sh", "-c", "exec 3>>/proof/ticks; n=0; while :; do n=$((n+1)); echo $n >&3; sleep 0.01; done")
"""A shell and its children."""

_COUNTER_WITH_SOCKETS = """
import socket, time
sockets = [socket.create_server(("0.0.0.0", 7777)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
sockets[1].bind(("0.0.0.0", 7777))
with open("/proof/ticks", "a") as out:
    for number in range(1, 1 << 30):
        print(number, file=out, flush=True)
        time.sleep(0.01)
"""

_HOST_FOLDERS = ("usr", "bin", "sbin", "lib", "lib64", "lib32")
_NAMESPACES = ("pid", "ipc", "uts", "mount", "network")
_SETTLE_SECONDS = 0.1
"""How long a frozen container is watched: ten times the counter's pace."""
_DEADLINE_SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class Tools:
    """The node's programs for the proof."""

    runtime: str
    criu: str
    action: str
    """The action script of the installed engine."""
    systemd_cgroup: bool
    """Whether cgroups are made by systemd, as the container runtime has it."""


def counter_with_sockets(python: str) -> tuple[str, ...] | None:
    """Return a counter that also listens on TCP and UDP, or None when the container would not see this Python."""
    program = os.path.realpath(python)
    seen = program.startswith(tuple(f"/{name}/" for name in _HOST_FOLDERS))
    return (program, "-I", "-S", "-c", _COUNTER_WITH_SOCKETS) if seen else None


def bundle_config(
    folder: str, identifier: str, systemd_cgroup: bool, command: t.Sequence[str] = COUNTER, host_root: str = "/"
) -> dict[str, t.Any]:
    """Return config.json of the proof's container: the host's programs, read-only, and one writable folder."""
    mounts: list[dict[str, t.Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
        {"destination": "/proof", "type": "bind", "source": f"{folder}/proof", "options": ["bind", "rw"]},
    ]
    for name in _HOST_FOLDERS:
        path = os.path.join(host_root, name)
        if os.path.isdir(path) and not os.path.islink(path):
            options = ["rbind", "ro", "nosuid", "nodev"]
            mounts.append({"destination": f"/{name}", "type": "bind", "source": path, "options": options})
    cgroup = f"system.slice:podferry-verify:{identifier}" if systemd_cgroup else f"/podferry-verify-{identifier}"
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": list(command),
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": f"{folder}/rootfs", "readonly": False},
        "hostname": "podferry-verify",
        "mounts": mounts,
        "linux": {"cgroupsPath": cgroup, "namespaces": [{"type": name} for name in _NAMESPACES]},
    }


def make_root(folder: str, host_root: str = "/") -> None:
    """Make the container's root: empty, with the host's links from /bin to usr/bin and the like."""
    root = os.path.join(folder, "rootfs")
    for name in ("rootfs", "proof", "runc", "work", "source", "target"):
        os.mkdir(os.path.join(folder, name), mode=0o755 if name == "rootfs" else 0o700)
    for name in _HOST_FOLDERS:
        path = os.path.join(host_root, name)
        if os.path.islink(path):
            os.symlink(os.readlink(path), os.path.join(root, name))


def ticks(text: str) -> list[int]:
    """Return the whole lines of the counter's file; the last may be half written."""
    return [int(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def check_continuous(numbers: t.Sequence[int]) -> None:
    """Check that the counter lost and doubled nothing.

    :raises RestoreFailed: it did.
    """
    for expected, number in enumerate(numbers, start=1):
        if number != expected:
            raise RestoreFailed(f"the restored counter says {number} where {expected} should follow")


class Proof:
    """One proof. Use it once, as a context manager: leaving it removes everything.

    :param folder: where it works; made here, on tmpfs, for root only.
    :param command: what runs in the container: it writes 1, 2, 3 … to /proof/ticks.
    """

    def __init__(self, tools: Tools, folder: str, command: t.Sequence[str] = COUNTER) -> None:
        self._tools = tools
        self._command = command
        self._folder = folder
        token = os.path.basename(folder)
        self._source = f"{token}-source"
        self._target = f"{token}-target"
        self._root = os.path.join(folder, "runc")

    def __enter__(self) -> Proof:
        os.makedirs(os.path.dirname(self._folder), mode=0o700, exist_ok=True)
        os.mkdir(self._folder, mode=0o700)
        make_root(self._folder)
        return self

    def __exit__(self, *_exception: object) -> None:
        for identifier in (self._source, self._target):
            for group in self._cgroups(identifier):
                with contextlib.suppress(FreezeFailed, OSError):
                    group.kill()
            with contextlib.suppress(PodferryError):
                self._runtime("delete", "--force", identifier)
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self) -> dict[str, t.Any]:
        """Carry it out and return what was measured (milliseconds, bytes).

        :raises PodferryError: the node cannot do it; ``phase`` says which step failed.
        """
        with _phase("start"):
            source = self._start()
        images = os.path.join(self._folder, "images")
        attempt = dump.Dump(source, images, os.path.join(self._folder, "work"))
        try:
            with _phase("dump"):
                attempt.get_ready(_DEADLINE_SECONDS, lambda: None)
            with _phase("freeze"):
                source.cgroup.freeze(5.0)
                frozen_at = self._last_tick()
            with _phase("dump"):
                dump_ms = self._dump(attempt)
                self._check_still(source.cgroup, frozen_at, "dump")
        except BaseException:
            attempt.stop()
            raise
        with _phase("kill"):
            source.cgroup.kill()
            self._runtime("delete", "--force", self._source)
        with _phase("restore"):
            restore_ms, group = self._restore(images, frozen_at)
        with _phase("thaw"):
            group.thaw()
            self._wait_for_tick(frozen_at + 5)
            group.kill()
            numbers = self._ticks()
            check_continuous(numbers)
        return {
            "dump_ms": round(dump_ms, 1),
            "restore_ms": round(restore_ms, 1),
            "image_bytes": sum(entry.stat().st_size for entry in os.scandir(images)),
            "ticks": {"before": frozen_at, "after": numbers[-1] - frozen_at},
        }

    def _start(self) -> Container:
        config = self._write_bundle(self._source, "source")
        pid_file = os.path.join(self._folder, "source", "pid")
        self._runtime("run", "--detach", "--bundle", self._bundle("source"), "--pid-file", pid_file, self._source)
        pid = int(read_text(pid_file))
        self._wait_for_tick(5)
        owner = oci.Identity("", "", "", "verify", False)
        return Container(
            name="verify",
            id=self._source,
            engine="containerd",
            bundle=self._bundle("source"),
            runtime=self._tools.runtime,
            runtime_root=self._root,
            pid=pid,
            config=config,
            cgroup=Cgroup.of_process(pid),
            owner=owner,
        )

    @staticmethod
    def _dump(attempt: dump.Dump) -> float:
        """Dump the frozen container and return how long that took, in milliseconds."""
        began = time.monotonic()
        attempt.begin()
        attempt.finish()
        return (time.monotonic() - began) * 1000

    def _restore(self, images: str, frozen_at: int) -> tuple[float, Cgroup]:
        restore.write_arrival(images, self._folder, "verify", self._target)
        config = self._write_bundle(self._target, "target")
        pid_file = os.path.join(self._folder, "target", "pid")
        call = restore.CreateCall(
            global_words=self._global_words(),
            kept_words=["--bundle", self._bundle("target"), "--pid-file", pid_file],
            bundle=self._bundle("target"),
            identifier=self._target,
            log="",
        )
        work = os.path.join(self._folder, "work")
        lines = [*restore_options(self._tools.action), *external.options(config)]
        options = environment(work, [*lines, *restore.cgroup_options(self._tools.runtime, is_unified())])
        began = time.monotonic()
        try:
            self._execute(restore.restore_argv(self._tools.runtime, call, images, work, config), options)
        except CommandFailed as error:
            reason = explain(os.path.join(work, restore.RESTORE_LOG)) or error.message
            raise RestoreFailed(
                f"CRIU could not restore: {reason}", "Look at dmesg, and at `criu check --all`."
            ) from error
        took = (time.monotonic() - began) * 1000
        group = Cgroup.of_process(int(read_text(pid_file)))
        deadline = time.monotonic() + 1  # as the ferry waits
        while not group.frozen() and time.monotonic() < deadline:
            time.sleep(0.001)
        self._check_still(group, frozen_at, "restore")
        return took, group

    def _check_still(self, group: Cgroup, tick: int, after: str) -> None:
        """Watch that a frozen container neither writes nor runs.

        :raises RestoreFailed: it does.
        """
        if not group.frozen():
            raise RestoreFailed(f"the container is not frozen after the {after}", _FREEZER_REMEDY)
        used = group.usage_ns()
        time.sleep(_SETTLE_SECONDS)
        if self._last_tick() != tick or group.usage_ns() != used:
            raise RestoreFailed(f"the container ran after the {after}, although it is frozen", _FREEZER_REMEDY)

    def _ticks(self) -> list[int]:
        try:
            return ticks(read_text(os.path.join(self._folder, "proof", "ticks")))
        except OSError:
            return []

    def _last_tick(self) -> int:
        numbers = self._ticks()
        return numbers[-1] if numbers else 0

    def _wait_for_tick(self, number: int) -> None:
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while self._last_tick() < number:
            if time.monotonic() > deadline:
                raise DeadlineExceeded(f"the counter did not come to {number} within {_DEADLINE_SECONDS:g} s")
            time.sleep(0.01)

    def _bundle(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _write_bundle(self, identifier: str, name: str) -> dict[str, t.Any]:
        config = bundle_config(self._folder, identifier, self._tools.systemd_cgroup, self._command)
        write_json(os.path.join(self._bundle(name), "config.json"), config)
        return config

    def _global_words(self) -> list[str]:
        words = ["--root", self._root, "--log", os.path.join(self._folder, "runc.log"), "--log-format", "json"]
        return [*words, "--systemd-cgroup"] if self._tools.systemd_cgroup else words

    def _runtime(self, *words: str) -> None:
        self._execute([self._tools.runtime, *self._global_words(), *words], None)

    def _execute(self, argv: t.Sequence[str], env: t.Mapping[str, str] | None) -> None:
        """Run the runtime with no stream of ours: the container would keep it.

        :raises CommandFailed: with the runtime's last message.
        """
        code = process.silent(argv, timeout=_DEADLINE_SECONDS, env=env)
        if code != 0:
            log = os.path.join(self._folder, "runc.log")
            message = last_message(read_text(log)) if os.path.exists(log) else ""
            raise CommandFailed(f"{argv[0]} ended with {code}: {message or 'it logged nothing'}")

    @staticmethod
    def _cgroups(identifier: str) -> list[Cgroup]:
        top = ROOT if os.path.exists(f"{ROOT}/cgroup.controllers") else f"{ROOT}/freezer"
        return [Cgroup.at(path) for path, _folders, _names in os.walk(top) if identifier in os.path.basename(path)]


_FREEZER_REMEDY = "On cgroup v2 runc 1.2 or later is needed; on v1 nothing else may write the freezer."


def last_message(log: str) -> str:
    """Return the last error of a log that runc wrote as JSON lines."""
    found = ""
    for line in log.splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict) and entry.get("level") in ("error", "fatal"):
                found = str(entry.get("msg", ""))
    return re.sub(r"\s+", " ", found).strip()


@contextlib.contextmanager
def _phase(name: str) -> t.Iterator[None]:
    try:
        yield
    except PodferryError as error:
        error.phase = error.phase or name
        raise
    except OSError as error:
        raise PodferryError(f"{error.filename}: {error.strerror}", phase=name) from error


def features(criu: str) -> dict[str, bool]:
    """Ask CRIU for what kernel and build can do beyond the basics."""
    answers = {}
    for name in FEATURES:
        done = process.run([criu, "check", "--feature", name], timeout=30)
        answers[name] = done.code == 0
    return answers
