# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Named points at which a test can make the engine fail, like CRIU's own CRIU_FAULT.

A process reads ``/run/podferry/faults.json`` once, when it starts: an object of point -> action. That folder belongs to
root, and a file there can do nothing that root cannot do with kill(1). Without the file every point is one look-up in
an empty dictionary.

Actions: ``kill`` (SIGKILL to the process), ``hang`` (it stops answering), ``error`` (an OSError, as of a full disk), ``hold``
(it waits until the point's hold file is removed; that the file exists says that the point was reached).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time

FILE = "/run/podferry/faults.json"
HOLD = "/run/podferry/hold"
"""Prefix of hold files: the point's name with dots for colons follows."""

_active: dict[str, str] = {}
_trace = False


def load(path: str = FILE) -> None:
    """Read what is to fail in this process; nothing when there is no file."""
    global _trace
    try:
        with open(path, encoding="utf-8") as stream:
            wanted = json.load(stream)
    except (OSError, ValueError):
        return
    _active.update({str(name): str(action) for name, action in wanted.items()})
    _trace = "trace" in _active


def point(name: str, of: str = "") -> None:
    """Pass a named point. ``of``: the container that it is about; a fault is asked for at ``name`` (the first one) or ``name@of``.

    :raises OSError: the fault asked for is ``error``.
    """
    if not _active:
        return
    if of:
        name = f"{name}@{of}" if _trace or f"{name}@{of}" in _active else name
    if _trace:
        with open(_active["trace"], "a", encoding="utf-8") as stream:
            stream.write(name + "\n")
    action = _active.pop(name, "")
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "hang":
        time.sleep(3600)
    elif action == "error":
        raise OSError(errno.ENOSPC, f"injected at {name}")
    elif action == "hold":
        path = f"{HOLD}.{name.replace(':', '.')}"
        with open(path, "w", encoding="utf-8"):
            pass
        while os.path.exists(path):
            time.sleep(0.005)
