# SPDX-License-Identifier: Apache-2.0
"""The whole way once, on a host of its own: a lab comes up, its nodes are prepared and proved, a counter moves, everything goes.

`tests/vm/run` calls it in a virtual machine with cgroup v2. It works on any host that can hold a lab, and does not care how slow that is.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.footprint import Footprint
from e2e.support.host import host_state
from e2e.support.lab import NODES, Lab
from e2e.support.plays import ROOT, PlayResult

MACHINES = ("control-host", *NODES)
ACTION = "/usr/local/libexec/podferry/podferry-action"
CONFIG = "/etc/containerd /etc/tmpfiles.d /usr/local"
#: Seconds that one play may take where the processor is emulated.
PATIENCE = 1500


class Smoke:
    """One lab, from before it to after it; the steps in their order."""

    def __init__(self, name: str, port: int) -> None:
        self.lab = Lab(name, port)
        self.v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()

    def play(self, playbook: str, *flags: str, **variables: object) -> PlayResult:
        """Run a playbook; what it printed goes out in any case."""
        result = self.lab.plays.run(playbook, *flags, timeout=PATIENCE, **variables)
        print("".join(f"  | {line}\n" for line in result.stdout.splitlines()), flush=True)
        return result

    def up(self) -> None:
        """playbooks/lab.yml brings the machines up, with all that a runtime wants of its cgroups."""
        self.play("lab", "-e", "@tests/vm/lab.yml", lab_state="up").ok()
        for machine in MACHINES:
            state = self.lab.ssh(machine, "systemctl is-system-running --wait", check=False, timeout=300).stdout.strip()
            assert state == "running", f"{machine}: {state}: {self.lab.ssh(machine, 'systemctl --failed').stdout}"
            if self.v2:
                self.lab.ssh(machine, 'test "$(cat /proc/1/cgroup)" = 0::/init.scope')
                self.lab.ssh(machine, "grep -w cpu /sys/fs/cgroup/cgroup.controllers | grep -qw memory")
        tool = [sys.executable, "-B", "-m", "podferry_lab", "machine", str(self.lab.state), NODES[0]]
        again = subprocess.run(
            tool,
            env={**os.environ, "PYTHONPATH": str(ROOT / "roles/lab/files")},
            capture_output=True,
            text=True,
            check=True,
        )
        assert again.stdout.strip() == '{"changed": false}', again.stdout

    def configuration(self) -> dict[str, str]:
        """Names, modes and contents of what bootstrap may touch, by node."""
        line = f"find {CONFIG} -printf '%p %m %u\\n' -type f -exec sha256sum {{}} + | sort"
        return {node: self.lab.ssh(node, line).stdout for node in NODES}

    def footprints(self) -> dict[str, Footprint]:
        """What each node carries of ours now."""
        return {node: Footprint.of(self.lab, node) for node in NODES}

    def nothing_new(self, before: dict[str, Footprint]) -> None:
        """Fails, naming it, when a node carries more of ours than before."""
        left: dict[str, dict[str, list[str]]] = {}

        def clean() -> bool:
            left.update({node: found.added(before[node]) for node, found in self.footprints().items()})
            return not any(left.values())

        try:
            until("nodes are clean", clean, 120, every=2)
        except AssertionError:
            raise AssertionError(f"left behind: {left}") from None

    def bootstrap(self) -> None:
        """playbooks/bootstrap.yml prepares the nodes; there is nothing to install and nowhere to install it from."""
        self.play("bootstrap").ok()

    def verify(self) -> None:
        """playbooks/verify.yml proves both nodes, on the cgroup version that this host has, and leaves nothing."""
        before = self.footprints()
        result = self.play("verify").ok()
        assert result.changed == 0
        for node in NODES:
            assert f"{node}: a process was dumped in" in result.output
        assert result.output.count("counted on without a gap") == len(NODES)
        assert result.output.count(f"cgroup {'v2' if self.v2 else 'v1'} (") == len(NODES)
        self.nothing_new(before)

    def verify_finds_a_broken_node(self) -> None:
        """The proof can fail: with an action script that freezes nothing it does, and says so."""
        before = self.footprints()
        self.lab.ssh("node-a", f"cp -a {ACTION} {ACTION}.kept && printf '#!/bin/sh\\nexit 0\\n' >{ACTION}")
        try:
            self.play("verify", "--limit", "node-a").refused("not frozen after the restore")
        finally:
            self.lab.ssh("node-a", f"mv {ACTION}.kept {ACTION}")
        self.nothing_new(before)

    def migrate(self, cluster: Cluster, pod: str, target: str, **variables: object) -> str:
        """playbooks/migrate.yml moves the counter while it counts; the name of the pod that arrived."""
        before = self.footprints()
        start = len(ticks.parse(cluster.logs(pod)))
        until(f"{pod} counts", lambda: len(ticks.parse(cluster.logs(pod))) > start + 50, 300, every=1)
        report = self.lab.plays.scratch / f"{pod}-{target}.json"
        result = self.play("migrate", pod=pod, target=target, report=str(report), **variables).ok()
        moved = cluster.moved(pod)
        assert cluster.node(moved) == target
        arrived = len(ticks.parse(cluster.logs(moved)))
        until(f"{moved} counts on", lambda: len(ticks.parse(cluster.logs(moved))) > arrived + 50, 300, every=1)
        gone_by = ticks.assert_unbroken(cluster.logs(moved))
        gap = ticks.switchover(gone_by[start:])  # not that of an earlier move, which the log holds as well
        assert result.report, "no report"
        print(
            f"note: {pod} on {target}: ticks {gone_by[0].number} to {gone_by[-1].number}, none lost, none doubled; "
            f"silent for {gap.ms:.0f} ms, by the report {result.report['downtime_ms']:.0f} ms"
        )
        self.nothing_new(before)
        return moved

    def down(self, before: set[str]) -> None:
        """The lab goes, and the host is what it was."""
        self.play("lab", lab_state="down").ok()
        until("nothing new on the host", lambda: not host_state(self.lab) - before, 30, every=1)
        missing = before - host_state(self.lab)
        assert not missing, missing

    def run(self) -> None:
        """All of it; raises at the first thing that is wrong."""
        before = host_state(self.lab)
        with step("the lab comes up"):
            self.up()
        unprepared, configuration = self.footprints(), self.configuration()
        with step("bootstrap"):
            self.bootstrap()
        with step("verify"):
            self.verify()
        with step("verify finds a broken node"):
            self.verify_finds_a_broken_node()
        cluster = Cluster(self.lab.kubeconfig)
        with step("a counter runs"):
            pod = cluster.create(workloads.counter("counter", "node-a", mib=16), ready=300)
        with step("it moves and keeps its name"):
            pod = self.migrate(cluster, pod, "node-b")
        with step("it moves back as a twin"):
            pod = self.migrate(cluster, pod, "node-a", name="new")
        with step("uninstall"):
            cluster.clean()
            self.play("uninstall").ok()
            assert self.configuration() == configuration
            self.nothing_new(unprepared)
        with step("down"):
            self.down(before)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Say how a step ended, and after how long."""
    began = time.monotonic()
    print(f"begin: {name}", flush=True)
    yield
    print(f"ok: {name} ({time.monotonic() - began:.0f} s)", flush=True)


def main() -> int:
    """0 when all of it went well; a lab that failed stays, to be looked at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", default="vm", help="the lab's name")
    parser.add_argument("--port", type=int, default=16743, help="port of its API on the loopback")
    arguments = parser.parse_args()
    os.environ["ANSIBLE_TIMEOUT"] = "60"  # an emulated processor takes its time to agree on a key
    smoke = Smoke(arguments.name, arguments.port)
    print(
        f"\nLinux {platform.release()}, cgroup {'v2' if smoke.v2 else 'v1'}, Python {platform.python_version()}",
        flush=True,
    )
    began = time.monotonic()
    try:
        smoke.run()
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        print(f"RESULT failed after {time.monotonic() - began:.0f} s", flush=True)
        return 1
    print(f"RESULT ok, {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
