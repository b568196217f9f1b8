# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The node's containerd: its configuration read, and its files written so that containerd has the last word."""

from __future__ import annotations

import errno
import os
import tempfile
import typing as t
from pathlib import Path

from .._common.errors import PodferryError
from .._runtime import cri, facts, process
from .containerd_handler import FileChange, Situation, made_folder


class Containerd:
    """The running containerd.

    :param tmpdir: a folder for files that are not finished.
    :param move: puts a finished file in its place, with owner and mode of what was there.
    :raises PodferryError: none runs as a systemd service.
    """

    def __init__(self, tmpdir: str, move: t.Callable[[str, str], None]) -> None:
        self._tmpdir = tmpdir
        self._move = move
        machine = facts.Probe(process.run)
        running = machine.service("containerd")
        if running is None:
            raise PodferryError(
                "containerd does not run as a systemd service", "Start it: `systemctl start containerd`."
            )
        self._runtime = facts.Runtime(machine, "containerd", running)
        version = self._runtime.version()
        if version is None:
            raise PodferryError("`containerd --version` says no version")
        self._version = version
        self._path = os.path.realpath(self._runtime.config_path or facts.CONTAINERD_CONFIG)

    def config(self) -> cri.CriConfig:
        """Return what containerd makes of its files now."""
        return self._runtime.config()

    def situation(self) -> Situation:
        """Return what a plan is made from."""
        return Situation(self._version, self.config(), self._path, read, os.path.isdir)

    def carry_out(self, changes: t.Sequence[FileChange], check: t.Callable[[cri.CriConfig], None]) -> None:
        """Write the files; put them back if containerd does not understand them as they were meant.

        :param check: raises PodferryError when the configuration that containerd then has is not the wanted one.
        """
        done: list[FileChange] = []
        try:
            for change in changes:
                done.append(change)
                self._apply(change)
            check(self.config())
        except (PodferryError, OSError):
            for change in reversed(done):
                if read(change.path) != change.before:
                    self._apply(FileChange(change.path, change.after, change.before))
            raise

    def _apply(self, change: FileChange) -> None:
        """Write or remove one file; owner and mode of an existing one stay."""
        if change.after is None:
            os.unlink(change.path)
            if made_folder(change):
                _remove_empty(os.path.dirname(change.path))
            return
        os.makedirs(os.path.dirname(change.path), mode=0o755, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=self._tmpdir)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(change.after)
        if change.before is None:
            os.chmod(temporary, 0o644)
        self._move(temporary, change.path)


def _remove_empty(folder: str) -> None:
    """Remove a folder of ours, unless somebody has put something into it."""
    try:
        os.rmdir(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def read(path: str) -> bytes | None:
    """Return a file's bytes, or None when there is none."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None
