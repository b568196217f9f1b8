# SPDX-License-Identifier: Apache-2.0
"""What disturbs a whole migration: a lost controller, Ctrl-C, a lost API, a restarted runtime, a deleted target.

Each stops the engine at a named point, so that the disturbance falls where it is meant to fall. Judged by the counter's own
account: exactly one copy goes on, with the next number, and running the play again ends the matter.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.faultpoints import held
from e2e.support.lab import Lab
from e2e.support.plays import Plays, RunningPlay

MIB = 8


def counting(cluster: Cluster, name: str) -> bool:
    """Whether the pod's counter goes on."""
    before = ticks.parse(cluster.logs(name))[-1].number
    time.sleep(0.3)
    return ticks.parse(cluster.logs(name))[-1].number > before


def the_one(cluster: Cluster, source: str) -> str:
    """The pod that holds the workload now; fails when two of them count."""
    names = [name for name in dict.fromkeys((source, cluster.moved(source))) if cluster.get(name)]
    alive = [name for name in names if cluster.is_ready(name) and counting(cluster, name)]
    assert len(alive) <= 1, f"two copies run: {alive}"
    return alive[0] if alive else ""


def node_ready(cluster: Cluster, node: str) -> bool:
    """Whether the node is Ready (a runtime that restarts makes it NotReady for some seconds)."""
    conditions = cluster.core.read_node(node).status.conditions
    return any(condition.type == "Ready" and condition.status == "True" for condition in conditions)


def kill(play: RunningPlay) -> None:
    """The controller is gone from one moment to the next: ansible-playbook, its workers, its connections."""
    children = [play.process.pid]
    for pid in children:
        for task in os.listdir(f"/proc/{pid}/task") if os.path.isdir(f"/proc/{pid}") else []:
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as listed:
                children += [int(word) for word in listed.read().split()]
    for pid in children:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    play.process.wait()


def run_again(plays: Plays, cluster: Cluster, source: str, traces: Traces, name: str) -> None:
    """The same command once more ends with the pod on node-b, nothing lost, nothing left."""
    current = the_one(cluster, source) or source
    deadline = time.monotonic() + 60  # as the refusal says: ferries without a controller give up within a minute
    result = plays.migrate(current, "node-b", name=name)
    # A runtime that was restarted makes its node NotReady some seconds later, for some seconds.
    passing = ("migration_under_way", "target_not_ready")
    while any(word in result.output for word in passing) and time.monotonic() < deadline:
        time.sleep(2)
        result = plays.migrate(current, "node-b", name=name)
    result.ok()
    target = the_one(cluster, source) or the_one(cluster, current)
    assert target
    assert cluster.node(target) == "node-b"
    ticks.assert_unbroken(cluster.logs(target))
    traces.assert_none()


@pytest.mark.parametrize(
    ("name", "node", "point"),
    [
        ("new", "node-a", "source:journal:prepared:after"),
        ("new", "node-a", "source:phase:dump"),
        ("new", "node-b", "target:phase:restore"),
        ("new", "node-a", "source:journal:committed:before"),
        ("keep", "node-a", "source:phase:data_ready"),
        ("keep", "node-a", "source:journal:relinquished:after"),
        ("keep", "node-b", "target:phase:restore"),
    ],
)
def test_a_controller_that_is_killed(
    lab: Lab, plays: Plays, cluster: Cluster, traces: Traces, name: str, node: str, point: str
) -> None:
    source = cluster.create(workloads.counter(cluster.name("counter"), "node-a", MIB))
    with held(lab, node, point) as hold:
        play = plays.start_migrate(source, "node-b", name=name)
        hold.wait()
        kill(play)
        hold.release()
    run_again(plays, cluster, source, traces, name)


def test_ctrl_c_in_the_freeze_is_a_cancel(lab: Lab, plays: Plays, cluster: Cluster, traces: Traces) -> None:
    source = cluster.create(workloads.counter(cluster.name("counter"), "node-a", MIB))
    with held(lab, "node-a", "source:phase:dump") as hold:
        play = plays.start_migrate(source, "node-b", name="new")
        hold.wait()
        play.process.send_signal(signal.SIGINT)
        time.sleep(1)
        hold.release()
        result = play.finish()
    assert result.rc != 0
    assert "not moved" in result.output or "undone" in result.output or "cancel" in result.output
    until("the source counts on", lambda: the_one(cluster, source) == source, 30)
    ticks.assert_unbroken(cluster.logs(source))
    traces.assert_none(60)


def test_the_api_is_not_needed_in_the_freeze(lab: Lab, plays: Plays, cluster: Cluster, traces: Traces) -> None:
    """P4: with the API hanging from the freeze on, the target is thawed all the same; the play ends when the API is back."""
    source = cluster.create(workloads.counter(cluster.name("counter"), "node-a", MIB))
    uid = (cluster.get(source) or {})["metadata"]["uid"]
    with held(lab, "node-a", "source:phase:freeze") as hold:
        play = plays.start_migrate(source, "node-b", name="new")
        hold.wait()
        target = (cluster.get(cluster.moved(source)) or {})["metadata"]
        assert target["uid"] != uid
        log = f"/var/log/pods/{cluster.namespace}_{target['name']}_{target['uid']}/main/0.log"
        lab.ssh("control-host", f"systemctl kill -s STOP {lab.api_unit}")
        try:
            hold.release()
            count = f"cat {log} 2>/dev/null | grep -c tick"
            until("the target counts", lambda: int(lab.ssh("node-b", count, check=False).stdout or 0) > 0, 60)
            first = int(lab.ssh("node-b", count).stdout)
            until("the target goes on counting", lambda: int(lab.ssh("node-b", count).stdout) > first + 20, 60)
        finally:
            lab.ssh("control-host", f"systemctl kill -s CONT {lab.api_unit}")
        play.finish().ok()
    moved = cluster.moved(source)
    assert cluster.node(moved) == "node-b"
    ticks.assert_unbroken(cluster.logs(moved))
    traces.assert_none()


def test_the_runtime_is_restarted_while_the_handler_waits(
    lab: Lab, plays: Plays, cluster: Cluster, traces: Traces
) -> None:
    source = cluster.create(workloads.counter(cluster.name("counter"), "node-a", MIB))
    with held(lab, "node-a", "source:phase:freeze") as hold:
        play = plays.start_migrate(source, "node-b", name="new")
        hold.wait()
        lab.ssh("node-b", f"systemctl restart {lab.engine('node-b')}")
        hold.release()
        play.finish()
    until("one copy counts", lambda: the_one(cluster, source), 60)
    until("node-b Ready", lambda: node_ready(cluster, "node-b"), 60)
    run_again(plays, cluster, source, traces, "new")


@pytest.mark.parametrize("point", ["source:phase:freeze", "source:journal:go_given:before"])
def test_the_target_pod_is_deleted_under_way(
    lab: Lab, plays: Plays, cluster: Cluster, traces: Traces, point: str
) -> None:
    """While its handler waits for the state, and while it stands frozen."""
    source = cluster.create(workloads.counter(cluster.name("counter"), "node-a", MIB))
    with held(lab, "node-a", point) as hold:
        play = plays.start_migrate(source, "node-b", name="new")
        hold.wait()
        target = cluster.moved(source)
        assert target != source
        cluster.delete(target)
        time.sleep(1)
        hold.release()
        result = play.finish()
    assert result.rc != 0
    assert result.report is not None
    assert result.report["outcome"] == "undone"
    if point == "source:phase:freeze":  # its kubelet lets `create` go on: only the API tells
        assert result.report["error"]["type"] == "target_deleted"
    until("the source counts on", lambda: the_one(cluster, source) == source, 30)
    ticks.assert_unbroken(cluster.logs(source))
    traces.assert_none(60)


def test_a_second_migration_of_the_pod_is_told_so(lab: Lab, plays: Plays, cluster: Cluster, traces: Traces) -> None:
    source = cluster.create(workloads.counter(cluster.name("counter"), "node-a", MIB))
    with held(lab, "node-a", "source:journal:prepared:after") as hold:
        play = plays.start_migrate(source, "node-b", name="new")
        hold.wait()
        plays.migrate(source, "node-b", name="new").refused("migration", source)
        hold.release()
        play.finish().ok()
    moved = cluster.moved(source)
    assert cluster.node(moved) == "node-b"
    ticks.assert_unbroken(cluster.logs(moved))
    traces.assert_none()
