# SPDX-License-Identifier: Apache-2.0
"""The target's node is cut off just at the commit: nobody can know. The state, and both ways out by the commands of docs/failures.md."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.faultpoints import held
from e2e.support.lab import Lab
from e2e.support.plays import Plays
from e2e.test_interrupted import counting

OFF = """
nft add table inet cut
nft 'add chain inet cut in {{ type filter hook input priority -200; }}'; nft add rule inet cut in iif != lo drop
nft 'add chain inet cut out {{ type filter hook output priority -200; }}'; nft add rule inet cut out oif != lo drop
sleep 1; rm -f /run/podferry/hold.*
sleep {seconds}; nft delete table inet cut
"""


@contextmanager
def cut_off(lab: Lab, node: str, seconds: int) -> Iterator[None]:
    """Nothing reaches ``node`` for that long; what is held on it is let go meanwhile. It ends by itself: nobody can reach it."""
    lab.ssh(node, "cat > /run/cut-off.sh", stdin=OFF.format(seconds=seconds))
    lab.ssh(node, "systemd-run --quiet --collect --unit=cut-off sh /run/cut-off.sh")
    yield
    until(f"{node} is back", lambda: answers(lab, node), seconds + 60, every=1)


def answers(lab: Lab, node: str) -> bool:
    try:
        return lab.ssh(node, "true", check=False, timeout=5).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def ferry(lab: Lab, node: str, operation: str, **arguments: str) -> dict[str, object]:
    """As docs/failures.md defines it."""
    line = json.dumps({"id": 1, "op": operation, "args": arguments})
    out = lab.ssh(node, "/usr/local/libexec/podferry/podferry-node session", stdin=line + "\n").stdout
    answer: dict[str, object] = json.loads(out.splitlines()[0])
    assert answer["ok"], answer
    return dict(answer["result"] or {})  # type: ignore[call-overload]


@pytest.mark.parametrize(("node", "point"), [("node-b", "target:thaw:before"), ("node-a", "source:send:go:before")])
def test_both_ways_out(lab: Lab, plays: Plays, cluster: Cluster, traces: Traces, node: str, point: str) -> None:
    source = cluster.create(workloads.counter(cluster.name("doubt"), "node-a", 4))
    with held(lab, node, point) as stopped:
        play = plays.start_migrate(source, "node-b", name="new")
        stopped.wait()
        with cut_off(lab, "node-b", 75):
            if node == "node-a":
                time.sleep(1)
                stopped.release()
            result = play.finish(200)
            report = result.report
            assert report["outcome"] == "in_doubt"
            assert report["ways_out"]
            run, target = report["run"], report["target"]["pod"]
            frozen = ticks.parse(cluster.logs(source))[-1].number
            assert not counting(cluster, source)
    cluster.created.append(target)

    # 1. Ask the target node: its record decides.
    record = lab.ssh("node-b", f"ls /run/podferry/runs/{run}/").stdout.split()
    if point == "target:thaw:before":
        assert "thawed" in record
        # 2. The target runs: the source must go.
        ferry(lab, "node-a", "settle", run=run, target_record="going")
        labels = {"podferry.live/run": None, "app": source}
        cluster.core.patch_namespaced_pod(target, cluster.namespace, {"metadata": {"labels": labels}})
        cluster.delete(source)
        ferry(lab, "node-a", "finish", run=run)
        marks = {"podferry.live/arrival": None}
        cluster.core.patch_namespaced_pod(target, cluster.namespace, {"metadata": {"annotations": marks}})
        ferry(lab, "node-b", "finish", run=run)
        alive, gone = target, source
    else:
        assert "thawed" not in record
        # 3. The target has not run: the source goes on.
        assert ferry(lab, "node-b", "surrender", run=run)["surrendered"] is True
        ferry(lab, "node-a", "thaw", run=run, target_record="aborted")
        cluster.delete(target)
        ferry(lab, "node-b", "finish", run=run)
        ferry(lab, "node-a", "finish", run=run)
        alive, gone = source, target
    cluster.wait_gone(gone)
    assert counting(cluster, alive)
    seen = ticks.assert_unbroken(cluster.logs(alive))
    assert seen[-1].number > frozen
    cluster.delete(alive)
    cluster.wait_gone(alive)
    traces.assert_none(60)
