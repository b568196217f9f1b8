# SPDX-License-Identifier: Apache-2.0
"""What a pod asks of its node."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._plan.nodes import check_capacity, request
from doubles import objects


def wants(cpu: str, **more: Any) -> dict[str, Any]:
    return {"resources": {"requests": {"cpu": cpu}}, **more}


def sidecar(cpu: str) -> dict[str, Any]:
    return wants(cpu, restartPolicy="Always")


@pytest.mark.parametrize(
    ("spec", "cpu"),
    [
        ({}, "0"),
        ({"containers": [wants("1"), wants("500m"), {}]}, "1.5"),
        ({"containers": [wants("1")], "initContainers": [wants("3"), wants("2")]}, "3"),
        ({"containers": [wants("1")], "initContainers": [sidecar("1")]}, "2"),
        ({"containers": [wants("1")], "initContainers": [sidecar("1"), wants("3"), sidecar("1")]}, "4"),
        ({"containers": [wants("1")], "initContainers": [wants("2"), sidecar("1"), sidecar("2")]}, "4"),
        ({"containers": [wants("1")], "resources": {"requests": {"cpu": "4"}}}, "4"),
        ({"containers": [{}], "resources": {"requests": {"cpu": "4"}}, "overhead": {"cpu": "250m"}}, "4.25"),
        ({"containers": [wants("1")], "resources": {"requests": {"memory": "1Gi"}}}, "1"),
    ],
)
def test_a_pod_requests_what_kubernetes_counts(spec: dict[str, Any], cpu: str) -> None:
    assert request({"spec": spec}, "cpu") == Decimal(cpu)


def test_a_sidecar_and_a_pod_with_resources_of_its_own_take_room() -> None:
    node = objects.node("node-b", {"status": {"allocatable": {"cpu": "2"}}})
    pod = {"spec": {"containers": [wants("1")], "initContainers": [sidecar("1")]}}
    there = objects.pod("there", "node-b", {"spec": {"resources": {"requests": {"cpu": "500m"}}}})
    assert check_capacity(pod, node, []) == []
    (refusal,) = check_capacity(pod, node, [there])
    assert refusal.reason == "The pod requests 2 of cpu; node node-b has 1.5 left."
