# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What systemd and /proc say about a running service: its process, its arguments and its own PATH."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from .._common.errors import PodferryError
from .._common.files import read_text
from .process import Runner

Read = t.Callable[[str], str]
"""Returns the text of a file; raises OSError."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"
"""What systemd gives a service that says nothing (systemd.exec(5))."""


@dataclasses.dataclass(frozen=True)
class Service:
    """A running unit."""

    unit: str
    pid: int
    argv: t.Sequence[str]
    path: str
    """Its PATH."""

    def option(self, *names: str) -> str | None:
        """Return the value of a command line option in either form, ``--name value`` or ``--name=value``."""
        for index, word in enumerate(self.argv):
            name, separator, value = word.partition("=")
            if name in names:
                if separator:
                    return value
                return self.argv[index + 1] if index + 1 < len(self.argv) else ""
        return None


def main_pid(show: str) -> int:
    """Read ``MainPID=`` out of ``systemctl show``; 0 when the unit does not run."""
    for line in show.splitlines():
        name, _separator, value = line.partition("=")
        if name == "MainPID" and value.isdigit():
            return int(value)
    return 0


def search_path(environ: str) -> str:
    """Read PATH out of ``/proc/PID/environ``."""
    for entry in environ.split("\0"):
        name, _separator, value = entry.partition("=")
        if name == "PATH":
            return value
    return DEFAULT_PATH


def find(unit: str, run: Runner, read: Read = read_text) -> Service | None:
    """Return the unit's running main process, or None when it does not run."""
    try:
        pid = main_pid(run(["systemctl", "show", "--property=MainPID", unit]).stdout)
        if not pid:
            return None
        argv = read(f"/proc/{pid}/cmdline").rstrip("\0").split("\0")
        return Service(unit, pid, argv, search_path(read(f"/proc/{pid}/environ")))
    except (OSError, PodferryError):
        return None


def which(name: str, path: str, executable: t.Callable[[str], bool] | None = None) -> str | None:
    """Return where a program is on a search path; an absolute name is only looked at."""
    usable = executable or _executable
    candidates = [name] if os.path.isabs(name) else [os.path.join(folder, name) for folder in path.split(":") if folder]
    return next((candidate for candidate in candidates if usable(candidate)), None)


def _executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)
