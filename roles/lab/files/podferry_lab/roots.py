# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""Debian roots, built once per suite and package list and kept in a cache that all labs share.

A root is built in a temporary directory and renamed when it is complete; a lock keeps parallel labs from building it
twice. ``manifest.json`` beside it says what is in it and carries a digest over the tree (types, sizes, modes and
modification times), which is compared before each use: a root that a machine was allowed to write to, or that
somebody tidied up, is set aside and built again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from . import command

#: Part of the key: raise it when the way roots are made changes.
RECIPE = 3

#: Would reach through /sys and /proc to the host's kernel, or wait for hardware that is not there.
MASKED_UNITS = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "getty.target",
    "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-remount-fs.service",
    "systemd-resolved.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "systemd-udev-trigger.service",
    "systemd-udevd-control.socket",
    "systemd-udevd-kernel.socket",
    "systemd-udevd.service",
)

_BUILD_SCRIPT = r"""
set -eu
root=$1 suite=$2 mirror=$3 debs=$4; shift 4
mkdir -p "$debs/partial"
mount --bind "$debs" "$root/var/cache/apt/archives"
mount -t proc proc "$root/proc"
cp /etc/resolv.conf "$root/etc/resolv.conf"
# No service starts while the root is being made; no fsync: a root that is cut short is thrown away.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/podferry-lab"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
testing= names=
for package; do
    names="$names ${package%/testing}"
    case $package in */testing) testing="$testing ${package%/testing}" ;; esac
done
if [ -n "$testing" ]; then
    # A preference for these packages only: `install name/testing` would prefer testing for all that they need, too.
    # The Release file may be past its date on a mirror that stands still; its signature is checked all the same.
    echo "deb [check-valid-until=no] $mirror testing main" >"$root/etc/apt/sources.list.d/podferry-lab.list"
    printf 'Package:%s\nPin: release a=testing\nPin-Priority: 995\n' "$testing" >"$root/etc/apt/preferences.d/podferry-lab"
fi
chroot "$root" apt-get -q -o Acquire::Languages=none update
# shellcheck disable=SC2086  # names are words
chroot "$root" apt-get -q -y --no-install-recommends -o APT::Default-Release="$suite" -o APT::Sandbox::User=root \
    -o APT::Keep-Downloaded-Packages=true install $names
rm -f "$root/usr/sbin/policy-rc.d" "$root/etc/dpkg/dpkg.cfg.d/podferry-lab" \
    "$root/etc/apt/sources.list.d/podferry-lab.list" "$root/etc/apt/preferences.d/podferry-lab"
umount "$root/proc" "$root/var/cache/apt/archives"
"""


def versions(root: str) -> dict[str, str]:
    """Package -> version of what is in a root of the cache."""
    with (Path(root).parent / "manifest.json").open(encoding="utf-8") as handle:
        installed: dict[str, str] = json.load(handle)["installed"]
    return installed


@contextlib.contextmanager
def lock(cache: str, name: str) -> Iterator[None]:
    """Hold an exclusive lock in the cache directory."""
    os.makedirs(cache, exist_ok=True)
    with Path(os.path.join(cache, f"{name}.lock")).open("w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def key(kind: str, suite: str, packages: list[str]) -> str:
    """Name of a root in the cache."""
    content = json.dumps([RECIPE, kind, suite, sorted(set(packages))])
    return f"{kind}-{suite}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def digest(tree: str) -> str:
    """A digest over names, types, sizes, modes, owners and modification times of a tree (about 0.3 s)."""
    total = hashlib.sha256()
    for directory, subdirectories, files in os.walk(tree):
        subdirectories.sort()
        for name in sorted(files) + subdirectories:
            path = os.path.join(directory, name)
            entry = os.lstat(path)
            # A directory's size and link count depend on the file system; its time changes with its entries.
            size = entry.st_size if stat.S_ISREG(entry.st_mode) else 0
            total.update(
                f"{path[len(tree) :]}\0{entry.st_mode}\0{entry.st_uid}\0{entry.st_gid}\0{size}\0{entry.st_mtime_ns}\n".encode()
            )
    return total.hexdigest()


def ensure(cache: str, kind: str, suite: str, mirror: str, packages: list[str], strip: bool) -> tuple[str, bool]:
    """A verified root with these packages: (path, was it built now). Raises LabError.

    Kinds ``node`` and ``image`` start from a copy of kind ``base``, which has no packages of its own.
    ``name/testing`` takes a package from Debian testing.
    ``strip`` removes documentation and translations as well: for image layers.
    """
    name = key(kind, suite, packages)
    place = os.path.join(cache, "roots", name)
    with lock(cache, name):
        if _verified(place):
            return f"{place}/rootfs", False
        if os.path.exists(place):
            # Not deleted: machines of a running lab may have it as the lower layer of their root.
            os.rename(place, f"{place}.rejected-{time.strftime('%Y%m%dT%H%M%S')}")
        work = f"{place}.building"
        shutil.rmtree(work, ignore_errors=True)
        os.makedirs(work)
        try:
            _build(cache, work, kind, suite, mirror, sorted(set(packages)))
            if kind == "base":
                _empty(f"{work}/rootfs/var/cache/apt/archives")
            else:
                _finish(f"{work}/rootfs", strip)
            _describe(work, name, suite, sorted(set(packages)))
            os.rename(work, place)
        finally:
            shutil.rmtree(work, ignore_errors=True)  # nothing is there after the rename
        return f"{place}/rootfs", True


def _build(cache: str, work: str, kind: str, suite: str, mirror: str, packages: list[str]) -> None:
    """Make ``<work>/rootfs``. Raises LabError, which names the log."""
    log = os.path.join(cache, f"{key(kind, suite, packages)}.log")
    Path(log).write_bytes(b"")
    debs = os.path.join(cache, "debs")
    os.makedirs(debs, exist_ok=True)
    if kind == "base":
        with lock(cache, "debs"):
            _run(log, "debootstrap", "--variant=minbase", f"--cache-dir={debs}", suite, f"{work}/rootfs", mirror)
        return
    base, _built = ensure(cache, "base", suite, mirror, [], strip=False)
    _run(log, "cp", "--archive", "--reflink=auto", base, f"{work}/rootfs")
    # apt has one download cache: one build at a time.
    with lock(cache, "debs"):
        _run(log, "sh", "-c", _BUILD_SCRIPT, "build", f"{work}/rootfs", suite, mirror, debs, *packages)


def _describe(work: str, name: str, suite: str, packages: list[str]) -> None:
    """Write the manifest of a finished root."""
    installed = command.run("chroot", f"{work}/rootfs", "dpkg-query", "-W", "-f", "${Package}\t${Version}\n")
    manifest = {
        "key": name,
        "suite": suite,
        "packages": packages,
        "installed": dict(line.split("\t") for line in installed.splitlines()),
        "digest": digest(f"{work}/rootfs"),
    }
    with Path(f"{work}/manifest.json").open("w", encoding="utf-8") as handle:
        json.dump(manifest, handle, indent=1)


def _run(log: str, *argv: str) -> None:
    """Run with a mount table of its own: whatever a build mounts is gone when it ends, however it ends."""
    command.run("unshare", "--mount", "--propagation", "private", *argv, log=log)


def _verified(place: str) -> bool:
    try:
        with Path(f"{place}/manifest.json").open(encoding="utf-8") as handle:
            wanted = json.load(handle)["digest"]
    except (FileNotFoundError, ValueError, KeyError):
        return False
    if digest(f"{place}/rootfs") == wanted:
        return True
    print(f"{place} is not what was built; setting it aside", file=sys.stderr)
    return False


def _finish(root: str, strip: bool) -> None:
    """Take out what must not be shared by machines, and what nobody needs."""
    for path in (
        "etc/machine-id",
        "var/lib/dbus/machine-id",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/containerd/config.toml",
    ):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{root}/{path}")
    ssh = f"{root}/etc/ssh"
    for name in os.listdir(ssh) if os.path.isdir(ssh) else ():
        if name.startswith("ssh_host_"):
            os.unlink(f"{ssh}/{name}")
    for path in ("var/lib/apt/lists", "var/cache/apt", "usr/share/doc", "usr/share/man", "usr/share/info", "var/log"):
        _empty(f"{root}/{path}")
    if strip:
        for path in (
            "usr/share/locale",
            "usr/share/zoneinfo",
            "usr/share/bash-completion",
            "usr/lib/python3/dist-packages/pip",
        ):
            _empty(f"{root}/{path}")
        for directory, subdirectories, _files in os.walk(f"{root}/usr/lib"):
            for name in [name for name in subdirectories if name in ("gconv", "idlelib", "pydoc_data", "ensurepip")]:
                shutil.rmtree(os.path.join(directory, name))
                subdirectories.remove(name)
    units = f"{root}/etc/systemd/system"
    if os.path.isdir(units):
        for name in MASKED_UNITS:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{units}/{name}")
            os.symlink("/dev/null", f"{units}/{name}")


def _empty(directory: str) -> None:
    """Remove what is in a directory, keep the directory."""
    if not os.path.isdir(directory):
        return
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
