# SPDX-License-Identifier: Apache-2.0
"""May a pod be dumped where it is, and may a state that was dumped go on here?"""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._plan import checkpoint
from ansible_collections.podferry.live.plugins.module_utils._plan.facts import NodeFacts, PodInspection
from ansible_collections.podferry.live.plugins.module_utils._plan.options import Options
from doubles import objects

OPTIONS = Options("counter", "", "default")


def subject(pod: dict[str, Any] | None = None, **change: Any) -> checkpoint.Subject:
    base = checkpoint.Subject(
        pod or objects.pod(),
        ["node-a"],
        objects.DIGEST,
        NodeFacts.parse(objects.facts()),
        PodInspection.parse(objects.inspection()),
    )
    return dataclasses.replace(base, **change)


def codes(found: Any) -> list[str]:
    return [refusal.code for refusal in found]


def test_a_plain_pod_is_taken() -> None:
    assert checkpoint.check_source(subject(), OPTIONS) == []


def test_what_only_keeps_a_pod_from_moving_does_not_count() -> None:
    change = {"spec": {"volumes": [{"name": "data", "hostPath": {"path": "/srv"}}]}}
    pod = objects.pod(change=change, ports=[{"containerPort": 80, "hostPort": 80}])
    mounted = {"mounts": [{"destination": "/data", "source": "/srv", "kind": "hostpath"}]}
    on_it = subject(pod, inspection=PodInspection.parse(objects.inspection(mounted)))
    assert checkpoint.check_source(on_it, OPTIONS) == []
    assert "data" in checkpoint.warnings(on_it)[0]


def test_what_cannot_be_dumped_is_refused() -> None:
    assert "privileged" in codes(
        checkpoint.check_source(subject(objects.pod(securityContext={"privileged": True})), OPTIONS)
    )
    assert "host_network" in codes(
        checkpoint.check_source(subject(objects.pod(change={"spec": {"hostNetwork": True}})), OPTIONS)
    )


def test_a_pod_that_does_not_run_is_only_that() -> None:
    pod = objects.pod(change={"status": {"phase": "Pending"}})
    assert codes(checkpoint.check_source(subject(pod), OPTIONS)) == ["pod_not_running"]


def test_a_node_that_does_not_answer_or_is_nobody_s() -> None:
    assert "node_unreachable" in codes(checkpoint.check_source(subject(error="no route", facts=None), OPTIONS))
    assert codes(checkpoint.check_source(subject(hosts=[]), OPTIONS)) != []


def test_the_node_has_to_hold_the_state_until_it_is_stored() -> None:
    facts = NodeFacts.parse(objects.facts({"mem_available": 1 << 20}))
    assert codes(checkpoint.check_source(subject(facts=facts), OPTIONS)) == ["memory"]


def target(taken: dict[str, Any] | None = None, here: dict[str, Any] | None = None, need: int = 1 << 20) -> list[str]:
    return codes(
        checkpoint.check_target(
            NodeFacts.parse(objects.facts(taken)),
            NodeFacts.parse(objects.facts(here)),
            objects.DIGEST,
            source_name="node-a",
            target_name="node-b",
            need=need,
            memory=need,
        )
    )


def test_the_same_kind_of_node_takes_it() -> None:
    assert target() == []


def test_a_node_that_lacks_something() -> None:
    assert target(here={"arch": "aarch64"}) == ["architecture"]
    assert target(here={"cpu_flags": []}) == ["cpu_features"]
    assert target(here={"mem_available": 1 << 20}) == ["memory"]
    assert "kernel_older" in target(here={"kernel": "4.18.0"})
