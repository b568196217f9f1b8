# SPDX-License-Identifier: Apache-2.0
"""Patches and selectors."""

from __future__ import annotations

from typing import Any

import pytest

from podferry_standin.api import errors, patch, selectors


def test_merge_patch_removes_with_null_and_replaces_lists() -> None:
    have = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert patch.merge(have, {"a": {"b": None, "c": [3]}, "e": {"f": None}}) == {"a": {"c": [3]}, "d": 1, "e": {}}
    assert have["a"] == {"b": 1, "c": [1, 2]}


def test_strategic_patch_merges_containers_by_name() -> None:
    have = {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}], "args": ["x"]}
    change = {
        "containers": [{"name": "b", "image": "2"}, {"name": "a", "$patch": "delete"}, {"name": "c"}],
        "args": ["y"],
    }
    assert patch.strategic(have, change) == {"containers": [{"name": "b", "image": "2"}, {"name": "c"}], "args": ["y"]}


def test_strategic_patch_of_finalizers_is_a_set() -> None:
    have = {"finalizers": ["a", "b"]}
    assert patch.strategic(have, {"finalizers": ["b", "c"]})["finalizers"] == ["a", "b", "c"]
    assert patch.strategic(have, {"$deleteFromPrimitiveList/finalizers": ["a"]})["finalizers"] == ["b"]


def test_json_patch() -> None:
    have: dict[str, Any] = {"metadata": {"labels": {"a/b": "1"}, "l": [1, 2]}}
    operations = [
        {"op": "test", "path": "/metadata/labels/a~1b", "value": "1"},
        {"op": "replace", "path": "/metadata/labels/a~1b", "value": "2"},
        {"op": "add", "path": "/metadata/l/-", "value": 3},
        {"op": "remove", "path": "/metadata/l/0"},
    ]
    assert patch.json_patch(have, operations) == {"metadata": {"labels": {"a/b": "2"}, "l": [2, 3]}}


@pytest.mark.parametrize(
    "operation",
    [{"op": "test", "path": "/a", "value": 2}, {"op": "remove", "path": "/b"}, {"op": "nope", "path": "/a"}],
)
def test_json_patch_that_does_not_apply_is_422(operation: dict[str, Any]) -> None:
    with pytest.raises(errors.ApiError) as refused:
        patch.json_patch({"a": 1}, [operation])
    assert refused.value.code == 422


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("a=1", True),
        ("a==1,b=2", True),
        ("a!=1", False),
        ("a in (1, 2)", True),
        ("a notin (1)", False),
        ("a,!c", True),
        ("c", False),
        ("c!=x", True),
    ],
)
def test_label_selectors(text: str, matches: bool) -> None:
    assert selectors.labels(text)({"metadata": {"labels": {"a": "1", "b": "2"}}}) is matches


@pytest.mark.parametrize(
    ("text", "matches"),
    [("spec.nodeName=x", True), ("spec.nodeName!=x", False), ("status.phase=", True), ("spec.a.b=c", False)],
)
def test_field_selectors(text: str, matches: bool) -> None:
    assert selectors.fields(text)({"metadata": {"name": "p"}, "spec": {"nodeName": "x"}}) is matches


def test_a_selector_that_cannot_be_read_is_400() -> None:
    with pytest.raises(errors.ApiError) as refused:
        selectors.labels("a b")
    assert refused.value.code == 400


def test_object_selectors() -> None:
    have = {"app": "x", "tier": "1"}
    assert selectors.selects({"matchLabels": {"app": "x"}}, have)
    assert selectors.selects(
        {
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["1"]},
                {"key": "z", "operator": "DoesNotExist"},
            ]
        },
        have,
    )
    assert not selectors.selects({"matchLabels": {"app": "y"}}, have)
    assert not selectors.selects(None, have)
