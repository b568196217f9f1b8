# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Where a running container's bundle, runtime state, cgroup and files are on its node."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
import typing as t

from .._common.errors import InvalidInput, NotFound
from .._common.files import read_json, read_text
from . import oci
from .cgroup import Cgroup
from .cri import HANDLER

CONTAINERD_TASKS = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
CONTAINERD_RUNC_ROOT = "/run/containerd/runc/k8s.io"
CRIO_USERDATA = "/run/containers/storage/overlay-containers/{id}/userdata"
CRIO_RUNC_ROOTS = ("/run/runc", "/run/crun", "/run/podferry-oci")
RUNC_STATE, CRUN_STATE = "state.json", "status"
"""Where the two write down what they know of a container."""
FRONT = "/usr/local/libexec/podferry/podferry-runc"

_ID = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Container:
    """A container as the node's runtime knows it."""

    name: str
    id: str
    engine: str
    bundle: str
    runtime: str
    runtime_root: str
    pid: int
    config: t.Mapping[str, t.Any]
    cgroup: Cgroup
    owner: oci.Identity

    @property
    def rootfs(self) -> str:
        """The container's root as the host sees it mounted."""
        root = str((self.config.get("root") or {}).get("path", "rootfs"))
        return os.path.join(self.bundle, root)

    def base_argv(self) -> list[str]:
        """How the real runtime is called for this container."""
        return [self.runtime, "--root", self.runtime_root]


def parse_reference(reference: str) -> tuple[str, str]:
    """Split ``containerd://<id>`` or ``cri-o://<id>`` into engine and id.

    :raises InvalidInput: anything else.
    """
    engine, separator, identifier = reference.partition("://")
    engines = {"containerd": "containerd", "cri-o": "crio"}
    if not separator or engine not in engines or not _ID.fullmatch(identifier):
        raise InvalidInput(f"{reference!r} is not the id of a containerd or CRI-O container")
    return engines[engine], identifier


def real_runtime(path: str) -> str:
    """The runtime behind our front, or ``path`` itself when it is not our front."""
    if os.path.basename(path) != os.path.basename(FRONT):
        return path
    found = re.search(r"^runtime=(\S+)$", read_text(path), re.MULTILINE)
    if not found:
        raise NotFound(f"{path} names no runtime", "Run playbooks/bootstrap.yml for this node.")
    return found.group(1)


def find(name: str, reference: str) -> Container:
    """Find a running container by the id that the Kubernetes API shows.

    :raises NotFound: the node's runtime does not know it, or it does not run.
    """
    engine, identifier = parse_reference(reference)
    bundle = (
        os.path.join(CONTAINERD_TASKS, identifier) if engine == "containerd" else CRIO_USERDATA.format(id=identifier)
    )
    try:
        config = read_json(os.path.join(bundle, "config.json"))
    except (OSError, ValueError) as error:
        raise NotFound(
            f"container {name} ({identifier[:12]}) is not running on this node",
            "Check the node's name in the inventory (podferry_node_name), and whether the pod was restarted meanwhile.",
        ) from error
    owner = oci.identity(config)
    if owner is None or owner.sandbox:
        raise InvalidInput(f"{identifier[:12]} is not a container of a pod")
    runtime, root = _runtime_of(engine, bundle, identifier, config)
    pid = _init_of(os.path.join(root, identifier))
    return Container(name, identifier, engine, bundle, runtime, root, pid, config, Cgroup.of_process(pid), owner)


def _init_of(folder: str) -> int:
    """The container's first process, from what runc or crun wrote down."""
    if os.path.exists(os.path.join(folder, RUNC_STATE)):
        return int(read_json(os.path.join(folder, RUNC_STATE))["init_process_pid"])
    return int(read_json(os.path.join(folder, CRUN_STATE))["pid"])


def _runtime_of(engine: str, bundle: str, identifier: str, config: t.Mapping[str, t.Any]) -> tuple[str, str]:
    """Find the OCI runtime's program and its state root, by where its state file is."""
    if engine == "containerd":
        program = "runc"
        for name in ("runtime", "options.json"):
            path = os.path.join(bundle, name)
            if not os.path.exists(path):
                continue
            if name == "runtime":
                program = read_text(path).strip() or program
            else:
                options = read_json(path)
                program = str(options.get("binary_name") or options.get("BinaryName") or program)
        roots = [CONTAINERD_RUNC_ROOT, *glob.glob("/run/containerd/*/k8s.io")]
    else:
        ours = (config.get("annotations") or {}).get("io.kubernetes.cri-o.RuntimeHandler") == HANDLER
        program = FRONT if ours else ""
        roots = list(CRIO_RUNC_ROOTS)
    for root in roots:
        for state, family in ((RUNC_STATE, "runc"), (CRUN_STATE, "crun")):
            if os.path.exists(os.path.join(root, identifier, state)):
                return real_runtime(find_program(program or family)), root
    raise NotFound(f"no OCI runtime on this node has a state for container {identifier[:12]}")


def find_program(name: str) -> str:
    """Find a program in the places where packages put them.

    :raises NotFound: it is in none of them.
    """
    if os.path.isabs(name):
        return name
    for folder in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/libexec/crio"):
        path = os.path.join(folder, name)
        if os.access(path, os.X_OK):
            return path
    raise NotFound(f"{name} is not installed on this node", "Run playbooks/bootstrap.yml for this node.")
