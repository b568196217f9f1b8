# SPDX-License-Identifier: Apache-2.0
"""Choosing a node: what keeps a pod from it, who is preferred, and that the answer does not depend on chance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._plan.facts import NodeFacts, PodInspection
from ansible_collections.podferry.live.plugins.module_utils._plan.options import Options
from ansible_collections.podferry.live.plugins.module_utils._plan.placement import (
    Placement,
    Site,
    Subject,
    as_planned,
    free_share,
    place,
)
from ansible_collections.podferry.live.plugins.module_utils._plan.plan import ImageState
from doubles import objects

JsonDict = dict[str, Any]
OPTIONS = Options("counter", "", "default")
HERE = (ImageState("c", "img", present=True),)
PULLABLE = (ImageState("c", "img", present=False, pullable=True),)
NOWHERE = (ImageState("c", "img", present=False, pullable=False, error="no registry"),)
CPU_1 = {"requests": {"cpu": "1"}}


def site(name: str, change: JsonDict | None = None, facts: JsonDict | None = None, **more: Any) -> Site:
    known: Any = {"hosts": [name], "facts": NodeFacts.parse(objects.facts(facts)), **more}
    return Site(objects.node(name, change), **known)


def chosen(
    sites: Sequence[Site],
    pod: JsonDict | None = None,
    pods: Sequence[JsonDict] = (),
    images: JsonDict | None = None,
    reserved: dict[str, int] | None = None,
    others: Sequence[JsonDict] = (),
) -> Placement:
    subject = Subject(
        pod or objects.pod(),
        "node-a",
        NodeFacts.parse(objects.facts()),
        PodInspection.parse(objects.inspection()),
        images if images is not None else {s.name: HERE for s in sites},
    )
    all_nodes = [*(s.node for s in sites), *others]
    return place(
        subject, sites, pods, all_nodes=all_nodes, own_digest=objects.DIGEST, options=OPTIONS, reserved=reserved
    )


def test_a_node_that_does_not_reach_a_volume_is_passed_by() -> None:
    sites = [
        site("near", {"metadata": {"labels": {"zone": "1"}}}),
        site("empty", {"metadata": {"labels": {"zone": "2"}}}),
    ]
    zone = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["1"]}]}]}
    subject = Subject(
        objects.pod(),
        "node-a",
        images={s.name: HERE for s in sites},
        claims={"data": {"spec": {"volumeName": "pv"}}},
        volumes={"pv": {"spec": {"nodeAffinity": {"required": zone}}}},
    )
    pods = [busy("other", "near", "2")]
    options: Any = {"all_nodes": [s.node for s in sites], "own_digest": objects.DIGEST, "options": OPTIONS}
    placement = place(subject, sites, pods, **options)
    assert (placement.target, codes(placement, "empty")) == ("near", ["volume_affinity"])
    assert place(replace(subject, volumes={"pv": {}}), sites, pods, **options).target == "empty"


def codes(placement: Placement, node: str) -> list[str]:
    return [r.code for v in placement.verdicts if v.node == node for r in v.refusals]


def busy(name: str, node: str, cpu: str) -> JsonDict:
    return objects.pod(name, node, resources={"requests": {"cpu": cpu}})


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (site("bad", {"spec": {"unschedulable": True}}), "target_unschedulable"),
        (site("bad", drained="by him since noon"), "target_unschedulable"),
        (site("bad", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}), "target_not_ready"),
        (site("bad", {"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}), "target_taint"),
        (site("bad", {"status": {"allocatable": {"pods": "0"}}}), "target_capacity"),
        (site("bad", {"status": {"allocatable": {"cpu": "500m"}}}), "target_capacity"),
        (site("bad", hosts=[]), "node_not_in_inventory"),
        (site("bad", hosts=["x", "y"]), "node_ambiguous_in_inventory"),
        (site("bad", facts=None, error="no route"), "engine_version"),
        (site("bad", facts={"arch": "aarch64"}), "architecture"),
        (site("bad", facts={"cpu_flags": ["fpu"]}), "cpu_features"),
        (site("bad", facts={"criu": {"version": [3, 17]}}), "criu_old"),
        (site("bad", facts={"runtime": {"engine": None}}), "container_engine"),
        (site("bad", facts={"engine": "e" * 64}), "engine_version"),
        (site("bad", facts={"mem_available": 100 * objects.MIB}), "memory"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_node_that_will_not_do(bad: Site, code: str) -> None:
    if bad.error:  # nothing is known of it but why
        bad = Site(bad.node, bad.hosts, None, bad.error)
        code = "node_unreachable"
    placement = chosen([bad, site("good")], objects.pod(resources=CPU_1))
    assert placement.target == "good"
    assert codes(placement, "bad") == [code]


def test_a_drained_node_is_told_by_whom() -> None:
    placement = chosen([site("bad", {"spec": {"unschedulable": True}}, drained="by him since noon")])
    assert placement.target == ""
    assert [r.reason for r in placement.verdicts[0].refusals] == [
        "Node bad is being drained itself, by him since noon."
    ]


def test_selector_and_affinity_of_the_pod() -> None:
    pod = objects.pod(change={"spec": {"nodeSelector": {"disk": "ssd"}}})
    placement = chosen([site("bad"), site("good", {"metadata": {"labels": {"disk": "ssd"}}})], pod)
    assert (placement.target, codes(placement, "bad")) == ("good", ["target_affinity"])


def test_an_image_that_is_there_is_preferred_and_one_that_cannot_come_excludes() -> None:
    sites = [site("a"), site("b"), site("c")]
    placement = chosen(sites, images={"a": PULLABLE, "b": HERE, "c": NOWHERE})
    assert [v.node for v in placement.verdicts] == ["b", "a", "c"]
    assert codes(placement, "c") == ["image_missing"]


def test_room_counts_more_than_the_image() -> None:
    there = [busy(f"p{n}", "full", "600m") for n in range(3)]
    placement = chosen([site("full"), site("free")], pods=there, images={"full": HERE, "free": PULLABLE})
    assert placement.target == "free"


def test_what_is_planned_counts_as_being_there() -> None:
    pod = objects.pod(resources=CPU_1)
    other = objects.pod("other", resources={"requests": {"cpu": "1500m"}})
    assert chosen([site("a"), site("b")], pod).target == "a"
    placement = chosen([site("a"), site("b")], pod, [as_planned(other, "a")])
    assert (placement.target, codes(placement, "a")) == ("b", ["target_capacity"])


def test_memory_that_planned_pods_will_use_is_gone() -> None:
    placement = chosen([site("a"), site("b")], reserved={"a": 8 * objects.GIB})
    assert (placement.target, codes(placement, "a")) == ("b", ["memory"])


def test_the_pod_itself_is_not_counted_twice() -> None:
    pod = objects.pod(resources={"requests": {"cpu": "2"}})
    assert chosen([site("a")], pod, [as_planned(pod, "a")]).target == "a"


def test_pods_without_requests_spread() -> None:
    sites, pods, seen = [site("a"), site("b"), site("c")], [], []
    for number in range(9):
        pod = objects.pod(f"p{number}")
        target = chosen(sites, pod, pods).target
        seen.append(target)
        pods.append(as_planned(pod, target))
    assert seen == ["a", "b", "c"] * 3


def test_the_order_of_the_nodes_does_not_matter() -> None:
    sites = [site("a"), site("b"), site("c", {"status": {"allocatable": {"cpu": "8"}}})]
    answers = {chosen(list(order)) for order in itertools.permutations(sites)}
    assert len(answers) == 1
    assert answers.pop().target == "c"


def test_free_share() -> None:
    node = objects.node("n", {"status": {"allocatable": {"cpu": "2", "memory": "1000Mi", "pods": "10"}}})
    assert free_share(objects.pod(resources=CPU_1), node, []) == pytest.approx((0.5 + 0.8 + 0.9) / 3)


# -- affinity between pods --------------------------------------------------------------------------------------------

ZONES = {"metadata": {"labels": {"zone": "1"}}}
OTHER_ZONE = {"metadata": {"labels": {"zone": "2"}}}


def rule(kind: str, key: str = "kubernetes.io/hostname", **term: Any) -> JsonDict:
    terms = [{"topologyKey": key, "labelSelector": {"matchLabels": {"app": "db"}}, **term}]
    return {"spec": {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}}


def database(node: str, change: JsonDict | None = None, namespace: str = "default") -> JsonDict:
    return objects.pod("db", node, {**(change or {}), "metadata": {"labels": {"app": "db"}, "namespace": namespace}})


def fits(pod: JsonDict, pods: list[JsonDict], key: str = "kubernetes.io/hostname") -> str:
    placement = chosen([site("b", ZONES), site("c", ZONES), site("d", OTHER_ZONE)], pod, pods)
    return "".join(sorted(v.node for v in placement.verdicts if v.fits))


def test_anti_affinity_of_the_pod() -> None:
    apart = objects.pod(change=rule("podAntiAffinity"))
    assert fits(apart, [database("b")]) == "cd"
    assert fits(apart, [database("b", namespace="other")]) == "bcd"
    assert (
        fits(objects.pod(change=rule("podAntiAffinity", namespaces=["other"])), [database("b", namespace="other")])
        == "cd"
    )
    assert (
        fits(objects.pod(change=rule("podAntiAffinity", namespaceSelector={})), [database("b", namespace="o")]) == "cd"
    )
    assert fits(objects.pod(change=rule("podAntiAffinity", "zone")), [database("b")]) == "d"


def test_anti_affinity_of_those_that_are_there() -> None:
    pod = objects.pod(change={"metadata": {"labels": {"app": "db"}}})
    assert fits(pod, [database("b", rule("podAntiAffinity"))]) == "cd"
    assert fits(pod, [database("d", rule("podAntiAffinity", "zone"))]) == "bc"


def test_a_sibling_on_the_node_that_is_left_is_no_obstacle() -> None:
    first = objects.pod("one", change={**rule("podAntiAffinity"), "metadata": {"labels": {"app": "db"}}})
    second = objects.pod("two", change={**rule("podAntiAffinity"), "metadata": {"labels": {"app": "db"}}})
    assert fits(first, [first, second]) == "bcd"
    assert fits(second, [as_planned(first, "b"), second]) == "cd"


def test_affinity() -> None:
    together = objects.pod(change=rule("podAffinity", "zone"))
    assert fits(together, [database("b")]) == "bc"
    assert fits(together, []) == ""
    itself = objects.pod(change={**rule("podAffinity", "zone"), "metadata": {"labels": {"app": "db"}}})
    assert fits(itself, []) == "bcd", "the first of its kind may go anywhere"


def spread(**constraint: Any) -> JsonDict:
    labels = {"matchLabels": {"app": "db"}}
    return objects.pod(
        change={
            "metadata": {"labels": {"app": "db"}},
            "spec": {"topologySpreadConstraints": [
                {"topologyKey": "zone", "maxSkew": 1, "labelSelector": labels, **constraint}
            ]},
        }
    )  # fmt: skip


def test_within_the_sources_own_domain_nothing_changes() -> None:
    """The node that is emptied is no site, and yet the pod's own zone is known."""
    here, sites = objects.node("node-a", ZONES), [site("b", ZONES), site("d", OTHER_ZONE)]
    apart = objects.pod(change=rule("podAntiAffinity", "zone"))
    assert codes(chosen(sites, apart, [database("b")], others=[here]), "b") == []
    crowded = [objects.pod(f"db-{n}", "b", {"metadata": {"labels": {"app": "db"}}}) for n in range(3)]
    assert codes(chosen(sites, spread(), crowded, others=[here]), "b") == []


def test_pods_are_spread_over_nodes_that_are_no_sites_too() -> None:
    here = objects.node("node-a", ZONES)
    assert chosen([site("b", OTHER_ZONE)], spread(minDomains=2, maxSkew=1), [database("b")], others=[here]).target == ""
    both = [database("b"), database("node-a")]
    both[1]["metadata"]["uid"] = "other"
    assert chosen([site("b", OTHER_ZONE)], spread(minDomains=2), both, others=[here]).target == "b"


def test_a_pod_that_has_ended_keeps_nobody_away() -> None:
    ended = database("b", {"status": {"phase": "Succeeded"}})
    assert fits(objects.pod(change=rule("podAntiAffinity")), [ended]) == "bcd"
