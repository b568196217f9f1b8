# SPDX-License-Identifier: Apache-2.0
"""What was recorded from a real cluster holds here: status codes, bodies, watch streams, who adopts and who is deleted.

By default against the stand-in's API with simulated kubelets; with PODFERRY_KUBECONFIG against that cluster (its default
namespace is emptied!): a lab with the stand-in, or with a real control plane. Not replayed: the kubelet's checkpoint
call, which needs containerd 2.x, and in a live cluster the hold inside ``create``, which needs a runtime handler.
"""

from __future__ import annotations

from clusters import PODS, Cluster, ready, until
from facts import Recording, masked, recorded_stream, states

REPLICASETS = "/apis/apps/v1/namespaces/default/replicasets"
STATEFULSETS = "/apis/apps/v1/namespaces/default/statefulsets"


def recording(name: str, cluster: Cluster) -> Recording:
    """A recording with the cluster's node names and image."""
    return Recording(name, {"nodea": cluster.nodes[0], "nodeb": cluster.nodes[1], "localhost/app:lab": cluster.image})


def revision(cluster: Cluster) -> str:
    """Where a watch starts."""
    return str(cluster.get(PODS)["metadata"]["resourceVersion"])


def test_single_pod(cluster: Cluster) -> None:
    facts = recording("single_pod.json", cluster)
    watch = cluster.watch(PODS, revision(cluster))
    facts.replay(cluster, "create pod")
    facts.replay(cluster, "create pod, name taken")
    cluster.wait_ready("rec")
    facts.replay(cluster, "get pod running")
    facts.replay(cluster, "get pod missing")
    facts.replay(cluster, "patch labels (merge-patch)")
    facts.replay(cluster, "patch nodeName refused")
    if cluster.can_hold:
        cluster.hold("rect")
    facts.replay(cluster, "create target pod (handler holds create)")
    if cluster.can_hold:
        until(lambda: "startTime" in (cluster.pod("rect") or {"status": {}})["status"], "rect seen by its kubelet")
        until(lambda: _condition(cluster, "rect", "PodReadyToStartContainers") == "True", "rect's sandbox")
        facts.replay(cluster, "get target pod while held")
        facts.replay(cluster, "get source pod while frozen")
        cluster.release("rect")
    cluster.wait_ready("rect")
    facts.replay(cluster, "get target pod after restore")
    facts.replay(cluster, "exec-less delete source")
    assert cluster.pod("rec") is None, "grace 0: gone at once, whatever its kubelet does"
    facts.replay(cluster, "delete target grace 2")
    cluster.wait_gone("rect")
    until(lambda: any(e["type"] == "DELETED" for e in watch.of("rect")), "the end of the stream")
    watch.stop()
    for name in ("rec", "rect"):
        seen = states([(e["type"], e["object"]) for e in watch.of(name)])
        assert seen == states(recorded_stream("single_pod_watch.json", name)), name


def _condition(cluster: Cluster, name: str, kind: str) -> str:
    pod = cluster.get(f"{PODS}/{name}")
    return next((c["status"] for c in pod["status"].get("conditions") or [] if c["type"] == kind), "")


def test_node_and_version(cluster: Cluster) -> None:
    facts = recording("single_pod.json", cluster)
    recorded = facts.here(facts.steps["get node"]["body"])
    node = cluster.get(f"/api/v1/nodes/{cluster.nodes[0]}")
    assert {c["type"]: c["status"] for c in node["status"]["conditions"]} == {
        c["type"]: c["status"] for c in recorded["status"]["conditions"]
    }
    assert "InternalIP" in {a["type"] for a in node["status"]["addresses"]}
    if not cluster.can_hold:  # what a kubelet reports
        assert set(recorded["metadata"]["labels"]) <= set(node["metadata"]["labels"])
        assert set(recorded["status"]["nodeInfo"]) <= set(node["status"]["nodeInfo"])
        assert set(recorded["status"]["allocatable"]) <= set(node["status"]["allocatable"])
        assert any(cluster.image in image["names"] for image in node["status"]["images"])
    assert set(facts.steps["version"]["body"]) <= set(cluster.get("/version"))


def _deployment(cluster: Cluster, facts: Recording, label: str, recorded_pod: str) -> tuple[str, str]:
    """Create a recorded Deployment; its pod and ReplicaSet, known by the recorded names from now on."""
    facts.replay(cluster, label)
    (pod,) = until(lambda: [p for p in cluster.items(PODS) if ready(p)], "the Deployment's pod")
    (owner,) = pod["metadata"]["ownerReferences"]
    recorded_set, recorded_hash = recorded_pod.rpartition("-")[0], recorded_pod.split("-")[-2]
    facts.names[recorded_pod] = pod["metadata"]["name"]
    facts.names[recorded_set] = owner["name"]
    facts.names[recorded_set + "-"] = owner["name"] + "-"
    facts.names[recorded_hash] = pod["metadata"]["labels"]["pod-template-hash"]
    for step in facts.steps.values():
        for reference in (step["request"]["body"] or {}).get("metadata", {}).get("ownerReferences", []):
            facts.names[reference["uid"]] = owner["uid"]
    assert masked(owner) == masked(
        facts.here({**owner, "kind": "ReplicaSet", "controller": True, "blockOwnerDeletion": True})
    )
    return pod["metadata"]["name"], owner["name"]


def test_owned_twin_is_deleted_because_it_is_pending(cluster: Cluster) -> None:
    facts = recording("deployment_twin.json", cluster)
    source, _rest = _deployment(cluster, facts, "create deployment", "dep-7d9fd94478-hfrq6")
    if cluster.can_hold:
        cluster.hold("dep-migrated")
    facts.replay(cluster, "set pod-deletion-cost on source")
    facts.replay(cluster, "create twin owned by same ReplicaSet while held at create")
    cluster.wait_gone("dep-migrated")
    kept = cluster.get(f"{PODS}/{source}")
    assert ready(kept) and "deletionTimestamp" not in kept["metadata"], (
        "a deletion cost does not help: Pending goes first"
    )


def test_adopted_twin_stays_and_the_source_goes(cluster: Cluster) -> None:
    facts = recording("deployment_adopt.json", cluster)
    source, owner = _deployment(cluster, facts, "create deployment B", "depb-69d9dcc49d-mtqvl")
    facts.replay(cluster, "create twin without the selector labels")
    twin = cluster.wait_ready("depb-migrated")
    facts.replay(cluster, "set pod-deletion-cost on source B")
    watch = cluster.watch(PODS, revision(cluster))
    facts.replay(cluster, "give twin the labels (ReplicaSet adopts it)")
    until(
        lambda: (pod := cluster.pod(source)) is None or "deletionTimestamp" in pod["metadata"],
        "the source's deletion",
        seconds=1,
    )
    adopted = cluster.get(f"{PODS}/depb-migrated")
    assert [(r["kind"], r["name"], r["controller"]) for r in adopted["metadata"]["ownerReferences"]] == [
        ("ReplicaSet", owner, True)
    ]
    cluster.wait_gone(source)
    until(lambda: any(e["type"] == "DELETED" for e in watch.of(source)), "the end of the stream")
    watch.stop()
    assert [p["metadata"]["uid"] for p in cluster.items(PODS)] == [twin["metadata"]["uid"]], "and no other is made"
    status = until(
        lambda: s if (s := cluster.get(f"{REPLICASETS}/{owner}")["status"]).get("terminatingReplicas") == 0 else None,
        "the counts",
    )
    expected = {
        "replicas": 1,
        "fullyLabeledReplicas": 1,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "terminatingReplicas": 0,
        "observedGeneration": 1,
    }
    assert status == expected
    recorded = [
        item
        for item in recorded_stream("deployment_adopt_watch.json", "depb-69d9dcc49d-mtqvl")
        if item[1]["deletionTimestamp"]
    ]
    seen = [(e["type"], e["object"]) for e in watch.of(source) if "deletionTimestamp" in e["object"]["metadata"]]
    # A counter ends by itself on SIGTERM or is killed: the phase at the end is the workload's, the order is not.
    assert [(state[0], state[-1]) for state in states(seen)] == [(state[0], state[-1]) for state in states(recorded)]


def test_statefulset_is_orphaned_and_adopts_the_successor(cluster: Cluster) -> None:
    facts = recording("statefulset_orphan.json", cluster)
    facts.replay(cluster, "create statefulset")
    first = cluster.wait_ready("st-0")
    facts.names["st-74fd897d49"] = first["metadata"]["labels"]["controller-revision-hash"]
    until(lambda: cluster.get(f"{STATEFULSETS}/st")["status"].get("readyReplicas") == 1, "the StatefulSet's status")
    facts.replay(cluster, "delete statefulset, orphan its pods")
    until(lambda: cluster.request("GET", f"{STATEFULSETS}/st")[0] == 404, "the StatefulSet gone")
    until(lambda: not cluster.get(f"{PODS}/st-0")["metadata"].get("ownerReferences"), "an orphan")
    facts.replay(cluster, "delete source pod")
    successor = facts.replay(cluster, "create same-name pod on target")
    cluster.wait_ready("st-0")
    facts.replay(cluster, "recreate statefulset")
    adopted = until(
        lambda: p if (p := cluster.get(f"{PODS}/st-0"))["metadata"].get("ownerReferences") else None, "adoption"
    )
    assert adopted["metadata"]["uid"] == successor["metadata"]["uid"] != first["metadata"]["uid"]
    assert [p["metadata"]["name"] for p in cluster.items(PODS)] == ["st-0"], "it starts no other"
