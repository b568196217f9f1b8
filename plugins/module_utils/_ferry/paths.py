# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Where everything of a run lives on a node, readable by root only: on tmpfs, but for files that are copied before the freeze."""

from __future__ import annotations

import contextlib
import os
import re
import shutil

from .._common.errors import InvalidInput

STATE = "/run/podferry"
STAGING = "/var/lib/podferry"
"""Files that are copied while the pod runs wait here, on a disk: they come from one, and go to one."""
VOLUMES = "pod.volumes"
"""Stands where a container's name does, for what belongs to the pod. No container is called so: names hold no dot."""
LIBEXEC = "/usr/local/libexec/podferry"
NODE = f"{LIBEXEC}/podferry-node"
ACTION = f"{LIBEXEC}/podferry-action"

_RUN = re.compile(r"[0-9a-f]{12}(\.undo)?")
_DNS = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def valid_run(run: object) -> str:
    """Return ``run`` when it is a run id (12 hexadecimal digits).

    :raises InvalidInput: it is not; nothing of it may become part of a path then.
    """
    if not isinstance(run, str) or not _RUN.fullmatch(run):
        raise InvalidInput(f"{run!r} is not a run id")
    return run


def valid_name(name: object) -> str:
    """Return ``name`` when it is a Kubernetes object name.

    :raises InvalidInput: it is not; nothing of it may become part of a path then.
    """
    if not isinstance(name, str) or not _DNS.fullmatch(name) or ".." in name:
        raise InvalidInput(f"{name!r} is not a Kubernetes name")
    return name


class RunPaths:
    """The paths of one run."""

    def __init__(self, run: str, state: str = STATE) -> None:
        self.run = valid_run(run)
        self.state = state
        self.directory = os.path.join(state, "runs", run)
        self.journal = os.path.join(self.directory, "journal.json")
        self.control = os.path.join(self.directory, "control.sock")
        self.images = os.path.join(self.directory, "images")
        self.incomplete = os.path.join(self.directory, "incomplete")
        """What stands restored is not what it was yet, see :mod:`reunion`."""
        self.staging = os.path.join(STAGING if state == STATE else os.path.join(state, "staging"), run)

    def create(self) -> None:
        """Make the run's directory.

        :raises FileExistsError: there is a run of that id already.
        """
        for folder in (self.state, os.path.join(self.state, "runs")):
            os.makedirs(folder, mode=0o700, exist_ok=True)
        os.mkdir(self.directory, mode=0o700)
        self._sweep()

    def _sweep(self) -> None:
        """Remove what runs left on the disk that this node does not know any more: it was restarted.

        Nothing else that lies there is touched: a store of checkpoints does.
        """
        folder = os.path.dirname(self.staging)
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            if _RUN.fullmatch(name) and not os.path.isdir(os.path.join(self.state, "runs", name)):
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)

    def remove_staging(self) -> None:
        """Remove what this run has on the disk, and the folder when it was the last one.

        :raises OSError: something of it stays; the run must stay known then, so that it is tried again.
        """
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.staging)
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(self.staging))

    def container(self, name: str) -> str:
        """The folder of one container's state, on the images' tmpfs."""
        return os.path.join(self.images, valid_name(name))

    def criu(self, name: str) -> str:
        """CRIU's images of one container."""
        return os.path.join(self.container(name), "criu")

    def work(self, name: str) -> str:
        """CRIU's logs and statistics for one container."""
        return os.path.join(self.container(name), "work")

    def mark(self, kind: str, name: str) -> str:
        """A marker file such as ``claim``, ``frozen``, ``action-failed`` of one container."""
        return os.path.join(self.directory, f"{kind}.{valid_name(name)}")


def unit_name(run: str, role: str) -> str:
    """The systemd unit of a ferry."""
    return f"podferry-{valid_run(run)}-{role}.service"


def arrivals(state: str = STATE) -> str:
    """Where the handler looks for arrivals."""
    return os.path.join(state, "arrivals")


def arrival(namespace: str, pod: str, state: str = STATE) -> str:
    """The arrival of one pod. Kubernetes names hold no underscore, so this is unambiguous."""
    return os.path.join(arrivals(state), f"{valid_name(namespace)}_{valid_name(pod)}")


def claim(identifier: str, state: str = STATE) -> str:
    """The folder in which the handler's front finds a container that was restored."""
    if not re.fullmatch(r"[0-9a-f]{64}", identifier):
        raise InvalidInput(f"{identifier!r} is not a container id")
    return os.path.join(state, "claims", identifier)
