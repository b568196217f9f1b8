# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""Processes that outlive the command that started them, named by pid *and* start time.

A pid alone may have been reused since the file was written; killing by it would hit a stranger.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple


class Identity(NamedTuple):
    """A process as the kernel knows it: pid and start time (clock ticks since boot)."""

    pid: int
    start: int

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return _stat(self.pid) == (self.start, False)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, if the process is still the one we mean."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait_gone(self, seconds: float) -> bool:
        """Whether the process ended within ``seconds``."""
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def _stat(pid: int) -> tuple[int, bool] | None:
    """(start time, is a zombie) of a pid; None when there is no such process."""
    try:
        with Path(f"/proc/{pid}/stat").open(encoding="ascii", errors="replace") as handle:
            text = handle.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name may hold spaces and parentheses
    return int(fields[19]), fields[0] in "ZX"


def identify(pid: int) -> Identity:
    """The identity of a running process. Raises ProcessLookupError."""
    found = _stat(pid)
    if found is None:
        raise ProcessLookupError(pid)
    return Identity(pid, found[0])


def write_identities(path: str, identities: dict[str, Identity]) -> None:
    """Store identities; readers see the old file or the whole new one."""
    temporary = f"{path}.new"
    with Path(temporary).open("w", encoding="ascii") as handle:
        json.dump({key: list(value) for key, value in identities.items()}, handle)
    os.replace(temporary, path)


def read_identities(path: str) -> dict[str, Identity]:
    """What write_identities stored; nothing when there is no such (readable) file."""
    try:
        with Path(path).open(encoding="ascii") as handle:
            return {key: Identity(*value) for key, value in json.load(handle).items()}
    except (FileNotFoundError, ValueError, TypeError):
        return {}
