# SPDX-License-Identifier: Apache-2.0
"""A running pod moves, by the playbook, as a user moves it: nothing lost, nothing doubled, nothing left behind."""

from __future__ import annotations

import json
import time

import pytest

from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.lab import Lab
from e2e.support.plays import Plays

KEYS = 100_000
AGREEMENT_MS = 100.0
"""Report and workload measure the same pause: they differ by the counter's own 10 ms, ten times over."""


@pytest.mark.parametrize("name", ["new", "keep"])
def test_a_counter_goes_on_with_its_next_tick(plays: Plays, cluster: Cluster, traces: Traces, name: str) -> None:
    source = cluster.create(workloads.counter(cluster.name("counter"), "node-a", 64))
    time.sleep(1)
    address = cluster.pod_ip(source)

    result = plays.migrate(source, "node-b", name=name).ok()

    report = result.report
    assert report is not None
    assert report["outcome"] == "finished"
    target = cluster.moved(source)
    assert (target == source) == (name == "keep")
    assert cluster.node(target) == "node-b"
    if name == "new":
        cluster.wait_gone(source)
    time.sleep(1)
    account = ticks.assert_unbroken(cluster.logs(target))
    pause = ticks.switchover(account)
    assert account[0].number == 1, "the log begins with the source's lines"
    assert account[-1].number > pause.after.number + 50, "it counts on"
    assert abs(pause.ms - report["downtime_ms"]) < AGREEMENT_MS
    assert report["bytes"], report
    assert cluster.pod_ip(target) != address
    assert "podferry.live/arrival" not in (cluster.get(target) or {})["metadata"]["annotations"]
    for phase in ("preflight", "freeze", "dump", "restore", "commit"):
        assert phase in result.output, f"phase {phase} was not shown"
    traces.assert_none()

    again = plays.migrate(target, "node-b").ok()
    assert again.changed == 0, "it is there already"


def test_check_mode_says_what_would_happen_and_touches_nothing(plays: Plays, cluster: Cluster, traces: Traces) -> None:
    source = cluster.create(workloads.counter(cluster.name("counter"), "node-a", 8))
    before = cluster.get(source)

    result = plays.migrate(source, "node-b", "--check", "--diff").ok()

    assert result.changed == 1
    assert "node-b" in result.output
    after = cluster.get(source)
    assert before is not None and after is not None
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert cluster.moved(source) == source
    ticks.assert_unbroken(cluster.logs(source))
    traces.assert_none()


def test_redis_goes_back_and_forth_with_every_key(lab: Lab, plays: Plays, cluster: Cluster, traces: Traces) -> None:
    """Done-criterion 2: ten moves; every key equal each time; PID and uptime of the server go on."""
    pod = cluster.create(workloads.redis(cluster.name("redis"), "node-a"))
    nodes = ["node-b", "node-a"] * 5
    redis(lab, cluster, pod, "debug", "populate", str(KEYS), "key", "24")
    digest = redis(lab, cluster, pod, "debug", "digest")
    assert redis(lab, cluster, pod, "dbsize").split()[-1] == str(KEYS)
    born = info(lab, cluster, pod)
    uptime = int(born["uptime_in_seconds"])

    for number, node in enumerate(nodes):
        plays.migrate(pod, node, name="keep").ok()
        assert cluster.node(pod) == node
        assert redis(lab, cluster, pod, "debug", "digest") == digest, f"keys differ after move {number + 1}"
        now = info(lab, cluster, pod)
        assert (now["run_id"], now["process_id"]) == (born["run_id"], born["process_id"])
        assert int(now["uptime_in_seconds"]) >= uptime
        uptime = int(now["uptime_in_seconds"])
        assert redis(lab, cluster, pod, "set", f"move:{number}", node) == "OK"
        digest = redis(lab, cluster, pod, "debug", "digest")
    traces.assert_none()


def redis(lab: Lab, cluster: Cluster, pod: str, *words: str) -> str:
    """Ask the pod's Redis from the lab's control host."""
    done = lab.ssh("control-host", "redis-cli", "-h", cluster.pod_ip(pod), *words, timeout=60)
    return done.stdout.strip()


def info(lab: Lab, cluster: Cluster, pod: str) -> dict[str, str]:
    """Redis' account of itself."""
    lines = redis(lab, cluster, pod, "info", "server").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def test_a_json_service_keeps_its_state_and_listens_on(lab: Lab, plays: Plays, cluster: Cluster) -> None:
    pod = cluster.create(workloads.json_service(cluster.name("json"), "node-a"))

    def ask(*words: str) -> dict[str, object]:
        answer = lab.ssh("control-host", "curl", "--silent", "--fail", "--max-time", "5", *words).stdout
        loaded: dict[str, object] = json.loads(answer)
        return loaded

    ask("-X", "PUT", "-d", '"blue"', f"http://{cluster.pod_ip(pod)}:8080/colour")
    before = ask(f"http://{cluster.pod_ip(pod)}:8080/colour")
    plays.migrate(pod, "node-b", name="keep").ok()
    after = ask(f"http://{cluster.pod_ip(pod)}:8080/colour")
    assert (after["value"], after["pid"], after["started"]) == ("blue", before["pid"], before["started"])
    assert after["requests"] == int(str(before["requests"])) + 1


def test_a_deployments_pod_is_adopted_and_no_other_is_started(plays: Plays, cluster: Cluster, traces: Traces) -> None:
    name = cluster.name("web")
    template = workloads.counter(name, "node-a", 8)
    del template["spec"]["nodeName"]
    template["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "node-a"}
    cluster.apps.create_namespaced_deployment(
        cluster.namespace,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": template["spec"]},
            },
        },
    )
    try:
        source = until(
            "the Deployment's pod",
            lambda: next((pod for pod in cluster.pods(f"app={name}") if pod["status"].get("podIP")), None),
            60,
        )["metadata"]["name"]
        cluster.wait_ready(source)
        refused = plays.migrate(source, "node-b")
        if refused.rc != 0:  # its nodeSelector forbids the other node
            refused.refused("nodeSelector")
        cluster.apps.patch_namespaced_deployment(
            name, cluster.namespace, {"spec": {"template": {"spec": {"nodeSelector": None}}}}
        )
        source = until(
            "the new ReplicaSet's only pod",
            lambda: (
                (found := [pod for pod in cluster.pods(f"app={name}") if "nodeSelector" not in pod["spec"]])
                and len(cluster.pods(f"app={name}")) == 1
                and found[0]
            ),
            90,
        )["metadata"]["name"]
        cluster.wait_ready(source)
        node = cluster.node(source)
        other = "node-b" if node == "node-a" else "node-a"

        plays.migrate(source, other).ok()

        until("one pod, the moved one", lambda: len(cluster.pods(f"app={name}")) == 1, 30)
        (moved,) = cluster.pods(f"app={name}")
        assert moved["spec"]["nodeName"] == other
        assert moved["metadata"]["ownerReferences"][0]["kind"] == "ReplicaSet"
        time.sleep(2)
        assert [pod["metadata"]["name"] for pod in cluster.pods(f"app={name}")] == [moved["metadata"]["name"]]
        ticks.assert_unbroken(cluster.logs(moved["metadata"]["name"]))
        traces.assert_none()
    finally:
        cluster.apps.delete_namespaced_deployment(name, cluster.namespace)
        until("the Deployment's pods gone", lambda: not cluster.pods(f"app={name}"), 60)
