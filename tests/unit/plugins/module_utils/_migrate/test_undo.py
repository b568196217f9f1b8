# SPDX-License-Identifier: Apache-2.0
"""A successor that is restored at home, its controller or its undo broken off on the way, and the plays after it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kube import predicates
from ansible_collections.podferry.live.plugins.module_utils._migrate.migration import Migration
from ansible_collections.podferry.live.plugins.module_utils._migrate.run import Run
from ansible_collections.podferry.live.plugins.module_utils._plan.estimate import deadlines
from ansible_collections.podferry.live.plugins.module_utils._plan.options import ARRIVAL, OWNER_AWAY, Options
from ansible_collections.podferry.live.plugins.module_utils._plan.statefulset import restorable
from ansible_collections.podferry.live.plugins.module_utils._report.record import Report
from doubles import objects
from doubles.world import FakeCluster, Half, Killed, World

KINDS: dict[str, dict[str, bool]] = {"bare": {}, "statefulset": {"statefulset": True}}


def migration(world: World) -> Migration:
    return Migration(Options(world.name, "node-b", "default"), dataclasses.replace(world.tools(), tick_s=0.00001))


def move(world: World) -> Report:
    return migration(world).move()[1]


def settle(world: World) -> Report:
    """The next play, up to where it would begin anew."""
    return migration(world).prepare()[1]


def the_undo(world: World) -> Half:
    (undo,) = (half for key, half in world.nodes["node-a"].runs.items() if key.endswith(".undo"))
    return undo


def give_up(world: World) -> None:
    """What an undo's ferry does at its deadline, or when its restore fails."""
    for key, half in world.nodes["node-a"].runs.items():
        if key.endswith(".undo") and not half.resumed:
            half.record, half.state, half.alive = "aborted", "aborted", False


def broken_off(world: World, step: str) -> None:
    """The target cannot restore; the controller is lost right after its last ``step``, then the undo gives up."""
    trial = World(statefulset=world.statefulset is not None)
    trial.behaviour.restore_works = False
    move(trial)
    at = len(trial.log) - trial.log[::-1].index(step)
    world.behaviour.restore_works = False
    world.faults = {at: "killed_after"}
    with pytest.raises(Killed):
        move(world)
    world.revive()


def clean(world: World) -> None:
    assert [n.runs for n in world.nodes.values()] == [{}, {}]
    assert sorted([world.source == "running", world.target == "running"]) == [False, True]
    pod = world.pods[world.name]
    assert predicates.ready(pod)
    assert not {ARRIVAL, OWNER_AWAY} & set(predicates.annotations_of(pod))
    if world.wanted is not None:
        assert world.statefulset is not None, "the StatefulSet is gone"
        assert restorable(world.statefulset) == world.wanted
        assert world.statefulsets_made == world.statefulsets_deleted


@pytest.mark.parametrize("kind", KINDS)
def test_an_undo_that_gave_up_before_its_pod_came_is_armed_again(kind: str) -> None:
    world = World(**KINDS[kind])
    broken_off(world, "node-a undo_arm")
    give_up(world)
    assert (world.source, world.target) == ("dead", "none")
    report = settle(world)
    assert (report.outcome, report.error) == ("planned", None)
    assert world.log.count("node-a undo_arm") == 2
    clean(world)


@pytest.mark.parametrize("kind", KINDS)
def test_the_pod_of_an_undo_that_failed_is_made_again(kind: str) -> None:
    """Its kubelet need not come again in time. A StatefulSet that is back already would start one from its image."""
    world = World(**KINDS[kind])
    world.behaviour.restore_works = world.behaviour.undo_works = False
    assert move(world).outcome == "in_doubt"
    give_up(world)
    before = world.pods[world.name]["metadata"]["uid"]
    world.revive()
    report = settle(world)
    assert (report.outcome, report.error) == ("planned", None)
    assert world.pods[world.name]["metadata"]["uid"] != before
    clean(world)


@pytest.mark.parametrize("kind", KINDS)
def test_an_undo_that_fails_again_and_again_keeps_its_dump(kind: str) -> None:
    world = World(**KINDS[kind])
    world.behaviour.restore_works = world.behaviour.undo_works = False
    move(world)
    for _play in range(2):
        give_up(world)
        world.revive()
        world.behaviour.undo_works = False
        report = settle(world)
        assert report.outcome == "in_doubt"
        assert report.error is not None
        assert "could not be restored" in report.error.message
        assert world.nodes["node-a"].runs, "the dump is kept"
    give_up(world)
    world.revive()
    assert settle(world).outcome == "planned"
    clean(world)


def test_an_undo_that_still_waits_is_not_armed_twice() -> None:
    world = World()
    broken_off(world, "node-a undo_arm")
    assert settle(world).outcome == "planned"
    assert world.log.count("node-a undo_arm") == 1
    clean(world)


def test_p1_a_guard_that_is_faster_keeps_the_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ferry has ended, its guard just lets the pod go: the pod stays, and no second undo is armed."""
    world = World()
    world.behaviour.undo_works = False
    broken_off(world, "api create")
    undo = the_undo(world)
    undo.alive = False
    source = world.nodes["node-a"]
    surrender = source.op_surrender

    def guard_first(run: str) -> Any:
        if run.endswith(".undo"):
            world.run_target(undo)
            world.start_pod(undo, world.name)
        return surrender(run)

    monkeypatch.setattr(source, "op_surrender", guard_first)
    assert settle(world).outcome == "planned"
    assert world.log.count("node-a undo_arm") == 1
    assert "api delete" not in world.log[world.log.index("node-a surrender") :]
    clean(world)


def test_another_pod_of_the_name_is_not_deleted() -> None:
    world = World()
    broken_off(world, "node-a undo_arm")
    give_up(world)
    world.pods["counter"] = other = objects.pod(change={"metadata": {"uid": "uid-of-another"}})
    report = move(world)
    assert report.outcome == "in_doubt"
    assert report.error is not None
    assert "another pod" in report.error.message
    assert world.pods["counter"] is other
    assert "node-a" in report.error.remedy


def test_a_pod_that_nobody_could_make_again_is_not_deleted() -> None:
    world = World()
    world.behaviour.keeps_context = False
    world.behaviour.undo_works = False
    broken_off(world, "api create")
    give_up(world)
    report = move(world)
    assert report.outcome == "in_doubt"
    assert report.error is not None
    assert "manifest" in report.error.message
    assert "counter" in world.pods


def test_a_statefulset_that_was_changed_after_it_came_back_stays() -> None:
    world = World(statefulset=True)
    world.behaviour.restore_works = world.behaviour.undo_works = False
    assert move(world).outcome == "in_doubt"
    give_up(world)
    world.revive()
    assert world.statefulset is not None
    world.statefulset["spec"]["replicas"] = 3
    deleted = world.statefulsets_deleted
    report = move(world)
    assert report.outcome == "in_doubt"
    assert report.error is not None
    assert "has changed" in report.error.message
    assert "cascade=orphan" in report.error.remedy
    assert (world.statefulsets_deleted, "web-1" in world.pods) == (deleted, True)


def test_a_statefulset_that_comes_again_by_itself_ends_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(statefulset=True)
    world.behaviour.restore_works = world.behaviour.undo_works = False
    assert move(world).outcome == "in_doubt"
    give_up(world)
    world.revive()
    original = FakeCluster.orphan_statefulset

    def orphan(self: FakeCluster, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        world.statefulset = None
        self.create_statefulset("default", world.wanted or {})

    monkeypatch.setattr(FakeCluster, "orphan_statefulset", orphan)
    report = move(world)
    assert report.outcome == "in_doubt"
    assert report.error is not None
    assert "Suspend whoever keeps it" in report.error.remedy
    assert "web-1" in world.pods


@pytest.mark.parametrize("fault", ["killed_after", "lost_after", "error"])
@pytest.mark.parametrize("kind", KINDS)
def test_one_fault_anywhere_on_the_way_back(kind: str, fault: str) -> None:
    """The undo gave up with its pod there; whatever one call of the next play does, the one after it comes to an end."""
    at = 0
    while True:
        at += 1
        world = World(**KINDS[kind])
        world.behaviour.restore_works = world.behaviour.undo_works = False
        move(world)
        give_up(world)
        world.revive()
        last = world.calls + at
        world.faults = {last: fault}
        try:
            settle(world)
        except (Killed, PodferryError):
            pass
        if world.calls < last:
            break
        give_up(world)
        world.revive()
        report = settle(world)
        assert (report.outcome, report.error) == ("planned", None), at
        clean(world)
    assert at > 20


# -- what a run that is taken up again waits for --------------------------------------------------------------------------


def large() -> World:
    world = World()
    world.nodes["node-a"].inspection = objects.inspection({"memory_bytes": 4 << 30})
    for node in world.nodes.values():
        node.facts = objects.facts({"mem_available": 64 << 30})
    return world


@pytest.mark.parametrize("told", ["all", "none", "odd"])
def test_a_run_taken_up_again_has_the_deadlines_it_began_with(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    trial = large()
    move(trial)
    at = trial.log.index("node-a relinquish") + 1
    world = large()
    world.faults = {at: "killed_after"}
    with pytest.raises(Killed):
        move(world)
    began = world.nodes["node-a"].runs[next(iter(world.nodes["node-a"].runs))].args
    assert began["deadlines"]["restore"] > 90
    for node in world.nodes.values():
        for half in node.runs.values():
            if told == "none":  # a run of an older release
                half.args["context"].pop("deadlines", None)  # one object for both halves
            elif told == "odd":
                half.args["context"]["deadlines"] = {"freeze": "soon"}
    world.revive()
    reached = world.create_reached
    monkeypatch.setattr(world, "create_reached", lambda pod: predicates.node_of(pod) == "node-a" and reached(pod))
    waits: list[float] = []
    armed: list[Any] = []
    wait_event, undo_arm = Run.wait_event, world.nodes["node-a"].op_undo_arm

    def waited(self: Run, wanted: Any, *, timeout_s: float, **more: Any) -> Any:
        waits.append(timeout_s)
        return wait_event(self, wanted, timeout_s=timeout_s, **more)

    def arm(run: str, deadlines: Any, target_record: str) -> None:
        armed.append(deadlines)
        undo_arm(run, deadlines, target_record)

    monkeypatch.setattr(Run, "wait_event", waited)
    monkeypatch.setattr(world.nodes["node-a"], "op_undo_arm", arm)
    assert settle(world).outcome == "planned"
    expected = began["deadlines"] if told == "all" else deadlines(0).to_dict()
    assert armed == [expected]
    assert waits == [expected["claim"] + expected["restore"] + expected["settle"]] * 2
    clean(world)
