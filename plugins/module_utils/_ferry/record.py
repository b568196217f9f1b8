# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The record of an arrival: the one truth about whether the target was let go.

The record is a file whose *name* is its state. Changing the state is one rename(2), so of two that try, one wins:

    armed -> going -> done
    armed -> aborted        going -> aborted (only as long as nothing was thawed, by whoever holds the run's lock)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import typing as t

from .._common.files import read_json, sync_directory, write_json

State = t.Literal["armed", "going", "aborted", "done", "none"]
_STATES: tuple[State, ...] = ("done", "aborted", "going", "armed")


class Record:
    """The record in one run's directory."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def _path(self, state: str) -> str:
        return os.path.join(self._directory, f"record.{state}")

    def arm(self, content: t.Mapping[str, t.Any]) -> None:
        """Write the record in its first state."""
        write_json(self._path("armed"), dict(content))

    def content(self) -> dict[str, t.Any]:
        """What it was armed with; empty when there is none."""
        for state in _STATES:
            with contextlib.suppress(OSError, ValueError, RecursionError):
                found = read_json(self._path(state))
                if isinstance(found, dict):
                    return found
        return {}

    def state(self) -> State:
        """Return the state, ``none`` when there is no record."""
        for _attempt in range(2):  # a rename between two looks may hide it once
            for state in _STATES:
                if os.path.exists(self._path(state)):
                    return state
        return "none"

    def move(self, old: State, new: State) -> bool:
        """Rename ``old`` to ``new``; False when somebody else moved it first."""
        try:
            os.rename(self._path(old), self._path(new))
        except FileNotFoundError:
            return False
        sync_directory(self._directory)
        return True

    def mark_thawed(self) -> None:
        """Say for good that the target may have run an instruction. Called before the first thaw."""
        descriptor = os.open(os.path.join(self._directory, "thawed"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.close(descriptor)

    def thawed(self) -> bool:
        """Whether the target may have run an instruction."""
        return os.path.exists(os.path.join(self._directory, "thawed"))

    def lock(self) -> t.IO[str]:
        """Take the lock that makes "nothing was thawed" and "give it up" one step; closing the file frees it."""
        stream = open(os.path.join(self._directory, "record.lock"), "w", encoding="utf-8")
        fcntl.flock(stream, fcntl.LOCK_EX)
        return stream
