# SPDX-License-Identifier: Apache-2.0
"""The record of a migration: its documented form, its file, its words."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
import typing
from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._report import file as report_file
from ansible_collections.podferry.live.plugins.module_utils._report import record
from ansible_collections.podferry.live.plugins.module_utils._report.record import Failure, Phase, Place, Report
from ansible_collections.podferry.live.plugins.module_utils._report.summary import human_bytes, human_ms, summary

ROOT = Path(__file__).resolve().parents[5]
PAGE = (ROOT / "docs/report.md").read_text()


def report(**fields: object) -> Report:
    base = Report(
        "0123456789ab", "default", "counter", source=Place("node-a", "counter"), target=Place("node-b", "counter")
    )
    return dataclasses.replace(base, **fields)  # type: ignore[arg-type]


def test_every_field_is_documented_and_nothing_else() -> None:
    table = PAGE.split("A *place*")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == {f.name for f in dataclasses.fields(Report)}
    for kind, form in (("place", Place), ("phase", Phase), ("failure", Failure)):
        sentence = re.search(rf"A \*{kind}\* has (.+?)\.", PAGE)
        assert sentence is not None
        assert set(re.findall(r"`(\w+)`", sentence.group(1))) == {f.name for f in dataclasses.fields(form)}


def test_every_outcome_is_documented() -> None:
    outcomes = set(re.findall(r"^\| `(\w+)` \|", PAGE.split("## Outcomes")[1], re.MULTILINE))
    assert outcomes == set(typing.get_args(record.Outcome))


def test_file_is_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    report_file.write(str(path), report(outcome="finished", phases=[Phase("freeze", 1.0, 2.0, "node-a")]))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = json.loads(path.read_text())
    assert loaded["outcome"] == "finished"
    assert loaded["phases"] == [{"name": "freeze", "start_ms": 1.0, "ms": 2.0, "node": "node-a"}]
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        report_file.write(str(tmp_path / "no" / "report.json"), report())


def test_summary_of_a_success() -> None:
    lines = summary(
        report(outcome="finished", downtime_ms=312.4, until_ready_ms=1500.0, total_ms=4210.0, bytes={"wire": 68 << 20})
    )
    text = "\n".join(lines)
    assert lines[0] == "default/counter: moved from node-a to node-b as counter"
    for part in ("312 ms", "1.50 s", "4.21 s", "68.0 MiB"):
        assert part in text


@pytest.mark.parametrize("outcome", typing.get_args(record.Outcome))
def test_summary_of_everything_names_pod_and_remedy(outcome: typing.Any) -> None:
    lines = summary(
        report(
            outcome=outcome,
            error=Failure("dump", "dump_failed", "criu says no", "see the log"),
            refusals=[{"code": "memory", "reason": "Too little.", "remedy": "Free some.", "planned": False}],
            ways_out=["1. Wait."],
        )
    )
    assert lines[0].startswith("default/counter: ")
    assert "see the log" in "\n".join(lines)
    if outcome == "refused":
        assert "Free some." in "\n".join(lines)
    if outcome == "in_doubt":
        assert "1. Wait." in "\n".join(lines)


def test_numbers_for_people() -> None:
    assert [human_bytes(n) for n in (0, 1023, 1536, 5 << 30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]
    assert [human_ms(n) for n in (None, 9.6, 1234)] == ["not known", "10 ms", "1.23 s"]
