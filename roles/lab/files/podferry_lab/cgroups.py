# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""One cgroup per machine (and, on v1, per controller), beside the host's own, which stay as they are.

v1: ``<mount>/podferry-lab.<lab>.<machine>`` in every mounted hierarchy.
v2: the same name below the root, or below the delegated unit when systemd started us (then systemd, the only
writer of its tree, has been asked).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from . import linux

PREFIX = "podferry-lab."
ROOT = "/sys/fs/cgroup"


class Hierarchy(NamedTuple):
    """A mounted cgroup hierarchy of the host."""

    mount: str
    #: v1: the options that select it (``cpu,cpuacct`` or ``name=systemd``); v2: empty.
    options: str

    @property
    def directory(self) -> str:
        """Name of its directory below /sys/fs/cgroup in a machine."""
        return self.options.rpartition("name=")[2]


def is_v2() -> bool:
    """Whether /sys/fs/cgroup itself is the unified hierarchy (a v2 mount beside v1 does not count)."""
    return os.path.exists(f"{ROOT}/cgroup.controllers")


def hierarchies() -> list[Hierarchy]:
    """The hierarchies that a machine gets: all of v1, or the one of v2."""
    if is_v2():
        return [Hierarchy(ROOT, "")]
    found = []
    with Path("/proc/self/mountinfo").open(encoding="utf-8") as handle:
        for line in handle:
            left, _dash, right = line.rstrip("\n").partition(" - ")
            fstype, _source, super_options = right.split(" ")[:3]
            point = left.split(" ")[4]
            if fstype != "cgroup" or os.path.dirname(point) != ROOT:
                continue
            wanted = [word for word in super_options.split(",") if _selects(word)]
            found.append(Hierarchy(point, ",".join(wanted)))
    return sorted(set(found))


def _selects(word: str) -> bool:
    """Whether a v1 mount option names the hierarchy rather than tuning it."""
    return word.startswith("name=") or word not in (
        "rw",
        "ro",
        "xattr",
        "noprefix",
        "clone_children",
        "release_agent",
        "none",
    )


def name_of(lab: str, machine: str) -> str:
    """Name of a machine's cgroup; labs and machines have no dots, so names cannot run into each other."""
    return f"{PREFIX}{lab}.{machine}"


def _parents() -> list[str]:
    """Directories in which machines' cgroups live."""
    parents = [hierarchy.mount for hierarchy in hierarchies()]
    if is_v2():
        # Started through systemd-run: the unit's own cgroup, a delegated subtree.
        for directory, subdirectories, _files in os.walk(f"{ROOT}/system.slice"):
            parents.extend(os.path.join(directory, name) for name in subdirectories if name.startswith("podferry-lab-"))
            subdirectories.clear()
    return parents


def existing(lab: str, machine: str = "") -> list[str]:
    """Paths of cgroups that belong to a lab, or to one machine of it."""
    found = []
    for parent in _parents():
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(parent):
                if name == name_of(lab, machine) or (not machine and name.startswith(name_of(lab, ""))):
                    found.append(os.path.join(parent, name))
    return sorted(found)


def _write(path: str, text: str) -> None:
    with Path(path).open("w", encoding="ascii") as handle:
        handle.write(text)


def _read(path: str) -> str:
    with Path(path).open(encoding="ascii") as handle:
        return handle.read().strip()


def create(lab: str, machine: str) -> list[str]:
    """Make the machine's cgroups and return their paths."""
    paths = []
    if is_v2():
        parent = _own_v2_parent()
        path = os.path.join(parent, name_of(lab, machine))
        os.makedirs(path, exist_ok=True)
        for controller in _read(f"{parent}/cgroup.controllers").split():
            with contextlib.suppress(OSError):  # one that cannot be had is no reason to do without the others
                _write(f"{parent}/cgroup.subtree_control", f"+{controller}")
        return [path]
    for hierarchy in hierarchies():
        path = os.path.join(hierarchy.mount, name_of(lab, machine))
        os.makedirs(path, exist_ok=True)
        if os.path.exists(f"{path}/cpuset.cpus"):
            # An empty set takes no process; clone_children hands the set down to what the machine makes inside.
            for key in ("cpuset.cpus", "cpuset.mems"):
                _write(f"{path}/{key}", _read(f"{hierarchy.mount}/{key}"))
            _write(f"{path}/cgroup.clone_children", "1")
        if os.path.exists(f"{path}/memory.use_hierarchy"):
            with contextlib.suppress(OSError):
                _write(f"{path}/memory.use_hierarchy", "1")
        paths.append(path)
    return paths


def _own_v2_parent() -> str:
    """The delegated cgroup when we run in a unit of our own, else the root of the tree."""
    own = _read("/proc/self/cgroup").rpartition("::")[2]
    unit = own.rpartition("/")[0] if own.endswith("/supervisor") else own
    if not os.path.basename(unit).startswith("podferry-lab-"):
        return ROOT
    # A cgroup with controllers for its children may hold no process itself: step aside.
    leaf = f"{ROOT}{unit}/supervisor"
    os.makedirs(leaf, exist_ok=True)
    _write(f"{leaf}/cgroup.procs", str(os.getpid()))
    return f"{ROOT}{unit}"


def join(paths: list[str]) -> None:
    """Move the calling process."""
    for path in paths:
        _write(f"{path}/cgroup.procs", "0")


def mount_inside(root: str) -> None:
    """Mount the hierarchies in a machine's root; call it in the machine's cgroup namespace."""
    base = f"{root}{ROOT}"
    if is_v2():
        linux.mount("cgroup2", base, "cgroup2", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        return
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC
    linux.mount("tmpfs", base, "tmpfs", flags, "mode=755,size=1m")
    for hierarchy in hierarchies():
        target = f"{base}/{hierarchy.directory}"
        os.mkdir(target)
        options = f"none,{hierarchy.options}" if hierarchy.options.startswith("name=") else hierarchy.options
        linux.mount("cgroup", target, "cgroup", flags, options)
        if "," in hierarchy.options:
            for alias in hierarchy.options.split(","):
                os.symlink(hierarchy.directory, f"{base}/{alias}")
    linux.mount("tmpfs", base, "tmpfs", flags | linux.MS_REMOUNT | linux.MS_RDONLY, "mode=755,size=1m")


def _bottom_up(path: str) -> Iterator[str]:
    for directory, _subdirectories, _files in os.walk(path, topdown=False):
        yield directory


def pids(paths: list[str]) -> set[int]:
    """Every process in these cgroups and below."""
    found: set[int] = set()
    for path in paths:
        for directory in _bottom_up(path):
            with contextlib.suppress(FileNotFoundError, OSError):
                found.update(int(word) for word in _read(f"{directory}/cgroup.procs").split())
    return found - {0}


def kill_and_remove(lab: str, machine: str = "", seconds: float = 30.0) -> bool:
    """Kill everything in the machine's (or the whole lab's) cgroups and remove them. True when there was something.

    A process in a frozen v1 cgroup does not even die before it is thawed. It is killed first and thawed then,
    so that no instruction of it runs. Raises TimeoutError.
    """
    paths = existing(lab, machine)
    deadline = time.monotonic() + seconds
    while True:
        left = pids(paths)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for path in paths:
            _thaw(path)
        if not left and _removed(paths):
            return bool(paths)
        if time.monotonic() > deadline:
            raise TimeoutError(f"cgroups {', '.join(existing(lab, machine))} still hold processes {sorted(left)}")
        time.sleep(0.05)


def _thaw(path: str) -> None:
    # Parents first: a thawed child of a frozen parent stays frozen.
    for directory, _subdirectories, _files in os.walk(path):
        for key, value in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
            file = f"{directory}/{key}"
            with contextlib.suppress(OSError):
                if os.path.exists(file) and _read(file) != value:
                    _write(file, value)


def _removed(paths: list[str]) -> bool:
    done = True
    for path in paths:
        for directory in _bottom_up(path):
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                pass
            except OSError:
                done = False
    return done
