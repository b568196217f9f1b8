# SPDX-License-Identifier: Apache-2.0
"""A node is emptied, as a user empties it: everything that can move runs elsewhere with its next tick, the rest says why not."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.faultpoints import faults, held
from e2e.support.lab import NODES, Lab
from e2e.support.plays import PlayResult, Plays, RunningPlay

MIB = 4
BARE = 14
REPLICAS = 6
STOP_KUBELET = "for unit in podferry-standin-kubelet kubelet; do ! systemctl is-active -q $unit || systemctl kill -s {signal} $unit; done"
MARKS = ("podferry.live/drain", "podferry.live/cordoned-by")


@pytest.fixture(autouse=True)
def nodes_as_they_were(cluster: Cluster) -> Iterator[None]:
    """No test leaves a node cordoned to the next one."""
    yield
    for node in NODES:
        cluster.core.patch_node(
            node, {"spec": {"unschedulable": None}, "metadata": {"annotations": dict.fromkeys(MARKS)}}
        )


def cordoned(cluster: Cluster, node: str) -> bool:
    return bool(cluster.core.read_node(node).spec.unschedulable)


def marks(cluster: Cluster, node: str) -> dict[str, str]:
    found = cluster.core.read_node(node).metadata.annotations or {}
    return {name: value for name, value in found.items() if name in MARKS}


def drain(plays: Plays, node: str, *flags: str, timeout: float = 400, **variables: Any) -> PlayResult:
    report = plays.scratch / f"drain-{time.monotonic_ns()}.json"
    return plays.run("drain", *flags, timeout=timeout, **{"node": node, "report": str(report), **variables})


def fates(result: PlayResult) -> dict[str, tuple[str, str]]:
    assert result.report is not None, result.stdout[-3000:]
    return {pod["pod"]: (pod["outcome"], pod["target"]) for pod in result.report["pods"]}


def counters(cluster: Cluster, node: str, number: int, **spec: Any) -> list[str]:
    """Counters that are all Ready, created together."""
    names = [
        cluster.create(workloads.counter(cluster.name("drain"), node, MIB, **spec), ready=0) for _again in range(number)
    ]
    for name in names:
        cluster.wait_ready(name, 120)
    return names


@pytest.fixture
def deployment(cluster: Cluster) -> Iterator[str]:
    """A Deployment whose pods all began on node-a."""
    name = cluster.name("shop")
    template = workloads.counter(name, "node-a", MIB)
    cluster.apps.create_namespaced_deployment(
        cluster.namespace,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": REPLICAS,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": template["spec"]},
            },
        },
    )
    until("all replicas", lambda: len(cluster.pods(f"app={name}")) == REPLICAS, 60)
    for pod in cluster.pods(f"app={name}"):
        cluster.wait_ready(pod["metadata"]["name"], 120)
    yield name
    cluster.apps.delete_namespaced_deployment(name, cluster.namespace)
    until("the Deployment's pods gone", lambda: not cluster.pods(f"app={name}"), 60)


def test_a_drain_of_twenty_leaves_all_running_elsewhere(
    plays: Plays, cluster: Cluster, traces: Traces, deployment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = counters(cluster, "node-a", BARE)

    result = drain(plays, "node-a").ok()

    report = result.report
    assert report is not None
    assert (report["outcome"], report["counts"]) == ("drained", {"finished": BARE + REPLICAS})
    assert {target for _outcome, target in fates(result).values()} == {"node-b"}
    there = cluster.pods()
    assert [p["metadata"]["name"] for p in there if p["spec"]["nodeName"] == "node-a"] == []
    replicas = [p["metadata"]["name"] for p in cluster.pods(f"app={deployment}")]
    assert len(replicas) == REPLICAS
    for name in (*bare, *replicas):
        assert cluster.is_ready(name)
        ticks.assert_unbroken(cluster.logs(name))
    slowest = report["slowest_freeze"]
    assert slowest["downtime_ms"] == max(pod["downtime_ms"] for pod in report["pods"])
    assert "slowest freeze" in result.output
    assert cordoned(cluster, "node-a")
    assert set(marks(cluster, "node-a")) == {"podferry.live/cordoned-by"}
    traces.assert_none()
    with capsys.disabled():
        print(f"\n  20 pods in {report['total_ms'] / 1000:.1f} s, slowest freeze {slowest['downtime_ms']:.0f} ms")

    again = drain(plays, "node-a").ok()
    assert again.changed == 0, "there is nothing left to move"
    assert drain(plays, "node-a", uncordon="always").ok().changed == 1
    assert not cordoned(cluster, "node-a")
    assert marks(cluster, "node-a") == {}


def test_check_mode_prints_the_plan_and_touches_nothing(
    plays: Plays, cluster: Cluster, traces: Traces, tmp_path: Path
) -> None:
    (name,) = counters(cluster, "node-a", 1)
    before = cluster.get(name)
    path = tmp_path / "report.json"

    result = drain(plays, "node-a", "--check", report=str(path)).ok()

    assert result.changed == 1
    for word in (name, "move", "node-b", "left free", "image there"):
        assert word in result.output
    after = cluster.get(name)
    assert before is not None and after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert not cordoned(cluster, "node-a")
    assert marks(cluster, "node-a") == {}
    assert not path.exists()
    traces.assert_none()


def test_what_cannot_move_is_left_with_its_reason_or_evicted(plays: Plays, cluster: Cluster, traces: Traces) -> None:
    disk = {"volumes": [{"name": "data", "hostPath": {"path": "/srv"}}]}
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "an-owner", "controller": True}
    config = cluster.core.create_namespaced_config_map(cluster.namespace, {"metadata": {"name": "an-owner"}})
    try:
        (mine,) = counters(cluster, "node-a", 1, **disk)
        name = cluster.name("owned")
        reference = [{**owner, "uid": config.metadata.uid}]
        owned = counters(cluster, "node-a", 1, metadata={"name": name, "ownerReferences": reference}, **disk)[0]
        (free,) = counters(cluster, "node-a", 1)

        result = drain(plays, "node-a").ok()

        assert fates(result) == {free: ("finished", "node-b"), mine: ("left", ""), owned: ("left", "")}
        assert "Volume data is the path /srv" in result.output
        assert cluster.node(mine) == "node-a"
        assert cluster.is_ready(mine)

        result = drain(plays, "node-a", rest="evict").ok()

        assert fates(result) == {mine: ("left", ""), owned: ("evicted", "")}
        assert "nobody would create it again" in json.dumps(result.report)
        cluster.wait_gone(owned)
        assert cluster.is_ready(mine)
        for moved in (mine, free):
            ticks.assert_unbroken(cluster.logs(moved))
        traces.assert_none()
    finally:
        cluster.core.delete_namespaced_config_map("an-owner", cluster.namespace)


def test_a_move_that_fails_leaves_the_pod_and_gives_the_node_back(
    lab: Lab, plays: Plays, cluster: Cluster, traces: Traces
) -> None:
    """The dump of every pod fails: they run on, the task has failed, the node is as it was."""
    names = counters(cluster, "node-a", 2)
    with faults(lab, "node-a", {"source:phase:dump": "error"}):
        result = drain(plays, "node-a")
    result.refused("not drained", *names)
    assert {outcome for outcome, _target in fates(result).values()} == {"undone"}
    assert not cordoned(cluster, "node-a")
    assert marks(cluster, "node-a") == {}
    for name in names:
        assert cluster.node(name) == "node-a"
        ticks.assert_unbroken(cluster.logs(name))
    traces.assert_none()


def test_ctrl_c_stops_a_drain_and_no_pod_is_between_two_nodes(
    lab: Lab, plays: Plays, cluster: Cluster, traces: Traces
) -> None:
    names = counters(cluster, "node-a", 4)
    report = plays.scratch / f"drain-{time.monotonic_ns()}.json"
    with held(lab, "node-a", "source:phase:dump") as hold:
        play = plays.start("drain", node="node-a", report=str(report))
        hold.wait()
        play.process.send_signal(signal.SIGINT)
        time.sleep(1)
        hold.release()
        result = play.finish()
    assert result.rc != 0
    outcomes = [outcome for outcome, _target in fates(result).values()]
    assert outcomes.count("not_started") >= 2, outcomes
    assert set(outcomes) <= {"cancelled", "not_started"}
    for name in names:
        assert cluster.node(name) == "node-a"
        until("it counts", lambda name=name: cluster.is_ready(name), 20)
        ticks.assert_unbroken(cluster.logs(name))
    assert not cordoned(cluster, "node-a")
    traces.assert_none(60)


def test_cancel_from_another_controller(lab: Lab, plays: Plays, cluster: Cluster, traces: Traces) -> None:
    """Before the freeze: the target's kubelet does not get to the pod. A second move is told who is first, then the first is stopped."""
    (source,) = counters(cluster, "node-a", 1)
    lab.ssh("node-b", STOP_KUBELET.format(signal="STOP"))
    try:
        move = plays.start_migrate(source, "node-b", name="new")
        move.wait_for("wait for target")
        second = plays.start_migrate(source, "node-b", name="new")
        stopped = plays.run("cancel", pod=source).ok()
    finally:
        lab.ssh("node-b", STOP_KUBELET.format(signal="CONT"))
    second.finish().refused("migration_under_way", "started by", "cancel.yml")
    assert stopped.changed == 1
    assert "cancelled; the pod goes on on node-a" in stopped.output
    stays_on_its_node(plays, cluster, traces, source, move.finish())


def test_cancel_in_the_freeze_while_the_other_controller_hangs(plays: Plays, cluster: Cluster, traces: Traces) -> None:
    """A pod that keeps its name is frozen and waits for its controller's last word, which does not come."""
    (source,) = counters(cluster, "node-a", 1)
    move = plays.start_migrate(source, "node-b", name="keep")
    move.wait_for("node-a         freeze")
    everyone = family(move)
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    try:
        cancel = plays.start("cancel", pod=source)
        cancel.wait_for("cancel: run")
        until("it counts again", lambda: counting(cluster, source), 30)
    finally:
        for pid in everyone:
            os.kill(pid, signal.SIGCONT)
    stopped = cancel.finish().ok()
    assert stopped.changed == 1
    stays_on_its_node(plays, cluster, traces, source, move.finish())


def stays_on_its_node(plays: Plays, cluster: Cluster, traces: Traces, source: str, result: PlayResult) -> None:
    """The cancelled run has said so, the pod goes on, nothing is left, and there is nothing to cancel any more."""
    assert result.rc != 0
    assert result.report is not None
    assert result.report["outcome"] == "cancelled", result.report
    assert cluster.node(source) == "node-a"
    until("it counts on", lambda: counting(cluster, source), 20)
    ticks.assert_unbroken(cluster.logs(source))
    traces.assert_none(60)
    assert plays.run("cancel", pod=source).ok().changed == 0


def counting(cluster: Cluster, name: str) -> bool:
    """Whether the pod's counter goes on."""
    before = ticks.parse(cluster.logs(name))[-1].number
    time.sleep(0.3)
    return ticks.parse(cluster.logs(name))[-1].number > before


def family(play: RunningPlay) -> list[int]:
    """The run's own processes, its connections among them."""
    pids = [play.process.pid]
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as listed:
                pids += [int(word) for word in listed.read().split()]
    return pids


def test_a_cancel_after_the_commit_is_too_late(lab: Lab, plays: Plays, cluster: Cluster, traces: Traces) -> None:
    (source,) = counters(cluster, "node-a", 1)
    with held(lab, "node-a", "source:journal:committed:after") as hold:
        move = plays.start_migrate(source, "node-b", name="new")
        hold.wait()
        plays.run("cancel", pod=source).refused("too late", "seen through")
        hold.release()
        move.finish().ok()
    moved = cluster.moved(source)
    assert cluster.node(moved) == "node-b"
    ticks.assert_unbroken(cluster.logs(moved))
    traces.assert_none()


def test_of_two_opposite_drains_one_wins_and_the_other_is_told(plays: Plays, cluster: Cluster, traces: Traces) -> None:
    on_a, on_b = counters(cluster, "node-a", 3), counters(cluster, "node-b", 3)
    reports = {node: plays.scratch / f"drain-{node}-{time.monotonic_ns()}.json" for node in NODES}
    running = {node: plays.start("drain", node=node, report=str(reports[node])) for node in NODES}
    ended = {node: play.finish() for node, play in running.items()}

    won = [node for node, result in ended.items() if result.rc == 0]
    assert len(won) == 1, {node: result.stdout[-1500:] for node, result in ended.items()}
    (lost,) = set(NODES) - set(won)
    ended[lost].refused("is being drained itself, by", "since", "Wait for its end")
    report = ended[won[0]].report
    assert report is not None
    assert report["counts"] == {"finished": 3}
    for name in (*on_a, *on_b):
        assert cluster.node(name) == lost, "those of the node that was given up have never moved, the others did once"
        ticks.assert_unbroken(cluster.logs(name))
    assert cordoned(cluster, won[0])
    assert not cordoned(cluster, lost)
    assert marks(cluster, lost) == {}
    traces.assert_none()

    drain(plays, lost).refused("no_target", "marked unschedulable")
