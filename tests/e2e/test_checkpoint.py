# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as things: taken while the pod runs on, stored, and restored as often as one likes, on any node."""

from __future__ import annotations

from typing import Any


from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.plays import PlayResult, Plays

SHARED = {"kind": "path", "path": "/srv/shared/checkpoints"}


def take(plays: Plays, store: dict[str, Any] = SHARED, **more: Any) -> PlayResult:
    return plays.run("checkpoint", podferry_stores={"here": store}, store="here", **more)


def restore(plays: Plays, store: dict[str, Any] = SHARED, **more: Any) -> PlayResult:
    return plays.run("restore", podferry_stores={"here": store}, store="here", **more)


def restored(cluster: Cluster, checkpoint: str = "") -> list[str]:
    """Pods that came back from a checkpoint, which are removed at the end like those that the test made."""
    found = []
    for pod in cluster.pods():
        origin = pod["metadata"].get("annotations", {}).get("podferry.live/restored-from", "")
        if origin and checkpoint in ("", origin):
            found.append(pod["metadata"]["name"])
            if found[-1] not in cluster.created:
                cluster.created.append(found[-1])
    return found


def test_a_checkpoint_comes_back_three_times_on_another_node(plays: Plays, cluster: Cluster, traces: Traces) -> None:
    source = cluster.create(workloads.counter(cluster.name("kept"), "node-a"))
    taken = take(plays, pod=source).ok()
    assert "1 checkpoint" in taken.output or "stored" in taken.output
    at = len(ticks.parse(cluster.logs(source)))
    until("the source goes on", lambda: len(ticks.parse(cluster.logs(source))) > at + 20, 10)
    ticks.assert_unbroken(cluster.logs(source))
    restore(plays, pod=source, target="node-b", copies=3).ok()
    copies = restored(cluster)
    assert len(copies) == 3
    parted = set()
    mine = {tick.number: tick.realtime for tick in ticks.parse(cluster.logs(source))}
    for copy in copies:
        assert cluster.node(copy) == "node-b"
        annotations = (cluster.get(copy) or {})["metadata"].get("annotations", {})
        assert "podferry.live/arrival" not in annotations
        first = len(ticks.parse(cluster.logs(copy)))
        until(f"{copy} goes on", lambda name=copy, seen=first: len(ticks.parse(cluster.logs(name))) > seen + 20, 20)
        theirs = ticks.assert_unbroken(cluster.logs(copy))
        parted.add(min(tick.number for tick in theirs if mine.get(tick.number) != tick.realtime))
    assert len(parted) == 1, "all copies go on from the same instruction"
    for name in (*copies, source):
        cluster.delete(name)
    traces.assert_none()
