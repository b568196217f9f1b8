# SPDX-License-Identifier: Apache-2.0
"""Who owns the pod: which way is open, and when its owner does not stand still."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._plan import rollout, statefulset
from ansible_collections.podferry.live.plugins.module_utils._plan.owners import (
    OwnerChain,
    check_gates,
    check_owner,
    decide_mode,
    early_labels,
    may_settle,
)
from ansible_collections.podferry.live.plugins.module_utils._plan.refusals import Refusal
from doubles import objects

FACTS = Path(__file__).resolve().parents[5] / "tests/fixtures/kubernetes-facts"


def codes(found: list[Refusal]) -> list[str]:
    return [r.code for r in found]


# -- ReplicaSets and Deployments ----------------------------------------------------------------------------------------


def of_deployment(change: dict[str, Any] | None = None, siblings: list[dict[str, Any]] | None = None) -> list[Refusal]:
    rs = objects.replicaset(replicas=3, deployment="web")
    return check_owner(objects.owned(rs), OwnerChain(rs, objects.deployment(replicas=3, change=change)), siblings or [])


def sibling(name: str, *, ready: bool = True, cost: str | None = None, **meta: Any) -> dict[str, Any]:
    found = objects.owned(objects.replicaset(), name)
    found["status"] = objects.running_status(ready)
    found["metadata"].update(meta)
    if cost is not None:
        found["metadata"]["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": cost}
    return found


def test_a_deployment_at_rest() -> None:
    assert of_deployment(siblings=[sibling("web-1-x"), sibling("web-1-y", cost="-100")]) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"status": {"updatedReplicas": 1}}, "a rollout is under way"),
        ({"status": {"replicas": 4}}, "4 pods are there"),
        ({"spec": {"replicas": 2}}, "2 are wanted"),
        ({"metadata": {"generation": 3}}, "not seen its last change"),
        ({"metadata": {"deletionTimestamp": "now"}}, "being deleted"),
        ({"spec": {"paused": True}, "status": {"updatedReplicas": 1}}, "paused half way"),
        (
            {
                "status": {
                    "updatedReplicas": 1,
                    "conditions": [
                        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
                    ],
                }
            },
            "ProgressDeadlineExceeded",
        ),
    ],
)
def test_a_rollout_is_said_and_may_pass(change: dict[str, Any], words: str) -> None:
    found = of_deployment(change)
    assert codes(found) == ["owner_not_stable"]
    assert words in found[0].reason
    assert may_settle(found)


def test_a_paused_deployment_that_is_complete_moves() -> None:
    assert of_deployment({"spec": {"paused": True}}) == []


def test_a_pod_that_is_not_ready_would_be_deleted_in_place_of_the_source() -> None:
    found = of_deployment(siblings=[sibling("web-1-x", ready=False), sibling("web-1-y")])
    assert codes(found) == ["owner_not_stable"]
    assert "web-1-x" in found[0].reason
    assert of_deployment(siblings=[sibling("web-1-x", ready=False, deletionTimestamp="now")]) == []
    stranger = sibling("other", ready=False)
    stranger["metadata"]["ownerReferences"] = []
    assert of_deployment(siblings=[stranger]) == []


@pytest.mark.parametrize(
    ("cost", "refused"), [("-2147483648", True), ("-2147483647", True), ("-2147483646", False), ("x", False)]
)
def test_the_deletion_cost_of_other_pods(cost: str, refused: bool) -> None:
    assert codes(of_deployment(siblings=[sibling("web-1-x", cost=cost)])) == (["deletion_cost"] if refused else [])


def test_the_deployment_is_gone() -> None:
    rs = objects.replicaset(deployment="web")
    assert codes(check_owner(objects.owned(rs), OwnerChain(rs))) == ["owner_gone"]


def test_a_replicaset_of_an_operator() -> None:
    rs = objects.replicaset(deployment="web")
    rs["metadata"]["ownerReferences"][0].update(kind="Rollout", apiVersion="argoproj.io/v1alpha1")
    (found,) = check_owner(objects.owned(rs), OwnerChain(rs))
    assert (found.code, "Rollout web" in found.reason) == ("owner", True)


def test_autoscalers() -> None:
    targets = [("Deployment", "web")]
    assert rollout.check_autoscalers(targets, [objects.autoscaler("Deployment", "other", 1, 2)]) == ([], [])
    refusals, warnings = rollout.check_autoscalers(targets, [objects.autoscaler("Deployment", "web", 3, 3)])
    assert (refusals, len(warnings)) == ([], 1)
    refusals, warnings = rollout.check_autoscalers(targets, [objects.autoscaler("Deployment", "web", 3, 5)])
    assert (codes(refusals), warnings) == (["owner_not_stable"], [])
    assert "from 3 to 5" in refusals[0].reason


# -- StatefulSets -------------------------------------------------------------------------------------------------------


def in_set(change: dict[str, Any] | None = None, number: int = 1, pod: dict[str, Any] | None = None) -> list[str]:
    owner = objects.statefulset(change=change)
    return codes(check_owner(objects.ordinal(owner, number, change=pod), OwnerChain(statefulset=owner)))


def test_a_statefulset_at_rest() -> None:
    assert in_set() == []
    assert in_set({"spec": {"ordinals": {"start": 5}}}, number=6) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        # rolling out, all the way to the end
        ({"status": {"updateRevision": "web-2", "updatedReplicas": 0}}, "statefulset_revision"),
        ({"status": {"currentRevision": "web-0"}}, "statefulset_revision"),
        # OnDelete: currentRevision stays behind for ever, what counts is that every pod has been replaced
        ({"spec": {"updateStrategy": {"type": "OnDelete"}}, "status": {"currentRevision": "web-0"}}, None),
        ({"spec": {"updateStrategy": {"type": "OnDelete"}}, "status": {"updatedReplicas": 1}}, "statefulset_revision"),
        ({"status": {"updateRevision": None}}, "statefulset_revision"),
        ({"spec": {"replicas": 3}}, "owner_not_stable"),
        ({"spec": {"ordinals": {"start": 5}}}, "owner_not_stable"),
        ({"spec": {"selector": {"matchLabels": {"app": "else"}}}}, "owner_not_stable"),
        # claims that belong to the set matter when there are some
        ({"spec": {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"}}}, None),
        ({"metadata": {"uid": "another"}}, None),
    ],
)  # fmt: skip
def test_a_statefulset(change: dict[str, Any], code: str | None) -> None:
    assert in_set(change) == ([code] if code else [])


def test_a_statefulset_of_the_same_name_that_is_another() -> None:
    owner = objects.statefulset()
    pod = objects.ordinal(owner, 1)
    other = objects.statefulset(change={"metadata": {"uid": "another"}})
    assert codes(check_owner(pod, OwnerChain(statefulset=other))) == ["owner_gone"]


def test_what_is_created_again_is_what_was_recorded() -> None:
    """kubernetes-facts: the object as it is deleted, and the request that was accepted for making it again."""
    recorded = {e["label"]: e for e in json.loads((FACTS / "statefulset_orphan.json").read_text())}
    deleted = recorded["delete statefulset, orphan its pods"]["body"]
    wanted = recorded["recreate statefulset"]["request"]["body"]
    kept = statefulset.restorable(deleted)
    assert kept.pop("metadata") == {"name": "st", "namespace": "default"}
    assert kept["spec"] == wanted["spec"]
    assert set(kept) == {"apiVersion", "kind", "spec"}


def test_the_recorded_statefulset_may_move() -> None:
    recorded = {e["label"]: e for e in json.loads((FACTS / "statefulset_orphan.json").read_text())}
    owner = recorded["delete statefulset, orphan its pods"]["body"]
    for key in ("deletionTimestamp", "finalizers"):
        owner["metadata"].pop(key)
    owner["metadata"]["generation"] = 1  # the deletion has counted it up
    pod = recorded["delete source pod"]["body"]
    assert statefulset.check(pod, owner, {"uid": owner["metadata"]["uid"], "name": "st"}) == []


def test_labels_and_annotations_are_the_users() -> None:
    kept = statefulset.restorable(objects.statefulset())
    assert kept["metadata"] == {
        "name": "web",
        "namespace": "default",
        "labels": {"team": "a"},
        "annotations": {"note": "kept"},
    }


@pytest.mark.parametrize(
    ("mark", "who"),
    [
        ({"labels": {"argocd.argoproj.io/instance": "x"}}, "Argo CD"),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}, "Flux"),
    ],
)
def test_who_would_make_it_again_is_named(mark: dict[str, Any], who: str) -> None:
    told = statefulset.warnings(objects.statefulset(change={"metadata": mark}))
    assert any(who in text for text in told)
    assert "new UID" in told[0]
    assert len(statefulset.warnings(objects.statefulset())) == 1


def test_an_orphan_of_a_statefulset_is_not_a_bare_pod() -> None:
    owner = objects.statefulset()
    orphan = objects.ordinal(owner, 1, change={"metadata": {"ownerReferences": None}})
    assert codes(check_owner(orphan, OwnerChain())) == ["statefulset_away"]
    orphan["metadata"]["labels"].pop("statefulset.kubernetes.io/pod-name")
    assert check_owner(orphan, OwnerChain()) == []


# -- names and gates ----------------------------------------------------------------------------------------------------


def test_ways() -> None:
    bare, replica, ordinal = (
        objects.pod(),
        objects.owned(objects.replicaset()),
        objects.ordinal(objects.statefulset(), 1),
    )
    assert [decide_mode(n, bare)[0] for n in ("auto", "keep", "new")] == ["successor", "successor", "twin"]  # type: ignore[arg-type]
    assert [decide_mode("auto", p) for p in (replica, ordinal)] == [("twin", []), ("successor", [])]
    assert decide_mode("keep", ordinal) == ("successor", [])
    assert codes(decide_mode("keep", replica)[1]) == ["keep_with_replicaset"]
    assert codes(decide_mode("new", ordinal)[1]) == ["new_with_statefulset"]


def test_a_twin_with_readiness_gates_gets_what_a_service_sees_before_it_is_ready() -> None:
    gates = {"spec": {"readinessGates": [{"conditionType": "lb/ready"}]}}
    rs = objects.replicaset()
    pod = objects.merged(objects.owned(rs), gates)
    chain = OwnerChain(rs)
    labels = {"pod-template-hash": "1", "app": "web"}
    assert pod["metadata"]["labels"] == labels
    assert early_labels(pod, chain) == {"app": "web"}
    assert check_gates(pod, "twin", chain) == []
    rs["spec"]["selector"] = {"matchLabels": {"app": "web"}}
    assert early_labels(pod, chain) is None, "its ReplicaSet would adopt it, and delete it because it is not Ready"
    assert codes(check_gates(pod, "twin", chain)) == ["readiness_gates"]
    assert check_gates(objects.pod(change=gates), "successor", OwnerChain()) == []
