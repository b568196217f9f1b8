# SPDX-License-Identifier: Apache-2.0
"""The table of what nodes can do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.podferry.live.plugins.filter.node_abilities import node_abilities
from ansible_collections.podferry.live.plugins.module_utils._plan import abilities

FULL: dict[str, Any] = {
    "facts": {
        "kernel": "6.12.107+deb13-amd64",
        "engine": "0" * 64,
        "criu": {"path": "/usr/sbin/criu", "version": [4, 1, 1], "check_ok": True, "check": ""},
        "runtime": {"engine": "crio", "version": "1.36.3", "handler": True, "answers": True},
    },
    "abilities": {
        "runtime": {"engine": "crio", "version": "1.36.3", "checkpoint_call": True, "checkpoint": True},
        "kubelet": {"version": "1.36.2", "checkpoint": True},
        "criu": {"mem_dirty_track": True, "pagemap_scan": True, "uffd": True, "uffd-noncoop": True},
    },
}


def node(**changes: Any) -> dict[str, Any]:
    """FULL with some leaves changed: facts__kernel=…"""
    made = copy.deepcopy(FULL)
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = made
        for key in parents:
            part = part[key]
        part[last] = value
    return made


def test_a_node_that_can_do_everything() -> None:
    row = abilities.abilities(FULL["facts"], FULL["abilities"])
    assert tuple(row) == abilities.COLUMNS
    assert [cell.word for cell in row.values()] == ["yes", "yes", "yes", "yes", "close"]
    assert not any(cell.reason for cell in row.values())


@pytest.mark.parametrize(
    ("column", "changes", "word", "reason"),
    [
        ("checkpoint API", {"abilities__kubelet__version": None}, "no", "no kubelet runs"),
        ("checkpoint API", {"abilities__kubelet__checkpoint": False}, "no", "gate ContainerCheckpoint off: role kubelet"),
        ("checkpoint API", {"abilities__runtime__checkpoint_call": False}, "no", "CRI-O 1.36.3 has no checkpoint call"),
        ("checkpoint API", {"abilities__runtime__checkpoint": False}, "no", "switched off: role crio"),
        ("checkpoint API", {"facts__criu__path": None, "facts__criu__check": "criu is not installed"}, "no", "criu is not"),
        ("handler", {"facts__runtime__handler": False}, "no", "is not installed"),
        ("handler", {"facts__engine": None}, "no", "is not installed"),
        ("handler", {"facts__runtime__answers": False}, "no", "does not answer"),
        ("handler", {"facts__criu__check_ok": False}, "no", "criu check fails"),
        ("pre-copy", {"abilities__criu__mem_dirty_track": False}, "no", "CONFIG_MEM_SOFT_DIRTY"),
        ("pre-copy", {"abilities__criu__pagemap_scan": False}, "yes", "PAGEMAP_SCAN"),
        ("post-copy", {"abilities__criu__uffd-noncoop": False}, "no", "says no to uffd-noncoop"),
        ("post-copy", {"facts__criu__check_ok": False}, "no", "criu check fails"),
        ("TCP", {"facts__kernel": "6.18.5"}, "no", "CRIU 4.1.1 dumps no network socket on Linux 6.18.5"),
        ("TCP", {"facts__kernel": "6.18.5", "facts__criu__version": [4, 2, 1]}, "close", ""),
        ("TCP", {"facts__kernel": "6.15.9"}, "close", ""),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(column: str, changes: dict[str, Any], word: str, reason: str) -> None:
    changed = node(**changes)
    cell = abilities.abilities(changed["facts"], changed["abilities"])[column]
    assert cell.word == word
    assert reason in cell.reason and bool(reason) == bool(cell.reason)


def test_the_table_says_a_shared_reason_once() -> None:
    old = node(facts__kernel="6.18.5")
    text = node_abilities({"worker-1": FULL, "w-2": old, "w-3": old})
    assert text.splitlines() == [
        "node      checkpoint API  handler  pre-copy  post-copy  TCP",
        "worker-1  yes             yes      yes       yes        close",
        "w-2       yes             yes      yes       yes        no",
        "w-3       yes             yes      yes       yes        no",
        "w-2, w-3: TCP: CRIU 4.1.1 dumps no network socket on Linux 6.18.5: install 4.2 or later",
    ]


@pytest.mark.parametrize("wrong", [[], {"a": 1}, {"a": {"facts": {}}}])
def test_what_is_no_result_of_node_info_is_refused(wrong: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="node_info"):
        node_abilities(wrong)
