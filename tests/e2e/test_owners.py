# SPDX-License-Identifier: Apache-2.0
"""Pods that somebody owns: what their owner is afterwards, and what happened to its other pods."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes import client

from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.lab import Lab
from e2e.support.plays import Plays

OTHER = {"node-a": "node-b", "node-b": "node-a"}


def template(name: str, image: str, args: list[str] | None = None, **container: Any) -> dict[str, Any]:
    """A pod template of one of the lab's images, on whatever node."""
    pod = workloads.pod(name, "", image, args, container=container)
    del pod["spec"]["nodeName"]
    return {"metadata": {"labels": {"app": name}}, "spec": pod["spec"]}


@contextmanager
def stateful(cluster: Cluster, replicas: int = 2) -> Iterator[str]:
    """A StatefulSet of counters, all Ready; gone afterwards."""
    name = cluster.name("set")
    cluster.apps.create_namespaced_stateful_set(
        cluster.namespace,
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": name, "labels": {"team": "a"}, "annotations": {"note": "kept"}},
            "spec": {
                "replicas": replicas,
                "serviceName": name,
                "selector": {"matchLabels": {"app": name}},
                "template": template(name, "counter", ["8"]),
            },
        },
    )
    try:
        for number in range(replicas):
            cluster.wait_ready(f"{name}-{number}", 90)
        until(
            "the StatefulSet at rest", lambda: the_set(cluster, name)["status"].get("updatedReplicas") == replicas, 30
        )
        yield name
    finally:
        try:
            cluster.apps.delete_namespaced_stateful_set(name, cluster.namespace)
        except client.ApiException as error:
            if error.status != 404:
                raise
        for number in range(replicas):
            cluster.delete(f"{name}-{number}")
        until("its pods gone", lambda: not cluster.pods(f"app={name}"), 60)


def the_set(cluster: Cluster, name: str) -> dict[str, Any]:
    """The StatefulSet as the API gives it."""
    found = cluster.apps.read_namespaced_stateful_set(name, cluster.namespace)
    plain: dict[str, Any] = cluster.core.api_client.sanitize_for_serialization(found)
    return plain


def pod(cluster: Cluster, name: str) -> dict[str, Any]:
    """A pod that must be there."""
    found = cluster.get(name)
    assert found is not None, f"{name} is gone"
    return found


def owner_uid(found: dict[str, Any]) -> str:
    """The uid of the pod's controller; '' without one."""
    return next((str(r["uid"]) for r in found["metadata"].get("ownerReferences") or [] if r.get("controller")), "")


def as_written(owner: dict[str, Any]) -> tuple[Any, ...]:
    """What of a StatefulSet its user has said."""
    meta = owner["metadata"]
    return meta["name"], meta.get("labels"), meta.get("annotations"), owner["spec"]


def assert_whole(cluster: Cluster, name: str, before: dict[str, Any], other: dict[str, Any]) -> None:
    """The StatefulSet is there as its user wrote it, owns both pods, and the other pod has noticed nothing."""
    now = the_set(cluster, name)
    assert as_written(now) == as_written(before)
    until(
        "both pods adopted",
        lambda: [owner_uid(p) for p in cluster.pods(f"app={name}")] == [now["metadata"]["uid"]] * 2,
        30,
    )
    untouched = pod(cluster, f"{name}-0")
    assert untouched["metadata"]["uid"] == other["metadata"]["uid"]
    assert untouched["spec"]["nodeName"] == other["spec"]["nodeName"]
    assert untouched["status"]["containerStatuses"][0]["restartCount"] == 0
    until("all of them Ready", lambda: the_set(cluster, name)["status"].get("readyReplicas") == 2, 30)
    revision = the_set(cluster, name)["status"]["updateRevision"]
    assert revision == before["status"]["updateRevision"]
    for found in cluster.pods(f"app={name}"):
        assert found["metadata"]["labels"]["controller-revision-hash"] == revision


def test_a_statefulsets_pod_moves_there_and_back(plays: Plays, cluster: Cluster, traces: Traces) -> None:
    """Same name, ordinal and host name; its memory goes on; adopted, not replaced; the other pod is left alone."""
    with stateful(cluster) as name:
        before, other, moving = the_set(cluster, name), pod(cluster, f"{name}-0"), pod(cluster, f"{name}-1")
        home = moving["spec"]["nodeName"]

        for target in (OTHER[home], home):
            owner = the_set(cluster, name)["metadata"]["uid"]
            result = plays.migrate(f"{name}-1", target).ok()

            report = result.report
            assert report is not None
            assert (report["outcome"], report["mode"], report["owner"]) == (
                "finished",
                "successor",
                f"StatefulSet {name}",
            )
            moved = pod(cluster, f"{name}-1")
            assert moved["spec"]["nodeName"] == target
            assert moved["spec"]["hostname"] == f"{name}-1"
            assert moved["metadata"]["labels"] == moving["metadata"]["labels"]
            assert moved["metadata"]["uid"] != moving["metadata"]["uid"]
            assert the_set(cluster, name)["metadata"]["uid"] != owner
            assert "gets a new UID" in result.output
            assert_whole(cluster, name, before, other)

        time.sleep(1)
        account = ticks.assert_unbroken(cluster.logs(f"{name}-1"))
        assert account[0].number == 1
        assert cluster.get(f"{name}-1")["metadata"]["uid"] == moved["metadata"]["uid"], "it was replaced"  # type: ignore[index]
        ticks.assert_unbroken(cluster.logs(f"{name}-0"))
    traces.assert_none()


@pytest.mark.parametrize("forgotten", [False, True], ids=["journals", "mark"])
def test_a_killed_controller_leaves_no_statefulset_and_the_next_run_brings_it_back(
    plays: Plays, cluster: Cluster, lab: Lab, traces: Traces, forgotten: bool
) -> None:
    """By the journals of the nodes, or, when both have lost them, by the mark on the pod."""
    with stateful(cluster) as name:
        before, other, moving = the_set(cluster, name), pod(cluster, f"{name}-0"), pod(cluster, f"{name}-1")
        target = OTHER[moving["spec"]["nodeName"]]

        running = plays.start_migrate(f"{name}-1", target)
        until("the StatefulSet taken away", lambda: is_away(cluster, name), 90, every=0.01)
        kill_tree(running.process.pid)
        running.process.wait(30)
        assert is_away(cluster, name)
        if forgotten:
            until("the source runs on", lambda: cluster.get(f"{name}-1"), 5)
            for node in OTHER:
                forget(lab, node)

        result = plays.migrate(f"{name}-1", target).ok()
        assert result.report is not None
        assert result.report["outcome"] in ("finished", "already_there")
        assert cluster.node(f"{name}-1") == target
        assert_whole(cluster, name, before, other)
        ticks.assert_unbroken(cluster.logs(f"{name}-1"))
        assert "podferry.live/owner-away" not in pod(cluster, f"{name}-1")["metadata"]["annotations"]
    traces.assert_none()


def is_away(cluster: Cluster, name: str) -> bool:
    """Whether the API does not know the StatefulSet, or not for long."""
    try:
        return "deletionTimestamp" in the_set(cluster, name)["metadata"]
    except client.ApiException as error:
        if error.status != 404:
            raise
        return True


def forget(lab: Lab, node: str) -> None:
    """What a restart of the node does to our files, once its ferry has given up and its pod runs on."""

    def at_rest() -> bool:
        ferries = "systemctl list-units --plain --no-legend 'podferry-*-source.service' 'podferry-*-target.service'"
        return not lab.ssh(node, ferries).stdout.strip()

    until(f"no ferry on {node}", at_rest, 60, every=0.5)
    lab.ssh(
        node,
        "for run in /run/podferry/runs/*; do umount -q $run/images; rm -rf $run; done; "
        "rm -rf /run/podferry/runs/.leaving-* /run/podferry/arrivals/* /run/podferry/claims/*",
    )


def kill_tree(pid: int) -> None:
    """SIGKILL for a play and its workers: nobody cleans up."""
    children = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as listed:
            children += [int(word) for word in listed.read().split()]
    os.kill(pid, signal.SIGKILL)
    for child in children:
        kill_tree(child)


def test_a_budget_without_room_keeps_a_statefulsets_pod_where_it_is(plays: Plays, cluster: Cluster) -> None:
    policy = client.PolicyV1Api(cluster.core.api_client)
    with stateful(cluster) as name:
        before = the_set(cluster, name)
        budget = {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": name}}},
        }
        policy.create_namespaced_pod_disruption_budget(cluster.namespace, budget)
        try:
            until(
                "the budget counted",
                lambda: policy.read_namespaced_pod_disruption_budget(name, cluster.namespace).status.expected_pods == 2,
                30,
            )
            target = OTHER[cluster.node(f"{name}-1")]
            plays.migrate(f"{name}-1", target).refused("disruption_budget", name)
            assert the_set(cluster, name)["metadata"]["uid"] == before["metadata"]["uid"]
        finally:
            policy.delete_namespaced_pod_disruption_budget(name, cluster.namespace)


def test_a_deployment_of_three_is_short_of_nothing_but_the_pod_that_moves(
    plays: Plays, cluster: Cluster, traces: Traces
) -> None:
    name = cluster.name("web")
    probe = {"httpGet": {"path": "/readyz", "port": 8080}, "periodSeconds": 1, "failureThreshold": 10}
    cluster.apps.create_namespaced_deployment(
        cluster.namespace,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": 3,
                "selector": {"matchLabels": {"app": name}},
                "template": template(name, "json", readinessProbe=probe),
            },
        },
    )
    try:
        until("three Ready pods", lambda: ready_count(cluster, name) == 3, 90)
        first, *others = sorted(p["metadata"]["name"] for p in cluster.pods(f"app={name}"))
        target = OTHER[cluster.node(first)]
        counts: list[int] = []
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                counts.append(ready_count(cluster, name))
                time.sleep(0.05)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            plays.migrate(first, target).ok()
        finally:
            done.set()
            watcher.join()

        # From the thaw until the target is Ready neither of the two counts: nobody is sent to a pod that stands frozen.
        assert min(counts) >= 2, f"{counts.count(min(counts))} of {len(counts)} looks saw {min(counts)} Ready pods"
        assert counts[-1] == 3
        cluster.wait_gone(first)
        names = {p["metadata"]["name"] for p in cluster.pods(f"app={name}")}
        assert names == {cluster.moved(first), *others}
        status = cluster.apps.read_namespaced_deployment(name, cluster.namespace).status
        assert (status.replicas, status.updated_replicas) == (3, 3)
    finally:
        cluster.apps.delete_namespaced_deployment(name, cluster.namespace)
        until("the Deployment's pods gone", lambda: not cluster.pods(f"app={name}"), 60)
    traces.assert_none()


def ready_count(cluster: Cluster, name: str) -> int:
    """Pods that a Service would send to."""
    return sum(
        any(c["type"] == "Ready" and c["status"] == "True" for c in p["status"].get("conditions") or [])
        for p in cluster.pods(f"app={name}")
        if "deletionTimestamp" not in p["metadata"]
    )
