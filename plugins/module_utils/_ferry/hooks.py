# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A container that arrives has run its postStart hook long ago, but its new kubelet does not know and calls it again.

It does so by the runtime's ``exec``, right after ``start`` and before anything else is executed: that one call, when it is
for the hook's command, is answered by a process that does nothing and ends with 0.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from .._common.files import read_json, write_json, write_text
from .._criu.restore import value_of
from . import paths

_LINGER_SECONDS = 0.05


def expect(identifier: str, command: t.Sequence[str]) -> None:
    """The next ``exec`` of ``command`` in this container is its hook."""
    write_json(_mark(identifier), list(command))


def _mark(identifier: str) -> str:
    return os.path.join(paths.claim(identifier), "post-start")


def post_start(runtime: str, words: t.Sequence[str]) -> int:
    """Handle a call of ``exec``; becomes the runtime when it is not for the hook."""
    mark = _mark(words[-1])
    try:
        wanted = read_json(mark)
        asked = read_json(value_of(words, "--process", "-p")).get("args")
    except (OSError, ValueError):
        wanted, asked = None, []
    if wanted is None or wanted != asked:
        os.execv(runtime, [runtime, *words])
    with contextlib.suppress(FileNotFoundError):
        os.unlink(mark)  # once: the same command as a probe, say, is executed
    detached = "--detach" in words or "-d" in words
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        # The shim, or conmon, waits for this process: it must still be there when they read its number.
        while detached and os.getppid() == parent:
            time.sleep(0.005)
        time.sleep(_LINGER_SECONDS)
        os._exit(0)
    pid_file = value_of(words, "--pid-file")
    if pid_file:
        write_text(pid_file, str(child))
    if detached:
        return 0
    _pid, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status)
