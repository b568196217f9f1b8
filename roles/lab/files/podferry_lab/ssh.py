# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""Connections that Ansible keeps open into the lab (ControlPersist) must not outlive its machines.

Nobody tells such a master that the machine behind it is gone; it would swallow the next commands until TCP gives up.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess


def close_masters(state: str) -> bool:
    """Ask every SSH master of the lab to end; True when one did."""
    directory = f"{state}/cp"
    changed = False
    for entry in os.scandir(directory) if os.path.isdir(directory) else ():
        if not stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
            continue
        done = subprocess.run(
            ["ssh", "-F", "none", "-o", f"ControlPath={entry.path}", "-O", "exit", "lab"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=10,
        )  # fmt: skip
        changed |= done.returncode == 0
        with contextlib.suppress(FileNotFoundError):
            os.unlink(entry.path)
    return changed
