# SPDX-License-Identifier: Apache-2.0
"""Requests and waits against an API that answers as recorded, goes away, and comes back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._kube import predicates
from ansible_collections.podferry.live.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError, KubeTimeout, KubeUnavailable
from doubles import objects

FACTS = Path(__file__).resolve().parents[5] / "tests/fixtures/kubernetes-facts"
Step = Callable[[], Any]


class Rest:
    """Answers from a script; ``None`` stands for 404."""

    def __init__(self, answers: list[Any], streams: list[list[Any]] | None = None) -> None:
        self.answers = answers
        self.streams = streams or []
        self.requests: list[tuple[str, str, Mapping[str, Any] | None, Mapping[str, Any] | None]] = []

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Any = None,
        body: Any = None,
        content_type: str = "",
        timeout_s: float = 0,
    ) -> Any:
        self.requests.append((method, path, query, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            raise KubeError(404, "NotFound", "not found")
        return answer

    def stream(self, path: str, *, query: Any, timeout_s: float) -> Iterator[Any]:
        self.requests.append(("WATCH", path, query, None))
        assert 0 < timeout_s <= 21
        for event in self.streams.pop(0) if self.streams else []:
            if isinstance(event, Exception):
                raise event
            yield event


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.1
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def cluster(rest: Rest) -> Cluster:
    clock = Clock()
    return Cluster(rest, clock=clock, sleep=clock.sleep)  # type: ignore[arg-type]


def pod(ready: bool, version: str = "10") -> Any:
    made = objects.pod(change={"metadata": {"resourceVersion": version}})
    made["status"] = objects.running_status(ready)
    return made


def is_ready(seen: Mapping[str, Any] | None) -> bool:
    return seen is not None and predicates.ready(seen)


def test_watch_goes_on_from_the_version_that_was_read() -> None:
    rest = Rest([pod(False, "7")], [[{"type": "MODIFIED", "object": pod(True)}]])
    assert cluster(rest).wait_pod("default", "counter", is_ready, timeout_s=10) is not None
    method, _path, query, _body = rest.requests[-1]
    assert query is not None
    assert (method, query["resourceVersion"], query["fieldSelector"]) == ("WATCH", "7", "metadata.name=counter")


@pytest.mark.parametrize(
    "trouble",
    [
        {"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old resource version"}},
        KubeUnavailable("connection reset"),
        KubeError(503, "ServiceUnavailable", "starting"),
    ],
    ids=["410", "reset", "503"],
)
def test_waiting_survives(trouble: Any) -> None:
    rest = Rest([pod(False), pod(True)], [[trouble]])
    assert is_ready(cluster(rest).wait_pod("default", "counter", is_ready, timeout_s=60))


def test_waiting_survives_an_api_that_is_away() -> None:
    rest = Rest([KubeUnavailable("refused"), KubeUnavailable("refused"), pod(True)])
    assert is_ready(cluster(rest).wait_pod("default", "counter", is_ready, timeout_s=60))


def test_a_closed_watch_is_opened_again_and_others_pods_do_not_count() -> None:
    other = objects.pod("other")
    rest = Rest([pod(False)], [[], [{"type": "DELETED", "object": other}, {"type": "MODIFIED", "object": pod(True)}]])
    assert is_ready(cluster(rest).wait_pod("default", "counter", is_ready, timeout_s=60))


def test_gone() -> None:
    rest = Rest([pod(True)], [[{"type": "DELETED", "object": pod(True)}]])
    assert cluster(rest).wait_pod("default", "counter", lambda seen: seen is None, timeout_s=10) is None


def test_a_timeout_says_what_is_wrong_and_what_was_seen() -> None:
    waiting = pod(False)
    waiting["status"]["containerStatuses"][0]["state"] = {
        "waiting": {"reason": "ImagePullBackOff", "message": "no such image"}
    }
    with pytest.raises(KubeTimeout, match="ImagePullBackOff no such image after 5 s") as caught:
        cluster(Rest([waiting])).wait_pod("default", "counter", is_ready, timeout_s=5)
    assert caught.value.last == waiting


def test_a_plain_no_is_not_waited_for() -> None:
    with pytest.raises(KubeError, match="forbidden"):
        cluster(Rest([KubeError(403, "Forbidden", "forbidden")])).wait_pod("default", "counter", is_ready, timeout_s=60)


def test_delete_names_the_pod_it_means() -> None:
    rest = Rest([{}])
    assert cluster(rest).delete_pod("default", "counter", uid="u1", grace_s=0)
    body = rest.requests[0][3]
    assert body is not None
    assert (body["preconditions"], body["gracePeriodSeconds"]) == ({"uid": "u1"}, 0)


@pytest.mark.parametrize("status", [404, 409])
def test_another_pod_of_that_name_is_not_deleted(status: int) -> None:
    assert not cluster(Rest([KubeError(status, "x", "x")])).delete_pod("default", "counter", uid="u1", grace_s=0)


def test_dry_run_is_the_servers() -> None:
    rest = Rest([{}])
    cluster(rest).create_pod("default", {"metadata": {"name": "x"}}, dry_run=True)
    query = rest.requests[0][2]
    assert query is not None
    assert query["dryRun"] == "All"


def test_an_event_never_fails() -> None:
    cluster(Rest([KubeUnavailable("away")])).pod_event(objects.pod(), reason="Migrated", message="x")


# -- predicates over recorded pods ------------------------------------------------------------------------------------


def recorded(label: str) -> Any:
    entries = json.loads((FACTS / "single_pod.json").read_text())
    return next(e for e in entries if e["label"] == label)["body"]


def test_a_frozen_source_still_reads_ready() -> None:
    frozen = recorded("get source pod while frozen")
    assert predicates.running(frozen)
    assert predicates.ready(frozen)


def test_a_deleted_pod_is_terminating_and_not_ready() -> None:
    deleted = recorded("exec-less delete source")
    assert predicates.terminating(deleted)
    assert not predicates.ready(deleted)


def test_ids_address_and_handlers() -> None:
    running = recorded("get pod running")
    (container_id,) = predicates.container_ids(running).values()
    assert container_id.startswith("containerd://")
    assert len(predicates.bare_id(container_id)) == 64
    node = recorded("get node")
    assert predicates.node_ready(node)
    assert predicates.internal_ip(node) == "10.99.0.11"
    assert predicates.handlers_of(node) == ["", "runc"]


def test_the_replicaset_owns_what_it_adopted() -> None:
    entries = json.loads((FACTS / "deployment_adopt.json").read_text())
    source = next(e for e in entries if e["label"] == "set pod-deletion-cost on source B")["body"]
    assert predicates.owned_by(source, "92c37636-0bf3-41eb-901c-e3cb1447910b")
    assert not predicates.owned_by(source, "another")


def test_a_statefulset_is_orphaned_as_recorded_and_only_in_the_version_that_was_seen() -> None:
    recorded = json.loads((FACTS / "statefulset_orphan.json").read_text())
    wanted = next(e for e in recorded if e["label"] == "delete statefulset, orphan its pods")["request"]
    rest = Rest([{}])
    cluster(rest).orphan_statefulset("default", "st", uid="u1", resource_version="7")
    method, path, _query, body = rest.requests[0]
    assert body is not None
    assert (method, path) == (wanted["method"], wanted["path"])
    assert body == {**wanted["body"], "preconditions": {"uid": "u1", "resourceVersion": "7"}}


@pytest.mark.parametrize("status", [404, 409])
def test_another_statefulset_is_said_not_swallowed(status: int) -> None:
    with pytest.raises(KubeError):
        cluster(Rest([KubeError(status, "x", "x")])).orphan_statefulset("default", "st", uid="u", resource_version="7")


def test_a_statefulset_is_created_where_it_was_recorded_and_tried_by_the_server() -> None:
    rest = Rest([{}])
    cluster(rest).create_statefulset("default", {"kind": "StatefulSet"}, dry_run=True)
    method, path, query, _body = rest.requests[0]
    assert query is not None
    assert (method, path, query["dryRun"]) == ("POST", "/apis/apps/v1/namespaces/default/statefulsets", "All")


def test_kinds_that_the_api_does_not_serve_have_no_objects() -> None:
    assert cluster(Rest([None])).list_autoscalers("default") == []
    assert cluster(Rest([{"items": [{"kind": "x"}]}])).list_budgets("default") == [{"kind": "x"}]
    with pytest.raises(KubeError):
        cluster(Rest([KubeError(403, "Forbidden", "no")])).list_nodes()


def test_finalizers_are_set_as_a_whole() -> None:
    rest = Rest([{}])
    cluster(rest).patch_pod("default", "counter", labels={"a": "b"}, finalizers=["x/y"])
    assert rest.requests[0][3] == {"metadata": {"labels": {"a": "b"}, "finalizers": ["x/y"]}}


def test_cordon_and_marks_are_one_patch() -> None:
    rest = Rest([objects.node("n")])
    cluster = Cluster(rest)  # type: ignore[arg-type]
    cluster.patch_node(
        "n", annotations={"a": "1", "b": None}, unschedulable=True, seen={"metadata": {"resourceVersion": "7"}}
    )
    cluster.patch_node("n", annotations={"a": None}, unschedulable=False)
    cluster.patch_node("n", annotations={"a": "1"})
    assert [request[3] for request in rest.requests] == [
        {"metadata": {"annotations": {"a": "1", "b": None}, "resourceVersion": "7"}, "spec": {"unschedulable": True}},
        {"metadata": {"annotations": {"a": None}}, "spec": {"unschedulable": None}},
        {"metadata": {"annotations": {"a": "1"}}},
    ]
    assert {str(request[2]) for request in rest.requests} == {"{'fieldManager': 'podferry'}"}


def test_an_eviction_is_of_exactly_this_pod() -> None:
    rest = Rest([{}, None, KubeError(409, "Conflict", "uid"), KubeError(429, "TooManyRequests", "budget")])
    cluster = Cluster(rest)  # type: ignore[arg-type]
    assert cluster.evict_pod("d", "p", uid="u")
    assert not cluster.evict_pod("d", "p", uid="u")
    with pytest.raises(KubeError, match="uid"):
        cluster.evict_pod("d", "p", uid="u")
    with pytest.raises(KubeError, match="budget"):
        cluster.evict_pod("d", "p", uid="u")
    method, path, _query, body = rest.requests[0]
    assert (method, path) == ("POST", "/api/v1/namespaces/d/pods/p/eviction")
    assert body is not None
    assert body["deleteOptions"]["preconditions"] == {"uid": "u"}


@pytest.mark.parametrize(
    "answer", [{}, None, KubeError(409, "Conflict", "another uid")], ids=["done", "gone", "another"]
)
def test_a_pod_is_marked_not_ready_by_its_uid(answer: Any) -> None:
    rest = Rest([answer])
    cluster(rest).mark_not_ready("default", "web", uid="u", reason="Frozen", message="why")
    method, path, _query, body = rest.requests[-1]
    assert (method, path) == ("PATCH", "/api/v1/namespaces/default/pods/web/status")
    assert body is not None
    (condition,) = body["status"]["conditions"]
    assert body["metadata"] == {"uid": "u"}
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "False", "Frozen")
