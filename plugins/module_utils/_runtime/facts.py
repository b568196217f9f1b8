# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a node is and has, as far as a migration to or from it depends on it. Reads only."""

from __future__ import annotations

import glob
import os
import re
import sys
import time
import typing as t

from .._common.digest import engine_digest
from .._common.errors import PodferryError
from .._common.files import read_text
from . import cri, kubelet, procfs, service, versions
from .container import FRONT
from .process import Completed, Runner
from .service import Read

ENGINE_ROOT = "/usr/local/lib/podferry/podferry"
"""Where role ``node`` installs the node's part of this collection."""

CONTAINERD_CONFIG = "/etc/containerd/config.toml"
OWN_BLOCK = "# BEGIN podferry.live runtime handler"
"""What our part of containerd's main configuration file begins with."""
OWN_FILES = "50-podferry*"
"""Our files in folders of drop-ins, without the end of their names."""
_CRIO_FOLDER = "/etc/crio/crio.conf.d"
CRUN_MINIMUM = [1, 21]
"""Restores all processes into their cgroup under systemd, and knows the options for security labels (1.18)."""
_LIBRARY = "libcriu.so.2"
_LIBRARY_FOLDERS = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib/*",
    "/usr/local/lib",
    "/usr/local/lib/*",
    "/lib",
    "/lib64",
    "/lib/*",
)
_CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


class Probe:
    """The way to the machine, with what is missing on it turned into empty answers.

    :param run: runs a program.
    :param read: returns the text of a file or raises OSError.
    :param executable: says whether a path is a program.
    :param find: returns the paths that match a shell pattern, sorted.
    :param age: returns the seconds since a file was written, or None when there is no such file.
    """

    def __init__(
        self,
        run: Runner,
        read: Read = read_text,
        executable: t.Callable[[str], bool] | None = None,
        find: t.Callable[[str], list[str]] | None = None,
        age: t.Callable[[str], float | None] | None = None,
    ) -> None:
        self._run = run
        self.read = read
        self._executable = executable
        self.find = find or (lambda pattern: sorted(glob.glob(pattern)))
        self.age = age or file_age

    def run(self, *argv: str) -> Completed:
        """Run a program; one that cannot be started or does not end counts as failed."""
        try:
            return self._run(argv)
        except PodferryError as error:
            return Completed(127, "", error.message)

    def text(self, path: str, default: str = "") -> str:
        """Return a file's text, or ``default`` when it cannot be read."""
        try:
            return self.read(path)
        except OSError:
            return default

    def which(self, name: str, path: str = service.DEFAULT_PATH) -> str | None:
        """Return where a program is on a search path."""
        return service.which(name, path, self._executable)

    def service(self, unit: str) -> service.Service | None:
        """Return a running systemd service."""
        return service.find(unit, self._run, self.read)


def collect(run: Runner, read: Read = read_text, probe: Probe | None = None) -> dict[str, t.Any]:
    """Return the node's facts; what is missing is null, false or empty, and never an error.

    :param probe: instead of ``run`` and ``read``, for tests.
    """
    machine = probe or Probe(run, read)
    running_kubelet = machine.service("kubelet")
    runtime = Runtime.detect(machine, running_kubelet)
    return {
        "hostname": machine.text("/proc/sys/kernel/hostname").strip(),
        "arch": machine.run("uname", "-m").stdout.strip(),
        "kernel": machine.text("/proc/sys/kernel/osrelease").strip(),
        **cpu(machine.text("/proc/cpuinfo")),
        "mem_available": memory_available(machine.text("/proc/meminfo")),
        "disk_available": disk_available(),
        "cgroup": "v2" if machine.text("/sys/fs/cgroup/cgroup.controllers") else "v1",
        "criu": criu_facts(machine, runtime.path if runtime else service.DEFAULT_PATH),
        "runtime": runtime.facts() if runtime else dict(_NO_RUNTIME, files=left_files(machine)),
        "engine": installed_engine(),
        "python": list(sys.version_info[:2]),
        "zstd": machine.which("zstd") is not None,
        "age": machine.which("age") is not None and machine.which("age-keygen") is not None,
        "apparmor_profiles": apparmor_profiles(machine.text("/sys/kernel/security/apparmor/profiles")),
        "selinux": selinux_mode(machine.text("/sys/fs/selinux/enforce")),
        "time_namespaces": bool(machine.text("/proc/self/timens_offsets")),
        "kubelet": {"runtime_request_timeout_s": kubelet.request_timeout(running_kubelet, machine.read, machine.find)},
        "clock": {"monotonic": time.monotonic(), "realtime": time.time()},
    }


def file_age(path: str) -> float | None:
    """Return the seconds since a file was written, or None when there is no such file."""
    try:
        return time.time() - os.stat(path).st_mtime
    except OSError:
        return None


def disk_available(path: str = "/var/lib") -> int | None:
    """Return the bytes that root may still write below ``path``."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def cpu(cpuinfo: str) -> dict[str, t.Any]:
    """Return model and feature flags of the first processor (x86 says ``flags``, arm64 ``Features``)."""
    model = ""
    flags: list[str] = []
    for line in cpuinfo.splitlines():
        name, _separator, value = line.partition(":")
        if name.strip() == "model name" and not model:
            model = value.strip()
        elif name.strip() in ("flags", "Features") and not flags:
            flags = sorted(value.split())
    return {"cpu_model": model, "cpu_flags": flags}


def memory_available(meminfo: str) -> int:
    """Return MemAvailable in bytes."""
    for line in meminfo.splitlines():
        name, _separator, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0


def apparmor_profiles(listing: str) -> list[str] | None:
    """Return the loaded profiles' names; None without AppArmor. A line is ``name (mode)``."""
    if not listing:
        return None
    return sorted(line.rpartition(" (")[0] for line in listing.splitlines() if " (" in line)


def selinux_mode(enforce: str) -> str:
    """Return "disabled", "permissive" or "enforcing"."""
    return {"1": "enforcing", "0": "permissive"}.get(enforce.strip(), "disabled")


def installed_engine(root: str = ENGINE_ROOT) -> str | None:
    """Return the digest of the installed node code, or None when there is none."""
    return engine_digest(root) if os.path.isdir(root) else None


def criu_facts(machine: Probe, path: str) -> dict[str, t.Any]:
    """Return which criu the container runtime would find, and whether the kernel suits it."""
    program = machine.which("criu", path)
    if program is None:
        return {"path": None, "version": None, "check_ok": False, "check": "criu is not installed"}
    check = machine.run(program, "check")
    return {
        "path": program,
        "version": versions.criu(machine.run(program, "--version").stdout),
        "check_ok": check.code == 0,
        "check": "" if check.code == 0 else (check.stderr or check.stdout).strip(),
    }


_NO_RUNTIME: dict[str, t.Any] = {
    "engine": None,
    "version": None,
    "oci": {"family": None, "path": None, "version": None, "criu": False},
    "front": None,
    "handler": False,
    "cgroup_driver": None,
    "default": None,
    "restart_safe": False,
    "restart_due": False,
    "files": [],
    "path": None,
    "config": None,
    "state_dir": None,
    "answers": False,
    "error": "neither containerd nor CRI-O runs as a systemd service",
}


class Runtime:
    """The running CRI runtime of a node.

    :param engine: "containerd" or "crio", also the name of its systemd unit.
    """

    def __init__(self, machine: Probe, engine: str, running: service.Service) -> None:
        self._machine = machine
        self.engine = engine
        self._service = running
        self.path = running.path
        """PATH of the service: where it, the shim and runc look for programs."""
        first = running.argv[0] if running.argv else engine
        self.program = first if os.path.isabs(first) else machine.which(engine, running.path) or engine
        """The runtime's own program."""

    @classmethod
    def detect(cls, machine: Probe, running_kubelet: service.Service | None) -> Runtime | None:
        """Return the runtime that the kubelet uses; without a kubelet the one that runs."""
        endpoint = (running_kubelet.option("--container-runtime-endpoint") if running_kubelet else None) or ""
        engines = ["crio", "containerd"] if "crio" in endpoint else ["containerd", "crio"]
        for engine in engines:
            running = machine.service(engine)
            if running is not None:
                return cls(machine, engine, running)
        return None

    @property
    def config_path(self) -> str | None:
        """containerd's configuration file; None for CRI-O, which has a directory for drop-ins."""
        if self.engine == "crio":
            return None
        return self._service.option("--config", "-c") or CONTAINERD_CONFIG

    def config(self) -> cri.CriConfig:
        """Return the effective configuration of the files as they are now.

        :raises PodferryError: the runtime does not accept them, or prints what we cannot read.
        """
        if self.engine == "containerd":
            return containerd_config(self._machine, self.program, self.config_path)
        on_disk = self._machine.run(self.program, "config")
        if on_disk.code != 0:
            reason = on_disk.stderr.strip()[-300:]
            raise PodferryError(f"`crio config` failed: {reason}", "Repair CRI-O's configuration.")
        next_start = cri.parse_crio(on_disk.stdout)
        live = self._machine.run(self.program, "status", "config")
        if live.code != 0:
            return next_start
        # The live one has the value of every default; what is on disk decides about our handler.
        return cri.parse_crio(live.stdout).updated(next_start)

    def answers(self) -> bool:
        """Whether its CRI serves calls."""
        if self.engine == "crio":
            return self._machine.run(self.program, "status", "info").code == 0
        ctr = os.path.join(os.path.dirname(self.program), "ctr")
        plugins = self._machine.run(ctr, "--address", self._socket(), "plugins", "ls")
        return plugins.code == 0 and cri_plugin_ok(plugins.stdout)

    def version(self) -> versions.Version | None:
        """Return what the program says its version is."""
        output = self._machine.run(self.program, "--version").stdout
        return (versions.containerd if self.engine == "containerd" else versions.crio)(output)

    def restart_safe(self) -> bool:
        """Whether containers live through a restart of the service."""
        kill_mode = self._machine.run("systemctl", "show", "--property=KillMode", self.engine).stdout.strip()
        # Anything else ends the shims, and so the containers, with the service.
        return kill_mode == "KillMode=process"

    def restart_due(self, files: t.Sequence[str]) -> bool:
        """Whether a file of ours in its configuration is newer than its process.

        :param files: our files, as :meth:`own_files` returns them.
        """
        return restart_due(self._machine, self._service, files)

    def own_files(self, imports: t.Sequence[str] = ()) -> list[str]:
        """Return the files in its configuration that we have written.

        :param imports: what containerd's configuration imports.
        """
        main = self.config_path
        if main is None:
            return self._machine.find(f"{_CRIO_FOLDER}/{OWN_FILES}.conf")
        folders = {os.path.dirname(os.path.join(os.path.dirname(main), pattern)) for pattern in imports}
        found = [path for folder in sorted(folders) for path in self._machine.find(f"{folder}/{OWN_FILES}.toml")]
        return [*found, main] if OWN_BLOCK in self._machine.text(main) else found

    def _socket(self) -> str:
        return self._service.option("--address", "-a") or _CONTAINERD_SOCKET

    def _choose(self, handlers: t.Sequence[cri.Handler]) -> tuple[dict[str, t.Any], cri.Handler]:
        """Return the first handler whose OCI runtime can dump and restore, with that; else the first."""
        found = [(self._oci(handler), handler) for handler in handlers]
        return next((pair for pair in found if pair[0]["criu"]), found[0])

    def _oci(self, handler: cri.Handler) -> dict[str, t.Any]:
        """Return what a handler's OCI runtime is. ``criu``: whether it can dump and restore in the way we need."""
        program = self._machine.which(handler.program or (handler.name if self.engine == "crio" else "runc"), self.path)
        if program is None:
            return dict(_NO_RUNTIME["oci"])
        text = self._machine.run(program, "--version").stdout
        for family, version in (("runc", versions.runc(text)), ("crun", versions.crun(text))):
            if version is not None:
                able = family == "runc" or self._crun_is_able(program, version, text)
                return {"family": family, "path": program, "version": version, "criu": able}
        return {**_NO_RUNTIME["oci"], "path": program}

    def _crun_is_able(self, program: str, version: versions.Version, text: str) -> bool:
        """crun is built with or without CRIU, and loads its library only when it is asked for a dump."""
        loads = _LIBRARY in self._machine.text(program)
        there = any(self._machine.find(f"{folder}/{_LIBRARY}") for folder in _LIBRARY_FOLDERS)
        return version >= CRUN_MINIMUM and "+CRIU" in text.split() and (there or not loads)

    def facts(self) -> dict[str, t.Any]:
        """Return the part ``runtime`` of the node's facts."""
        found = dict(_NO_RUNTIME, engine=self.engine, path=self.path, config=self.config_path, error=None)
        version = self.version()
        found["version"] = versions.dotted(version) if version else None
        found["answers"] = self.answers()
        found["restart_safe"] = self.restart_safe()
        try:
            config = self.config()
            found["oci"], default = self._choose(config.candidates)
        except PodferryError as error:
            found["error"] = error.message
            return found
        found["files"] = self.own_files(config.imports)
        found["restart_due"] = self.restart_due(found["files"])
        front = re.search(r"^runtime=(/\S+)$", self._machine.text(FRONT), re.MULTILINE)
        found["front"] = front.group(1) if front else None
        found["handler"] = cri.HANDLER in config.handlers
        found["cgroup_driver"] = "systemd" if default.systemd_cgroup else "cgroupfs"
        found["state_dir"] = config.state_dir
        found["default"] = {
            "name": default.name,
            "root": default.root,
            "settings": {
                key: value for key, value in default.settings.items() if value and not isinstance(value, dict)
            },
        }
        return found


def restart_due(machine: Probe, running: service.Service, files: t.Sequence[str]) -> bool:
    """Whether a file is newer than a service's process: the run that wrote it lost the restart.

    :param files: what the service read when it started.
    """
    since = procfs.age(machine.text(f"/proc/{running.pid}/stat"), machine.text("/proc/uptime"))
    if since is None:
        return False
    # A file from the future is one of before a step of the clock. It says nothing, or there would be no end of restarts.
    ages = (machine.age(path) for path in files)
    return any(age is not None and 0 <= age < since for age in ages)


def left_files(machine: Probe) -> list[str]:
    """Return our files where container runtimes look for their configuration by default; none of them runs that could say more."""
    folder = os.path.dirname(CONTAINERD_CONFIG)
    patterns = (f"{folder}/{OWN_FILES}.toml", f"{folder}/*/{OWN_FILES}.toml", f"{_CRIO_FOLDER}/{OWN_FILES}.conf")
    main = [CONTAINERD_CONFIG] if OWN_BLOCK in machine.text(CONTAINERD_CONFIG) else []
    return [*main, *(path for pattern in patterns for path in machine.find(pattern))]


def containerd_config(machine: Probe, program: str, path: str | None) -> cri.CriConfig:
    """Return the configuration that containerd makes of a file.

    :raises PodferryError: containerd does not accept it, or prints what we cannot read.
    """
    there = bool(path) and machine.text(str(path), "\0") != "\0"
    dump = machine.run(program, *(["--config", str(path)] if there else []), "config", "dump")
    if dump.code != 0 and not there:
        # containerd 1.7 runs without a file, and refuses to print what it then uses.
        dump = machine.run(program, "config", "default")
    if dump.code != 0:
        reason = (dump.stderr or dump.stdout).strip()[-300:]
        raise PodferryError(f"`containerd config dump` failed: {reason}", f"Repair {path}.")
    return cri.parse_containerd(dump.stdout)


def cri_plugin_ok(listing: str) -> bool:
    """Whether ``ctr plugins ls`` lists the CRI service as ok (columns: type, id, platforms, status)."""
    return any(
        words[0] == "io.containerd.grpc.v1" and words[1] == "cri" and words[-1] == "ok"
        for words in (line.split() for line in listing.splitlines())
        if len(words) >= 3
    )
