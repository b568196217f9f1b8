# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The containers that run on a node, by what their runtimes leave in files: no client program is needed."""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import typing as t

from .._common.files import read_text

_CONTAINERD = "io.containerd.runtime.v2.task/k8s.io"
_CRIO = "overlay-containers"
DEFAULT_STATE = {"containerd": "/run/containerd", "crio": "/run/containers/storage"}
"""Where they keep it unless their configuration says otherwise."""


@dataclasses.dataclass(frozen=True)
class Running:
    """A container (or a pod's sandbox) with a live first process."""

    id: str
    pid: int
    program: str
    """The OCI runtime that it was created with, "" for the default."""


def running(
    engine: str,
    state_dir: str,
    read: t.Callable[[str], str] = read_text,
    find: t.Callable[[str], list[str]] = glob.glob,
    exists: t.Callable[[str], bool] = os.path.exists,
) -> list[Running]:
    """Return what runs, sorted by id.

    :param engine: "containerd" or "crio".
    :param state_dir: containerd's ``state``, CRI-O's ``runroot``.
    """
    pattern = f"{state_dir}/{_CONTAINERD}/*" if engine == "containerd" else f"{state_dir}/{_CRIO}/*/userdata"
    found = []
    for bundle in find(pattern):
        container = _containerd(bundle, read) if engine == "containerd" else _crio(bundle, read)
        if container is not None and exists(f"/proc/{container.pid}"):
            found.append(container)
    return sorted(found, key=lambda container: container.id)


def _containerd(bundle: str, read: t.Callable[[str], str]) -> Running | None:
    """containerd's shim writes the pid, and the runtime's program if one was configured (``runtime``)."""
    try:
        pid = int(read(f"{bundle}/init.pid"))
    except (OSError, ValueError):
        return None
    try:
        program = read(f"{bundle}/runtime").strip()
    except OSError:
        program = ""
    return Running(os.path.basename(bundle), pid, program)


def _crio(bundle: str, read: t.Callable[[str], str]) -> Running | None:
    """conmon writes the pid; CRI-O notes the handler's name among the annotations of the state."""
    try:
        pid = int(read(f"{bundle}/pidfile"))
        annotations = json.loads(read(f"{bundle}/config.json")).get("annotations") or {}
    except (OSError, ValueError):
        return None
    handler = str(annotations.get("io.kubernetes.cri-o.RuntimeHandler", ""))
    return Running(os.path.basename(os.path.dirname(bundle)), pid, handler)
