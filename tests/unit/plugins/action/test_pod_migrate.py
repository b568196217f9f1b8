# SPDX-License-Identifier: Apache-2.0
"""The action plugin's own part: its arguments are the documented ones, its results the documented forms."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.podferry.live.plugins.action import pod_migrate
from ansible_collections.podferry.live.plugins.doc_fragments import _kubernetes_auth
from ansible_collections.podferry.live.plugins.module_utils._plan.plan import Plan
from ansible_collections.podferry.live.plugins.module_utils._plan.refusals import refuse
from ansible_collections.podferry.live.plugins.module_utils._report.record import Report
from ansible_collections.podferry.live.plugins.module_utils._report.summary import summary
from ansible_collections.podferry.live.plugins.modules import pod_migrate as module
from doubles import objects

ROOT = Path(__file__).resolve().parents[4]
DOCUMENTED = {
    **yaml.safe_load(module.DOCUMENTATION)["options"],
    **yaml.safe_load(_kubernetes_auth.ModuleDocFragment.DOCUMENTATION)["options"],
}


def test_arguments_are_those_that_are_documented() -> None:
    assert set(pod_migrate.ARGUMENTS) == set(DOCUMENTED)
    for name, option in pod_migrate.ARGUMENTS.items():
        for key in ("type", "default", "choices", "required", "aliases"):
            assert option.get(key) == DOCUMENTED[name].get(key), f"{name}: {key}"


def test_results_are_those_that_are_documented() -> None:
    returned = yaml.safe_load(module.RETURN)
    assert set(returned["plan"]["contains"]) == set(Plan("move").to_dict())
    assert set(returned["report"]["contains"]) <= set(Report("r", "n", "p").to_dict())


def result(report: Report, plan: Plan | None = None, check: bool = False) -> dict[str, Any]:
    return pod_migrate.outcome({}, plan, report, summary(report), check=check)


@pytest.mark.parametrize(
    ("outcome", "changed", "failed"),
    [
        ("finished", True, False),
        ("already_there", False, False),
        ("undone", False, True),
        ("cancelled", False, True),
        ("in_doubt", True, True),
    ],
)
def test_outcomes(outcome: Any, changed: bool, failed: bool) -> None:
    made = result(Report("r", "default", "counter", outcome=outcome), Plan("move"))
    assert (made["changed"], made.get("failed", False)) == (changed, failed)
    assert made["report"]["outcome"] == outcome
    assert made["msg"].startswith("default/counter: ")


@pytest.mark.parametrize("outcome", ["undone", "cancelled"])
def test_a_pod_that_was_made_again_at_home_has_changed(outcome: Any) -> None:
    made = result(Report("r", "default", "counter", outcome=outcome, restored_at_home=True), Plan("move"))
    assert (made["changed"], made["failed"]) == (True, True)


def test_a_refusal_says_all_reasons_and_remedies() -> None:
    refusals = (refuse("memory", "Too little here."), refuse("liveness", "Too slow."))
    report = Report("r", "default", "counter", outcome="refused", refusals=[r.to_dict() for r in refusals])
    made = result(report, Plan("refused", refusals=refusals), check=True)
    assert made["failed"]
    assert not made["changed"]
    for text in ("Too little here.", "Too slow.", "failureThreshold"):
        assert text in made["msg"]


def test_check_mode_predicts_and_shows_the_difference() -> None:
    plan = Plan(
        "move",
        namespace="default",
        pod="counter",
        target_pod="counter-m1234",
        source_node="a",
        target_node="b",
        mode="twin",
    )
    made = result(Report("r", "default", "counter", outcome="planned"), plan, check=True)
    assert made["changed"]
    assert made["diff"]["before"]["node"] == "a"
    assert made["diff"]["after"]["node"] == "b"


class Display:
    def __init__(self, broken: bool = False) -> None:
        self.lines: list[str] = []
        self.broken = broken

    def display(self, text: str, color: str | None = None) -> None:
        if self.broken:
            raise BrokenPipeError
        self.lines.append(text)


def test_one_line_a_phase() -> None:
    display = Display()
    screen = pod_migrate.Screen(display, clock=iter(range(10)).__next__)
    screen.phase("wait_for_target", "node-a")
    screen.progress(32 * objects.MIB, 64 * objects.MIB, 100 * objects.MIB)
    screen.warning("careful")
    assert [line.split(" s  ")[1].split() for line in display.lines] == [
        ["node-a", "wait", "for", "target"],
        ["32.0", "MiB", "of", "about", "64.0", "MiB,", "100.0", "MiB/s"],
        ["note", "careful"],
    ]


def test_a_lost_terminal_does_not_disturb() -> None:
    screen = pod_migrate.Screen(Display(broken=True))
    screen.phase("freeze")
    screen.lines(["x"])


def test_signals_become_a_wish() -> None:
    flag = threading.Event()
    before = signal.getsignal(signal.SIGTERM)
    with pod_migrate.interruptible(flag):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert flag.is_set()
    assert signal.getsignal(signal.SIGTERM) is before


def test_playbook_passes_every_flat_variable() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks/migrate.yml").read_text())
    moves = [task["podferry.live.pod_migrate"] for task in play["tasks"] if "podferry.live.pod_migrate" in task]
    assert len(moves) == 2, "a look before the hooks, and the move"
    assert moves[0] == moves[1]
    assert set(moves[0]) == {
        "pod",
        "target",
        "namespace",
        "name",
        "tcp",
        "source_policy",
        "transfer",
        "ready_timeout",
        "report",
        "stop_after",
    }
    assert set(play["module_defaults"]["group/podferry.live.podferry"]) == {"kubeconfig", "context"}
    assert play["hosts"] == "localhost"
