# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""What the role asks for: ``<state>/lab.json``, and where things are in a lab's state directory."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?")


class File(NamedTuple):
    """A file that a machine has before it boots for the first time."""

    path: str
    #: Octal, or ``link``: then the content is what the link says.
    mode: str
    content: str


class Machine(NamedTuple):
    """One machine of the lab."""

    name: str
    address: str
    #: The machine's pods get addresses from here; empty: it runs none.
    pod_subnet: str
    #: Seconds by which CLOCK_MONOTONIC and CLOCK_BOOTTIME run ahead of the host's.
    clock_offset: int
    #: Lives in the namespace of the bridge itself instead of one of its own.
    control: bool
    files: list[File]


class Lab(NamedTuple):
    """A lab as the role describes it."""

    name: str
    state: str
    root: str
    images: str
    prefix_length: int
    pod_network: str
    #: First address of the service network: the API server's own name in the cluster.
    api_service_address: str
    api_port: int
    bin_dirs: list[str]
    machines: list[Machine]

    @property
    def netns(self) -> str:
        """Where the control host's network namespace is bound; SSH's ProxyCommand enters it by this name."""
        return f"{self.state}/control.netns"

    @property
    def shared(self) -> str:
        """The folder that all machines share."""
        return f"{self.state}/shared"

    @property
    def control(self) -> Machine:
        """The control host."""
        return next(machine for machine in self.machines if machine.control)

    def machine(self, name: str) -> Machine:
        """A machine by name. Raises KeyError."""
        for machine in self.machines:
            if machine.name == name:
                return machine
        raise KeyError(name)

    def directory(self, machine: str) -> str:
        """Directory of a machine."""
        return f"{self.state}/machines/{machine}"

    def pidfile(self, machine: str) -> str:
        """Where the identities of a machine's processes are stored."""
        return f"{self.directory(machine)}/pids.json"

    @property
    def relay_pidfile(self) -> str:
        """Where the relay's identity is stored."""
        return f"{self.state}/relay.json"


def check_name(name: str) -> str:
    """A lab's name is part of paths and cgroup names. Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"lab name {name!r}: want up to 24 of a-z, 0-9 and dashes")
    return name


def load(state: str) -> Lab:
    """Read ``lab.json``. Raises FileNotFoundError, KeyError, ValueError."""
    with Path(os.path.join(state, "lab.json")).open(encoding="utf-8") as handle:
        data = json.load(handle)
    machines = [Machine(**{**item, "files": [File(**file) for file in item["files"]]}) for item in data.pop("machines")]
    lab = Lab(machines=machines, **data)
    check_name(lab.name)
    return lab
