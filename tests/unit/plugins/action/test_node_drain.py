# SPDX-License-Identifier: Apache-2.0
"""The drain's and the cancel's action plugins: arguments and results are the documented ones, the lines are readable."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail

from ansible_collections.podferry.live.plugins.action import node_drain, pod_migration_cancel
from ansible_collections.podferry.live.plugins.doc_fragments import _kubernetes_auth
from ansible_collections.podferry.live.plugins.module_utils._migrate.cancel import Cancelled
from ansible_collections.podferry.live.plugins.module_utils._report.drain import DrainReport, PodRecord, summary
from ansible_collections.podferry.live.plugins.modules import node_drain as drain_module
from ansible_collections.podferry.live.plugins.modules import pod_migration_cancel as cancel_module
from ansible_collections.podferry.live.plugins.plugin_utils._screen import OfPod, Screen
from ansible_collections.podferry.live.plugins.plugin_utils._tools import who

ROOT = Path(__file__).resolve().parents[4]
KUBE = yaml.safe_load(_kubernetes_auth.ModuleDocFragment.DOCUMENTATION)["options"]


@pytest.mark.parametrize(
    ("action", "module"), [(node_drain, drain_module), (pod_migration_cancel, cancel_module)], ids=["drain", "cancel"]
)
def test_arguments_are_those_that_are_documented(action: Any, module: Any) -> None:
    documented = {**yaml.safe_load(module.DOCUMENTATION)["options"], **KUBE}
    assert set(action.ARGUMENTS) == set(documented)
    for name, option in action.ARGUMENTS.items():
        for key in ("type", "default", "choices", "required", "aliases"):
            assert option.get(key) == documented[name].get(key), f"{name}: {key}"


def test_results_are_those_that_are_documented() -> None:
    returned = yaml.safe_load(drain_module.RETURN)
    assert set(returned["report"]["contains"]) <= set(DrainReport("r", "n").to_dict())
    returned = yaml.safe_load(cancel_module.RETURN)
    assert set(returned["migration"]["contains"]) == set(Cancelled("nothing", "m").to_dict())


def given(**change: Any) -> dict[str, Any]:
    return {**{name: option.get("default") for name, option in node_drain.ARGUMENTS.items()}, "node": "n", **change}


def test_arguments_become_options() -> None:
    made = node_drain.options(given(bandwidth=3, deadline=60, target=" b "))
    assert (made.node, made.target, made.bandwidth, made.deadline_s, made.parallel) == ("n", "b", 3 << 20, 60.0, 2)
    assert node_drain.options(given()).deadline_s is None


@pytest.mark.parametrize(
    "change", [{"node": " "}, {"target": "n"}, {"parallel": 0}, {"per_node": -1}, {"bandwidth": 0}, {"deadline": 0}]
)
def test_arguments_that_make_no_sense(change: dict[str, Any]) -> None:
    with pytest.raises(AnsibleActionFail):
        node_drain.options(given(**change))


def result(outcome: Any, *pods: PodRecord, **more: Any) -> dict[str, Any]:
    report = DrainReport("r", "n", outcome=outcome, pods=list(pods), **more)
    return node_drain.outcome({}, report, summary(report))


MOVED = PodRecord("d", "moved", "move", "finished", "b", "moved", downtime_ms=300.0)
LEFT = PodRecord("d", "agent", "leave", "left", reason="It belongs to DaemonSet agent.")
NOWHERE = PodRecord("d", "big", "leave", "no_target", remedy="Make room.")
UNDONE = PodRecord("d", "bad", "move", "undone", error="the dump failed", remedy="Look at CRIU's log.")


@pytest.mark.parametrize(
    ("made", "changed", "failed"),
    [
        (result("drained", MOVED, LEFT), True, False),
        (result("drained", LEFT), False, False),
        (result("drained", LEFT, changed_node=True), True, False),
        (result("incomplete", MOVED, UNDONE), True, True),
        (result("incomplete", UNDONE), False, True),
        (result("incomplete", PodRecord("d", "slow", "evict", "evicting")), True, True),
        (result("incomplete", PodRecord("d", "p", "move", "undone", restored_at_home=True)), True, True),
        (result("cancelled", UNDONE), False, True),
        (result("refused", error="busy", remedy="Wait."), False, True),
        (result("failed", error="no API", remedy="Look."), False, True),
        (result("planned", PodRecord("d", "p", "move", target="b")), True, False),
        (result("planned", LEFT), False, False),
        (result("planned", NOWHERE), False, True),
    ],
)
def test_outcomes(made: dict[str, Any], changed: bool, failed: bool) -> None:
    assert (made["changed"], made.get("failed", False)) == (changed, failed)
    assert made["msg"].startswith("node n: ")


def test_a_failure_says_each_pods_fate_and_remedy() -> None:
    made = result("incomplete", MOVED, LEFT, UNDONE)
    for text in ("the dump failed", "Look at CRIU's log.", "moved to b as moved, downtime 300 ms", "DaemonSet agent"):
        assert text in made["msg"]
    assert made["remedy"] == "Look at CRIU's log."


@pytest.mark.parametrize(
    ("outcome", "changed", "failed"), [("nothing", False, False), ("cancelled", True, False), ("too_late", False, True)]
)
def test_outcomes_of_a_cancel(outcome: Any, changed: bool, failed: bool) -> None:
    made = pod_migration_cancel.outcome({}, Cancelled(outcome, "d/p: so it is", "Move it back."))
    assert (made["changed"], made.get("failed", False)) == (changed, failed)
    assert made["migration"]["outcome"] == outcome


@pytest.mark.parametrize(
    ("playbook", "module", "action"),
    [
        ("drain", "node_drain", node_drain),
        ("cancel", "pod_migration_cancel", pod_migration_cancel),
    ],
)
def test_playbooks_pass_every_flat_variable(playbook: str, module: str, action: Any) -> None:
    (play,) = yaml.safe_load((ROOT / f"playbooks/{playbook}.yml").read_text())
    (task,) = (t for t in play["tasks"] if f"podferry.live.{module}" in t)
    passed = set(task[f"podferry.live.{module}"])
    assert passed == (set(action.ARGUMENTS) - set(KUBE)) | {"kubeconfig", "context"}
    assert play["hosts"] == "localhost"


class Display:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.inside = 0
        self.torn = False

    def display(self, text: str, color: str | None = None) -> None:
        self.inside += 1
        self.torn |= self.inside > 1
        self.lines.append(text)
        self.inside -= 1


def test_one_pods_lines_among_those_of_others() -> None:
    display = Display()
    pod = OfPod(Screen(display, clock=lambda: 1.0), "d/p", every_phase=False)
    pod.phase("begin", "", "to b")
    pod.phase("preflight")
    pod.warning("The pod gets a new IP.")
    pod.phase("prepare")
    pod.warning("something odd")
    pod.progress(1, 2, 3)
    pod.phase("freeze", "a")
    pod.phase("finished")
    assert [line.split(" s  ")[1].split(None, 1)[1] for line in display.lines] == [
        "d/p begin: to b", "d/p: something odd", "d/p freeze", "d/p finished",
    ]  # fmt: skip


def test_lines_from_threads_do_not_meet() -> None:
    display = Display()
    screen = Screen(display)
    threads = [threading.Thread(target=lambda: [screen.phase("x") for _again in range(200)]) for _again in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(display.lines), display.torn) == (800, False)


def test_who_asks() -> None:
    assert who({"awx_user_name": "ann", "awx_job_id": 7}) == "ann (job 7)"
    assert who({"tower_user_name": "ann", "tower_job_id": 7}) == "ann (job 7)"
    assert "@" in who({})
