# SPDX-License-Identifier: Apache-2.0
"""Cordoning what is not cordoned, uncordoning only that, and two drains that meet."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._drain.cordon import (
    CORDONED_BY,
    Cordon,
    DrainConflict,
    timestamp,
)
from ansible_collections.podferry.live.plugins.module_utils._drain.signs import (
    DRAIN,
    RENEW_S,
    STALE_S,
    Announcement,
    announced,
    announcement,
)
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError, KubeUnavailable
from ansible_collections.podferry.live.plugins.module_utils._migrate.errors import Cancelled, PodferryError
from doubles.drain import Nodes, tools
from doubles.world import World


class Time:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.on_sleep: Callable[[], None] = lambda: None

    def wall(self) -> float:
        return self.now

    def clock(self) -> float:
        return self.now - 1_600_000_000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.on_sleep()


@pytest.fixture
def nodes() -> Nodes:
    return Nodes(World())


def cordon(
    nodes: Nodes, time: Time, node: str = "node-a", run: str = "a", target: str = "", since: float = 0.0
) -> Cordon:
    mine = Announcement(run, f"{run}@there", timestamp(time.now + since), 0.0)
    given = replace(tools(nodes.world, nodes), wall=time.wall, clock=time.clock, sleep=time.sleep)
    return Cordon(nodes, node, target, mine, known=list(nodes.nodes), tools=given)


def marks(nodes: Nodes, node: str = "node-a") -> dict[str, Any]:
    return dict(nodes.nodes[node]["metadata"]["annotations"])


def cordoned(nodes: Nodes, node: str = "node-a") -> bool:
    return bool(nodes.nodes[node]["spec"].get("unschedulable"))


def test_ours_is_taken_back(nodes: Nodes) -> None:
    held = cordon(nodes, Time())
    held.take()
    assert cordoned(nodes)
    assert set(marks(nodes)) == {DRAIN, CORDONED_BY}
    assert held.release(uncordon=True)
    assert not cordoned(nodes)
    assert marks(nodes) == {}
    assert not held.release(uncordon=True), "once"


def test_ours_stays_until_somebody_wishes_otherwise(nodes: Nodes) -> None:
    time = Time()
    held = cordon(nodes, time)
    held.take()
    assert not held.release(uncordon=False)
    assert cordoned(nodes)
    assert set(marks(nodes)) == {CORDONED_BY}
    later = cordon(nodes, time, run="b")
    later.take()
    assert later.release(uncordon=True), "an earlier drain of ours had cordoned it"
    assert not cordoned(nodes)
    assert marks(nodes) == {}


def test_somebody_elses_cordon_is_left(nodes: Nodes) -> None:
    nodes.patch_node("node-a", annotations={}, unschedulable=True)
    held = cordon(nodes, Time())
    held.take()
    assert not held.release(uncordon=True)
    assert cordoned(nodes)
    assert marks(nodes) == {}


def by_hand(nodes: Nodes, *wishes: bool) -> None:
    """An administrator cordons (True) and uncordons the node."""
    before, nodes.manager = nodes.manager, "kubectl"
    for wish in wishes:
        nodes.patch_node("node-a", annotations={}, unschedulable=wish)
    nodes.manager = before


def test_a_cordon_by_hand_after_ours_is_left_by_the_next_drain(nodes: Nodes) -> None:
    time = Time()
    first = cordon(nodes, time)
    first.take()
    first.release(uncordon=False)
    by_hand(nodes, False, True)
    assert CORDONED_BY in marks(nodes), "kubectl does not know of it"
    second = cordon(nodes, time, run="b")
    second.take()
    assert CORDONED_BY not in marks(nodes)
    assert not second.ours
    assert not second.release(uncordon=True)
    assert (cordoned(nodes), marks(nodes)) == (True, {})


@pytest.mark.parametrize("wishes", [(False, True), (False,)])
def test_what_is_done_by_hand_meanwhile_stays(nodes: Nodes, wishes: tuple[bool, ...]) -> None:
    held = cordon(nodes, Time())
    held.take()
    by_hand(nodes, *wishes)
    assert not held.release(uncordon=True)
    assert (cordoned(nodes), marks(nodes)) == (wishes[-1], {})


def test_an_api_that_keeps_no_managers(nodes: Nodes) -> None:
    nodes.manager = ""
    time = Time()
    first = cordon(nodes, time)
    first.take()
    first.release(uncordon=False)
    second = cordon(nodes, time, run="b")
    second.take()
    assert second.release(uncordon=True)


def test_a_kubelet_that_writes_in_between(nodes: Nodes) -> None:
    read = nodes.get_node
    writes = 3

    def get_node(name: str) -> Any:
        nonlocal writes
        node = read(name)
        if writes:
            writes -= 1
            nodes.patch_node(name, annotations={})
        return node

    nodes.get_node = get_node  # type: ignore[method-assign]
    cordon(nodes, Time()).take()
    assert cordoned(nodes)


def test_the_same_node_twice(nodes: Nodes) -> None:
    time = Time()
    cordon(nodes, time).take()
    with pytest.raises(DrainConflict, match=r"by a@there since 2023-.*\(drain a\)"):
        cordon(nodes, time, run="b").check()
    with pytest.raises(DrainConflict):
        cordon(nodes, time, run="b").take()
    assert json.loads(marks(nodes)[DRAIN])["run"] == "a"


def test_a_drain_that_shows_no_sign_of_life_is_taken_over(nodes: Nodes) -> None:
    time = Time()
    first = cordon(nodes, time)
    first.take()
    time.now += STALE_S - 1
    first.renew()
    time.now += STALE_S - 1
    assert announced(nodes.nodes["node-a"], time.now)
    time.now += 2
    assert not announced(nodes.nodes["node-a"], time.now)
    second = cordon(nodes, time, run="b")
    begun = time.now
    second.check()
    assert STALE_S <= time.now - begun < STALE_S + 5, "an age proves nothing: it is watched"
    second.take()
    assert second.ours
    assert second.release(uncordon=True)


@pytest.mark.parametrize("behind", [-3600.0, 3600.0])
@pytest.mark.parametrize("node", ["node-a", "node-b"])
def test_a_drain_that_lives_by_another_clock_is_not_taken_for_dead(nodes: Nodes, node: str, behind: float) -> None:
    """Its controller's clock is an hour off: only that it goes on to say something tells."""
    time, other = Time(), Time()
    other.now += behind
    lives = cordon(nodes, other, node)
    lives.take()

    def passes() -> None:
        other.now += 1
        lives.renew()

    time.on_sleep = passes
    with pytest.raises(DrainConflict):
        cordon(nodes, time, run="b").check()
    assert announcement(nodes.nodes[node]).run == "a"  # type: ignore[union-attr]


def test_a_dead_drain_whose_clock_was_ahead_is_forgotten_like_others(nodes: Nodes) -> None:
    time, other = Time(), Time()
    other.now += 3600
    cordon(nodes, other).take()
    later = cordon(nodes, time, run="b")
    later.check()
    later.take()
    assert later.held


def test_nobody_has_to_wait_for_a_sign_of_life(nodes: Nodes) -> None:
    time = Time()
    cordon(nodes, time).take()
    time.now += 2 * STALE_S
    nodes.world.interrupt.set()
    with pytest.raises(Cancelled):
        cordon(nodes, time, run="b").check()


def test_a_drain_that_was_taken_for_dead_leaves_the_node_to_the_other(nodes: Nodes) -> None:
    """Its controller slept: what the node says now is not ours to overwrite, nor to take away."""
    time = Time()
    first = cordon(nodes, time)
    first.take()
    time.now += STALE_S
    second = cordon(nodes, time, run="b")
    second.check()
    second.take()
    first.renew()
    assert "node-a is being drained by b@there" in first.displaced
    assert not first.release(uncordon=True)
    assert announcement(nodes.nodes["node-a"]).run == "b"  # type: ignore[union-attr]
    assert cordoned(nodes)


def test_a_mark_that_a_person_removes_is_not_set_again_and_our_cordon_is_still_ours(nodes: Nodes) -> None:
    time = Time()
    held = cordon(nodes, time)
    held.take()
    nodes.patch_node("node-a", annotations={DRAIN: None})
    time.now += RENEW_S
    held.renew()
    assert "does not say any more" in held.displaced
    assert DRAIN not in marks(nodes)
    assert held.release(uncordon=True)
    assert (cordoned(nodes), marks(nodes)) == (False, {})


def test_a_sign_of_life_that_meets_another_write_is_given_soon_after(nodes: Nodes) -> None:
    time = Time()
    held = cordon(nodes, time)
    held.take()
    before = marks(nodes)[DRAIN]
    failing(nodes, "patch_node", KubeError(409, "Conflict", "modified"), times=1)
    time.now += RENEW_S
    held.renew()
    assert marks(nodes)[DRAIN] == before
    time.now += 3
    held.renew()
    assert marks(nodes)[DRAIN] != before


def test_signs_of_life_are_few(nodes: Nodes) -> None:
    time = Time()
    held = cordon(nodes, time)
    held.take()
    for _again in range(50):
        time.now += 1
        held.renew()
    assert len(nodes.patches) == 1 + 2


def test_what_others_write_there_is_no_announcement(nodes: Nodes) -> None:
    for text in ("", "x", "{}", "[]", '{"run": "a", "renewed": "then"}'):
        nodes.patch_node("node-a", annotations={DRAIN: text})
        assert announced(nodes.nodes["node-a"], 0.0) is None


def test_an_opposite_drain_that_is_at_work_is_found_before_anything_is_touched(nodes: Nodes) -> None:
    time = Time()
    cordon(nodes, time, "node-b", "b").take()
    with pytest.raises(
        DrainConflict, match=r"node-b is being drained itself, by b@there since .*\(drain b\)"
    ) as caught:
        cordon(nodes, time, since=1).check()
    assert "Wait for its end" in caught.value.remedy
    assert not cordoned(nodes)


def test_with_a_third_node_two_drains_do_not_meet(nodes: Nodes) -> None:
    nodes.nodes["node-c"] = {
        **nodes.nodes["node-b"],
        "metadata": {**nodes.nodes["node-b"]["metadata"], "name": "node-c"},
    }
    time = Time()
    cordon(nodes, time, "node-b", "b").take()
    held = cordon(nodes, time, since=1)
    held.check()
    held.take()
    with pytest.raises(DrainConflict):
        cordon(nodes, time, "node-c", "c", target="node-b", since=2).check()


def test_a_third_node_with_a_taint_is_no_way_out(nodes: Nodes) -> None:
    control = {**nodes.nodes["node-b"], "spec": {"taints": [{"key": "control-plane", "effect": "NoSchedule"}]}}
    nodes.nodes["node-c"] = {**control, "metadata": {**control["metadata"], "name": "node-c"}}
    time = Time()
    cordon(nodes, time, "node-b", "b").take()
    with pytest.raises(DrainConflict):
        cordon(nodes, time, since=1).check()


@pytest.mark.parametrize("first", ["node-a", "node-b"])
def test_two_opposite_drains_that_look_before_either_has_announced(nodes: Nodes, first: str) -> None:
    """Both cordon, both look again: exactly the earlier one goes on, and the later one leaves its node as it was."""
    time = Time()
    held = {n: cordon(nodes, time, n, n, since=0 if n == first else 1) for n in ("node-a", "node-b")}
    for one in held.values():
        one.check()
    lost: list[str] = []
    second = next(n for n in held if n != first)

    def other_comes() -> None:  # while the first one waits
        if not lost:
            try:
                held[second].take()
            except DrainConflict:
                lost.append(second)

    # The second one announces first and has not looked yet.
    mine = held[second]._mine
    nodes.patch_node(
        second,
        annotations={DRAIN: Announcement(mine.run, mine.by, mine.since, time.now).text(), CORDONED_BY: f"{mine.run} x"},
        unschedulable=True,
    )
    time.on_sleep = other_comes
    held[first].take()
    assert lost == [second]
    assert held[first].held
    assert cordoned(nodes, first)
    assert not cordoned(nodes, second)
    assert marks(nodes, second) == {}


def test_a_later_one_that_is_at_work_already_is_not_pushed_out(nodes: Nodes) -> None:
    """Clocks differ: it has announced, looked and begun before we came, whatever its time says."""
    time = Time()
    cordon(nodes, time, "node-b", "b", since=3600).take()
    with pytest.raises(DrainConflict):
        cordon(nodes, time).take()
    assert not cordoned(nodes)
    assert cordoned(nodes, "node-b")


def failing(nodes: Nodes, method: str, error: Exception, *, times: int = 10**6, done: bool = False) -> None:
    """Let the API fail; ``done``: it does what it was asked for, and its answer is lost."""
    real, left = getattr(nodes, method), [times]

    def fails(*args: Any, **more: Any) -> Any:
        if not left[0]:
            return real(*args, **more)
        left[0] -= 1
        if done:
            real(*args, **more)
        raise error

    setattr(nodes, method, fails)


@pytest.mark.parametrize("error", [KubeError(429, "TooManyRequests", "later"), KubeUnavailable("timed out")])
def test_an_api_that_fails_after_the_cordon_leaves_the_node_as_it_was(nodes: Nodes, error: Exception) -> None:
    failing(nodes, "list_nodes", error)
    held = cordon(nodes, Time())
    with pytest.raises(type(error)):
        held.take()
    assert (cordoned(nodes), marks(nodes), held.held) == (False, {}, False)


def test_a_cordon_whose_answer_is_lost_is_taken_back(nodes: Nodes) -> None:
    failing(nodes, "patch_node", KubeUnavailable("reset"), times=1, done=True)
    held = cordon(nodes, Time())
    with pytest.raises(KubeUnavailable):
        held.take()
    assert (cordoned(nodes), marks(nodes), held.held) == (False, {}, False)


def test_a_drain_that_does_not_begin_leaves_an_earlier_ones_cordon(nodes: Nodes) -> None:
    time = Time()
    first = cordon(nodes, time)
    first.take()
    first.release(uncordon=False)
    failing(nodes, "list_nodes", KubeUnavailable("timed out"))
    with pytest.raises(KubeUnavailable):
        cordon(nodes, time, run="b").take()
    assert (cordoned(nodes), set(marks(nodes))) == (True, {CORDONED_BY})


@pytest.mark.parametrize("done", [False, True])
def test_a_release_is_tried_again(nodes: Nodes, done: bool) -> None:
    held = cordon(nodes, Time())
    held.take()
    failing(nodes, "patch_node", KubeUnavailable("reset"), times=1, done=done)
    assert held.release(uncordon=True)
    assert (cordoned(nodes), marks(nodes)) == (False, {})


def test_a_release_that_fails_holds_on_and_says_what_to_do(nodes: Nodes) -> None:
    held = cordon(nodes, Time())
    held.take()
    failing(nodes, "patch_node", KubeUnavailable("reset"))
    with pytest.raises(PodferryError, match="take back the marks on node node-a"):
        held.release(uncordon=True)
    assert held.held
    assert held.ways_out(uncordon=True).endswith("kubectl uncordon node-a")
    assert "uncordon" not in held.ways_out(uncordon=False)


def test_a_node_that_somebody_else_cordoned_is_not_told_to_be_uncordoned(nodes: Nodes) -> None:
    nodes.patch_node("node-a", annotations={}, unschedulable=True)
    held = cordon(nodes, Time())
    held.take()
    assert held.ways_out(uncordon=True) == f"kubectl annotate node node-a {DRAIN}-"


def test_a_node_that_is_not_there(nodes: Nodes) -> None:
    with pytest.raises(PodferryError, match="no node node-x"):
        cordon(nodes, Time(), "node-x").check()
