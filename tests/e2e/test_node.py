# SPDX-License-Identifier: Apache-2.0
"""Preparing a node, proving it, and taking everything away again, on the lab's real runtimes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes.client import NodeV1Api

from e2e.conftest import Traces
from e2e.support import workloads
from e2e.support.cluster import Cluster
from e2e.support.lab import NODES, Lab
from e2e.support.plays import Plays

CONFIG = "/etc/containerd/config.toml"
ACTION = "/usr/local/libexec/podferry/podferry-action"
# Names, modes and contents of everything that bootstrap could touch.
STATE_OF_THE_NODE = (
    "for f in $(find /etc/containerd /etc/crio /etc/tmpfiles.d /usr/local /run/podferry 2>/dev/null | sort); do "
    'stat -c "%n %a %U" "$f"; [ ! -f "$f" ] || sha256sum <"$f"; done'
)


def node_state(lab: Lab, node: str) -> str:
    return lab.ssh(node, STATE_OF_THE_NODE).stdout


@pytest.fixture
def bystander(prepared: Lab) -> Iterator[dict[str, str]]:
    """A container of the default runtime on each node, and its process: it must live through every restart of containerd."""
    for node in NODES:
        prepared.ssh(
            node, "ctr -n k8s.io run -d localhost/podferry-counter:lab bystander /bin/sh -c 'while :; do sleep 1; done'"
        )
    yield {node: pid_of_bystander(prepared, node) for node in NODES}
    for node in NODES:
        prepared.ssh(node, "ctr -n k8s.io task rm -f bystander; ctr -n k8s.io container rm bystander")


def pid_of_bystander(lab: Lab, node: str) -> str:
    return lab.ssh(node, "ctr -n k8s.io task ls | awk '$1 == \"bystander\" {print $2, $3}'").stdout.strip()


def test_again_changes_nothing(prepared: Lab) -> None:
    assert prepared.plays.run("bootstrap").ok().changed == 0


def test_a_restart_that_a_run_has_lost_is_made_up_for(prepared: Lab, bystander: dict[str, str]) -> None:
    """As if the run had ended between our file and the restart: the file is newer than the process."""
    prepared.ssh("node-a", "touch $(grep -rl podferry-runc /etc/containerd /etc/crio 2>/dev/null)")
    expected = prepared.plays.run("bootstrap", "--check").ok()
    assert expected.changed > 0
    assert "has run since before podferry's files were written" in expected.output
    assert prepared.plays.run("bootstrap").ok().changed > 0
    assert prepared.plays.run("bootstrap").ok().changed == 0
    assert {node: pid_of_bystander(prepared, node) for node in NODES} == bystander


def test_uninstalling_one_node_leaves_the_runtime_class(cluster: Cluster, plays: Plays, prepared: Lab) -> None:
    """It is the cluster's: the pod on the other node needs it for its next start."""
    cluster.create(workloads.counter(cluster.name("user"), "node-b", runtimeClassName="podferry"))
    try:
        plays.run("uninstall", "--limit", "node-a").ok()
        NodeV1Api(cluster.core.api_client).read_runtime_class("podferry")  # raises when it is gone
        plays.run("uninstall", "--limit", "node-a", remove_runtime_class=True).refused(
            "RuntimeClass podferry is used by 1 pods"
        )
    finally:
        plays.run("bootstrap").ok()


def test_every_node_proves_itself_and_keeps_nothing(prepared: Lab, traces: Traces) -> None:
    result = prepared.plays.run("verify").ok()
    assert result.changed == 0
    for node in NODES:
        assert f"{node}: a process was dumped in" in result.output
    assert result.output.count("counted on without a gap") == len(NODES)
    traces.assert_none()


@pytest.fixture
def broken_action(prepared: Lab) -> Iterator[None]:
    """An action script on node-a that freezes nothing."""
    prepared.ssh("node-a", f"cp -a {ACTION} {ACTION}.kept && printf '#!/bin/sh\\nexit 0\\n' >{ACTION}")
    yield
    prepared.ssh("node-a", f"mv {ACTION}.kept {ACTION}")


def test_a_restore_that_does_not_stay_frozen_is_found(prepared: Lab, traces: Traces, broken_action: None) -> None:
    prepared.plays.run("verify", "--limit", "node-a").refused("not frozen after the restore")
    traces.assert_none()


def test_what_is_not_there_is_refused_before_anything_is_touched(prepared: Lab) -> None:
    """criu outside the runtime's PATH counts as absent, and nothing may be installed here."""
    before = node_state(prepared, "node-a")
    prepared.ssh("node-a", "mv /usr/sbin/criu /root/criu")
    try:
        result = prepared.plays.run("bootstrap", "--limit", "node-a", node_install_packages=False)
        result.refused("no criu in the PATH of containerd", "node_install_packages is off", "CRIU 4.1.1 or later")
    finally:
        prepared.ssh("node-a", "mv /root/criu /usr/sbin/criu")
    assert node_state(prepared, "node-a") == before


def test_uninstall_refuses_while_a_pod_uses_it(cluster: Cluster, plays: Plays, prepared: Lab) -> None:
    before = {node: node_state(prepared, node) for node in NODES}
    cluster.create(workloads.counter(cluster.name("user"), "node-b", runtimeClassName="podferry"))
    plays.run("uninstall").refused("node-b", "containers of the handler podferry run here")
    assert {node: node_state(prepared, node) for node in NODES} == before
    assert plays.run("bootstrap").ok().changed == 0, "the RuntimeClass is still there"


def test_uninstall_restores_every_byte(
    cluster: Cluster, plays: Plays, prepared: Lab, bystander: dict[str, str]
) -> None:
    cluster.clean()
    plays.run("uninstall").ok()
    clean = {node: node_state(prepared, node) for node in NODES}
    for node in NODES:
        ours = [line for line in clean[node].splitlines() if "podferry" in line and "podferry-standin" not in line]
        assert not ours, f"left on {node}: {ours}"
        assert "podferry.live" not in prepared.ssh(node, f"cat {CONFIG}").stdout
    assert plays.run("uninstall").ok().changed == 0

    # What check mode says of a clean node is true, and it does nothing.
    assert plays.run("bootstrap", "--check", "--diff").ok().changed > 0
    assert {node: node_state(prepared, node) for node in NODES} == clean

    plays.run("bootstrap").ok()
    plays.run("uninstall").ok()
    assert {node: node_state(prepared, node) for node in NODES} == clean
    plays.run("bootstrap").ok()
    assert {node: pid_of_bystander(prepared, node) for node in NODES} == bystander, (
        "running containers survive the restarts"
    )
