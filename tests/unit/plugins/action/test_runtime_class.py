# SPDX-License-Identifier: Apache-2.0
"""Whether pods on some nodes use the RuntimeClass."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.action.runtime_class import refuse_users
from ansible_collections.podferry.live.plugins.module_utils._kube.runtime_class import InUse


class Api:
    """Three pods of the class on three nodes, one of them ended, one without a node, and one of another class."""

    def request(self, method: str, path: str, **_options: Any) -> dict[str, Any]:
        assert (method, path) == ("GET", "/api/v1/pods")
        return {
            "items": [
                pod("a", "worker-1"),
                pod("b", "worker-2"),
                pod("c", "worker-3", phase="Succeeded"),
                pod("d", None, phase="Pending"),
                pod("e", "worker-4", runtime_class=None),
            ]
        }


def pod(name: str, node: str | None, runtime_class: str | None = "podferry", phase: str = "Running") -> dict[str, Any]:
    spec = {"runtimeClassName": runtime_class, "nodeName": node}
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {key: value for key, value in spec.items() if value},
        "status": {"phase": phase},
    }


def test_pods_on_these_nodes_are_refused() -> None:
    with pytest.raises(InUse) as raised:
        refuse_users(Api(), "podferry", ["worker-2", "worker-3", "worker-4"])
    assert raised.value.pods == ["shop/b"]


def test_pods_on_other_nodes_do_not_count() -> None:
    refuse_users(Api(), "podferry", ["worker-3", "worker-4", "worker-5"])
