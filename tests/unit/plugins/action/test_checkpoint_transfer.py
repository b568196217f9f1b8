# SPDX-License-Identifier: Apache-2.0
"""Two spellings of one store are no two stores."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.action import checkpoint_transfer
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.plugin_utils._shelf import DEFAULT_PATH


class Desk:
    """Opens whatever it is asked to."""

    def shelf(self, store: Any, node: Any = None) -> Any:
        return store


def ends(store: dict[str, Any] | None, to: dict[str, Any]) -> Any:
    return checkpoint_transfer.ends(Desk(), {"store": store, "to": to, "target": None})  # type: ignore[arg-type]


def given(**options: Any) -> dict[str, Any]:
    """As Ansible hands them over: what was not given is None."""
    names = ("path", "url", "repository", "username", "bucket", "prefix", "endpoint", "region")
    return {**dict.fromkeys(names), "insecure": False, **options}


REGISTRY = given(kind="registry", url="https://registry.example")
BUCKET = given(kind="s3", bucket="checkpoints", endpoint="https://s3.example")


@pytest.mark.parametrize(
    ("store", "to"),
    [
        (None, given(kind="path", path=DEFAULT_PATH)),
        (None, given(kind="path")),
        (given(kind="path", path="/x"), given(kind="path", path="/x/")),
        (given(kind="path", path="//x/y"), given(kind="path", path="/x/./y", insecure=False)),
        (REGISTRY, {**REGISTRY, "url": "https://Registry.example:443/", "repository": "podferry", "username": "ferry"}),
        (BUCKET, {**BUCKET, "endpoint": "https://s3.example:443/", "prefix": "/", "region": "eu"}),
    ],
)
def test_two_spellings_of_one_store(store: dict[str, Any] | None, to: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="to where it is"):
        ends(store, to)


@pytest.mark.parametrize(
    ("store", "to"),
    [
        (given(kind="path", path="/x"), given(kind="path", path="/x/y")),
        (REGISTRY, {**REGISTRY, "repository": "other"}),
        (REGISTRY, {**REGISTRY, "url": "https://registry.example:5000"}),
        (BUCKET, {**BUCKET, "prefix": "prod"}),
        (BUCKET, {**BUCKET, "endpoint": None}),
        (BUCKET, REGISTRY),
    ],
)
def test_two_stores(store: dict[str, Any], to: dict[str, Any]) -> None:
    assert ends(store, to)[2] is None
