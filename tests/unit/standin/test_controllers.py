# SPDX-License-Identifier: Apache-2.0
"""Controllers over a store, with simulated kubelets."""

from __future__ import annotations

import random
from typing import Any

import pytest
from simulated import SimulatedKubelets

from podferry_standin.api.controllers import Manager, nodes
from podferry_standin.api.controllers.placement import Snapshot, choose, objection
from podferry_standin.api.controllers.replicaset import victim_order
from podferry_standin.api.registry import Registry
from podferry_standin.api.resources import BY_NAME, DEPLOYMENTS, EVENTS, NODES, PODS, REPLICASETS, STATEFULSETS
from podferry_standin.api.storage import Store

Obj = dict[str, Any]


@pytest.fixture
def manager() -> Manager:
    registry = Registry(Store())
    made = Manager(registry)
    made.controllers.append(SimulatedKubelets(registry))
    made.settle()
    return made


def workload(name: str, replicas: int, **more: Any) -> Obj:
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    return {
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template, **more},
    }


def pods(manager: Manager) -> list[str]:
    return [pod["metadata"]["name"] for pod in manager.registry.store.list(PODS)]


def test_deployment_up_down_and_gone(manager: Manager) -> None:
    registry = manager.registry
    registry.create(DEPLOYMENTS, "default", workload("d", 3))
    manager.settle()
    assert len(pods(manager)) == 3
    assert registry.get(DEPLOYMENTS, "default", "d")["status"]["availableReplicas"] == 3
    registry.patch(DEPLOYMENTS, "default", "d", {"spec": {"replicas": 1}}, "application/merge-patch+json")
    manager.settle()
    assert len(pods(manager)) == 1
    registry.delete(DEPLOYMENTS, "default", "d")
    manager.settle()
    assert pods(manager) == [] and registry.store.list(REPLICASETS) == []


def test_a_new_template_rolls_through(manager: Manager) -> None:
    registry = manager.registry
    registry.create(DEPLOYMENTS, "default", workload("d", 3))
    manager.settle()
    before = set(pods(manager))
    registry.patch(
        DEPLOYMENTS,
        "default",
        "d",
        {"spec": {"template": {"metadata": {"annotations": {"x": "1"}}}}},
        "application/merge-patch+json",
    )
    manager.settle()
    assert len(pods(manager)) == 3 and not before & set(pods(manager))
    assert sorted(rs["spec"]["replicas"] for rs in registry.store.list(REPLICASETS)) == [0, 3]


def test_replicaset_adopts_releases_and_counts(manager: Manager) -> None:
    registry = manager.registry
    orphan = {
        "metadata": {"name": "orphan", "labels": {"app": "r"}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]},
    }
    registry.create(PODS, "default", orphan)
    registry.create(REPLICASETS, "default", workload("r", 1))
    manager.settle()
    assert pods(manager) == ["orphan"], "adopted: no other is needed"
    registry.patch(PODS, "default", "orphan", {"metadata": {"labels": {"app": "else"}}}, "application/merge-patch+json")
    manager.settle()
    assert len(pods(manager)) == 2 and not registry.get(PODS, "default", "orphan")["metadata"].get("ownerReferences")


def test_another_owners_pod_is_not_adopted(manager: Manager) -> None:
    registry = manager.registry
    reference = {"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "u", "controller": True}
    body = {
        "metadata": {"name": "other", "labels": {"app": "r"}, "ownerReferences": [reference]},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]},
    }
    registry.create(PODS, "default", body)
    registry.create(REPLICASETS, "default", workload("r", 1))
    manager.settle()
    assert len(pods(manager)) == 2 and "other" in pods(manager)


def candidate(
    phase: str, ready: bool, cost: int = 0, since: str = "2026-01-01T00:00:00Z", node: str = "n", restarts: int = 0
) -> Obj:
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": since}
    return {
        "metadata": {
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"controller.kubernetes.io/pod-deletion-cost": str(cost)},
        },
        "spec": {"nodeName": node},
        "status": {"phase": phase, "conditions": [condition], "containerStatuses": [{"restartCount": restarts}]},
    }


def test_victims_as_recorded() -> None:
    order = [
        candidate("Pending", False, node=""),
        candidate("Pending", False, cost=1000),
        candidate("Running", False, cost=1000),
        candidate("Running", True, cost=-1000),
        candidate("Running", True, since="2026-01-02T00:00:00Z"),
        candidate("Running", True, restarts=2),
        candidate("Running", True),
        candidate("Running", True, cost=5),
    ]
    for seed in range(20):
        shuffled = random.Random(seed).sample(order, len(order))
        assert sorted(shuffled, key=victim_order) == order


def test_statefulset_in_order_and_back(manager: Manager) -> None:
    registry = manager.registry
    registry.create(STATEFULSETS, "default", workload("s", 3, serviceName="s"))
    manager.settle()
    assert pods(manager) == ["s-0", "s-1", "s-2"]
    made = registry.get(PODS, "default", "s-1")
    assert made["spec"]["hostname"] == "s-1" and made["spec"]["subdomain"] == "s"
    registry.patch(STATEFULSETS, "default", "s", {"spec": {"replicas": 1}}, "application/merge-patch+json")
    manager.settle()
    assert pods(manager) == ["s-0"]


def test_statefulset_waits_for_the_one_before(manager: Manager) -> None:
    kubelets = next(c for c in manager.controllers if isinstance(c, SimulatedKubelets))
    kubelets.held.add("s-0")
    manager.registry.create(STATEFULSETS, "default", workload("s", 2, serviceName="s"))
    manager.settle()
    assert pods(manager) == ["s-0"]
    kubelets.held.clear()
    manager.settle()
    assert pods(manager) == ["s-0", "s-1"]


def test_orphan_policy_leaves_the_pods_and_foreground_takes_them_first(manager: Manager) -> None:
    registry = manager.registry
    for name, policy in (("a", "Orphan"), ("b", "Foreground")):
        registry.create(REPLICASETS, "default", workload(name, 1))
        manager.settle()
        registry.delete(REPLICASETS, "default", name, {"propagationPolicy": policy})
        assert "deletionTimestamp" in registry.get(REPLICASETS, "default", name)["metadata"]
        manager.settle()
        assert registry.store.list(REPLICASETS) == []
    (left,) = registry.store.list(PODS)
    assert left["metadata"]["name"].startswith("a-") and not left["metadata"].get("ownerReferences")


def node(**more: Any) -> Obj:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": "n", "labels": {"zone": "1"}}, "spec": {}, "status": ready, **more}


@pytest.mark.parametrize(
    ("spec", "where", "fits"),
    [
        ({}, node(), True),
        ({}, node(spec={"unschedulable": True}), False),
        ({}, node(status={"conditions": [{"type": "Ready", "status": "Unknown"}]}), False),
        ({"nodeSelector": {"zone": "1"}}, node(), True),
        ({"nodeSelector": {"zone": "2"}}, node(), False),
        ({}, node(spec={"taints": [{"key": "k", "effect": "NoSchedule"}]}), False),
        (
            {"tolerations": [{"key": "k", "operator": "Exists"}]},
            node(spec={"taints": [{"key": "k", "effect": "NoSchedule"}]}),
            True,
        ),
        ({}, node(spec={"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}), True),
    ],
)
def test_where_a_pod_fits(spec: Obj, where: Obj, fits: bool) -> None:
    assert (objection({"spec": spec}, where) is None) is fits


ANTI = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
    {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}
]}}  # fmt: skip
TOGETHER = {"podAffinity": ANTI["podAntiAffinity"]}


def cluster(*pods: tuple[str, Obj]) -> Snapshot:
    """Nodes a and b with one CPU, and pods by node."""
    made = []
    for name in ("a", "b"):
        one = node(metadata={"name": name, "labels": {"kubernetes.io/hostname": name}})
        one["status"]["allocatable"] = {"cpu": "1", "memory": "1Gi", "pods": "2"}
        made.append(one)
    return Snapshot(made, [{**pod, "spec": {**pod["spec"], "nodeName": where}} for where, pod in pods])


def wanting(app: str = "x", cpu: str = "", **spec: Any) -> Obj:
    resources: Obj = {"requests": {"cpu": cpu}} if cpu else {}
    containers = [{"name": "c", "resources": resources}]
    return {"metadata": {"namespace": "default", "labels": {"app": app}}, "spec": {"containers": containers, **spec}}


def test_the_emptier_node_is_taken() -> None:
    assert choose(wanting(), cluster())[0] == "a"
    assert choose(wanting(), cluster(("a", wanting())))[0] == "b"


def test_requests_have_to_fit() -> None:
    used = cluster(("a", wanting(cpu="600m")), ("b", wanting(cpu="300m")))
    assert choose(wanting(cpu="600m"), used) == ("b", ["Insufficient cpu"])
    assert choose(wanting(cpu="800m"), used)[0] is None
    side = {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}}
    assert choose(wanting(cpu="300m", initContainers=[side]), used)[0] is None, "a sidecar counts"
    side.pop("restartPolicy")
    assert choose(wanting(cpu="300m", initContainers=[side]), used)[0] == "b", "an init container is gone by then"
    assert choose(wanting(), cluster(("a", wanting()), ("a", wanting()), ("b", wanting()))) == ("b", ["Too many pods"])


def test_affinity_between_pods() -> None:
    one = cluster(("a", wanting("x")))
    assert choose(wanting("y", affinity=ANTI), one) == ("b", ["node(s) didn't match pod anti-affinity rules"])
    assert choose(wanting("y", affinity=TOGETHER), one)[0] == "a"
    assert choose(wanting("y", affinity=TOGETHER), cluster())[0] is None
    assert choose(wanting("x", affinity=TOGETHER), cluster())[0] == "a", "the first of its kind"
    shy = cluster(("a", wanting("y", affinity=ANTI)))
    assert choose(wanting("x"), shy) == ("b", ["node(s) didn't satisfy existing pods anti-affinity rules"])
    other = wanting("x")
    other["metadata"]["namespace"] = "other"
    assert objection(other, one.nodes[0], shy) is None, "other namespaces are not meant"


def test_spreading() -> None:
    constraint = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
    constraint["labelSelector"] = {"matchLabels": {"app": "x"}}
    pod, one = wanting(topologySpreadConstraints=[constraint]), cluster(("a", wanting()))
    assert objection(pod, one.nodes[0], one) == "node(s) didn't match pod topology spread constraints"
    assert objection(pod, one.nodes[1], one) is None
    constraint["whenUnsatisfiable"] = "ScheduleAnyway"
    assert objection(pod, one.nodes[0], one) is None


def test_a_cordon_is_a_taint_and_ends(manager: Manager) -> None:
    registry, strategic = manager.registry, "application/strategic-merge-patch+json"
    own = {"key": "mine", "effect": "NoSchedule"}
    registry.patch(NODES, "", "nodea", {"spec": {"unschedulable": True, "taints": [own]}}, strategic)
    manager.settle()
    taints = registry.get(NODES, "", "nodea")["spec"]["taints"]
    assert [t["key"] for t in taints] == ["mine", "node.kubernetes.io/unschedulable"]
    registry.create(
        PODS, "default", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    )
    manager.settle()
    assert registry.get(PODS, "default", "p")["spec"]["nodeName"] == "nodeb"
    registry.patch(NODES, "", "nodea", {"spec": {"unschedulable": None}}, strategic)
    manager.settle()
    assert registry.get(NODES, "", "nodea")["spec"] == {"taints": [own]}


def test_who_has_cordoned_is_kept_until_somebody_else_does(manager: Manager) -> None:
    registry, merge = manager.registry, "application/merge-patch+json"

    def owners() -> list[str]:
        return [m["manager"] for m in registry.get(NODES, "", "nodea")["metadata"].get("managedFields", [])]

    def wish(unschedulable: bool | None, who: str) -> None:
        registry.patch(NODES, "", "nodea", {"spec": {"unschedulable": unschedulable}}, merge, manager=who)
        manager.settle()

    wish(True, "podferry")
    registry.patch(NODES, "", "nodea", {"metadata": {"labels": {"zone": "9"}}}, merge, manager="kubectl")
    wish(True, "kubectl")
    assert owners() == ["podferry"], "nothing has changed"
    wish(None, "kubectl")
    assert owners() == []
    wish(True, "kubectl")
    assert owners() == ["kubectl"]


def test_a_pod_with_init_containers_and_a_sidecar_becomes_ready(manager: Manager) -> None:
    registry = manager.registry
    init = [{"name": "a", "image": "i:1"}, {"name": "s", "image": "i:1", "restartPolicy": "Always"}]
    body = {"initContainers": init, "containers": [{"name": "c", "image": "i:1"}]}
    registry.create(PODS, "default", {"metadata": {"name": "p"}, "spec": body})
    manager.settle()
    state = registry.get(PODS, "default", "p")["status"]
    assert [(c["name"], c["ready"]) for c in state["initContainerStatuses"]] == [("a", True), ("s", True)]
    assert {c["type"]: c["status"] for c in state["conditions"]}["Ready"] == "True"


def test_unschedulable_is_said_and_ends(manager: Manager) -> None:
    registry = manager.registry
    registry.create(
        PODS,
        "default",
        {
            "metadata": {"name": "p"},
            "spec": {"nodeSelector": {"zone": "9"}, "containers": [{"name": "c", "image": "i:1"}]},
        },
    )
    manager.settle()
    (scheduled,) = registry.get(PODS, "default", "p")["status"]["conditions"]
    assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")
    registry.patch(NODES, "", "nodeb", {"metadata": {"labels": {"zone": "9"}}}, "application/merge-patch+json")
    manager.settle()
    assert registry.get(PODS, "default", "p")["spec"]["nodeName"] == "nodeb"


def test_a_silent_node_is_lost_and_found(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, clock = manager.registry, [1000.0]
    monkeypatch.setattr("podferry_standin.api.controllers.nodes.time.monotonic", lambda: clock[0])
    lifecycle = nodes.NodeLifecycle(registry)
    lifecycle.reconcile()
    for _round in range(4):
        clock[0] += 4.9
        lifecycle.reconcile()
    lost = registry.get(NODES, "", "nodea")
    assert next(c for c in lost["status"]["conditions"] if c["type"] == "Ready")["status"] == "Unknown"
    assert {t["effect"] for t in lost["spec"]["taints"]} == {"NoSchedule", "NoExecute"}
    for condition in lost["status"]["conditions"]:
        condition.update(status="True", lastHeartbeatTime="2999-01-01T00:00:01Z")
    registry.update(NODES, "", "nodea", {"status": lost["status"]}, subresource="status")
    lifecycle.reconcile()
    assert "taints" not in registry.get(NODES, "", "nodea")["spec"]


def test_an_api_that_stood_still_blames_no_node(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, clock = manager.registry, [1000.0]
    monkeypatch.setattr("podferry_standin.api.controllers.nodes.time.monotonic", lambda: clock[0])
    lifecycle = nodes.NodeLifecycle(registry)
    lifecycle.reconcile()
    clock[0] += 60
    lifecycle.reconcile()
    ready = next(c for c in registry.get(NODES, "", "nodea")["status"]["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "True"


def test_services_list_their_ready_pods(manager: Manager) -> None:
    registry = manager.registry
    registry.create(
        BY_NAME["services"],
        "default",
        {"metadata": {"name": "d"}, "spec": {"selector": {"app": "d"}, "ports": [{"port": 80}]}},
    )
    registry.create(DEPLOYMENTS, "default", workload("d", 1))
    manager.settle()
    subsets = registry.get(BY_NAME["endpoints"], "default", "d")["subsets"]
    assert len(subsets[0]["addresses"]) == 1 and subsets[0]["ports"] == [{"port": 80, "protocol": "TCP"}]
    (piece,) = registry.store.list(BY_NAME["endpointslices"], "default")
    assert piece["endpoints"][0]["conditions"] == {"ready": True, "serving": True, "terminating": False}


def test_endpoints_follow_readiness_and_the_end(manager: Manager) -> None:
    registry, ready = manager.registry, "True"
    spec: Obj = {
        "selector": {"app": "x"},
        "clusterIP": "None",
        "ports": [{"name": "h", "port": 80, "targetPort": "web"}],
    }
    registry.create(BY_NAME["services"], "default", {"metadata": {"name": "s"}, "spec": spec})
    container = {"name": "c", "image": "i:1", "ports": [{"name": "web", "containerPort": 8080}]}
    body = {"hostname": "one", "subdomain": "s", "nodeName": "elsewhere", "containers": [container]}
    registry.create(PODS, "default", {"metadata": {"name": "p", "labels": {"app": "x"}}, "spec": body})

    def seen() -> tuple[Obj, list[Obj]]:
        state = {"phase": "Running", "podIP": "10.0.0.9", "conditions": [{"type": "Ready", "status": ready}]}
        pod = registry.get(PODS, "default", "p")
        registry.update(PODS, "default", "p", {**pod, "status": {**pod["status"], **state}}, subresource="status")
        manager.settle()
        (piece,) = registry.store.list(BY_NAME["endpointslices"], "default")
        subsets: list[Obj] = registry.get(BY_NAME["endpoints"], "default", "s")["subsets"]
        return piece, subsets

    piece, (subset,) = seen()
    assert piece["endpoints"][0]["conditions"] == {"ready": True, "serving": True, "terminating": False}
    assert piece["endpoints"][0]["hostname"] == "one" and piece["ports"][0]["port"] == 8080
    assert "service.kubernetes.io/headless" in piece["metadata"]["labels"]
    assert [a["ip"] for a in subset["addresses"]] == ["10.0.0.9"]
    ready = "False"
    piece, (subset,) = seen()
    assert piece["endpoints"][0]["conditions"] == {"ready": False, "serving": False, "terminating": False}
    assert "addresses" not in subset and len(subset["notReadyAddresses"]) == 1
    ready = "True"
    registry.delete(PODS, "default", "p")
    piece, subsets = seen()
    assert piece["endpoints"][0]["conditions"] == {"ready": False, "serving": True, "terminating": True}
    assert subsets == [], "the older kind knows no end"
    registry.delete(PODS, "default", "p", {"gracePeriodSeconds": 0})
    manager.settle()
    assert registry.store.list(BY_NAME["endpointslices"], "default")[0]["endpoints"] == []
    registry.delete(BY_NAME["services"], "default", "s")
    manager.settle()
    assert not registry.store.list(BY_NAME["endpointslices"]) and not registry.store.list(BY_NAME["endpoints"])


def test_events_say_what_happened(manager: Manager) -> None:
    manager.registry.create(DEPLOYMENTS, "default", workload("d", 1))
    manager.settle()
    reasons = {event["reason"] for event in manager.registry.store.list(EVENTS)}
    assert {"ScalingReplicaSet", "SuccessfulCreate", "Scheduled"} <= reasons
