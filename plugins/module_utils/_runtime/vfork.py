# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Processes that stand between vfork and exec.

The caller of vfork (and of posix_spawn, so of most that starts programs) waits in the kernel, without being interruptible, until
its child calls exec or ends. Both freezers count it as frozen there. CRIU cannot seize it: with its child frozen too it never
comes back, and the dump fails after CRIU's timeout of ten seconds.
"""

from __future__ import annotations

import os
import typing as t

from .._common.files import read_text

_WAITS_IN = frozenset(("kernel_clone", "wait_for_vfork_done", "_do_fork"))
"""Kernel functions (``/proc/PID/wchan``): the wait has no other function of its own, and nothing else waits in these."""


def waiting(pids: t.Sequence[int], proc: str = "/proc") -> list[int]:
    """Those of ``pids`` with a thread that waits for its child so. Empty where the kernel does not say what is waited for."""
    if len(pids) < 2:  # its child is one of them
        return []
    return [pid for pid in pids if _waits(os.path.join(proc, str(pid), "task"))]


def _waits(tasks: str) -> bool:
    try:
        return any(read_text(os.path.join(tasks, task, "wchan")).strip() in _WAITS_IN for task in os.listdir(tasks))
    except OSError:  # gone meanwhile
        return False
