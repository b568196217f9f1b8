# SPDX-License-Identifier: Apache-2.0
"""What holds for every play that a user runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment

ROOT = Path(__file__).resolve().parents[2]
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
DELEGATED = sorted([*PLAYBOOKS, *(ROOT / "playbooks/tasks").glob("*.yml"), *(ROOT / "roles").glob("*/tasks/*.yml")])


def blocks(node: Any) -> list[dict[str, Any]]:
    """Every mapping in a document: plays, blocks, tasks and their arguments."""
    if isinstance(node, dict):
        return [node, *(found for value in node.values() for found in blocks(value))]
    return [found for value in node for found in blocks(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("path", DELEGATED, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_connection_is_handed_to_delegated_hosts(path: Path) -> None:
    """Keyword and play variable count for a delegated host without one of its own: its task would run on the controller, and report success.

    The implicit localhost is local anyway.
    """
    for block in blocks(yaml.safe_load(path.read_text())):
        assert "connection" not in block, block.get("name")
        assert "ansible_connection" not in (block.get("vars") or {}), block.get("name")


@pytest.mark.parametrize("name", ["bootstrap", "uninstall"])
def test_a_change_on_one_node_is_in_effect_when_another_fails(name: str) -> None:
    """any_errors_fatal ends the play for all, before their handlers."""
    plays = [play for play in yaml.safe_load((ROOT / f"playbooks/{name}.yml").read_text()) if _changes(play)]
    assert plays and all(play["force_handlers"] is True for play in plays)


def _changes(play: dict[str, Any]) -> bool:
    roles = [*play.get("roles", []), *(task.get("ansible.builtin.import_role") or {} for task in play.get("tasks", []))]
    return any("role" in role or role.get("tasks_from") == "uninstall" for role in roles)


@pytest.mark.parametrize(
    ("variables", "goes"),
    [
        ({}, True),
        ({"remove_runtime_class": False}, False),
        ({"ansible_limit": "worker-7"}, False),
        ({"nodes": "workers"}, False),
        ({"ansible_limit": "worker-7", "remove_runtime_class": "true"}, True),
        ({"remove_runtime_class": "false"}, False),
        ({"remove_runtime_class": "", "nodes": "nodes"}, True),
    ],
)
def test_the_runtime_class_goes_with_the_last_node_only(variables: dict[str, Any], goes: bool) -> None:
    play = yaml.safe_load((ROOT / "playbooks/uninstall.yml").read_text())[0]
    absent, unused = (task for task in play["tasks"] if "podferry.live.runtime_class" in task)
    template = Environment()
    template.filters["bool"] = lambda value: str(value).lower() == "true"
    values = dict(variables)
    for name in ("uninstall_all", "uninstall_class"):
        values[name] = template.from_string(play["vars"][name]).render(**values)
    assert template.compile_expression(absent["when"])(**values) is goes
    assert template.compile_expression(unused["when"])(**values) is not goes


def test_bootstrap_hides_no_variable_of_an_inventory() -> None:
    """Variables that a play gives to a role come before those of an inventory: the RuntimeClass went to another cluster."""
    prepare = yaml.safe_load((ROOT / "playbooks/bootstrap.yml").read_text())[0]
    assert prepare["roles"] == [{"role": "podferry.live.node"}]
    defaults = yaml.safe_load((ROOT / "roles/node/defaults/main.yml").read_text())
    for name in ("kubeconfig", "context", "runtime", "checkpoint_api"):
        template = Environment().from_string(defaults[f"node_{name}"])
        assert template.render(**{name: "given"}) == "given"
        assert template.render() == template.render(**{name: ""}) == ("False" if name == "checkpoint_api" else "")


def test_only_one_place_sees_to_checkpoints_of_the_container_runtime() -> None:
    """Two of them with different values mean two restarts in each run; one without the option on takes away what an earlier run has set."""
    tasks = ROOT / "roles/node/tasks"
    whole = {
        path.name
        for path in tasks.glob("*.yml")
        for block in blocks(yaml.safe_load(path.read_text()))
        if _configures(block)
    }
    assert whole == {"checkpoint_api.yml"}


def _configures(block: dict[str, Any]) -> bool:
    """Whether it is the whole of a container runtime's role."""
    role = block.get("ansible.builtin.include_role") or {}
    return "{{" in role.get("name", "") and role.get("tasks_from", "main") == "main"


@pytest.mark.parametrize(
    ("started", "moved", "pod"),
    [
        (True, {"report": {"outcome": "finished", "target": {"pod": "moved"}}}, "moved"),
        (True, {"failed": True}, "podferry-benchmark"),
        (False, {"report": {"outcome": "finished", "target": {"pod": "of the round before"}}}, "podferry-benchmark"),
        (False, None, "podferry-benchmark"),
    ],
)
def test_the_pod_of_a_benchmark_goes_however_far_it_came(started: bool, moved: Any, pod: str) -> None:
    tasks = yaml.safe_load((ROOT / "playbooks/tasks/benchmark_round.yml").read_text())
    (whole,) = (task for task in tasks if "block" in task)
    start, move = whole["block"]
    assert (start["register"], move["register"]) == ("benchmark_start", "benchmark_move")
    assert not any("podferry.live.benchmark_pod" in task for task in tasks), "outside the block nothing removes it"
    (remove,) = whole["always"]
    template = Environment()
    template.tests["succeeded"] = lambda result: not result.get("failed")
    values = {"benchmark_start": {"failed": not started}, **({"benchmark_move": moved} if moved else {})}
    assert template.from_string(remove["podferry.live.benchmark_pod"]["name"]).render(**values) == pod
