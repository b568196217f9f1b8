# SPDX-License-Identifier: Apache-2.0
"""The owner of a pod during its move: a StatefulSet goes and comes back, others are waited for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._kube import predicates
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError
from ansible_collections.podferry.live.plugins.module_utils._migrate.migration import Migration
from ansible_collections.podferry.live.plugins.module_utils._plan.diff import diff
from ansible_collections.podferry.live.plugins.module_utils._plan.options import OWNER_AWAY, Options
from ansible_collections.podferry.live.plugins.module_utils._plan.statefulset import restorable
from ansible_collections.podferry.live.plugins.module_utils._report.record import Report
from ansible_collections.podferry.live.plugins.module_utils._report.summary import summary
from doubles import objects
from doubles.world import FakeCluster, Killed, Recorder, World


def move(world: World, reporter: Any = None, **options: Any) -> Report:
    chosen = Options(**{"pod": world.name, "target": "node-b", "namespace": "default", **options})
    return Migration(chosen, world.tools(reporter)).move()[1]


def whole(world: World, node: str) -> None:
    """One StatefulSet, as its user wrote it, that owns both pods; the pod that moves is on ``node``."""
    assert world.statefulset is not None
    assert restorable(world.statefulset) == world.wanted
    assert not predicates.terminating(world.statefulset)
    assert {predicates.controller_of(p)["uid"] for p in world.pods.values()} == {world.statefulset["metadata"]["uid"]}  # type: ignore[index]
    assert predicates.node_of(world.pods["web-1"]) == node
    assert OWNER_AWAY not in predicates.annotations_of(world.pods["web-1"])
    assert [n.runs for n in world.nodes.values()] == [{}, {}]
    assert (world.source == "running") != (world.target == "running")


def codes(report: Report) -> list[str]:
    return [r["code"] for r in report.refusals]


# -- the way ------------------------------------------------------------------------------------------------------------


def test_a_statefulsets_pod() -> None:
    world = World(statefulset=True)
    before = world.statefulset
    assert before is not None
    report = move(world)
    assert (report.outcome, report.mode, report.owner, report.error) == (
        "finished",
        "successor",
        "StatefulSet web",
        None,
    )
    whole(world, "node-b")
    assert world.statefulset is not None
    assert world.statefulset["metadata"]["uid"] != before["metadata"]["uid"]
    assert any("gets a new UID" in w for w in report.warnings)
    labels = predicates.labels_of(world.pods["web-1"])
    assert labels == predicates.labels_of(objects.ordinal(objects.statefulset(), 1))
    assert world.pods["web-1"]["spec"]["hostname"] == "web-1"
    assert world.events == ["MigrationStarted", "MigrationSwitchover", "Migrated"]


def test_it_is_away_before_the_freeze_and_back_after_the_thaw() -> None:
    """P4: in the freeze its absence is asked for once, and nothing else."""
    world = World(statefulset=True)
    move(world)
    log = world.log
    frozen, thawed = log.index("node-a go"), log.index("api create")
    assert log.index("api orphan statefulset") < frozen
    assert [s for s in log[frozen:thawed] if s.startswith("api")] == [
        "api get source", "api get statefulset", "api delete", "api wait",
    ]  # fmt: skip
    assert thawed < log.index("api create statefulset") < log.index("node-a finish")


def test_the_diff_shows_the_new_object() -> None:
    world = World(statefulset=True)
    plan, _report = Migration(Options("web-1", "node-b", "default"), world.tools()).preview()
    assert "created again" in diff(plan)["after"]["owner_object"]
    assert world.statefulsets_deleted == 0


def test_by_the_statefulsets_name() -> None:
    world = World(statefulset=True)
    report = move(world, pod="statefulset/web")
    assert codes(report) == ["pod_ambiguous"]
    assert move(world, pod="sts/other").refusals[0]["code"] == "pod_missing"


# -- before the commit: it comes back, whatever happens -------------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["aborted", "died", "cancel_midway", "in_doubt_armed"])
def test_back_when_the_source_goes_on(outcome: str) -> None:
    world = World(statefulset=True)
    world.behaviour.outcome = outcome
    assert move(world).outcome in ("undone", "cancelled")
    whole(world, "node-a")
    assert (world.statefulsets_deleted, world.statefulsets_made) == (1, 1)


def test_back_when_the_dump_is_restored_at_home() -> None:
    world = World(statefulset=True)
    world.behaviour.restore_works = False
    assert move(world).outcome == "undone"
    whole(world, "node-a")


def test_back_when_neither_node_can_restore() -> None:
    """The pod of the name is there and stays, so nobody starts another."""
    world = World(statefulset=True)
    world.behaviour.restore_works = world.behaviour.undo_works = False
    assert move(world).outcome == "in_doubt"
    assert world.statefulset is not None
    assert world.nodes["node-a"].runs, "the dump is kept"


def test_the_users_change_is_not_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between plan and deletion somebody scales it: nothing is deleted, nothing is taken back to what it was."""
    world = World(statefulset=True)
    original = world.nodes["node-b"].op_arm

    def arm(run: str) -> None:
        original(run)
        assert world.statefulset is not None
        world.statefulset["spec"]["replicas"] = 3
        world.statefulset["metadata"].update(generation=2, resourceVersion="9")

    monkeypatch.setattr(world.nodes["node-b"], "op_arm", arm)
    report = move(world)
    assert report.outcome == "undone"
    assert report.error is not None
    assert "has changed" in report.error.message
    assert world.statefulsets_deleted == 0
    assert world.statefulset is not None
    assert world.statefulset["spec"]["replicas"] == 3


@pytest.mark.parametrize("refused", ["changed", "forbidden"])
def test_p5_a_run_that_did_not_take_it_leaves_no_mark(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    """Else a later play would bring back, in its old form, what its user has deleted since."""
    world = World(statefulset=True)
    original = world.nodes["node-b"].op_arm

    def arm(run: str) -> None:
        original(run)
        assert world.statefulset is not None
        world.statefulset["spec"]["replicas"] = 3

    def forbidden(*_args: Any, **_kwargs: Any) -> None:
        raise KubeError(403, "Forbidden", "no right to delete it")

    with monkeypatch.context() as patch:
        if refused == "changed":
            patch.setattr(world.nodes["node-b"], "op_arm", arm)
        else:
            patch.setattr(FakeCluster, "orphan_statefulset", forbidden)
        assert move(world).outcome == "undone"
    assert OWNER_AWAY not in predicates.annotations_of(world.pods["web-1"])
    for pod in world.pods.values():  # as after kubectl delete statefulset --cascade=orphan
        pod["metadata"].pop("ownerReferences", None)
    world.statefulset = None
    assert codes(move(world)) == ["statefulset_away"]
    assert world.statefulsets_made == 0


def test_the_mark_of_another_run_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(statefulset=True)
    other = json.dumps({"run": "ffffffffffff", "statefulset": world.wanted})

    def forbidden(*_args: Any, **_kwargs: Any) -> None:
        world.pods["web-1"]["metadata"]["annotations"][OWNER_AWAY] = other
        raise KubeError(403, "Forbidden", "no right to delete it")

    monkeypatch.setattr(FakeCluster, "orphan_statefulset", forbidden)
    assert move(world).outcome == "undone"
    assert predicates.annotations_of(world.pods["web-1"])[OWNER_AWAY] == other


def test_a_status_that_moves_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(statefulset=True)
    original, tries = FakeCluster.orphan_statefulset, []

    def orphan(self: FakeCluster, *args: Any, **kwargs: Any) -> None:
        tries.append(kwargs["resource_version"])
        if len(tries) < 3:
            assert world.statefulset is not None
            world.statefulset["metadata"]["resourceVersion"] = f"9{len(tries)}"
        original(self, *args, **kwargs)

    monkeypatch.setattr(FakeCluster, "orphan_statefulset", orphan)
    assert move(world).outcome == "finished"
    assert tries == ["3254", "91", "92"]
    whole(world, "node-b")


def test_somebody_makes_it_again_in_the_freeze(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argo CD and the like: seen before the source is given up, so the pod goes on where it was."""
    world = World(statefulset=True)
    original = world.going

    def going(half: Any) -> None:
        FakeCluster(world).create_statefulset("default", world.wanted or {})
        original(half)

    monkeypatch.setattr(world, "going", going)
    report = move(world)
    assert report.outcome == "undone"
    assert report.error is not None
    assert "Suspend whoever keeps it" in report.error.remedy
    whole(world, "node-a")
    assert world.statefulsets_made == 1


def test_a_budget_that_has_no_room_any_more() -> None:
    world = World(statefulset=True)
    original = world.nodes["node-b"].op_arm

    def arm(run: str) -> None:
        original(run)
        world.budgets = [objects.budget(allowed=0, change={"spec": {"selector": {"matchLabels": {"app": "web"}}}})]

    world.nodes["node-b"].op_arm = arm  # type: ignore[method-assign]
    report = move(world)
    assert report.outcome == "undone"
    assert report.error is not None
    assert "PodDisruptionBudget" in report.error.message
    assert world.statefulsets_deleted == 0


def test_it_cannot_be_put_back_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said at the top, with both reasons; the journals stay, and the next run puts it back."""
    world = World(statefulset=True)
    world.behaviour.outcome = "aborted"

    def forbidden(*_args: Any, **kwargs: Any) -> None:
        if not kwargs.get("dry_run"):
            raise KubeError(403, "Forbidden", "quota exceeded")

    with monkeypatch.context() as patch:
        patch.setattr(FakeCluster, "create_statefulset", forbidden)
        report = move(world)
    assert report.outcome == "in_doubt"
    assert report.error is not None
    assert report.error.type == "owner_away"
    assert "quota exceeded" in report.error.message
    assert "dump_failed" in report.error.message
    assert "StatefulSet web is NOT THERE" in summary(report)[0]
    assert (world.source, world.statefulset) == ("running", None)
    world.revive()
    assert move(world).outcome == "finished"
    whole(world, "node-b")


# -- another run --------------------------------------------------------------------------------------------------------


def killed_after_taking_it_away() -> World:
    world = World(statefulset=True)
    move(world)
    at = world.log.index("api orphan statefulset") + 1
    world = World(statefulset=True)
    world.faults = {at: "killed_after"}
    with pytest.raises(Killed):
        move(world)
    world.revive()
    return world


@pytest.mark.parametrize("pod", ["web-0", "statefulset/web"])
def test_a_run_for_another_of_its_pods_brings_it_back(pod: str) -> None:
    """web-1's run was broken off: web-0 has no owner and is not taken for a bare pod."""
    world = killed_after_taking_it_away()
    assert "ownerReferences" not in world.pods["web-0"]["metadata"]
    Migration(Options(pod, "node-b", "default"), world.tools()).move()
    assert world.statefulset is not None
    assert restorable(world.statefulset) == world.wanted
    assert world.statefulsets_made >= 1
    assert not predicates.terminating(world.statefulset)


@pytest.mark.parametrize("restarted", ["node-a", "node-b"])
def test_one_node_has_forgotten_the_run(restarted: str) -> None:
    """The other's journal has the definition."""
    world = killed_after_taking_it_away()
    world.nodes[restarted].runs.clear()
    for pod in world.pods.values():
        pod["metadata"].get("annotations", {}).pop(OWNER_AWAY, None)  # the mark alone would do, too
    world.pods["web-1"]["metadata"]["uid"] = "another"  # restarted with its node: a pod that cannot tell
    assert move(world).outcome == "finished"
    whole(world, "node-b")
    assert world.statefulsets_made == 2


def test_the_source_node_has_forgotten_the_run_after_the_switchover() -> None:
    world = World(statefulset=True)
    move(world)
    at = world.log.index("api create") + 1
    world = World(statefulset=True)
    world.faults = {at: "killed_after"}
    with pytest.raises(Killed):
        move(world)
    world.revive()
    world.nodes["node-a"].runs.clear()
    world.source = "dead"
    assert move(world).outcome in ("finished", "already_there")
    whole(world, "node-b")


@pytest.mark.parametrize("pod", ["web-1", "web-0", "sts/web"])
def test_both_nodes_have_forgotten_the_run(pod: str) -> None:
    """They were restarted: the mark on the pod is enough."""
    world = killed_after_taking_it_away()
    for node in world.nodes.values():
        node.runs.clear()
    Migration(Options(pod, "node-b", "default"), world.tools()).move()
    assert world.statefulset is not None
    assert restorable(world.statefulset) == world.wanted
    assert world.statefulsets_made >= 1
    assert not [p for p in world.pods.values() if OWNER_AWAY in predicates.annotations_of(p)]


@pytest.mark.parametrize("forged", ["image", "selector", "args", "more", "less"])
def test_a_forged_mark_makes_nothing(forged: str) -> None:
    """Who may annotate a pod must not be able to have other pods made."""
    world = killed_after_taking_it_away()
    for node in world.nodes.values():
        node.runs.clear()
    annotations = world.pods["web-1"]["metadata"]["annotations"]
    told = json.loads(annotations[OWNER_AWAY])
    spec = told["statefulset"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    if forged == "image":
        container["image"] = "evil"
    elif forged == "selector":
        spec["selector"] = {"matchLabels": {"app": "other"}}
    elif forged == "args":
        container["args"] = []
    elif forged == "less":
        container.pop("args")
    else:
        spec["template"]["spec"]["containers"].append({"name": "d", "image": "evil"})
    annotations[OWNER_AWAY] = json.dumps(told)
    assert codes(move(world)) == ["statefulset_away"]
    assert world.statefulsets_made == 0


def test_a_mark_is_not_acted_on_while_a_node_cannot_be_asked() -> None:
    world = killed_after_taking_it_away()
    world.nodes["node-a"].runs.clear()
    world.nodes["node-b"].reachable = False
    assert "statefulset_away" in codes(move(world))
    assert world.statefulsets_made == 0


def test_an_orphan_without_a_mark_is_refused() -> None:
    """Its user has deleted the StatefulSet with --cascade=orphan: nothing is made up."""
    world = World(statefulset=True)
    FakeCluster(world).orphan_statefulset("default", "web", uid="uid-sts-web", resource_version="3254")
    world.statefulset = None
    assert codes(move(world)) == ["statefulset_away"]


@pytest.mark.parametrize("again", [False, True])
def test_the_statefulset_keeps_two_runs_apart(monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    """The second finds another object than it has planned with, and does not bring back what it has not taken."""
    world = World(statefulset=True)
    original = world.nodes["node-b"].op_arm

    def arm(run: str) -> None:
        original(run)
        world.statefulset = None  # the other run has it now

    monkeypatch.setattr(world.nodes["node-b"], "op_arm", arm)
    if again:  # its controller is killed on the spot, and another one cleans up
        move(world)
        at = world.log.index("node-b arm") + 1
        world = World(statefulset=True)
        original = world.nodes["node-b"].op_arm
        monkeypatch.setattr(world.nodes["node-b"], "op_arm", arm)
        world.faults = {at: "killed_after"}
        with pytest.raises(Killed):
            move(world)
        world.revive()
    report = move(world)
    assert "node-a go" not in world.log
    assert report.outcome == ("refused" if again else "undone")
    assert (world.statefulset, world.statefulsets_made) == (None, 0)
    assert world.source == "running"


# -- owners that come to rest -------------------------------------------------------------------------------------------


def test_a_rollout_is_waited_for() -> None:
    world = World(replicaset=True)
    assert world.replicaset is not None
    world.replicaset["status"]["replicas"] = 2
    recorder = Recorder()
    original, looks = FakeCluster.get_replicaset, []

    class Settling(FakeCluster):
        def get_replicaset(self, namespace: str, name: str) -> Any:
            looks.append(name)
            if len(looks) == 3:
                assert world.replicaset is not None
                world.replicaset["status"]["replicas"] = 1
            return original(self, namespace, name)

    tools = world.tools(recorder)
    object.__setattr__(tools, "cluster", Settling(world))
    _plan, report = Migration(Options(world.name, "node-b", "default"), tools).move()
    assert report.outcome == "finished"
    assert len(looks) == 3
    assert ("", "wait for the owner") in recorder.phases


def test_a_rollout_that_does_not_end_is_refused_in_bounded_time() -> None:
    world = World(replicaset=True)
    assert world.replicaset is not None
    world.replicaset["status"]["replicas"] = 2
    begun = world.clock.now
    report = move(world)
    assert codes(report) == ["owner_not_stable"]
    assert 15 <= world.clock.now - begun < 40


def test_a_preview_does_not_wait() -> None:
    world = World(replicaset=True)
    assert world.replicaset is not None
    world.replicaset["status"]["replicas"] = 2
    begun = world.clock.now
    Migration(Options(world.name, "node-b", "default"), world.tools()).preview()
    assert world.clock.now - begun < 10


def test_scaling_under_way() -> None:
    world = World(replicaset=True)
    world.autoscalers = [objects.autoscaler("ReplicaSet", "web-1", 1, 2)]
    assert codes(move(world)) == ["owner_not_stable"]


# -- what a twin gets when it is Ready ------------------------------------------------------------------------------------


def test_finalizers_and_early_labels_of_a_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(replicaset=True)
    source = world.pods[world.name]
    source["metadata"]["finalizers"] = ["x/y"]
    source["spec"]["readinessGates"] = [{"conditionType": "lb/ready"}]
    patches: list[Any] = []
    original = FakeCluster.patch_pod

    def patch(self: FakeCluster, namespace: str, name: str, **change: Any) -> Any:
        patches.append((name == world.name, change.get("labels"), change.get("finalizers")))
        return original(self, namespace, name, **change)

    monkeypatch.setattr(FakeCluster, "patch_pod", patch)
    report = move(world)
    assert report.outcome == "finished"
    assert patches[0] == (False, {"app": "web"}, None), "before it is Ready: not yet what its ReplicaSet selects"
    assert (False, {"app": "web", "pod-template-hash": "1"}, ("x/y",)) in patches
    (moved,) = world.pods.values()
    assert moved["metadata"]["finalizers"] == ["x/y"]
    assert any("lb/ready" in w for w in report.warnings)
