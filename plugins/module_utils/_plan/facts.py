# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Answers of the nodes as typed records. What a node does not say is None or empty, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Version = tuple[int, ...]


def _version(value: Any) -> Version:
    if isinstance(value, (list, tuple)):
        return tuple(int(v) for v in value)
    return ()


def _str(value: Any) -> str | None:
    return None if value in (None, "") else str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


@dataclass(frozen=True)
class NodeFacts:
    """What op ``facts`` says about a node. Memory in bytes."""

    hostname: str
    arch: str
    kernel: str
    cpu_flags: frozenset[str]
    mem_available: int
    cgroup: str
    criu_version: Version
    criu_ok: bool
    criu_says: str
    """Why ``criu check`` fails."""
    runtime: str
    runtime_version: str
    oci_family: str
    """"runc" or "crun": what podferry's handler runs."""
    oci_version: Version
    oci_able: bool
    """It can dump and restore."""
    handler: bool
    engine: str | None
    time_namespaces: bool
    apparmor_profiles: frozenset[str] | None
    selinux: str
    runtime_request_timeout_s: float | None
    cpu_model: str = ""
    disk_available: int | None = None
    """Bytes free where files wait that are copied before the freeze."""
    age: bool = False
    """Whether it can encrypt what goes through a store."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> NodeFacts:
        criu, runtime = _mapping(data.get("criu")), _mapping(data.get("runtime"))
        oci = _mapping(runtime.get("oci"))
        profiles = data.get("apparmor_profiles")
        timeout = _mapping(data.get("kubelet")).get("runtime_request_timeout_s")
        return cls(
            hostname=str(data.get("hostname") or ""),
            arch=str(data.get("arch") or ""),
            kernel=str(data.get("kernel") or ""),
            cpu_flags=frozenset(str(f) for f in data.get("cpu_flags") or []),
            mem_available=int(data.get("mem_available") or 0),
            cgroup=str(data.get("cgroup") or ""),
            criu_version=_version(criu.get("version")),
            criu_ok=bool(criu.get("check_ok")),
            criu_says=str(criu.get("check") or ""),
            runtime=str(runtime.get("engine") or ""),
            runtime_version=str(runtime.get("version") or ""),
            oci_family=str(oci.get("family") or ""),
            oci_version=_version(oci.get("version")),
            oci_able=bool(oci.get("criu")),
            handler=bool(runtime.get("handler")),
            engine=_str(data.get("engine")),
            time_namespaces=bool(data.get("time_namespaces")),
            apparmor_profiles=None if profiles is None else frozenset(str(p) for p in profiles),
            selinux=str(data.get("selinux") or "disabled"),
            runtime_request_timeout_s=None if timeout is None else float(timeout),
            cpu_model=str(data.get("cpu_model") or ""),
            age=bool(data.get("age")),
            disk_available=None if data.get("disk_available") is None else int(data["disk_available"]),
        )


@dataclass(frozen=True)
class Sockets:
    """Sockets of a container as the node lists them; each entry is a phrase for a person."""

    inet: int = 0
    """How many of the network's kind there are."""
    established: int = 0
    bound_to_pod_ip: tuple[str, ...] = ()
    udp_connected: int = 0
    unlistable: tuple[str, ...] = ()


@dataclass(frozen=True)
class ContainerInspection:
    """One running container as op ``inspect`` sees it. Sizes in bytes."""

    name: str
    id: str
    status: str
    runtime_handler: str
    memory_bytes: int
    rootfs_upper_bytes: int
    """-1: the root file system is not an overlay."""
    shm_bytes: int
    foreign: tuple[str, ...]
    tty: bool
    stdin: bool
    io_uring: tuple[str, ...]
    devices: tuple[str, ...]
    apparmor: str | None
    selinux: str | None
    user_namespace: bool
    sockets: Sockets
    mounts: tuple[Mapping[str, Any], ...]
    sysv_segments: tuple[str, ...]
    open_volume_files: tuple[str, ...]
    frozen: bool

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> ContainerInspection:
        sockets = _mapping(data.get("sockets"))
        processes = [_mapping(p) for p in data.get("processes") or []]
        return cls(
            name=str(data.get("name") or ""),
            id=str(data.get("id") or ""),
            status=str(data.get("status") or ""),
            runtime_handler=str(data.get("runtime_handler") or ""),
            memory_bytes=int(data.get("memory_bytes") or 0),
            rootfs_upper_bytes=int(data.get("rootfs_upper_bytes") or 0),
            shm_bytes=int(data.get("shm_bytes") or 0),
            foreign=tuple(f"{p.get('comm')} ({p.get('pid')})" for p in processes if p.get("foreign")),
            tty=bool(data.get("tty")),
            stdin=bool(data.get("stdin")),
            io_uring=_texts(data.get("io_uring")),
            devices=_texts(data.get("devices")),
            apparmor=_str(data.get("apparmor")),
            selinux=_str(data.get("selinux")),
            user_namespace=bool(data.get("user_namespace")),
            sockets=Sockets(
                inet=max(
                    _count(sockets.get("inet")),
                    sum(_count(sockets.get(kind)) for kind in ("listening", "established", "udp_connected")),
                ),
                established=_count(sockets.get("established")),
                bound_to_pod_ip=_texts(sockets.get("bound_to_pod_ip")),
                udp_connected=_count(sockets.get("udp_connected")),
                unlistable=_texts(sockets.get("unlistable")),
            ),
            mounts=tuple(_mapping(m) for m in data.get("mounts") or []),
            sysv_segments=_texts(data.get("sysv_segments")),
            open_volume_files=_texts(data.get("open_volume_files")),
            frozen=bool(data.get("frozen")),
        )


@dataclass(frozen=True)
class VolumeInspection:
    """One emptyDir volume of the pod."""

    name: str
    in_memory: bool
    bytes: int

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> VolumeInspection:
        return cls(str(data.get("name") or ""), bool(data.get("in_memory")), int(data.get("bytes") or 0))


_SMALL_TREES = 1024 * 1024
_STAGE_MARGIN = 64 * 1024 * 1024


@dataclass(frozen=True)
class PodInspection:
    """What op ``inspect`` says about the source pod."""

    containers: tuple[ContainerInspection, ...] = field(default=())
    volumes: tuple[VolumeInspection, ...] = field(default=())
    unix_problems: tuple[str, ...] = ()
    """Unix sockets between containers that cannot come along."""

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> PodInspection:
        return cls(
            tuple(ContainerInspection.parse(_mapping(c)) for c in data.get("containers") or []),
            tuple(VolumeInspection.parse(_mapping(v)) for v in data.get("volumes") or []),
            _texts(data.get("unix_problems")),
        )

    @property
    def tree_bytes(self) -> int:
        """Files on the disk that go along: changes of root file systems, emptyDir volumes."""
        written = sum(max(c.rootfs_upper_bytes, 0) for c in self.containers)
        return written + sum(v.bytes for v in self.volumes if not v.in_memory)

    @property
    def stage_bytes(self) -> int:
        """Disk that their copies before the freeze may take; 0: so little that it all travels in the freeze."""
        return 0 if self.tree_bytes <= _SMALL_TREES else self.tree_bytes * 3 // 2 + _STAGE_MARGIN

    @property
    def need_bytes(self) -> int:
        """What a dump of the pod takes at most. ``/dev/shm`` is the sandbox's, each container tells the same."""
        memory = self.memory_bytes + max((c.shm_bytes for c in self.containers), default=0)
        memory += sum(v.bytes for v in self.volumes if v.in_memory)
        # Of what is copied before, a part may have changed again until the freeze.
        files = self.tree_bytes if not self.stage_bytes else min(self.tree_bytes, self.tree_bytes // 4 + _STAGE_MARGIN)
        return memory + files

    @property
    def established(self) -> int:
        """TCP connections that leave the pod: its containers share one network, so each tells the same."""
        return max((c.sockets.established for c in self.containers), default=0)

    @property
    def memory_bytes(self) -> int:
        return sum(c.memory_bytes for c in self.containers)


def _count(value: Any) -> int:
    """A number, or the length of a list of the things counted."""
    if isinstance(value, (list, tuple)):
        return len(value)
    return int(value or 0)


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return tuple(f"{k}: {v}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(str(v) for v in value)
    return (str(value),) if value else ()
