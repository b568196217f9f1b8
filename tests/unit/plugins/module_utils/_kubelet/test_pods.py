# SPDX-License-Identifier: Apache-2.0
"""What is refused before the kubelet is asked."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kubelet.pods import container_of


def pod(*names: str, node: str | None = "node-a", state: str = "running", sidecar: str = "") -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": name} for name in names]}
    if node:
        spec["nodeName"] = node
    status = {"containerStatuses": [{"name": name, "state": {state: {}}} for name in names]}
    if sidecar:
        spec["initContainers"] = [{"name": sidecar}]
        status["initContainerStatuses"] = [{"name": sidecar, "state": {"running": {}}}]
    return {"spec": spec, "status": status}


def chosen(given: dict[str, Any] | None, wanted: str = "") -> str:
    try:
        return container_of(given, "n", "p", wanted, "node-a")
    except PodferryError as error:
        assert error.remedy
        return error.kind


@pytest.mark.parametrize(
    ("given", "wanted", "expected"),
    [
        (pod("c"), "", "c"),
        (pod("c"), "c", "c"),
        (pod("a", "b"), "b", "b"),
        (pod("c", sidecar="s"), "", "c"),
        (pod("c", sidecar="s"), "s", "s"),
        (pod("a", "b"), "", "invalid_input"),
        (pod("c"), "d", "container_not_found"),
        (pod("c", state="waiting"), "c", "container_not_running"),
        (pod("c", state="terminated"), "", "container_not_running"),
        ({"spec": {"containers": [{"name": "c"}], "nodeName": "node-a"}}, "", "container_not_running"),
        (pod("c", node="node-b"), "", "pod_elsewhere"),
        (pod("c", node=None), "", "pod_elsewhere"),
        (None, "", "pod_not_found"),
    ],
)
def test_container(given: dict[str, Any] | None, wanted: str, expected: str) -> None:
    assert chosen(given, wanted) == expected
