# SPDX-License-Identifier: Apache-2.0
"""What the scheduler would have checked about the pod's neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._plan.nodes import untolerated
from ansible_collections.podferry.live.plugins.module_utils._plan.topology import (
    Neighbours,
    asks_for_nodes,
    check_topology,
)
from doubles import objects

HOST = "kubernetes.io/hostname"
DB = {"labelSelector": {"matchLabels": {"app": "db"}}}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def node(name: str, zone: str = "") -> dict[str, Any]:
    return objects.node(name, {"metadata": {"labels": {"zone": zone} if zone else {}}})


NODES = (
    node("node-a", "1"),
    node("node-b", "2"),
    node("node-c", "2"),
)


def other(name: str, where: str, app: str = "db", namespace: str = "default", **spec: Any) -> dict[str, Any]:
    change = {"metadata": {"labels": {"app": app}, "namespace": namespace}, "spec": spec}
    return objects.pod(name, where, change)


def rule(kind: str, key: str = HOST, **term: Any) -> dict[str, Any]:
    return {"affinity": {kind: {REQUIRED: [{"topologyKey": key, **DB, **term}]}}}


def spread(key: str = HOST, app: str = "counter", **more: Any) -> dict[str, Any]:
    constraint = {
        "topologyKey": key,
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": app}},
        **more,
    }
    return {"topologySpreadConstraints": [constraint]}


def found(
    spec: dict[str, Any],
    pods: list[dict[str, Any]],
    *,
    nodes: Sequence[dict[str, Any]] | None = NODES,
    everywhere: bool = False,
    source: dict[str, Any] = NODES[0],
) -> list[str]:
    target = NODES[1]
    on_target = [p for p in pods if p["spec"]["nodeName"] == "node-b"]
    refusals = check_topology(
        objects.pod(change={"spec": spec}), source, target, Neighbours(pods, everywhere, nodes), on_target
    )
    return [r.reason for r in refusals]


def test_anti_affinity() -> None:
    near = rule("podAntiAffinity")
    assert found(near, [other("db", "node-b")])
    assert not found(near, [other("db", "node-a"), other("db2", "node-c"), other("web", "node-b", "web")])
    assert not found(near, [other("db", "node-b", namespace="prod")])
    assert found(rule("podAntiAffinity", "zone"), [other("db", "node-c")]), "the same zone"
    assert not found(rule("podAntiAffinity", "zone"), [other("db", "node-a")])


def test_affinity() -> None:
    assert found(rule("podAffinity"), [other("db", "node-a")])
    assert not found(rule("podAffinity"), [other("db", "node-b")])
    assert not found(rule("podAffinity", "zone"), [other("db", "node-c")])


def test_within_one_domain_a_move_changes_nothing() -> None:
    assert not found(rule("podAffinity", "zone"), [], source=node("node-a", "2"))
    assert not found(
        spread("zone"), [other(f"c{i}", "node-b", "counter") for i in range(5)], source=node("node-a", "2")
    )


def test_what_may_not_be_listed_is_not_guessed() -> None:
    assert "cannot be checked" in found(rule("podAntiAffinity", "zone"), [], nodes=None)[0]
    assert not found(rule("podAntiAffinity"), [], nodes=None), "the target's own pods are enough"
    assert "cannot be checked" in found(spread(), [], nodes=None)[0]
    assert "cannot be checked" in found(rule("podAntiAffinity", namespaces=["prod"]), [])[0]
    assert "cannot be checked" in found(rule("podAntiAffinity", namespaceSelector={"matchLabels": {"a": "b"}}), [])[0]


def test_other_namespaces() -> None:
    there = [other("db", "node-b", namespace="prod")]
    assert found(rule("podAntiAffinity", namespaces=["prod"]), there, everywhere=True)
    assert found(rule("podAntiAffinity", namespaceSelector={}), there, everywhere=True)
    assert not found(rule("podAntiAffinity", namespaces=["test"]), there, everywhere=True)


def test_label_keys() -> None:
    labelled = rule("podAntiAffinity", matchLabelKeys=["app"])
    assert not found(labelled, [other("db", "node-b")]), "another app than the pod's own"
    assert found(rule("podAntiAffinity", mismatchLabelKeys=["app"]), [other("db", "node-b")])


def test_a_pod_that_is_there_may_want_to_be_alone() -> None:
    alone = rule("podAntiAffinity", labelSelector={"matchLabels": {"app": "counter"}})
    assert found({}, [other("db", "node-b", **alone)])
    assert not found({}, [other("db", "node-b", namespace="prod", **alone)])
    leaving = other("db", "node-b", **alone)
    leaving["metadata"]["deletionTimestamp"] = "now"
    assert not found({}, [leaving])


COUNTER = {"labelSelector": {"matchLabels": {"app": "counter"}}}


def test_a_pod_in_the_zone_may_want_to_be_alone() -> None:
    alone = rule("podAntiAffinity", "zone", **COUNTER)
    (reason,) = found({}, [other("db", "node-c", **alone)])
    assert reason == "Pod db on node node-c has a required anti-affinity by zone against this pod."
    assert not found({}, [other("db", "node-a", **alone)]), "another zone"
    assert not found({}, [other("db", "node-c", **rule("podAntiAffinity", **COUNTER))]), "another node"
    assert not found({}, [other("db", "node-c", **alone)], source=node("node-a", "2")), "they are together already"
    assert not found({}, [other("db", "node-c", **rule("podAntiAffinity", "zone"))]), "against others"


def test_what_is_not_known_of_those_that_want_to_be_alone_is_not_guessed() -> None:
    alone = rule("podAntiAffinity", "zone", **COUNTER)
    assert "other nodes may not be listed: it cannot" in found({}, [other("db", "node-c", **alone)], nodes=None)[0]
    assert "against this pod." in found({}, [other("db", "node-b", **alone)], nodes=None)[0], "the target's own pods"
    by_label = {"namespaceSelector": {"matchLabels": {"a": "b"}}}
    chosen = rule("podAntiAffinity", **COUNTER, **by_label)
    (reason,) = found({}, [other("db", "node-b", namespace="prod", **chosen)])
    assert "chooses namespaces by labels: it cannot be checked" in reason
    named = rule("podAntiAffinity", **COUNTER, **by_label, namespaces=["default"])
    assert "against this pod." in found({}, [other("db", "node-b", namespace="prod", **named)])[0], (
        "one of both is enough"
    )
    assert not found({}, [other("db", "node-b", namespace="prod", **rule("podAntiAffinity", **by_label))]), "others"


@pytest.mark.parametrize(
    ("constraint", "counts", "refused"),
    [
        (spread(), {"node-a": 1, "node-b": 1, "node-c": 1}, False),
        (spread(), {"node-a": 1, "node-b": 1, "node-c": 0}, True),
        (spread(), {"node-a": 1, "node-b": 2, "node-c": 2}, True),
        (spread(maxSkew=2), {"node-a": 1, "node-b": 2, "node-c": 2}, False),
        (spread("zone"), {"node-a": 1, "node-b": 1, "node-c": 0}, False),
        (spread("zone"), {"node-a": 1, "node-b": 1, "node-c": 1}, True),
        (spread("zone", minDomains=3), {"node-a": 2, "node-b": 1, "node-c": 0}, True),
        (spread("rack"), {}, True),
        (spread(whenUnsatisfiable="ScheduleAnyway"), {"node-a": 0, "node-b": 9}, False),
    ],
)
def test_spread(constraint: dict[str, Any], counts: dict[str, int], refused: bool) -> None:
    """The source does not count: it goes."""
    pods = [other(f"{where}-{i}", where, "counter") for where, n in counts.items() for i in range(n)]
    assert bool(found(constraint, [*pods, objects.pod()])) is refused


def test_nodes_that_the_pod_may_not_be_on_are_no_domain() -> None:
    pods = [other("x", "node-b", "counter"), other("y", "node-a", "counter")]
    assert found(spread(), pods), "node-c is empty"
    assert not found(
        {**spread(), "nodeSelector": {"on": "yes"}}, pods, nodes=[node("node-a", "1"), node("node-b", "2")]
    )
    wanted = {**spread(), "nodeSelector": {HOST: "node-b"}}
    assert not found(wanted, pods), "only node-b is one"


def test_nodes_are_listed_only_when_somebody_asks() -> None:
    def asks(spec: dict[str, Any], *others: dict[str, Any]) -> bool:
        return asks_for_nodes(objects.pod(change={"spec": spec}), others)

    assert not asks({})
    assert asks(spread())
    assert not asks(spread(whenUnsatisfiable="ScheduleAnyway"))
    assert asks(rule("podAffinity"))
    assert asks({}, other("db", "node-c", **rule("podAntiAffinity", "zone", **COUNTER)))
    assert not asks({}, other("db", "node-c", **rule("podAntiAffinity", **COUNTER)))
    assert not asks({}, other("db", "node-c", **rule("podAntiAffinity", "zone")))


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "x", "operator": "Exists", "effect": "NoExecute"}, True),
        ({"key": "x", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}, False),
        ({"key": "x", "value": "1"}, True),
        ({"key": "x", "value": "2"}, False),
        ({"key": "x", "operator": "Gt", "value": "1"}, False),
    ],
)
def test_a_taint_must_be_tolerated_for_good(toleration: dict[str, Any], tolerated: bool) -> None:
    tainted = objects.node("node-b", {"spec": {"taints": [{"key": "x", "value": "1", "effect": "NoExecute"}]}})
    assert (untolerated(tainted, [toleration]) == []) is tolerated
