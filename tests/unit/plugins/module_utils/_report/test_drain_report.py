# SPDX-License-Identifier: Apache-2.0
"""The record of a drain: what the page says is what it holds; the table says each reason once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._plan.refusals import refuse
from ansible_collections.podferry.live.plugins.module_utils._report.drain import DrainReport, PodRecord, summary, table

ROOT = Path(__file__).resolve().parents[5]


def documented(heading: str, end: str) -> set[str]:
    page = (ROOT / "docs/drain.md").read_text().split(heading, 1)[1].split(end, 1)[0]
    return set(re.findall(r"^\| `(\w+)` \|", page, re.M))


def test_the_page_has_every_field() -> None:
    report = DrainReport("r", "n", pods=[PodRecord("d", "p", "move")]).to_dict()
    assert documented("## The report", "Each pod:") == set(report)
    assert documented("Each pod:", "## Rights") == set(report["pods"][0])


def verdict(node: str, *reasons: str, free: float = 0.5) -> dict[str, Any]:
    return {
        "node": node, "fits": not reasons, "score": free, "free": free, "image_present": True,
        "reasons": [refuse("target_taint", reason).to_dict() for reason in reasons],
    }  # fmt: skip


def test_a_reason_that_holds_for_every_pod_is_said_once() -> None:
    shut = verdict("c", "Node c is closed.")
    pods = [
        PodRecord(
            "d", "one", "move", target="b", reason="Most room.", nodes=[verdict("b"), verdict("e", free=0.25), shut]
        ),
        PodRecord("d", "two", "move", target="e", nodes=[verdict("b", "Node b is full."), verdict("e"), shut]),
    ]
    lines = table(DrainReport("r", "a", pods=pods))
    text = "\n".join(lines)
    assert lines[0] == "node a: 2 to move, 0 to evict, 0 to leave"
    assert text.count("Node c is closed.") == 1
    assert "no pod goes to c: Node c is closed." in text
    assert "not e: it would do (25% left free)" in text
    assert "not b: Node b is full." in text


def test_many_nodes_do_not_drown_the_plan() -> None:
    nodes = [verdict("b"), *(verdict(f"n{i}", f"Node n{i} is odd.") for i in range(50))]
    lines = table(DrainReport("r", "a", pods=[PodRecord("d", "p", "move", target="b", nodes=nodes)]))
    assert len(lines) < 12
    assert "nodes more" in lines[-1]


def test_summary_has_the_numbers() -> None:
    pods = [
        PodRecord("d", "one", "move", "finished", "b", "one", downtime_ms=300.0),
        PodRecord("d", "two", "move", "finished", "b", "two-m1", downtime_ms=1300.0),
        PodRecord("d", "disk", "leave", "left", refusals=[refuse("host_path", "It has a hostPath").to_dict()]),
    ]
    report = DrainReport("r", "a", "drained", pods=pods, total_ms=5000.0, cordoned=True)
    text = "\n".join(summary(report))
    assert "slowest freeze 1.30 s (d/two)" in text
    assert "2 finished, 1 left, in 5.00 s" in text
    assert "left: It has a hostPath." in text
    assert report.to_dict()["counts"] == {"finished": 2, "left": 1}


def test_without_a_move_there_is_no_slowest_freeze() -> None:
    assert DrainReport("r", "a", "drained").to_dict()["slowest_freeze"] is None
