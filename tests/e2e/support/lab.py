# SPDX-License-Identifier: Apache-2.0
"""One lab: up, down, and a shell on its nodes."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from e2e.support.plays import ROOT, PlayResult, Plays

NODES = ("node-a", "node-b")


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def port_of(name: str) -> int:
    """The API port of a lab that is up already, so that bringing it up again leaves it alone; else a free one."""
    try:
        kubeconfig = (Path("/var/lib/podferry-lab") / name / "kubeconfig").read_text(encoding="utf-8")
    except FileNotFoundError:
        return free_port()
    found = re.search(r"https://127\.0\.0\.1:(\d+)", kubeconfig)
    return int(found.group(1)) if found else free_port()


@dataclass
class Lab:
    """A lab by name. Its state directory holds the kubeconfig and the ssh_config that `up` writes."""

    name: str
    api_port: int = field(default_factory=free_port)
    runtime_suite: str = "stable"
    """Where containerd and runc come from; ``testing`` has those whose CRI makes checkpoints."""

    @property
    def state(self) -> Path:
        """Where the lab keeps what it generates."""
        return Path("/var/lib/podferry-lab") / self.name

    @property
    def kubeconfig(self) -> Path:
        """Credentials of an administrator of the lab's cluster."""
        return self.state / "kubeconfig"

    @property
    def pki(self) -> Path:
        """The authority of the lab's cluster (``ca.crt``), and what it has signed."""
        return self.state / ("kubernetes" if os.environ.get("PODFERRY_KUBERNETES_BIN_DIR") else "pki")

    @property
    def ssh_config(self) -> Path:
        """Knows every machine of the lab by name."""
        return self.state / "ssh_config"

    @property
    def plays(self) -> Plays:
        """The project's playbooks, run against this lab."""
        return Plays(
            inventory=str(ROOT / "inventories/lab"),
            variables={"lab_name": self.name, "lab_api_port": self.api_port},
            environment={"KUBECONFIG": str(self.kubeconfig), "PODFERRY_LAB": self.name},
        )

    def up(self) -> PlayResult:
        """Bring it up, or leave it as it is when it is up. With real Kubernetes or CRI-O when the environment has their binaries."""
        given: dict[str, str | list[str] | None] = {
            "lab_kubernetes_bin_dir": os.environ.get("PODFERRY_KUBERNETES_BIN_DIR"),
            "lab_crio_bin_dir": os.environ.get("PODFERRY_CRIO_BIN_DIR"),
            "lab_runtime_suite": self.runtime_suite,
            "lab_crio_nodes": os.environ.get("PODFERRY_CRIO_NODES", "").split(),
            "lab_crun_nodes": os.environ.get("PODFERRY_CRUN_NODES", "").split(),
        }
        return self.plays.run("lab", lab_state="up", timeout=900, **{k: v for k, v in given.items() if v}).ok()

    @property
    def api_unit(self) -> str:
        """The unit of the API server on the control host."""
        return "lab-kube-apiserver" if os.environ.get("PODFERRY_KUBERNETES_BIN_DIR") else "podferry-standin-api"

    @staticmethod
    def engine(node: str) -> str:
        """The unit of the container engine on a node."""
        on_crio = os.environ.get("PODFERRY_CRIO_NODES", "").split() or list(NODES)
        return "crio" if os.environ.get("PODFERRY_CRIO_BIN_DIR") and node in on_crio else "containerd"

    def down(self) -> PlayResult:
        """Remove every trace of it but the package caches."""
        return self.plays.run("lab", lab_state="down").ok()

    def ssh_command(self, node: str) -> list[str]:
        """The command that reaches a machine of the lab from here."""
        return ["ssh", "-F", str(self.ssh_config), node]

    def ssh(
        self, node: str, *command: str, check: bool = True, timeout: float = 60, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command (one string: a shell line; several: arguments) as root on a machine of the lab."""
        line = command[0] if len(command) == 1 else shlex.join(command)
        done = subprocess.run(
            [*self.ssh_command(node), line], input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, f"{node}: {line!r} ended with {done.returncode}: {done.stderr}"
        return done

    def python(self, node: str, program: str) -> str:
        """Run a Python program on a machine and return what it printed."""
        return self.ssh(node, "python3 -", stdin=program, timeout=120).stdout
