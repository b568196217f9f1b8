# SPDX-License-Identifier: Apache-2.0
"""Which containers run, also while their runtime does not."""

from __future__ import annotations

import pytest

from ansible_collections.podferry.live.plugins.module_utils._runtime.running import Running
from ansible_collections.podferry.live.plugins.modules import node_info

PLACES = {
    ("containerd", "/run/containerd"): [Running("a", 1, "/usr/local/libexec/podferry/podferry-runc")],
    ("crio", "/run/containers/storage"): [Running("b", 2, "podferry")],
    ("crio", "/elsewhere"): [Running("c", 3, "")],
}


@pytest.mark.parametrize(
    ("engine", "state", "ids"),
    [("crio", "/elsewhere", "c"), (None, None, "ab"), ("containerd", None, "ab")],
    ids=["it says where", "it is stopped", "its configuration cannot be read"],
)
def test_containers(engine: str | None, state: str | None, ids: str) -> None:
    runtime = {"engine": engine, "state_dir": state}
    found = node_info.containers(runtime, lambda name, folder: PLACES[name, folder])
    assert "".join(container.id for container in found) == ids
