# SPDX-License-Identifier: Apache-2.0
"""Bind mounts and tmpfs, as the kubelet's mounter: what is mounted already is left alone."""

from __future__ import annotations

import subprocess
from pathlib import Path


def mounted(path: Path) -> bool:
    """Whether something is mounted exactly here: a bind mount of the same file system does not show in device numbers."""
    return str(path) in _points()


def below(root: Path) -> list[str]:
    """Mount points below a directory, the latest first."""
    return [where for where in reversed(_points()) if where.startswith(f"{root}/")]


def _points() -> list[str]:
    """Mount points in the order they were mounted."""
    return [
        line.split()[1].encode().decode("unicode_escape") for line in Path("/proc/self/mounts").read_text().splitlines()
    ]


def tmpfs(path: Path, size: int | None) -> bool:
    """A tmpfs; True when it is new."""
    if mounted(path):
        return False
    options = ["-o", f"size={size}"] if size else []
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(path)], check=True, capture_output=True)
    return True


def bind(source: Path, target: Path, *, read_only: bool = False) -> None:
    """A bind mount of a directory or a file; raises CalledProcessError."""
    if mounted(target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    subprocess.run(["mount", "--bind", str(source), str(target)], check=True, capture_output=True)
    if read_only:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(target)], check=True, capture_output=True)


def unmount_below(root: Path) -> None:
    """Unmount everything below a directory.

    :raises OSError: something stays; whoever removes the directory now would empty what is mounted there
    """
    for where in below(root):
        subprocess.run(["umount", "-l", where], check=False, capture_output=True)
    left = below(root)
    if left:
        raise OSError(f"still mounted: {', '.join(left)}")
