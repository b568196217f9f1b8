# SPDX-License-Identifier: Apache-2.0
"""The lab comes, comes back from what is left of it, and goes without a trace. It has a name of its own here."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from e2e.conftest import OtherLab
from e2e.support.cluster import until
from e2e.support.host import host_state
from e2e.support.lab import NODES, Lab

MACHINES = (*NODES, "control-host")


def _pids(lab: Lab, machine: str) -> dict[str, int]:
    stored = json.loads((lab.state / "machines" / machine / "pids.json").read_text())
    return {key: pid for key, (pid, _start) in stored.items()}


def _usable(lab: Lab) -> None:
    """Every machine runs, is what it should be, and reaches the others."""
    for machine in MACHINES:
        state = lab.ssh(machine, "systemctl is-system-running --wait", check=False).stdout.strip()
        assert state == "running", f"{machine}: {state}: {lab.ssh(machine, 'systemctl --failed').stdout}"
    for node in NODES:
        assert "Looks good" in lab.ssh(node, "criu check 2>&1").stdout
        for other in ("10.213.0.1", "10.213.0.11", "10.213.0.12"):
            lab.ssh(node, f"ping -c 1 -W 2 {other}")


def _unchanged(lab: Lab) -> None:
    """Another `up` changes nothing; fails with the names of the tasks that did."""
    again = lab.up()
    changed = [task for task in again.stdout.split("\nTASK ") if re.search(r"^changed: ", task, re.M)]
    assert again.changed == 0, "\n".join(changed)


@pytest.fixture(scope="module")
def own(other_lab: OtherLab) -> tuple[Lab, set[str]]:
    """The lab of this module, and what the host was like before it."""
    assert other_lab.host_before, "unset PODFERRY_OTHER_LAB: these tests take the lab down"
    return other_lab.lab, other_lab.host_before


def test_second_up_changes_nothing(own: tuple[Lab, set[str]]) -> None:
    lab, _before = own
    _usable(lab)
    _unchanged(lab)


def test_host_is_untouched_while_it_runs(own: tuple[Lab, set[str]]) -> None:
    """Only what the lab is made of is new on the host, and nothing that was there is gone."""
    lab, before = own
    now = host_state(lab)
    assert not before - now
    new = {line for line in now - before if not line.startswith(("process ", "cgroup ", "file "))}
    mounts = {line for line in new if line.startswith("mount ")}
    assert all("control.netns" in line for line in mounts), mounts
    assert new - mounts == {f"listener 127.0.0.1:{lab.api_port}"}


def test_clocks_are_apart(own: tuple[Lab, set[str]]) -> None:
    lab, _before = own
    if not Path("/proc/self/ns/time").exists():
        pytest.skip("this kernel has no time namespaces")
    program = "import time; print(time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME))"
    clocks = [[float(word) for word in lab.python(node, program).split()] for node in NODES]
    for a, b in zip(*clocks, strict=True):
        assert abs(a - b) > 1_000_000


def test_kernel_settings_are_the_hosts(own: tuple[Lab, set[str]]) -> None:
    """A machine can write the settings of its own namespaces and no others."""
    lab, _before = own
    done = lab.ssh("node-a", "sysctl -w vm.swappiness=1", check=False)
    assert done.returncode != 0
    lab.ssh("node-a", "sysctl -w net.ipv4.ip_forward=1 kernel.msgmax=8192")


def test_up_repairs_machines(own: tuple[Lab, set[str]]) -> None:
    """One node lost its first process, the other its supervisor (which takes the node along), and the relay is gone."""
    lab, _before = own
    supervised = _pids(lab, "node-b")
    os.kill(_pids(lab, "node-a")["init"], signal.SIGKILL)
    os.kill(supervised["supervisor"], signal.SIGKILL)
    os.kill(json.loads((lab.state / "relay.json").read_text())["relay"][0], signal.SIGKILL)
    until("node-b dies with its supervisor", lambda: not Path(f"/proc/{supervised['init']}").exists(), 10)
    assert lab.up().changed > 0
    _usable(lab)
    _unchanged(lab)


@pytest.mark.parametrize("broken", ["control host", "wire"])
def test_up_repairs_the_network(own: tuple[Lab, set[str]], broken: str) -> None:
    """The bridge lives in the control host's namespace: it goes on without the host, and the host without its name."""
    lab, _before = own
    if broken == "wire":
        subprocess.run(["umount", "-l", str(lab.state / "control.netns")], check=True)
    else:
        os.kill(_pids(lab, "control-host")["init"], signal.SIGKILL)
    assert lab.up().changed > 0
    _usable(lab)


def test_down_takes_a_frozen_container_with_it(own: tuple[Lab, set[str]]) -> None:
    """On cgroup v1 a frozen process does not even die of SIGKILL; afterwards the host is what it was."""
    lab, before = own
    lab.ssh("node-a", "ctr --namespace k8s.io run --detach localhost/podferry-counter:lab frozen")
    lab.ssh("node-a", "ctr --namespace k8s.io tasks pause frozen")
    assert "PAUSED" in lab.ssh("node-a", "ctr --namespace k8s.io tasks ls").stdout
    began = time.monotonic()
    assert lab.down().changed > 0
    assert time.monotonic() - began < 60
    left = host_state(lab) - before
    assert not left
    assert not before - host_state(lab)
    assert lab.down().changed == 0


def test_down_without_a_description(own: tuple[Lab, set[str]]) -> None:
    """What an interrupted `up` left is found by its name, also without lab.json and pid files."""
    lab, before = own
    lab.up()
    (lab.state / "lab.json").unlink()
    for machine in MACHINES:
        (lab.state / "machines" / machine / "pids.json").unlink()
    lab.down()
    until("the host is as before", lambda: not host_state(lab) - before, 10)
