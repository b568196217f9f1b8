# SPDX-License-Identifier: Apache-2.0
"""What another node's ferry may say: anything, and what comes of it is ours or an error of ours."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    InvalidInput,
    PodferryError,
    TargetGaveUp,
    from_dict,
)
from ansible_collections.podferry.live.plugins.module_utils._ferry import said

keys = st.sampled_from(
    [
        "containers",
        "name",
        "destinations",
        "files",
        "freeze_ns",
        "hold_loopback",
        "type",
        "message",
        "start_ms",
        "ms",
        "size",
    ]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


def test_what_a_source_says() -> None:
    hello = {
        "m": "hello",
        "containers": [{"name": "app", "destinations": ["/proc", "/data"]}, {"name": "log", "destinations": []}],
    }
    assert said.destinations(hello) == {"app": ["/proc", "/data"], "log": []}
    files = {"app/log": {"size": 1, "sha256": "x"}}
    assert said.stored({"manifest": "{}", "freeze_ns": 5}) == said.Stored("{}", 5, False)
    assert said.manifest({"files": files, "freeze_ns": 5, "hold_loopback": True}) == said.Sent(files, 5, True)


@pytest.mark.parametrize(
    "containers",
    [None, 5, "app", ["app"], [{}], [{"name": "app", "destinations": "/proc"}], [{"name": "app", "destinations": [5]}]],
)
def test_containers_that_are_none(containers: Any) -> None:
    with pytest.raises(InvalidInput):
        said.destinations({"containers": containers})


@pytest.mark.parametrize(
    "wrong",
    [
        {"files": 5},
        {"files": [["a", "b"]]},
        {"files": {"a": 5}},
        {"freeze_ns": None},
        {"freeze_ns": 1.5},
        {"freeze_ns": 1 << 70},
    ],
)
def test_manifests_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        said.manifest({"files": {}, "freeze_ns": 5, **wrong})


@pytest.mark.parametrize("value", [None, "5", True, math.nan, math.inf, 10**400, [5]])
def test_durations_that_are_none(value: Any) -> None:
    assert said.milliseconds(value) is None


def test_phases() -> None:
    good = {"name": "dump", "start_ms": 5, "ms": 1.5}
    assert said.phases([good, 5, {"name": 5}, {"name": "x", "start_ms": "y"}, {"name": "y", "start_ms": 1}]) == [
        good,
        {"name": "y", "start_ms": 1, "ms": 0.0},
    ]
    assert said.phases({"name": "x"}) == []


@given(anything)
def test_anything(message: Any) -> None:
    known = message if isinstance(message, dict) else {"containers": message, "files": message, "freeze_ns": message}
    for read in (said.destinations, said.manifest, said.stored):
        try:
            json.dumps(read(known))
        except InvalidInput:
            pass
    for entry in said.phases(message):
        assert math.isfinite(entry["start_ms"] + entry["ms"]) and isinstance(entry["name"], str)
    # as the controller reads them
    said.milliseconds(message) is None or float(said.milliseconds(message) or 0)
    for error in (from_dict(message), TargetGaveUp.because(message)):
        assert isinstance(error, PodferryError) and isinstance(error.message, str) and isinstance(error.remedy, str)
