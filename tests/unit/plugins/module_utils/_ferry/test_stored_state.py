# SPDX-License-Identifier: Apache-2.0
"""The description that comes with a stored state: whatever stands in it, it is a request of ours or an error of ours."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput, PodferryError
from ansible_collections.podferry.live.plugins.module_utils._ferry import stored
from ansible_collections.podferry.live.plugins.module_utils._ferry.paths import RunPaths
from doubles.examples import examples

GOOD: dict[str, Any] = {
    "containers": ["app"],
    "destinations": {"app": ["/proc"]},
    "roster": {"finished": [], "post_start": {}, "restarts": {}},
    "hold_loopback": False,
}
ARGUMENTS = {"namespace": "shop", "pod": "web-0"}
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.just("app"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["app", "../x", "finished", "restarts"]), inner)
    ),
    max_leaves=6,
)


@pytest.fixture
def place(tmp_path: Path) -> RunPaths:
    paths = RunPaths("0123456789ab", str(tmp_path))
    os.makedirs(paths.criu("app"))
    return paths


def request(place: RunPaths, state: Any) -> dict[str, Any]:
    (Path(place.images) / "state.json").write_text(state if isinstance(state, str) else json.dumps(state))
    return stored.restore_request(place, ARGUMENTS)


def test_a_good_one(place: RunPaths) -> None:
    assert request(place, GOOD)["containers"] == ["app"]


@pytest.mark.parametrize(
    "state",
    [
        "",
        "[",
        "[]",
        "5",
        "[" * 100_000,
        *({key: value for key, value in GOOD.items() if key != gone} for gone in GOOD if gone != "hold_loopback"),
    ],
)
def test_what_is_none(place: RunPaths, state: Any) -> None:
    with pytest.raises(InvalidInput):
        request(place, state)


def test_a_description_cannot_change_the_request(place: RunPaths) -> None:
    roster = {**GOOD["roster"], "namespace": "kube-system", "staging": "/etc", "images": "/etc", "op": "x"}
    made = request(place, {**GOOD, "roster": roster})
    assert (made["op"], made["namespace"], made["staging"]) == (
        "ferry_start",
        "shop",
        place.images,
    ) and "images" not in made


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(sorted(GOOD)), anything))
def test_any_description(place: RunPaths, changed: dict[str, Any]) -> None:
    try:
        made = request(place, {**GOOD, **changed})
    except PodferryError:
        return
    assert all(os.path.isdir(place.criu(name)) for name in made["containers"])
    json.dumps(made)
