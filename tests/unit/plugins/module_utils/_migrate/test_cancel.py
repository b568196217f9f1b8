# SPDX-License-Identifier: Apache-2.0
"""Stopping a run from another controller: found by its nodes, stopped before the commit, told when it is too late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._migrate.cancel import Cancel, Cancelled
from ansible_collections.podferry.live.plugins.module_utils._migrate.migration import Migration
from ansible_collections.podferry.live.plugins.module_utils._plan.options import Options
from doubles.world import Node, World

RUN = "0123456789ab"
CONTEXT = {"source_node": "node-a", "target_node": "node-b", "by": "she@there", "since": "14:00"}


def begin(world: World, state: str = "waiting", *, halves: str = "ab", controlled: bool | None = True) -> None:
    """A run as somebody else's controller has begun it."""
    args: dict[str, Any] = {
        "run": RUN, "mode": "twin", "namespace": "default", "uid": "uid-counter", "target_pod": "counter-m0123",
        "source_pod": "counter", "source_node": "node-a", "target_node": "node-b", "need_bytes": 1, "context": CONTEXT,
        "deadlines": dict.fromkeys(("idle", "claim", "freeze", "restore", "settle", "silence"), 1.0),
    }  # fmt: skip
    if "a" in halves:
        world.nodes["node-a"].answer("ferry_start", {**args, "role": "source", "pod": "counter"})
        world.nodes["node-a"].runs[RUN].state = state
    if "b" in halves:
        world.nodes["node-b"].answer("ferry_start", {**args, "role": "target", "pod": "counter-m0123"})
        world.nodes["node-b"].answer("arm", {"run": RUN})
    for node in world.nodes.values():
        told = node.op_runs

        def op_runs(told: Callable[..., Any] = told, **more: Any) -> Any:
            answer = told(**more)
            for entry in answer["runs"]:
                entry["controlled"] = controlled and entry["alive"]
            return answer

        node.op_runs = op_runs  # type: ignore[method-assign]


def its_controller_cleans_up(world: World) -> None:
    """Finish both halves as soon as the source has been cancelled."""
    node: Node = world.nodes["node-a"]
    cancel = node.op_cancel

    def op_cancel(run: str) -> Any:
        answer = cancel(run)
        for other in world.nodes.values():
            other.op_finish(run)
        return answer

    node.op_cancel = op_cancel  # type: ignore[method-assign]


def cancel(world: World, pod: str = "counter", **change: Any) -> Cancelled:
    return Cancel("default", pod, replace(world.tools(), **change)).cancel()


def test_nothing_under_way() -> None:
    world = World()
    result = cancel(world)
    assert (result.outcome, result.message) == ("nothing", "default/counter: no migration is under way")


@pytest.mark.parametrize("state", ["prepared", "waiting", "freezing", "frozen", "data_ready"])
def test_cancelled_before_the_commit(state: str) -> None:
    world = World()
    begin(world, state)
    its_controller_cleans_up(world)
    result = cancel(world)
    assert (result.outcome, result.run, result.by, result.since) == ("cancelled", RUN, "she@there", "14:00")
    assert "by she@there since 14:00" in result.message
    assert world.source == "running"


def test_by_the_name_of_the_target_pod() -> None:
    world = World()
    begin(world)
    its_controller_cleans_up(world)
    assert cancel(world, "counter-m0123").outcome == "cancelled"


def test_in_the_first_moment_only_the_target_knows() -> None:
    world = World()
    begin(world, halves="b")
    result = cancel(world)
    assert result.outcome == "cancelled"
    assert "node-b cancel" in world.log


def test_without_its_controller_it_is_cleaned_up() -> None:
    world = World()
    begin(world, "frozen", controlled=False)
    assert cancel(world).outcome == "cancelled"
    assert [n.runs for n in world.nodes.values()] == [{}, {}]


@pytest.mark.parametrize("state", ["go_given", "committed", "relinquished", "in_doubt"])
def test_too_late(state: str) -> None:
    world = World()
    begin(world, state)
    world.nodes["node-a"].runs[RUN].alive = state == "go_given"
    world.source = "frozen"
    result = cancel(world)
    assert result.outcome == "too_late"
    assert "seen through" in result.remedy
    assert world.source == "frozen", "nothing was thawed"


def test_too_late_by_a_hair() -> None:
    """It is committed between our look and our word."""
    world = World()
    begin(world, "frozen")
    node = world.nodes["node-a"]

    def op_cancel(run: str) -> Any:
        node.runs[run].state, node.runs[run].alive = "committed", False
        return {"cancelled": False}

    node.op_cancel = op_cancel  # type: ignore[method-assign]
    assert cancel(world).outcome == "too_late"


def test_look_touches_nothing() -> None:
    world = World()
    begin(world, "frozen")
    result = Cancel("default", "counter", world.tools()).look()
    assert result.outcome == "cancelled"
    assert not [s for s in world.log if s.endswith(("cancel", "finish"))]
    world.nodes["node-a"].runs[RUN].state = "committed"
    assert Cancel("default", "counter", world.tools()).look().outcome == "too_late"


def test_a_node_that_cannot_be_asked_may_hide_one() -> None:
    world = World()
    world.nodes["node-b"].reachable = False
    with pytest.raises(PodferryError, match="node-b"):
        cancel(world)


def test_a_session_that_is_lost_is_no_cancel() -> None:
    world = World()
    begin(world, "frozen")

    def lost(run: str) -> Any:
        world.nodes["node-a"].reachable = False
        return {"cancelled": True}

    original = world.nodes["node-a"].op_cancel
    world.nodes["node-a"].op_cancel = lost  # type: ignore[method-assign]
    result = cancel(world, clock=world.clock)
    assert original
    assert result.outcome == "cancelled", "the answer had come"


def test_a_second_migration_is_told_who_is_first() -> None:
    world = World()
    begin(world)
    tools = replace(world.tools(), interrupt=threading.Event())
    _plan, report = Migration(Options("counter", "node-b", "default"), tools).move()
    (refusal,) = report.refusals
    assert refusal["code"] == "migration_under_way"
    assert f"Run {RUN} moves pod counter from node-a to node-b, started by she@there at 14:00" in refusal["reason"]
    assert "cancel" in refusal["remedy"]
