# SPDX-License-Identifier: Apache-2.0
"""After a migration: the counter goes on on node-b, and neither node carries anything but the handler."""

from __future__ import annotations

import time

import pytest
import testinfra
from testinfra.host import Host

from e2e.support import ticks
from e2e.support.cluster import Cluster
from e2e.support.footprint import Footprint
from e2e.support.lab import NODES, Lab

LAB = Lab("molecule", 26543)
HANDLER = ("podferry-runc", "podferry-action", "podferry-node")


@pytest.fixture(params=NODES)
def node(request: pytest.FixtureRequest) -> Host:
    """Each node in turn, over the lab's own ssh_config."""
    return testinfra.get_host(f"ssh://{request.param}?ssh_config={LAB.ssh_config}")


@pytest.fixture(scope="module")
def cluster() -> Cluster:
    """The lab's cluster."""
    return Cluster(LAB.kubeconfig)


def test_handler_is_installed_and_only_root_changes_it(node: Host) -> None:
    for name in HANDLER:
        file = node.file(f"/usr/local/libexec/podferry/{name}")
        assert file.is_file
        assert (file.user, file.mode) == ("root", 0o755)


def test_runtime_runs_and_answers(node: Host) -> None:
    assert node.service("containerd").is_running
    assert node.run("ctr -n k8s.io containers list").rc == 0


def test_criu_can_checkpoint_here(node: Host) -> None:
    assert "Looks good" in node.run("criu check").stderr + node.run("criu check").stdout


@pytest.mark.parametrize("name", NODES)
def test_nothing_of_the_run_is_left(name: str) -> None:
    traces = Footprint.of(LAB, name).traces
    for kind in ("processes", "mounts", "units", "failed units", "frozen cgroups", "firewall"):
        assert traces[kind] == [], kind
    assert [file for file in traces["files"] if file.startswith("/run/podferry/runs/")] == []


def test_counter_arrived_whole_and_goes_on(cluster: Cluster) -> None:
    assert cluster.node("counter") == "node-b"
    first = ticks.assert_unbroken(cluster.logs("counter"))
    time.sleep(0.5)
    assert ticks.assert_unbroken(cluster.logs("counter"))[-1].number > first[-1].number


def test_source_node_runs_no_workload() -> None:
    workload = testinfra.get_host(f"ssh://node-a?ssh_config={LAB.ssh_config}")
    assert "counter" not in workload.run("ctr -n k8s.io tasks list; ps -eo args").stdout
