# SPDX-License-Identifier: Apache-2.0
"""The verbs: what is filled in, what is refused, how deletion goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from podferry_standin.api import errors
from podferry_standin.api.controllers import Manager
from podferry_standin.api.registry import Registry
from podferry_standin.api.resources import BY_NAME, DEPLOYMENTS, NAMESPACES, NODES, PODS
from podferry_standin.api.storage import Store

Obj = dict[str, Any]


@pytest.fixture
def registry() -> Registry:
    made = Registry(Store())
    Manager(made).settle()
    return made


def pod(name: str = "p", **spec: Any) -> Obj:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i:1"}], **spec}}


def refused(action: Callable[[], Any]) -> errors.ApiError:
    with pytest.raises(errors.ApiError) as caught:
        action()
    return caught.value


def test_generated_names_differ(registry: Registry) -> None:
    names = {
        registry.create(PODS, "default", {**pod(), "metadata": {"generateName": "x-"}})["metadata"]["name"]
        for _round in range(5)
    }
    assert len(names) == 5 and all(name.startswith("x-") and len(name) == 7 for name in names)


def test_no_account_no_token_and_an_account_is_mounted(registry: Registry) -> None:
    assert "volumes" not in registry.create(PODS, "default", pod("a"))["spec"]
    registry.create(BY_NAME["serviceaccounts"], "default", {"metadata": {"name": "default"}})
    mounted = registry.create(PODS, "default", pod("b"))["spec"]
    assert mounted["serviceAccountName"] == "default"
    (volume,) = mounted["volumes"]
    assert [next(iter(source)) for source in volume["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    (mount,) = mounted["containers"][0]["volumeMounts"]
    assert mount == {
        "name": volume["name"],
        "readOnly": True,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    }
    off = registry.create(PODS, "default", pod("c", automountServiceAccountToken=False))["spec"]
    assert "volumes" not in off
    assert refused(lambda: registry.create(PODS, "default", pod("d", serviceAccountName="nope"))).code == 403


def test_unknown_runtime_class_is_refused(registry: Registry) -> None:
    error = refused(lambda: registry.create(PODS, "default", pod(runtimeClassName="nope")))
    assert (error.code, error.message) == (403, 'pods "p" is forbidden: pod rejected: RuntimeClass "nope" not found')


def test_priority_is_the_classs(registry: Registry) -> None:
    registry.create(BY_NAME["priorityclasses"], "", {"metadata": {"name": "high"}, "value": 7})
    assert registry.create(PODS, "default", pod("a"))["spec"]["priority"] == 0
    made = registry.create(PODS, "default", pod("b", priorityClassName="high"))["spec"]
    assert (made["priority"], made["preemptionPolicy"]) == (7, "PreemptLowerPriority")
    again = {**made, "containers": [{"name": "c", "image": "i:1"}]}
    assert registry.create(PODS, "default", {"metadata": {"name": "c"}, "spec": again})["spec"]["priority"] == 7
    assert refused(lambda: registry.create(PODS, "default", pod("d", priority=7))).code == 403
    assert refused(lambda: registry.create(PODS, "default", pod("e", priorityClassName="none"))).code == 403


def test_quota_refuses_also_in_a_dry_run(registry: Registry) -> None:
    registry.create(BY_NAME["resourcequotas"], "default", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}})
    registry.create(PODS, "default", pod("a"))
    error = refused(lambda: registry.create(PODS, "default", pod("b"), dry_run=True))
    assert (error.code, error.reason) == (403, "Forbidden")
    assert error.message == 'pods "b" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'


def test_dry_run_leaves_nothing(registry: Registry) -> None:
    before = registry.store.revision
    made = registry.create(PODS, "default", pod(), dry_run=True)
    assert made["status"]["phase"] == "Pending" and "uid" in made["metadata"]
    registry.store.create(PODS, {**made, "metadata": {**made["metadata"]}})
    registry.delete(PODS, "default", "p", {}, dry_run=True)
    registry.patch(
        PODS, "default", "p", {"metadata": {"labels": {"a": "b"}}}, "application/merge-patch+json", dry_run=True
    )
    assert registry.store.revision == before + 1
    assert refused(lambda: registry.create(PODS, "default", pod(), dry_run=True)).code == 409


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"metadata": {"name": "P"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}, "metadata.name"),
        ({"metadata": {"name": "p"}, "spec": {}}, "spec.containers"),
        ({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}, "spec.containers[0].image"),
        (
            {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}] * 2}},
            "spec.containers[1].name",
        ),
        (
            {
                "metadata": {"name": "p"},
                "spec": {
                    "containers": [{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]
                },
            },
            "spec.containers[0].volumeMounts[0].name",
        ),
    ],
)
def test_invalid_pods_are_422(registry: Registry, body: Obj, field: str) -> None:
    error = refused(lambda: registry.create(PODS, "default", body))
    assert error.code == 422 and error.details is not None and error.details["causes"][0]["field"] == field


def test_missing_namespace_is_404(registry: Registry) -> None:
    assert refused(lambda: registry.create(PODS, "nope", pod())).message == 'namespaces "nope" not found'


def test_grace_and_its_end(registry: Registry) -> None:
    registry.create(PODS, "default", pod(nodeName="n", terminationGracePeriodSeconds=7))
    marked = registry.delete(PODS, "default", "p")["metadata"]
    assert (marked["deletionGracePeriodSeconds"], marked["generation"]) == (7, 2)
    assert registry.delete(PODS, "default", "p")["metadata"] == marked, "again: nothing new"
    assert registry.delete(PODS, "default", "p", {"gracePeriodSeconds": 9})["metadata"] == marked, "never longer"
    assert (
        registry.delete(PODS, "default", "p", {"gracePeriodSeconds": 3})["metadata"]["deletionGracePeriodSeconds"] == 3
    )
    registry.delete(PODS, "default", "p", {"gracePeriodSeconds": 0})
    assert registry.store.find(PODS, "default", "p") is None


def test_finalizers_hold_a_pod_until_they_are_gone(registry: Registry) -> None:
    body = pod(nodeName="n")
    body["metadata"]["finalizers"] = ["example.com/hold", "example.com/too"]
    registry.create(PODS, "default", body)
    assert registry.delete(PODS, "default", "p")["metadata"]["deletionGracePeriodSeconds"] == 30
    ended = registry.delete(PODS, "default", "p", {"gracePeriodSeconds": 0})["metadata"]
    assert ended["deletionGracePeriodSeconds"] == 0 and registry.store.find(PODS, "default", "p") is not None
    again = registry.delete(PODS, "default", "p", {"gracePeriodSeconds": 0})["metadata"]
    assert again["resourceVersion"] == ended["resourceVersion"], "again: nothing new"
    change = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/hold"]}}
    registry.patch(PODS, "default", "p", change, "application/strategic-merge-patch+json")
    assert registry.get(PODS, "default", "p")["metadata"]["finalizers"] == ["example.com/too"]
    registry.patch(PODS, "default", "p", {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    assert registry.store.find(PODS, "default", "p") is None


def test_finalizers_alone_do_not_end_a_pod_that_runs(registry: Registry) -> None:
    body = pod(nodeName="n")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    registry.create(PODS, "default", body)
    registry.delete(PODS, "default", "p")
    registry.patch(PODS, "default", "p", {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    assert registry.store.find(PODS, "default", "p") is not None, "its kubelet has not ended it yet"


def test_a_pod_without_a_node_goes_at_once(registry: Registry) -> None:
    registry.create(PODS, "default", pod())
    registry.delete(PODS, "default", "p")
    assert registry.store.find(PODS, "default", "p") is None


def test_a_finalizer_holds_a_pod(registry: Registry) -> None:
    body = pod(nodeName="n")
    body["metadata"]["finalizers"] = ["a/b"]
    registry.create(PODS, "default", body)
    registry.delete(PODS, "default", "p", {"gracePeriodSeconds": 0})
    assert "deletionTimestamp" in registry.get(PODS, "default", "p")["metadata"]
    registry.patch(PODS, "default", "p", {"metadata": {"finalizers": None}}, "application/merge-patch+json")
    assert registry.store.find(PODS, "default", "p") is None


def test_uid_precondition(registry: Registry) -> None:
    uid = registry.create(PODS, "default", pod())["metadata"]["uid"]
    error = refused(lambda: registry.delete(PODS, "default", "p", {"preconditions": {"uid": "other"}}))
    assert (error.code, error.reason) == (409, "Conflict") and uid in error.message
    registry.delete(PODS, "default", "p", {"preconditions": {"uid": uid}})


def test_stale_update_is_409_and_status_and_spec_are_apart(registry: Registry) -> None:
    old = registry.create(PODS, "default", pod())
    registry.update(PODS, "default", "p", {**old, "status": {"phase": "Running"}, "spec": {}}, subresource="status")
    have = registry.get(PODS, "default", "p")
    assert have["status"] == {"phase": "Running"} and have["spec"] == old["spec"]
    assert refused(lambda: registry.update(PODS, "default", "p", old)).reason == "Conflict"
    kept = registry.update(PODS, "default", "p", {**have, "status": {"phase": "Failed"}})
    assert kept["status"] == {"phase": "Running"}


def test_generation_counts_changes_of_the_spec(registry: Registry) -> None:
    spec = {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod()["spec"]},
    }
    registry.create(DEPLOYMENTS, "default", {"metadata": {"name": "d"}, "spec": spec})
    merge = "application/merge-patch+json"
    assert (
        registry.patch(DEPLOYMENTS, "default", "d", {"metadata": {"labels": {"x": "y"}}}, merge)["metadata"][
            "generation"
        ]
        == 1
    )
    assert registry.patch(DEPLOYMENTS, "default", "d", {"spec": {"replicas": 2}}, merge)["metadata"]["generation"] == 2
    wrong = {"spec": {"selector": {"matchLabels": {"a": "c"}}}}
    assert refused(lambda: registry.patch(DEPLOYMENTS, "default", "d", wrong, merge)).code == 422


def test_binding_once(registry: Registry) -> None:
    registry.create(PODS, "default", pod())
    registry.bind("default", "p", "n")
    assert refused(lambda: registry.bind("default", "p", "m")).code == 409
    assert registry.get(PODS, "default", "p")["spec"]["nodeName"] == "n"


def test_eviction_minds_the_budget(registry: Registry) -> None:
    body = pod(nodeName="n")
    body["metadata"]["labels"] = {"app": "x"}
    made = registry.create(PODS, "default", body)
    budget = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}}
    registry.create(BY_NAME["poddisruptionbudgets"], "default", budget)
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    registry.update(PODS, "default", "p", {**made, "status": ready}, subresource="status")
    Manager(registry).settle()
    error = refused(lambda: registry.evict("default", "p", None))
    assert error.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "Cannot evict pod as it would violate the pod's disruption budget.",
        "reason": "TooManyRequests",
        "details": {
            "causes": [
                {
                    "reason": "DisruptionBudget",
                    "message": "The disruption budget b needs 1 healthy pods and has 1 currently",
                }
            ]
        },
        "code": 429,
    }
    assert refused(lambda: registry.evict("default", "p", None, dry_run=True)).code == 429
    assert refused(lambda: registry.evict("default", "nope", None)).code == 404
    registry.delete(BY_NAME["poddisruptionbudgets"], "default", "b")
    registry.evict("default", "p", {"gracePeriodSeconds": 0})
    assert registry.store.find(PODS, "default", "p") is None


def test_a_namespace_is_emptied_before_it_goes(registry: Registry) -> None:
    registry.create(NAMESPACES, "", {"metadata": {"name": "x"}})
    registry.create(PODS, "x", pod())
    assert registry.delete(NAMESPACES, "", "x")["status"]["phase"] == "Terminating"
    assert refused(lambda: registry.create(PODS, "x", pod("q"))).code == 403
    Manager(registry).settle()
    assert registry.store.find(NAMESPACES, "", "x") is None and not registry.store.list(PODS, "x")


def test_nodes_have_no_generation(registry: Registry) -> None:
    assert "generation" not in registry.create(NODES, "", {"metadata": {"name": "n"}})["metadata"]
