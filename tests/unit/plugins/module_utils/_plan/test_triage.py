# SPDX-License-Identifier: Apache-2.0
"""Pods that stay whatever is asked for, pods that may be evicted, and how long a drain may take."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._plan.triage import (
    biggest_first,
    deadline_s,
    may_evict,
    stays,
)
from doubles import objects

GIB = objects.GIB


def owned(kind: str) -> dict[str, Any]:
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": "it", "uid": "u", "controller": True}
    return objects.pod(change={"metadata": {"ownerReferences": [reference]}})


@pytest.mark.parametrize(
    ("pod", "word"),
    [
        (owned("DaemonSet"), "DaemonSet it"),
        (owned("Node"), "static pod"),
        (objects.pod(change={"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}), "static pod"),
        (objects.pod(change={"status": {"phase": "Succeeded"}}), "has ended"),
        (objects.pod(change={"metadata": {"deletionTimestamp": "2026-11-22T09:20:30Z"}}), "being deleted"),
    ],
)
def test_stays(pod: dict[str, Any], word: str) -> None:
    assert word in stays(pod)


@pytest.mark.parametrize("pod", [objects.pod(), owned("ReplicaSet"), owned("StatefulSet"), owned("Job")])
def test_is_to_go(pod: dict[str, Any]) -> None:
    assert stays(pod) == ""


def test_only_what_is_created_again_is_evicted() -> None:
    assert may_evict(owned("ReplicaSet"), ["host_path"]) == ""
    assert "nobody" in may_evict(objects.pod(), ["host_path"])
    assert "somebody else" in may_evict(owned("ReplicaSet"), ["migration_under_way"])


def test_big_pods_come_first() -> None:
    def asks(name: str, memory: str, cpu: str = "0") -> dict[str, Any]:
        return objects.pod(name, resources={"requests": {"memory": memory, "cpu": cpu}})

    pods = [asks("b", "1Gi"), asks("a", "1Gi"), asks("c", "2Gi"), asks("d", "1Gi", "1")]
    assert [p["metadata"]["name"] for p in sorted(pods, key=biggest_first)] == ["c", "d", "a", "b"]


def test_the_deadline_grows_with_the_pods() -> None:
    assert deadline_s([], 1) == 120
    assert deadline_s([GIB], 1) == 120 + 60 + 800
    assert deadline_s([GIB, GIB], 1) == 120 + 2 * 860
    assert deadline_s([GIB, GIB], 2) == 120 + 860
    assert deadline_s([GIB], 8) == 120 + 860, "the longest one must fit"
