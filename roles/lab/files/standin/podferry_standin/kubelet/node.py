# SPDX-License-Identifier: Apache-2.0
"""The node object: registered once, its status a heartbeat."""

from __future__ import annotations

import logging
import os
import platform
import shutil
import threading
from pathlib import Path
from typing import Any

from .. import VERSION
from .apiclient import Api, ApiError
from .config import Config, stamp
from .cri import Cri, CriError
from .cri_messages import new
from .events import Recorder

Obj = dict[str, Any]
log = logging.getLogger("standin.node")

_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}
_MAX_IMAGES = 50
_CONDITIONS = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
)


class NodeReporter:
    """Writes the node's status every few seconds; when it stops, the API calls the node NotReady."""

    def __init__(self, config: Config, api: Api, cri: Cri, events: Recorder) -> None:
        self._config, self._api, self._cri, self._events = config, api, cri, events
        self._since: dict[str, tuple[str, str]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="node", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        """Report until the process ends."""
        said = False
        while not self._stop.wait(0 if not said else self._config.heartbeat):
            try:
                self._report()
                if not said:
                    self._events.node("Starting", "Starting kubelet.")
                said = True
            except ApiError as error:
                log.warning("node status: %s", error)
                self._stop.wait(1)

    def _report(self) -> None:
        path = f"/api/v1/nodes/{self._config.node}"
        made = self._status()
        try:
            self._api.merge(f"{path}/status", {"status": made})
        except ApiError as error:
            if error.code != 404:
                raise
            self._api.request("POST", "/api/v1/nodes", self._node())
            self._api.merge(f"{path}/status", {"status": made})

    def _node(self) -> Obj:
        arch, name = _ARCH.get(platform.machine(), platform.machine()), self._config.node
        labels = {"beta.kubernetes.io/arch": arch, "beta.kubernetes.io/os": "linux", "kubernetes.io/arch": arch}
        labels.update({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "podferry.live/kubelet": "standin"})
        annotations = {
            "node.alpha.kubernetes.io/ttl": "0",
            "volumes.kubernetes.io/controller-managed-attach-detach": "true",
        }
        return {
            "kind": "Node",
            "apiVersion": "v1",
            "metadata": {"name": name, "labels": labels, "annotations": annotations},
            "spec": {},
        }

    def _status(self) -> Obj:
        runtime, ready, reason = "", True, "kubelet is posting ready status"
        images: list[Any] = []
        handlers: list[Any] = []
        try:
            version = self._cri.version()
            runtime = f"{version.runtime_name}://{version.runtime_version}"
            state = self._cri.call("Status", new("StatusRequest"))
            handlers = list(state.runtime_handlers)
            images = self._cri.images()
            lacking = [
                f"{c.type}: {c.message}"
                for c in state.status.conditions
                if not c.status and c.type in ("RuntimeReady", "NetworkReady")
            ]
            if lacking:
                ready, reason = False, "container runtime not ready: " + ", ".join(lacking)
        except CriError as error:
            ready, reason = False, f"container runtime is down: {error}"
        memory = next(
            line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")
        )
        disk = shutil.disk_usage("/").total // 1024
        capacity = {
            "cpu": str(os.cpu_count()),
            "ephemeral-storage": f"{disk}Ki",
            "hugepages-1Gi": "0",
            "hugepages-2Mi": "0",
            "memory": f"{memory}Ki",
            "pods": "110",
        }
        conditions = [self._condition(kind, "False", why, message) for kind, why, message in _CONDITIONS]
        conditions.append(self._condition("Ready", str(ready), "KubeletReady" if ready else "KubeletNotReady", reason))
        listed = sorted(images, key=lambda image: -image.size)[:_MAX_IMAGES]
        made: Obj = {
            "capacity": capacity,
            "allocatable": capacity,
            "conditions": conditions,
            "addresses": [
                {"type": "InternalIP", "address": self._config.address},
                {"type": "Hostname", "address": self._config.node},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._config.port}},
            "nodeInfo": self._info(runtime),
            "images": [{"names": [*image.repo_digests, *image.repo_tags], "sizeBytes": image.size} for image in listed],
        }
        if handlers:
            made["runtimeHandlers"] = [{"name": item.name, "features": {}} for item in handlers]
        return made

    def _condition(self, kind: str, state: str, reason: str, message: str) -> Obj:
        before = self._since.get(kind)
        if before is None or before[0] != state:
            before = self._since[kind] = (state, stamp())
        made = {"type": kind, "status": state, "lastHeartbeatTime": stamp(), "lastTransitionTime": before[1]}
        return {**made, "reason": reason, "message": message}

    @staticmethod
    def _info(runtime: str) -> Obj:
        release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
        machine, boot = Path("/etc/machine-id"), Path("/proc/sys/kernel/random/boot_id")
        name = machine.read_text().strip() if machine.exists() else ""
        return {
            "machineID": name,
            "systemUUID": name,
            "bootID": boot.read_text().strip(),
            "kernelVersion": platform.release(),
            "osImage": release.get("PRETTY_NAME", "").strip('"'),
            "containerRuntimeVersion": runtime,
            "kubeletVersion": VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": _ARCH.get(platform.machine(), platform.machine()),
        }
