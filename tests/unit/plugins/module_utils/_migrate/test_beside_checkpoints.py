# SPDX-License-Identifier: Apache-2.0
"""A migration of a pod that a checkpoint is being stored of, or that one is brought to its node of."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._migrate.cancel import Cancel
from ansible_collections.podferry.live.plugins.module_utils._migrate.migration import Migration
from ansible_collections.podferry.live.plugins.module_utils._plan.options import Options
from doubles.world import World

RUN = "0123456789ab"
STORED: dict[str, Any] = {
    "run": RUN, "role": "source", "mode": "checkpoint", "state": "copied", "namespace": "default", "pod": "counter",
    "alive": True, "busy": True, "controlled": True, "context": {"by": "she@there"},
}  # fmt: skip
LOADED = {**STORED, "role": "target", "mode": "restore", "state": "loading", "context": None}


def beside(*entries: dict[str, Any]) -> World:
    """A world whose source node has these runs, too, until they are finished."""
    world = World()
    node = world.nodes["node-a"]
    told, finish = node.op_runs, node.op_finish
    there = [dict(entry) for entry in entries]

    def op_runs(**more: Any) -> Any:
        return {"runs": [*told(**more)["runs"], *there]}

    def op_finish(run: str) -> None:
        if run == RUN:
            world.log.append("earlier finish")
            there.clear()
        else:
            finish(run)

    def op_cancel(run: str) -> Any:
        there.clear()
        return {"cancelled": True}

    node.op_runs, node.op_finish, node.op_cancel = op_runs, op_finish, op_cancel  # type: ignore[assignment,method-assign]
    return world


def migration(world: World) -> Migration:
    return Migration(Options("counter", "node-b", "default"), world.tools())


@pytest.mark.parametrize("preview", [True, False])
def test_what_is_being_stored_is_waited_for_and_not_removed(preview: bool) -> None:
    world = beside(STORED)
    report = migration(world).preview()[1] if preview else migration(world).move()[1]
    assert report.outcome == "refused"
    (refusal,) = report.refusals
    assert refusal["code"] == "migration_under_way"
    assert refusal["reason"] == f"Run {RUN} is storing a checkpoint of pod counter on node-a, started by she@there."
    assert refusal["remedy"].startswith("Wait")
    assert "earlier finish" not in world.log and world.source == "running"


def test_what_nobody_stores_any_more_is_removed() -> None:
    world = beside({**STORED, "alive": False, "busy": False, "controlled": False})
    assert migration(world).move()[1].outcome == "finished"
    assert "earlier finish" in world.log


def test_a_checkpoint_that_comes_to_the_node_does_not_matter() -> None:
    world = beside(LOADED)
    assert migration(world).move()[1].outcome == "finished"
    assert "earlier finish" not in world.log


def test_one_that_came_only_half_is_removed() -> None:
    world = beside({**LOADED, "alive": False, "busy": False, "controlled": False})
    assert migration(world).move()[1].outcome == "finished"
    assert "earlier finish" in world.log


def test_storing_can_be_cancelled_from_elsewhere() -> None:
    told = Cancel("default", "counter", beside(STORED).tools()).cancel()
    assert told.outcome == "cancelled"
    assert f"(run {RUN} on node-a by she@there)" in told.message
