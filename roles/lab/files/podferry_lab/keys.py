# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""SSH keys of a lab: one that opens its machines, and one for each machine that is known before it first boots."""

from __future__ import annotations

import os
from pathlib import Path

from . import command
from .spec import File, Lab, Machine

USER_KEY = "id_ed25519"


def _host_key(lab: Lab, machine: Machine) -> str:
    return f"{lab.directory(machine.name)}/ssh_host_ed25519_key"


def _read(path: str) -> str:
    with Path(path).open(encoding="ascii") as handle:
        return handle.read()


def ensure(lab: Lab) -> bool:
    """Make missing keys and known_hosts; True when something was made."""
    changed = _make(f"{lab.state}/{USER_KEY}", f"lab {lab.name}")
    for machine in lab.machines:
        os.makedirs(lab.directory(machine.name), exist_ok=True)
        changed |= _make(_host_key(lab, machine), f"{machine.name} of lab {lab.name}")
    known = "".join(f"{machine.name} {_read(_host_key(lab, machine) + '.pub')}" for machine in lab.machines)
    path = f"{lab.state}/known_hosts"
    if not os.path.exists(path) or _read(path) != known:
        with Path(path).open("w", encoding="ascii") as handle:
            handle.write(known)
        changed = True
    return changed


def _make(path: str, comment: str) -> bool:
    if os.path.exists(path) and os.path.exists(f"{path}.pub"):
        return False
    for name in (path, f"{path}.pub"):
        if os.path.exists(name):
            os.unlink(name)
    command.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path)
    return True


def planted(lab: Lab, machine: Machine) -> list[File]:
    """The files by which a machine knows itself and lets us in."""
    return [
        File("root/.ssh/authorized_keys", "0600", _read(f"{lab.state}/{USER_KEY}.pub")),
        File("etc/ssh/ssh_host_ed25519_key", "0600", _read(_host_key(lab, machine))),
        File("etc/ssh/ssh_host_ed25519_key.pub", "0644", _read(f"{_host_key(lab, machine)}.pub")),
    ]
