# SPDX-License-Identifier: Apache-2.0
"""One machine with what other people make checkpoints with: podman, containerd 2 with its CRI, skopeo, checkpointctl, a registry.

Built with the lab's own tools, from packages of Debian 13 (containerd, runc and CRIU from testing), but it is no lab: no network
leaves it, nothing of Kubernetes runs on it. It boots in a second once its root is in the lab's cache (20 s to make).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from e2e.support.plays import ROOT

CACHE = "/var/cache/podferry-lab"
MIRROR = os.environ.get("PODFERRY_MIRROR", "http://deb.debian.org/debian")
PACKAGES = (
    "ca-certificates", "checkpointctl", "conmon", "containerd/testing", "criu/testing", "dbus", "docker-registry", "iproute2", "libcompel1/testing",
    "libnet9/testing", "libnl-3-200/testing", "openssh-server", "podman", "procps", "python3", "python3-grpcio", "python3-protobuf",
    "runc/testing", "skopeo", "systemd-sysv", "zstd",
)  # fmt: skip
IMAGES = ("busybox-static", "python3", "redis-server")
"""The lab's own image packages: the same images."""
NAME = "workbench"

_CONTAINERD = """version = 3
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost:5000/pause:lab"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
"""
_CONTAINERS = """[containers]
default_ulimits = []
netns = "none"
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_REGISTRY = """version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}
http: {addr: "127.0.0.1:5000"}
"""
_FILES = {
    "etc/hostname": NAME,
    "etc/hosts": "127.0.0.1 localhost",
    "etc/resolv.conf": "",
    "etc/machine-id": "f3c55e5a8b0c4b5b9a3a3c1d5f3b7a21",
    "etc/containerd/config.toml": _CONTAINERD,
    "etc/containers/containers.conf": _CONTAINERS,
    "etc/docker/registry/config.yml": _REGISTRY,
    "etc/containers/policy.json": '{"default": [{"type": "insecureAcceptAnything"}]}',
}


@dataclass
class Workbench:
    """The machine, up. Files below `shared` are at /srv/shared in it."""

    state: Path
    images: Path

    @classmethod
    def up(cls, name: str) -> Workbench:
        """Build what is missing and boot."""
        state = Path("/var/lib/podferry-lab") / name
        root = _tool("root", "--cache", CACHE, "--suite", "trixie", "--mirror", MIRROR, *PACKAGES)
        images = _tool("images", "--cache", CACHE, "--suite", "trixie", "--mirror", MIRROR, *IMAGES)
        files = [{"path": path, "mode": "0644", "content": text + "\n"} for path, text in _FILES.items()]
        machine = {
            "name": NAME, "address": "10.213.0.9", "pod_subnet": "", "clock_offset": 0, "control": True, "files": files,
        }  # fmt: skip
        lab = {
            "name": name, "state": str(state), "root": root["path"], "images": os.path.dirname(str(images["path"])),
            "prefix_length": 24, "pod_network": "10.214.0.0/16", "api_service_address": "10.215.0.1", "api_port": 0,
            "bin_dirs": [], "machines": [machine],
        }  # fmt: skip
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (state / "machines").mkdir(exist_ok=True)
        (state / "lab.json").write_text(json.dumps(lab), encoding="utf-8")
        for step in ("keys", "network"):
            _tool(step, str(state))
        _tool("machine", str(state), NAME)
        return cls(state, Path(str(images["path"])))

    @staticmethod
    def remove(name: str) -> None:
        """Remove one, whatever state it is in; its root stays in the cache."""
        _tool("down", f"/var/lib/podferry-lab/{name}", name)

    def down(self) -> None:
        """Remove it."""
        self.remove(self.state.name)

    @property
    def shared(self) -> Path:
        """A folder of this machine that the workbench sees as /srv/shared."""
        return self.state / "shared"

    @property
    def init(self) -> int:
        """Its first process, as this machine numbers it."""
        found: dict[str, list[int]] = json.loads(
            (self.state / "machines" / NAME / "pids.json").read_text(encoding="utf-8")
        )
        return found["init"][0]

    def run(self, line: str, *words: str, check: bool = True, timeout: float = 120, stdin: str = "") -> str:
        """Run a shell line (or, with `words`, a command) as root on the machine; returns what it printed."""
        command = shlex.join([line, *words]) if words else line
        done = subprocess.run(
            ["nsenter", "--target", str(self.init), "--all", "env", "-i", "HOME=/root", "LC_ALL=C.UTF-8",
             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "GRPC_ENABLE_FORK_SUPPORT=0", "sh", "-c", command],
            input=stdin, capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        assert not check or done.returncode == 0, (
            f"{command!r} ended with {done.returncode}: {done.stdout}{done.stderr}"
        )
        return done.stdout


def _tool(*words: str) -> dict[str, object]:
    """The lab's tool, as role `lab` calls it."""
    done = subprocess.run(
        [sys.executable, "-B", "-m", "podferry_lab", *words],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT / "roles/lab/files")},
    )  # fmt: skip
    assert done.returncode == 0, f"podferry_lab {words[0]}: {done.stderr}"
    found: dict[str, object] = json.loads(done.stdout)
    return found
