# SPDX-License-Identifier: Apache-2.0
"""A copy that a user asked for: the source runs on, the copy has a name of its own, and the report says where they part."""

from __future__ import annotations

from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.faultpoints import faults
from e2e.support.lab import Lab
from e2e.support.plays import Plays


def copies(cluster: Cluster, source: str) -> list[str]:
    found = []
    for pod in cluster.pods():
        origin = pod["metadata"].get("annotations", {}).get("podferry.live/copied-from", "")
        if origin.split(" ")[0] == f"default/{source}":
            found.append(pod["metadata"]["name"])
            if found[-1] not in cluster.created:
                cluster.created.append(found[-1])
    return found


def test_source_and_copy_go_on_from_the_same_tick(plays: Plays, cluster: Cluster, traces: Traces) -> None:
    source = cluster.create(workloads.counter(cluster.name("copied"), "node-a"))
    result = plays.migrate(source, "node-b", source_policy="keep_running").ok()
    report = result.report
    assert (report["mode"], report["outcome"]) == ("copy", "finished")
    (copy,) = copies(cluster, source)
    assert cluster.node(copy) == "node-b"
    pod = cluster.get(copy) or {}
    assert "app" not in pod["metadata"].get("labels", {})
    wanted = len(ticks.parse(cluster.logs(source))) + 20
    for name in (source, copy):
        until(f"{name} goes on", lambda name=name: len(ticks.parse(cluster.logs(name))) > wanted, 20)
        ticks.assert_unbroken(cluster.logs(name))
    mine, theirs = ({tick.number: tick.realtime for tick in ticks.parse(cluster.logs(name))} for name in (source, copy))
    parted = min(number for number in mine if number in theirs and mine[number] != theirs[number])
    assert abs(mine[parted] / 1e9 - report["diverged_at"]) < 1.0
    assert report["source_frozen_ms"] < report["downtime_ms"]
    cluster.delete(copy)
    cluster.delete(source)
    traces.assert_none()


def test_a_copy_that_cannot_be_restored_leaves_the_source_alone(
    lab: Lab, plays: Plays, cluster: Cluster, traces: Traces
) -> None:
    source = cluster.create(workloads.counter(cluster.name("copied"), "node-a"))
    with faults(lab, "node-b", {"target:phase:restore": "kill"}):
        result = plays.migrate(source, "node-b", source_policy="keep_running")
    assert result.report["outcome"] == "undone"
    assert copies(cluster, source) == []
    before = len(ticks.parse(cluster.logs(source)))
    until("it goes on", lambda: len(ticks.parse(cluster.logs(source))) > before + 10, 10)
    ticks.assert_unbroken(cluster.logs(source))
    cluster.delete(source)
    traces.assert_none()
