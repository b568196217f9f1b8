# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""Remove a lab whatever state it is in; only the cache of roots and images stays."""

from __future__ import annotations

import os
import shutil

from . import cgroups, machine, network, relay, ssh


def remove(name: str, state: str) -> bool:
    """Remove the lab ``name``; True when there was something. Raises LabError, TimeoutError.

    Works without ``lab.json``: what belongs to a lab is found by its name and in its state directory.
    """
    changed = ssh.close_masters(state)
    changed |= relay.stop(f"{state}/relay.json")
    machines = f"{state}/machines"
    for entry in sorted(os.listdir(machines)) if os.path.isdir(machines) else ():
        changed |= machine.stop(name, f"{machines}/{entry}/pids.json", entry)
    changed |= cgroups.kill_and_remove(name)
    changed |= network.remove(f"{state}/control.netns")
    if os.path.isdir(state):
        shutil.rmtree(state)
        changed = True
    return changed
