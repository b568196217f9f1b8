# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Holding CRIU back until its moment has come, so that the runtime gets ready outside the freeze.

The runtime is started with our ``criu`` before the real one in its PATH (roles/node/files/libexec/criu). It waits at a named
pipe, says that it got there by a file, and becomes the real CRIU when ``go`` is written into the pipe.
"""

from __future__ import annotations

import os

FRONT = "/usr/local/libexec/podferry"
"""The folder in which our ``criu`` stands."""


class Hold:
    """One call of CRIU that is held back.

    :param folder: where the pipe is made; for root only.
    """

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, "hold")
        os.mkfifo(self.path, 0o600)
        # Open for both: whoever waits at the pipe is let in, and sees its end when we are gone, however we go.
        self._pipe = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def environment(self, env: dict[str, str]) -> dict[str, str]:
        """``env`` with our front before CRIU."""
        return {**env, "PATH": f"{FRONT}:{env['PATH']}", "PODFERRY_HOLD": self.path}

    def reached(self) -> bool:
        """Whether the runtime has come as far as calling CRIU."""
        return os.path.exists(f"{self.path}.ready")

    def release(self) -> None:
        """Let CRIU go on, also when it comes to the pipe only later."""
        os.write(self._pipe, b"go\n")

    def break_off(self) -> None:
        """End the wait without CRIU: the front exits with an error."""
        os.close(self._pipe)


def can_hold(runtime: str) -> bool:
    """Whether this runtime calls CRIU in the way that the front knows: runc does, crun's library also asks for its version so."""
    return os.path.basename(runtime) == "runc"
