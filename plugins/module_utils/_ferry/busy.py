# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Long work of a session on a run that has no ferry (any more): its state goes to a store, or comes from one.

A lock tells all other sessions that somebody is at it; the kernel gives it back when the process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t

from .._common.errors import Cancelled, NotFound, StateConflict
from .._store.spool import Pulse, no_pulse
from .paths import RunPaths

_LOOK_SECONDS = 0.05
_BEGIN_SECONDS = 5.0
"""Somebody may just be looking whether the lock is free."""
_STOP_SECONDS = 30.0
"""Until work that was told to stop has done so: one request to a store has to come to its end."""


def _lock(place: RunPaths) -> str:
    return os.path.join(place.directory, "busy")


def _stop(place: RunPaths) -> str:
    return os.path.join(place.directory, "stop")


def _taken(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _worker(place: RunPaths) -> int:
    """The process that works on the run, if the lock is held at all; 0 when it is held for the run's end."""
    try:
        with open(_lock(place), encoding="ascii") as stream:
            return int(stream.read() or 0)
    except (OSError, ValueError):
        return 0


class Work:
    """Work on a run. While it goes on, only its own process ends the run.

    :param pulse: called now and then; raises when the work is to stop.
    """

    def __init__(self, place: RunPaths, pulse: Pulse = no_pulse) -> None:
        self._place = place
        self._pulse = pulse
        self._descriptor = -1

    def __enter__(self) -> Work:
        """:raises NotFound: there is no such run. :raises StateConflict: somebody works on it, or ends it."""
        deadline = time.monotonic() + _BEGIN_SECONDS
        descriptor = _open(self._place)
        try:
            while not _taken(descriptor, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise StateConflict(f"somebody else works on run {self._place.run} or ends it", "Wait for its end.")
                time.sleep(_LOOK_SECONDS)
            if not os.fstat(descriptor).st_nlink:
                raise _unknown(self._place)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_stop(self._place))
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode("ascii"))
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(self, *_error: object) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)

    def pulse(self) -> None:
        """:raises Cancelled: somebody wants the work to stop, or nobody waits for it any more."""
        self._pulse()
        if os.path.exists(_stop(self._place)):
            raise Cancelled(f"the work on run {self._place.run} was stopped", "Run it again.")


def _open(place: RunPaths) -> int:
    try:
        return os.open(_lock(place), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise _unknown(place) from None


def _unknown(place: RunPaths) -> NotFound:
    return NotFound(f"this node knows no run {place.run}", "It was ended, or the node was restarted. Run it again.")


def held(place: RunPaths) -> bool:
    """Whether a living process works on the run."""
    try:
        descriptor = os.open(_lock(place), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _taken(descriptor, fcntl.LOCK_SH) and _worker(place) > 0
    finally:
        os.close(descriptor)


def stop(place: RunPaths) -> bool:
    """Tell whoever works on the run to stop. False when nobody does."""
    if not held(place):
        return False
    with contextlib.suppress(FileNotFoundError):  # the run has just been ended
        os.close(os.open(_stop(place), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return True


@contextlib.contextmanager
def ending(place: RunPaths) -> t.Iterator[None]:
    """Keep everybody off the run, so that it can be ended. Work of this very process on it is stopped first.

    :raises NotFound: it has been ended. :raises StateConflict: another process works on it.
    """
    descriptor = _open(place)
    try:
        deadline = time.monotonic() + _STOP_SECONDS
        while not _taken(descriptor, fcntl.LOCK_EX):
            worker = _worker(place)
            if worker == os.getpid():
                stop(place)
            elif worker and not os.path.exists(_stop(place)):
                raise StateConflict(
                    f"run {place.run} cannot be ended: its state is just being stored or loaded", "Wait for its end."
                )
            if time.monotonic() > deadline:
                raise StateConflict(f"the work on run {place.run} does not stop", "Wait a minute and do it again.")
            time.sleep(_LOOK_SECONDS)
        if not os.fstat(descriptor).st_nlink:
            raise _unknown(place)
        os.ftruncate(descriptor, 0)
        yield
    finally:
        os.close(descriptor)
