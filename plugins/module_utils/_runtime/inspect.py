# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a running pod is made of, read without touching it. Every reason to refuse it is found here or in its spec."""

from __future__ import annotations

import os
import time
import typing as t

from .._common.errors import NotFound, PodferryError
from .._common.files import read_text
from . import container as containers
from . import oci, procfs, unixsock, volumes
from .container import Container

Facts = t.Dict[str, t.Any]

_STANDARD_DEVICES = {
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/console",
}
_STANDARD_MOUNTS = {"/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup"}
_SANDBOX_MOUNTS = {
    "/dev/shm",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/dev/termination-log",
    "/run/.containerenv",
}
_LOOKS = 3
_UNLISTABLE = ("packet", "raw", "raw6", "sctp/eps", "dccp")


def inspect_pod(arguments: t.Mapping[str, t.Any]) -> Facts:
    """Answer op ``inspect``: the facts about every container, by the ids that the API shows.

    :raises NotFound: a container does not run here or belongs to another pod.
    """
    found = [containers.find(str(item["name"]), str(item["id"])) for item in arguments["containers"]]
    for item in found:
        if item.owner.uid != arguments.get("uid", item.owner.uid):
            raise NotFound(f"container {item.name} belongs to another pod of that name")
    address = str(arguments.get("pod_ip") or "")
    return {
        "containers": [_describe(item, address) for item in found], "sandbox": _sandbox(found[0]), "volumes": _volumes(found[0]),
        "unix_problems": _between(found),
    }  # fmt: skip


def _between(found: t.Sequence[Container]) -> list[str]:
    """Unix sockets between containers that cannot come along, in words."""
    if len(found) < 2:
        return []
    problems: list[str] | None = None
    try:
        with unixsock.observer(f"/proc/{found[0].pid}/ns/net") as asked:
            for _look in range(_LOOKS):  # the pod runs: what passes by is none
                before = unixsock.table(asked)
                held = unixsock.holders({item.name: item.cgroup.pids() for item in found})
                found_now = unixsock.between(unixsock.steady(before, unixsock.table(asked)), held)
                seen = [*found_now.problems, *found_now.outside]
                problems = [words for words in (seen if problems is None else problems) if words in seen]
                if not problems:
                    break
                time.sleep(0.05)
    except (PodferryError, OSError):
        return []  # the dump will tell
    return problems or []


def _volumes(item: Container) -> list[Facts]:
    from .._ferry import tree

    found = volumes.empty_dirs(item.config, item.owner.uid)
    return [{"name": entry.name, "in_memory": entry.in_memory, "bytes": tree.size(entry.path)} for entry in found]


def foreign_processes(item: Container) -> list[Facts]:
    """Processes in the container's cgroup that its init did not start: ``kubectl exec``, exec probes.

    Their parent lives in another PID namespace; CRIU cannot dump them.
    """
    foreign = []
    for pid in item.cgroup.pids():
        fields = procfs.status(pid)
        parent = int(fields.get("PPid", "0") or 0)
        if pid == item.pid or not fields:
            continue
        if parent == 0 or not procfs.same_namespace("pid", parent, item.pid):
            foreign.append({"pid": pid, "comm": fields.get("Name", "")})
    return foreign


def established_connections(pid: int) -> list[procfs.Socket]:
    """TCP connections that leave the pod: ``tcp=close`` ends them. Those over its loopback are carried."""
    return [
        entry
        for entry in procfs.sockets(pid)
        if entry.protocol.startswith("tcp") and entry.state not in (0, procfs.TCP_LISTEN, 6, 7) and not entry.inner
    ]


def _describe(item: Container, address: str) -> Facts:
    foreign = {entry["pid"] for entry in foreign_processes(item)}
    pids = item.cgroup.pids()
    process = item.config.get("process") or {}
    linux = item.config.get("linux") or {}
    return {
        "name": item.name, "id": item.id, "pid": item.pid, "status": "running", "engine": item.engine,
        "runtime_handler": os.path.basename(item.runtime), "runc_root": item.runtime_root, "bundle": item.bundle,
        "cgroup": item.cgroup.path, "frozen": item.cgroup.frozen(), "pids": len(pids),
        "memory_bytes": sum(procfs.memory_bytes(pid) for pid in pids),
        "processes": [
            {"pid": pid, "comm": fields.get("Name", ""), "threads": int(fields.get("Threads", "1")), "foreign": pid in foreign}
            for pid, fields in ((pid, procfs.status(pid)) for pid in pids) if fields
        ],
        "tty": bool(process.get("terminal")), "stdin": _has_stdin(item.pid),
        "rootfs_upper_bytes": _upper_bytes(item), "shm_bytes": _shm_bytes(item),
        "io_uring": sorted({procfs.status(pid).get("Name", "") for pid in pids
                            if any("[io_uring]" in name for name in procfs.descriptors(pid))}),
        "devices": [str(device.get("path")) for device in linux.get("devices") or [] if device.get("path") not in _STANDARD_DEVICES],
        "apparmor": process.get("apparmorProfile") or None, "selinux": process.get("selinuxLabel") or None,
        "seccomp": bool(linux.get("seccomp")),
        "user_namespace": any(entry.get("type") == "user" for entry in linux.get("namespaces") or []),
        "sockets": _sockets(item.pid, address), "mounts": _mounts(item), "sysv_segments": sorted(procfs.sysv_segments(pids)),
        "open_volume_files": _open_volume_files(item, pids),
        "log_path": f"/var/log/pods/{item.owner.namespace}_{item.owner.pod}_{item.owner.uid}/{item.name}",
    }  # fmt: skip


def _has_stdin(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/fd/0") != "/dev/null"
    except OSError:
        return False


def _upper_bytes(item: Container) -> int:
    from .._ferry import tree

    try:
        return tree.size(tree.upper_directory(item.rootfs))
    except PodferryError:
        return -1  # no overlay: refused by the plan


def _shm_bytes(item: Container) -> int:
    from .._ferry import tree

    path = oci.mount_source(item.config, "/dev/shm")
    return tree.size(path) if path and os.path.isdir(path) else 0


def _sockets(pid: int, address: str) -> Facts:
    entries = procfs.sockets(pid)
    listening = [entry for entry in entries if entry.protocol.startswith("tcp") and entry.state == procfs.TCP_LISTEN]
    udp = [entry for entry in entries if entry.protocol.startswith("udp")]
    bound = [entry for entry in [*listening, *udp] if address and entry.local == address]
    return {
        "listening": sorted(str(entry) for entry in listening),
        "established": len(established_connections(pid)),
        "bound_to_pod_ip": sorted(str(entry) for entry in bound),
        "udp_connected": sum(1 for entry in udp if entry.remote_port),
        "unlistable": sorted(kind for kind in _UNLISTABLE if _table_has_entries(pid, kind)),
    }


def _table_has_entries(pid: int, kind: str) -> bool:
    try:
        return len(read_text(f"/proc/{pid}/net/{kind}").splitlines()) > 1
    except OSError:
        return False


def _mounts(item: Container) -> list[Facts]:
    return [
        {
            "destination": str(mount.get("destination")), "source": str(mount.get("source", "")), "type": str(mount.get("type", "")),
            "kind": mount_kind(str(mount.get("destination")), str(mount.get("source", "")), item.owner.uid),
        }
        for mount in item.config.get("mounts") or []
    ]  # fmt: skip


def mount_kind(destination: str, source: str, uid: str) -> str:
    """Sort a mount by who made it: only a kubelet's volume lies below the pod's own folder."""
    if destination in _STANDARD_MOUNTS:
        return "standard"
    if destination in _SANDBOX_MOUNTS:
        return "sandbox"
    if f"/pods/{uid}/" in source:
        return "kubelet-volume"
    return "hostpath"


def _open_volume_files(item: Container, pids: t.Sequence[int]) -> list[str]:
    """Files of the sandbox that are open (``/etc/hosts`` and the like): the target's have other contents."""
    places = [
        str(mount.get("destination")) for mount in item.config.get("mounts") or []
        if mount_kind(str(mount.get("destination")), str(mount.get("source", "")), item.owner.uid) == "sandbox"
        and mount.get("destination") != "/dev/shm"
    ]  # fmt: skip
    opened = {name for pid in pids for name in procfs.descriptors(pid)}
    return sorted(name for name in opened if any(name == place or name.startswith(place + "/") for place in places))


def _sandbox(item: Container) -> Facts:
    return {"netns": oci.namespace_path(item.config, "network") or "", "id": str(
        (item.config.get("annotations") or {}).get("io.kubernetes.cri.sandbox-id", ""))}  # fmt: skip
