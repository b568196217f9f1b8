# SPDX-License-Identifier: Apache-2.0
"""StatefulSets: claims, revisions, and pods that come back under their name."""

from __future__ import annotations

from typing import Any

import pytest
from simulated import SimulatedKubelets

from podferry_standin.api.controllers import Manager
from podferry_standin.api.registry import Registry
from podferry_standin.api.resources import BY_NAME, PODS, STATEFULSETS
from podferry_standin.api.storage import Store

Obj = dict[str, Any]
CLAIMS, REVISIONS = BY_NAME["persistentvolumeclaims"], BY_NAME["controllerrevisions"]
MERGE = "application/merge-patch+json"


@pytest.fixture
def manager() -> Manager:
    registry = Registry(Store())
    made = Manager(registry)
    made.controllers.append(SimulatedKubelets(registry))
    made.settle()
    return made


def kubelets(manager: Manager) -> SimulatedKubelets:
    return next(c for c in manager.controllers if isinstance(c, SimulatedKubelets))


def stateful(replicas: int, **more: Any) -> Obj:
    mount = {"name": "data", "mountPath": "/data"}
    template = {
        "metadata": {"labels": {"app": "s"}},
        "spec": {"containers": [{"name": "c", "image": "i:1", "volumeMounts": [mount]}]},
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "lab-shared",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    spec = {"replicas": replicas, "serviceName": "s", "selector": {"matchLabels": {"app": "s"}}, "template": template}
    return {"metadata": {"name": "s"}, "spec": {**spec, "volumeClaimTemplates": [claim], **more}}


def names(manager: Manager, resource: Any) -> list[str]:
    return [item["metadata"]["name"] for item in manager.registry.store.list(resource)]


def revision(manager: Manager, name: str) -> str:
    return str(manager.registry.get(PODS, "default", name)["metadata"]["labels"]["controller-revision-hash"])


def touch(manager: Manager, value: str) -> None:
    """A new template."""
    change = {"spec": {"template": {"metadata": {"annotations": {"x": value}}}}}
    manager.registry.patch(STATEFULSETS, "default", "s", change, MERGE)


def test_each_ordinal_has_its_claim_and_keeps_it(manager: Manager) -> None:
    registry = manager.registry
    registry.create(STATEFULSETS, "default", stateful(2))
    manager.settle()
    assert names(manager, CLAIMS) == ["data-s-0", "data-s-1"]
    made = registry.get(CLAIMS, "default", "data-s-1")
    assert made["metadata"]["labels"] == {"app": "s"} and made["status"]["phase"] == "Bound"
    pod = registry.get(PODS, "default", "s-1")
    assert pod["spec"]["volumes"][0] == {"name": "data", "persistentVolumeClaim": {"claimName": "data-s-1"}}
    labels = pod["metadata"]["labels"]
    assert labels["statefulset.kubernetes.io/pod-name"] == "s-1" and labels["apps.kubernetes.io/pod-index"] == "1"
    registry.patch(STATEFULSETS, "default", "s", {"spec": {"replicas": 1}}, MERGE)
    manager.settle()
    assert names(manager, PODS) == ["s-0"] and names(manager, CLAIMS) == ["data-s-0", "data-s-1"]
    registry.delete(STATEFULSETS, "default", "s")
    manager.settle()
    assert names(manager, PODS) == [] and names(manager, CLAIMS) == ["data-s-0", "data-s-1"]


def test_claims_go_where_the_retention_policy_says_so(manager: Manager) -> None:
    registry = manager.registry
    policy = {"whenScaled": "Delete", "whenDeleted": "Delete"}
    registry.create(STATEFULSETS, "default", stateful(2, persistentVolumeClaimRetentionPolicy=policy))
    manager.settle()
    registry.patch(STATEFULSETS, "default", "s", {"spec": {"replicas": 1}}, MERGE)
    manager.settle()
    assert names(manager, CLAIMS) == ["data-s-0"]
    registry.delete(STATEFULSETS, "default", "s")
    manager.settle()
    assert names(manager, CLAIMS) == []


def test_orphaned_and_made_again_it_adopts_pods_and_claims(manager: Manager) -> None:
    """How a migration replaces a pod: nothing else is started, nothing is restarted."""
    registry = manager.registry
    registry.create(STATEFULSETS, "default", stateful(2))
    manager.settle()
    before = {p["metadata"]["name"]: p["metadata"]["uid"] for p in registry.store.list(PODS)}
    owner, source = registry.get(STATEFULSETS, "default", "s"), registry.get(PODS, "default", "s-0")
    registry.delete(STATEFULSETS, "default", "s", {"propagationPolicy": "Orphan"})
    manager.settle()
    assert names(manager, STATEFULSETS) == [] and len(names(manager, PODS)) == 2
    assert not any(item["metadata"].get("ownerReferences") for item in registry.store.list(REVISIONS))
    registry.delete(PODS, "default", "s-0", {"gracePeriodSeconds": 0})
    successor = {key: source["metadata"][key] for key in ("name", "labels")}
    made = registry.create(PODS, "default", {"metadata": successor, "spec": {**source["spec"], "nodeName": "nodeb"}})
    manager.settle()
    registry.create(STATEFULSETS, "default", {"metadata": {"name": "s"}, "spec": owner["spec"]})
    manager.settle()
    after = {p["metadata"]["name"]: p["metadata"]["uid"] for p in registry.store.list(PODS)}
    assert after == {"s-0": made["metadata"]["uid"], "s-1": before["s-1"]}
    assert all(p["metadata"].get("ownerReferences") for p in registry.store.list(PODS))
    status = registry.get(STATEFULSETS, "default", "s")["status"]
    assert (status["readyReplicas"], status["currentReplicas"], status["updatedReplicas"]) == (2, 2, 2)
    assert status["currentRevision"] == status["updateRevision"] == owner["status"]["updateRevision"]
    assert len(registry.store.list(REVISIONS)) == 1 and names(manager, CLAIMS) == ["data-s-0", "data-s-1"]


def test_an_adopted_pod_gets_the_labels_of_its_name(manager: Manager) -> None:
    registry = manager.registry
    body = {
        "metadata": {"name": "s-0", "labels": {"app": "s"}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]},
    }
    registry.create(PODS, "default", body)
    registry.create(STATEFULSETS, "default", stateful(1, updateStrategy={"type": "OnDelete"}))
    manager.settle()
    labels = registry.get(PODS, "default", "s-0")["metadata"]["labels"]
    assert labels["statefulset.kubernetes.io/pod-name"] == "s-0" and labels["apps.kubernetes.io/pod-index"] == "0"


def test_a_rollout_shows_both_revisions_until_it_is_done(manager: Manager) -> None:
    registry = manager.registry
    registry.create(STATEFULSETS, "default", stateful(2))
    manager.settle()
    old = revision(manager, "s-0")
    kubelets(manager).held.add("s-1")
    touch(manager, "1")
    manager.settle()
    status = registry.get(STATEFULSETS, "default", "s")["status"]
    assert status["currentRevision"] == old != status["updateRevision"] == revision(manager, "s-1")
    assert (status["currentReplicas"], status["updatedReplicas"]) == (1, 1), "s-0 waits for s-1"
    assert revision(manager, "s-0") == old
    kubelets(manager).held.clear()
    manager.settle()
    status = registry.get(STATEFULSETS, "default", "s")["status"]
    assert status["currentRevision"] == status["updateRevision"] == revision(manager, "s-0")
    assert sorted(item["revision"] for item in registry.store.list(REVISIONS)) == [1, 2]


def test_below_the_partition_pods_stay_and_come_back_as_they_were(manager: Manager) -> None:
    registry = manager.registry
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
    registry.create(STATEFULSETS, "default", stateful(2, updateStrategy=strategy))
    manager.settle()
    old = revision(manager, "s-0")
    touch(manager, "1")
    manager.settle()
    assert revision(manager, "s-0") == old != revision(manager, "s-1")
    registry.delete(PODS, "default", "s-0", {"gracePeriodSeconds": 0})
    manager.settle()
    assert revision(manager, "s-0") == old
    assert "annotations" not in registry.get(PODS, "default", "s-0")["metadata"]
    assert registry.get(STATEFULSETS, "default", "s")["status"]["currentRevision"] == old


def test_ordinals_may_start_elsewhere(manager: Manager) -> None:
    manager.registry.create(STATEFULSETS, "default", stateful(2, ordinals={"start": 3}))
    manager.settle()
    assert names(manager, PODS) == ["s-3", "s-4"]
