# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Ferries as transient systemd units: they outlive the session that started them, and their guard outlives them."""

from __future__ import annotations

import os
import time

from .._common.errors import CommandFailed, PodferryError
from .._runtime.process import Runner
from .control import Client
from .paths import NODE, RunPaths, unit_name

_START_SECONDS = 30.0


def start(paths: RunPaths, role: str, runner: Runner) -> Client:
    """Start the ferry of a run and connect to it.

    :raises CommandFailed: systemd or the ferry did not start.
    """
    unit = unit_name(paths.run, role)
    done = runner(
        [
            "systemd-run", f"--unit={unit}", "--collect", "--quiet", "--service-type=exec",
            f"--description=podferry {role} of run {paths.run}",
            "--property=NotifyAccess=main", "--property=WatchdogSignal=SIGKILL",
            "--property=KillMode=control-group", "--property=TimeoutStopSec=30s", "--property=LimitNOFILE=65536",
            f"--property=ExecStopPost={NODE} guard {paths.run} {role}",
            "--", NODE, "serve", paths.run, role,
        ]
    )  # fmt: skip
    if done.code != 0:
        raise CommandFailed(
            f"systemd did not start {unit}: {(done.stderr or done.stdout).strip()}", "Look at `journalctl` on the node."
        )
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            return Client(paths.control)
        except PodferryError as error:
            if time.monotonic() > deadline:
                raise CommandFailed(
                    f"{unit} started but does not listen", f"Look at `journalctl -u {unit}`."
                ) from error
        time.sleep(0.01)


def stop(paths: RunPaths, role: str, runner: Runner) -> None:
    """Stop a ferry (its guard runs after it); nothing happens when it has ended."""
    unit = unit_name(paths.run, role)
    done = runner(["systemctl", "stop", unit], timeout=60)
    if done.code not in (0, 5):  # 5: there is none
        raise CommandFailed(
            f"systemd did not stop {unit}: {done.stderr.strip()}", "Look at `systemctl status` on the node."
        )
    runner(["systemctl", "reset-failed", unit], timeout=30)


def alive(paths: RunPaths, role: str, runner: Runner) -> bool:
    """Whether the ferry runs."""
    return (
        os.path.exists(paths.control)
        and runner(["systemctl", "is-active", "--quiet", unit_name(paths.run, role)]).code == 0
    )
