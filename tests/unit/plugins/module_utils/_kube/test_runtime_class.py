# SPDX-License-Identifier: Apache-2.0
"""The RuntimeClass against an API made of a dictionary."""

from __future__ import annotations

import pytest

from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError
from ansible_collections.podferry.live.plugins.module_utils._kube.runtime_class import (
    COLLECTION,
    Foreign,
    InUse,
    RuntimeClass,
    desired,
)


class Api:
    """Answers as the API server does."""

    def __init__(self, existing: dict | None = None, pods: list[dict] | None = None) -> None:
        self.existing = existing
        self.pods = pods or []
        self.writes: list[tuple[str, object]] = []

    def request(self, method: str, path: str, *, query=None, body=None) -> dict:
        if path == "/api/v1/pods":
            return {"items": self.pods}
        if method == "GET":
            if self.existing is None:
                raise KubeError(404, "NotFound", "not found")
            return self.existing
        self.writes.append((method, (query or {}).get("dryRun")))
        if method == "POST":
            assert path == COLLECTION
            if not (query or {}).get("dryRun"):
                self.existing = {
                    **(body or {}),
                    "metadata": {**(body or {})["metadata"], "uid": "1", "resourceVersion": "2"},
                }
            return dict(body or {})
        self.existing = None
        return {}


def pod(name: str, runtime_class: str | None, phase: str = "Running") -> dict:
    spec = {"runtimeClassName": runtime_class} if runtime_class else {}
    return {"metadata": {"name": name, "namespace": "shop"}, "spec": spec, "status": {"phase": phase}}


def test_created_once() -> None:
    api = Api()
    first = RuntimeClass(api, "podferry").ensure(dry_run=False)
    assert first.changed
    assert first.after == desired("podferry")
    assert not RuntimeClass(api, "podferry").ensure(dry_run=False).changed
    assert api.writes == [("POST", None)]


def test_check_mode_asks_the_server() -> None:
    api = Api()
    assert RuntimeClass(api, "podferry").ensure(dry_run=True).changed
    assert api.writes == [("POST", "All")]
    assert api.existing is None


def test_no_overhead_and_no_scheduling() -> None:
    assert set(desired("podferry")) == {"apiVersion", "kind", "metadata", "handler"}


@pytest.mark.parametrize(
    "other",
    [{"handler": "kata"}, {"overhead": {"podFixed": {"cpu": "1"}}}, {"scheduling": {"nodeSelector": {"a": "b"}}}],
)
def test_one_that_would_change_pods_is_refused(other: dict) -> None:
    with pytest.raises(Foreign, match=next(iter(other))):
        RuntimeClass(Api({**desired("podferry"), **other}), "podferry").ensure(dry_run=False)


def test_an_equal_one_of_somebody_else_is_fine() -> None:
    theirs = desired("podferry")
    theirs["metadata"] = {"name": "podferry", "uid": "7"}
    assert not RuntimeClass(Api(theirs), "podferry").ensure(dry_run=False).changed


def test_removed_once() -> None:
    api = Api(desired("podferry"), [pod("a", None), pod("b", "other"), pod("c", "podferry", "Succeeded")])
    assert RuntimeClass(api, "podferry").remove(dry_run=True).changed
    assert api.writes == []
    assert RuntimeClass(api, "podferry").remove(dry_run=False).changed
    assert not RuntimeClass(api, "podferry").remove(dry_run=False).changed
    assert api.writes == [("DELETE", None)]


def test_refused_while_pods_use_it_also_when_it_is_gone_already() -> None:
    for existing in (desired("podferry"), None):
        api = Api(existing, [pod("cart", "podferry"), pod("x", None), pod("new", "podferry", "Pending")])
        with pytest.raises(InUse, match="used by 2 pods: shop/cart, shop/new") as caught:
            RuntimeClass(api, "podferry").remove(dry_run=False)
        assert caught.value.pods == ["shop/cart", "shop/new"]
        assert api.writes == []
