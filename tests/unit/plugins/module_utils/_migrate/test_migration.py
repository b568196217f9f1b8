# SPDX-License-Identifier: Apache-2.0
"""The sequences of a migration against a world that notices when the workload could run twice."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kube import predicates
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError
from ansible_collections.podferry.live.plugins.module_utils._migrate.migration import Migration
from ansible_collections.podferry.live.plugins.module_utils._plan.options import ARRIVAL, MOVED_FROM, Options
from ansible_collections.podferry.live.plugins.module_utils._plan.statefulset import restorable
from ansible_collections.podferry.live.plugins.module_utils._report.record import Report
from doubles import objects
from doubles.world import FakeCluster, Half, Killed, Recorder, World


def move(world: World, reporter: Any = None, **options: Any) -> Report:
    chosen = Options(**{"pod": world.name, "target": "node-b", "namespace": "default", **options})
    return Migration(chosen, world.tools(reporter)).move()[1]


KINDS: dict[str, dict[str, bool]] = {
    "successor": {},
    "twin": {"replicaset": True},
    "statefulset": {"statefulset": True},
}


def the_pod(world: World) -> dict[str, Any]:
    (pod,) = (p for name, p in world.pods.items() if name != "web-0")
    return pod


def clean(world: World) -> None:
    """P5: nothing of a run on either node, no mark on the pod, exactly one copy that runs."""
    assert [n.runs for n in world.nodes.values()] == [{}, {}]
    pod = the_pod(world)
    assert ARRIVAL not in predicates.annotations_of(pod)
    assert not [k for k in predicates.labels_of(pod) if k.startswith("podferry.live/")]
    assert sorted([world.source == "running", world.target == "running"]) == [False, True]
    assert predicates.ready(pod)
    if world.wanted is not None:
        owner = world.statefulset
        assert owner is not None, "the StatefulSet is gone"
        assert restorable(owner) == world.wanted
        assert all(predicates.owned_by(p, owner["metadata"]["uid"]) for p in world.pods.values())
        assert sorted(world.pods) == ["web-0", "web-1"]
        assert predicates.node_of(world.pods["web-0"]) == "node-a"
        assert world.statefulsets_made == world.statefulsets_deleted


# -- good ways --------------------------------------------------------------------------------------------------------


def test_successor() -> None:
    world = World()
    recorder = Recorder()
    report = move(world, recorder)
    assert (report.outcome, report.mode, report.error) == ("finished", "successor", None)
    assert report.downtime_ms == 600.0
    assert report.until_ready_ms is not None
    clean(world)
    pod = the_pod(world)
    assert (predicates.name_of(pod), predicates.node_of(pod)) == ("counter", "node-b")
    assert predicates.labels_of(pod) == {"app": "counter"}
    assert predicates.annotations_of(pod)[MOVED_FROM] == "default/counter uid-counter node-a"
    names = [name for _node, name in recorder.phases]
    for name in ("preflight", "prepare", "arm", "freeze", "commit", "change over", "restore", "ready", "clean up"):
        assert name in names
    assert recorder.progressed
    assert world.events == ["MigrationStarted", "MigrationSwitchover", "Migrated"]


def test_order_of_a_successor() -> None:
    world = World()
    move(world)
    steps = [s for s in world.log if s.split()[-1] in ("arm", "go", "relinquish", "delete", "kill", "create", "finish")]
    assert steps == [
        "node-b arm", "node-a go", "node-a relinquish", "api delete", "node-a kill", "api create", "node-a finish", "node-b finish",
    ]  # fmt: skip


def test_twin_of_a_replicaset() -> None:
    world = World(replicaset=True)
    report = move(world)
    assert (report.outcome, report.mode, report.error) == ("finished", "twin", None)
    assert report.downtime_ms == 300.0
    assert report.bytes == {"wire": 10, "files": 20}
    clean(world)
    pod = the_pod(world)
    assert predicates.node_of(pod) == "node-b"
    assert predicates.owned_by(pod, "uid-rs-web-1")
    assert predicates.labels_of(pod) == {"app": "web", "pod-template-hash": "1"}


def test_order_of_a_twin_and_no_control_plane_in_the_freeze() -> None:
    world = World(replicaset=True)
    move(world)
    start = world.log.index("node-b arm")
    steps = [s for s in world.log[start:] if not s.startswith("api get")]
    assert steps == [
        "node-b arm", "api create", "node-a go", "api not ready", "api wait", "api patch", "api patch", "api wait", "node-a finish", "api wait",
        "api patch", "node-b finish",
    ]  # fmt: skip


def test_twin_of_a_bare_pod() -> None:
    world = World()
    report = move(world, name="new")
    assert (report.outcome, report.mode) == ("finished", "twin")
    clean(world)
    pod = the_pod(world)
    assert predicates.name_of(pod) == "counter-mabcd"
    assert pod["spec"]["hostname"] == "counter"
    assert predicates.labels_of(pod) == {"app": "counter"}


def test_a_second_run_changes_nothing() -> None:
    world = World(replicaset=True)
    move(world)
    before = [s for s in world.log if "create" in s]
    report = move(world)
    assert report.outcome == "already_there"
    assert report.target.pod == the_pod(world)["metadata"]["name"]
    assert [s for s in world.log if "create" in s] == before


def test_by_label_and_by_owner() -> None:
    assert move(World(), pod="app=counter").outcome == "finished"
    assert move(World(replicaset=True), pod="replicaset/web-1").outcome == "finished"
    assert move(World(), pod="app=other").refusals[0]["code"] == "pod_missing"


def test_preview_touches_nothing() -> None:
    world = World(replicaset=True)
    plan, report = Migration(Options(world.name, "node-b", "default"), world.tools()).preview()
    assert (plan.changed, report.outcome) == (True, "planned")
    harmless = ("get", "list", "dry run", "runs", "facts", "inspect", "image", "hello")
    assert [s for s in world.log if not any(word in s for word in harmless)] == []


def test_prepare_decides_and_touches_nothing() -> None:
    world = World()
    before = dict(the_pod(world))
    plan, report = Migration(Options("counter", "node-b", "default"), world.tools()).prepare()
    assert plan is not None
    assert (plan.decision, report.outcome) == ("move", "planned")
    assert the_pod(world) == before
    assert [n.runs for n in world.nodes.values()] == [{}, {}]
    assert world.events == []


@pytest.mark.parametrize("replicaset", [False, True], ids=["successor", "twin"])
def test_prepare_brings_an_earlier_run_to_its_end(replicaset: bool) -> None:
    """Killed at any of the controller's calls: afterwards the pod can be moved, or has moved; it is never half way."""
    outcomes = set()
    for at in range(1, MOST_CALLS):
        world = World(replicaset=replicaset)
        world.faults = {at: "killed_after"}
        try:
            move(world)
            continue  # the run has fewer calls
        except Killed:
            world.revive()
        plan, report = Migration(Options(world.name, "node-b", "default"), world.tools()).prepare()
        outcomes.add(report.outcome)
        clean(world)
        assert (predicates.node_of(the_pod(world)) == "node-a") == (report.outcome == "planned")
        assert (plan is None) == (report.outcome == "finished")
    assert outcomes == {"planned", "finished", "already_there"}


def test_what_is_left_of_a_checkpoint_goes_and_the_pod_moves() -> None:
    world = World()
    args = {"mode": "checkpoint", "namespace": "default", "pod": "counter", "uid": "uid-counter"}
    world.nodes["node-a"].runs["0123456789ab"] = Half("0123456789ab", "source", args, state="copied", alive=False)
    report = move(world)
    assert report.outcome == "finished"
    clean(world)


def test_missing_image_is_pulled() -> None:
    world = World()
    pod = world.pods["counter"]
    pod["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    pod["status"]["containerStatuses"][0]["imageID"] = "registry/x@sha256:" + "1" * 64
    world.nodes["node-b"].image = False
    assert move(world).outcome == "finished"
    assert world.nodes["node-b"].pulled
    assert the_pod(world)["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"


def test_the_image_is_asked_for_by_the_name_that_the_kubelet_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    world, asked = World(), []
    pod = world.pods["counter"]
    pod["status"]["containerStatuses"][0]["image"] = "another/name:of-the-same"

    def op_image(ref: str, **_more: Any) -> dict[str, Any]:
        asked.append(ref)
        return {"present": True}

    monkeypatch.setattr(world.nodes["node-b"], "op_image", op_image)
    move(world)
    assert asked == [pod["spec"]["containers"][0]["image"]]


def test_another_image_under_the_pods_name_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.pods["counter"]["status"]["containerStatuses"][0]["imageID"] = "registry/x@sha256:" + "1" * 64
    other = {"present": False, "other": "sha256:" + "2" * 64}
    monkeypatch.setattr(world.nodes["node-b"], "op_image", lambda **args: other)
    (refusal,) = move(world).refusals
    assert refusal["code"] == "image_missing"
    assert "stands for another image there (sha256:222222222222)" in refusal["reason"]
    clean(world)


# -- said no before anything was touched ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [({"port_open": False}, "ferry_unreachable"), ({"pull_works": False}, "image_missing")],
)
def test_refused_by_trying(change: dict[str, Any], code: str) -> None:
    world = World()
    pod = world.pods["counter"]
    pod["spec"]["containers"][0]["imagePullPolicy"] = "IfNotPresent"
    pod["status"]["containerStatuses"][0]["imageID"] = "registry/x@sha256:" + "1" * 64
    world.nodes["node-b"].image = code != "image_missing"
    for name, value in change.items():
        setattr(world.behaviour, name, value)
    report = move(world)
    assert (report.outcome, [r["code"] for r in report.refusals]) == ("refused", [code])
    clean(world)


def test_one_list_of_pods_serves_capacity_and_those_that_want_to_be_without_the_pod() -> None:
    world = World()
    selector = {"matchLabels": predicates.labels_of(world.pods["counter"])}
    alone = {"topologyKey": "zone", "labelSelector": selector, "namespaces": ["default"]}
    rules = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [alone]}}
    world.pods["db"] = objects.pod("db", "node-b", {"metadata": {"namespace": "prod"}, "spec": {"affinity": rules}})
    world.pods["db"]["metadata"]["labels"] = {}
    report = move(world)
    assert [r["code"] for r in report.refusals] == ["target_pod_affinity"]
    assert world.log.count("api list") == 2, "the namespace's pods, and all"


def with_claim(world: World) -> World:
    """Its pod has a claim, bound to a volume of zone 2."""
    world.pods["counter"]["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]
    modes = {"accessModes": ["ReadWriteMany"]}
    world.claims["x"] = {"spec": {**modes, "volumeName": "pv"}, "status": modes}
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["2"]}]}
    world.volumes["pv"] = {"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}}
    return world


def test_a_volume_that_the_target_does_not_reach_is_found_before_anything_is_deleted() -> None:
    report = move(with_claim(World()))
    assert [r["code"] for r in report.refusals] == ["volume_affinity"]


def test_a_volume_that_may_not_be_read_is_told_with_the_right_that_is_missing() -> None:
    world = with_claim(World())
    trial = with_claim(World())
    move(trial)
    world.faults = {trial.log.index("api get volume") + 1: "error"}
    (refusal,) = move(world).refusals
    assert refusal["code"] == "volume_affinity"
    assert "persistentvolumes" in refusal["remedy"]


def test_a_volume_that_the_api_does_not_know_is_no_obstacle() -> None:
    world = with_claim(World())
    world.volumes.clear()
    assert move(world).outcome == "finished"


def test_unreachable_node_is_one_of_several_reasons() -> None:
    world = World()
    world.nodes["node-b"].reachable = False
    world.pods["counter"]["spec"]["hostNetwork"] = True
    assert {r["code"] for r in move(world).refusals} == {"host_network", "node_unreachable"}


def test_another_migration_under_way() -> None:
    world = World()
    tools = world.tools()
    migration = Migration(Options("counter", "node-b", "default"), tools)
    world.behaviour.outcome = "cancel_midway"  # stops between freeze and commit, ferries alive
    world.faults = {}
    original = world.interrupt
    world.interrupt = type(original)()  # nobody interrupts
    source = world.nodes["node-a"]
    source.answer("ferry_start", ferry_args("source"))
    world.nodes["node-b"].answer("ferry_start", ferry_args("target"))
    source.answer("arm", {"run": "0123456789ab"})
    source.runs["0123456789ab"].state = "waiting"
    _plan, report = migration.move()
    assert (report.outcome, [r["code"] for r in report.refusals]) == ("refused", ["migration_under_way"])


def ferry_args(role: str) -> dict[str, Any]:
    return {
        "run": "0123456789ab", "role": role, "mode": "twin", "namespace": "default", "pod": "counter" if role == "source" else "counter-m0123",
        "uid": "uid-counter", "target_pod": "counter-m0123", "source_pod": "counter", "source_node": "node-a", "target_node": "node-b",
        "need_bytes": 1, "deadlines": dict.fromkeys(("idle", "claim", "freeze", "restore", "settle", "silence"), 1.0),
    }  # fmt: skip


# -- failures before the commit: the source runs on -------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("outcome", ["aborted", "died"])
def test_undone(kind: str, outcome: str) -> None:
    world = World(**KINDS[kind])
    world.behaviour.outcome = outcome
    report = move(world)
    assert report.outcome == "undone"
    assert report.error is not None
    assert report.error.message
    clean(world)
    assert world.source == "running"
    assert world.events[-1] == "MigrationFailed"


@pytest.mark.parametrize("kind", KINDS)
def test_cancel_in_the_freeze(kind: str) -> None:
    world = World(**KINDS[kind])
    world.behaviour.outcome = "cancel_midway"
    report = move(world)
    assert report.outcome == "cancelled"
    clean(world)
    assert world.source == "running"


@pytest.mark.parametrize("kind", KINDS)
def test_cancel_before_the_freeze(kind: str) -> None:
    world = World(**KINDS[kind])
    world.interrupt.set()
    assert move(world).outcome == "cancelled"
    clean(world)
    assert "node-a go" not in world.log


# -- around the commit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("in_doubt_armed", "undone"), ("in_doubt_going", "undone"), ("in_doubt_resumed", "finished")],
)
def test_doubt_is_settled_by_the_targets_record(state: str, outcome: str) -> None:
    world = World(replicaset=True)
    world.behaviour.outcome = state
    report = move(world)
    assert report.outcome == outcome
    clean(world)


def test_doubt_of_a_successor() -> None:
    world = World()
    world.behaviour.outcome = "in_doubt_armed"
    assert move(world).outcome == "undone"
    clean(world)


def test_in_doubt_when_the_target_cannot_be_asked() -> None:
    world = World(replicaset=True)
    world.behaviour.outcome = "in_doubt_resumed"
    tools = world.tools()
    original = world.commit_twin

    def commit(half: Any) -> None:
        original(half)
        world.nodes["node-b"].reachable = False

    world.commit_twin = commit  # type: ignore[method-assign]
    _plan, report = Migration(Options(world.name, "node-b", "default"), tools).move()
    assert report.outcome == "in_doubt"
    assert world.source == "frozen"
    assert len(report.ways_out) == 3
    world.commit_twin = original  # type: ignore[method-assign]
    world.revive()
    again = move(world)
    assert (again.outcome, again.resumed_run) == ("finished", True)
    clean(world)


@pytest.fixture
def unheard() -> Iterator[tuple[World, list[Callable[[], Any]]]]:
    """A twin commits and its controller hears nothing of it: it has lost its session. What happens meanwhile goes in the list."""
    world = World(replicaset=True)
    meanwhile: list[Callable[[], Any]] = []
    source, original = world.nodes["node-a"], world.commit_twin

    def commit(half: Half) -> None:
        emit = source.emit
        source.emit = lambda *_args, **_data: None  # type: ignore[method-assign]
        original(half)
        source.emit = emit  # type: ignore[method-assign]
        world.commit_twin = original  # type: ignore[method-assign]
        for happen in meanwhile:
            happen()
        emit(half, "ferry_ended")

    world.commit_twin = commit  # type: ignore[method-assign]
    yield world, meanwhile


Unheard = tuple[World, list[Callable[[], Any]]]


def test_p2_a_source_node_that_restarts_after_the_commit_says_nothing(unheard: Unheard) -> None:
    world, meanwhile = unheard

    def restart() -> None:
        world.nodes["node-a"].runs.clear()
        world.source = "dead"

    meanwhile.append(restart)
    assert move(world).outcome == "finished"
    clean(world)


def test_p2_another_controller_that_ends_the_run_is_not_undone(unheard: Unheard) -> None:
    world, meanwhile = unheard
    meanwhile.append(lambda: move(world))
    assert move(world).outcome == "finished"
    clean(world)


def test_p2_a_target_that_was_let_go_is_not_deleted_whatever_the_source_seemed_to_say(unheard: Unheard) -> None:
    world, meanwhile = unheard
    source = world.nodes["node-a"]
    honest = source.op_runs

    def late(**arguments: Any) -> dict[str, Any]:
        answer = honest(**arguments)
        return {"runs": [{**entry, "state": "data_ready", "alive": False} for entry in answer["runs"]]}

    meanwhile.append(lambda: setattr(source, "op_runs", late))
    report = move(world)
    assert report.outcome not in ("undone", "finished")
    assert world.target == "running"
    source.op_runs = honest  # type: ignore[method-assign]
    assert move(world).outcome == "finished"
    clean(world)


# -- after the commit -------------------------------------------------------------------------------------------------


def test_successor_restored_at_home_when_the_target_cannot() -> None:
    world = World()
    world.behaviour.restore_works = False
    report = move(world)
    assert report.outcome == "undone"
    assert report.restored_at_home, "it is another pod than before"
    assert report.error is not None
    assert report.error.message == "criu says no"
    pod = the_pod(world)
    assert predicates.node_of(pod) == "node-a"
    clean(world)


def test_neither_node_can_restore() -> None:
    world = World()
    world.behaviour.restore_works = world.behaviour.undo_works = False
    report = move(world)
    assert report.outcome == "in_doubt"
    assert world.nodes["node-a"].runs, "the dump is kept"


def test_not_ready_keeps_the_source_frozen() -> None:
    world = World(replicaset=True)
    world.behaviour.becomes_ready = False
    report = move(world)
    assert report.outcome == "in_doubt"
    assert report.error is not None
    assert report.error.type == "unfinished"
    assert (world.source, len(world.pods)) == ("frozen", 2)
    for pod in world.pods.values():
        pod["status"] = objects.running_status()
    world.revive()
    assert move(world).outcome == "finished"
    clean(world)


def test_the_next_run_waits_for_a_ready_target_although_we_have_marked_the_source() -> None:
    """Else its ReplicaSet, whose kubelet has just said again that the source is Ready, would delete the moved pod."""
    world = World(replicaset=True)
    world.behaviour.becomes_ready = False
    assert move(world).outcome == "in_doubt"
    assert not predicates.ready(world.pods[world.name])
    for name, pod in world.pods.items():
        if name != world.name:
            pod["status"] = objects.running_status(False)
    world.revive()
    assert move(world).outcome == "in_doubt"
    assert len(world.pods) == 2


# -- what others do meanwhile -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["freeze", "keep_running"])
def test_a_target_pod_that_is_deleted_in_the_freeze_stops_the_run(policy: str) -> None:
    """The kubelet lets its container come to life all the same: who watches the API must say so before the commit."""
    world = World(replicaset=True)

    def deleted_now(half: Any) -> None:
        del world.pods[half.args["target_pod"]]
        for look in world.background:
            look()

    world.commit_twin = deleted_now  # type: ignore[method-assign]
    report = move(world, source_policy=policy)
    assert report.outcome == "undone"
    assert report.error is not None
    assert report.error.type == "target_deleted"
    assert "deleted the target pod" in report.error.message
    clean(world)
    assert world.source == "running"


def test_a_target_pod_that_is_deleted_after_the_commit_stops_nothing() -> None:
    world = World(replicaset=True)
    original = world.commit_twin
    recorder = Recorder()

    def late(half: Any) -> None:
        pod = world.pods.pop(half.args["target_pod"])
        for look in world.background:
            look()
        world.pods[half.args["target_pod"]] = pod
        original(half)

    world.commit_twin = late  # type: ignore[method-assign]
    report = move(world, recorder)
    assert (report.outcome, report.error) == ("finished", None)
    clean(world)


def test_a_successor_that_is_deleted_before_its_thaw_is_brought_back() -> None:
    world = World()

    def deleted_now(pod: Any) -> None:
        if predicates.node_of(pod) != "node-b":
            return original(pod)
        del world.pods["counter"]

    original = world.create_reached
    world.create_reached = deleted_now  # type: ignore[method-assign]
    tools = dataclasses.replace(world.tools(), beside=lambda look: look())
    _plan, report = Migration(Options(world.name, "node-b", "default"), tools).move()
    assert report.outcome == "undone"
    assert report.error is not None
    assert report.error.type == "target_deleted"
    assert predicates.node_of(the_pod(world)) == "node-a"
    clean(world)


def test_services_are_kept_from_the_frozen_source_until_the_target_is_ready() -> None:
    world = World(replicaset=True)
    source = world.pods[world.name]
    seen: list[bool] = []

    def again(look: Any) -> None:
        if world.source == "frozen" and world.target == "running":
            seen.append(predicates.ready(source))

    _plan, report = Migration(
        Options(world.name, "node-b", "default"), dataclasses.replace(world.tools(), beside=again)
    ).move()
    assert (report.outcome, seen) == ("finished", [False])
    clean(world)


def test_a_source_that_was_not_ready_before_is_left_as_it_reads() -> None:
    world = World(replicaset=True)
    world.pods[world.name]["status"] = objects.running_status(False)
    move(world)
    assert "api not ready" not in world.log


def test_without_the_right_to_mark_the_source_the_move_goes_on() -> None:
    world = World(replicaset=True)
    move(world)
    at = world.log.index("api not ready") + 1
    world = World(replicaset=True)
    world.faults = {at: "error"}
    recorder = Recorder()
    report = move(world, recorder)
    assert report.outcome == "finished"
    assert any("frozen source" in text for text in recorder.warnings)
    clean(world)


def test_a_replicaset_that_does_not_let_go() -> None:
    world = World(replicaset=True)
    world.behaviour.adopts = False
    recorder = Recorder()
    assert move(world, recorder).outcome == "finished"
    assert any("did not give up" in w for w in recorder.warnings)
    clean(world)


def test_api_away_for_a_while_after_the_commit() -> None:
    world = World(replicaset=True)
    move(world)
    after = world.log.index("node-a go")
    world = World(replicaset=True)
    world.faults = dict.fromkeys(range(after + 2, after + 22), "lost_before")
    assert move(world).outcome == "finished"
    clean(world)


class Quota(FakeCluster):
    """Has room for one pod, and counts one that is deleted ``slow`` requests longer."""

    def __init__(self, world: World, slow: int) -> None:
        super().__init__(world)
        self.left = self.slow = slow

    def create_pod(self, namespace: str, manifest: Any, *, dry_run: bool = False) -> dict[str, Any]:
        words = "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
        if dry_run or self.left:
            self.left -= not dry_run
            raise KubeError(403, "Forbidden", f"pods is forbidden: {words}")
        return super().create_pod(namespace, manifest)

    def delete_pod(self, *args: Any, **more: Any) -> bool:
        self.left = self.slow
        return super().delete_pod(*args, **more)


@pytest.mark.parametrize("restore_works", [True, False])
def test_a_quota_is_given_time_to_notice_that_the_source_is_gone(restore_works: bool) -> None:
    world = World()
    world.behaviour.restore_works = restore_works
    tools = dataclasses.replace(world.tools(), cluster=Quota(world, 20))
    report = Migration(Options("counter", "node-b", "default"), tools).move()[1]
    assert report.outcome == ("finished" if restore_works else "undone")
    clean(world)


def test_a_quota_that_stays_full_is_not_waited_for_long() -> None:
    world = World()
    tools = dataclasses.replace(world.tools(), cluster=Quota(world, 10**6))
    began = world.clock.now
    report = Migration(Options("counter", "node-b", "default"), tools).move()[1]
    assert report.outcome != "finished"
    assert report.error is not None
    assert "exceeded quota" in report.error.message
    assert world.clock.now - began < 60


def test_context_lost_by_the_nodes() -> None:
    """Without the manifest a successor cannot be posted by another controller, and the report says what to do."""
    world = World()
    move(world)
    at = world.log.index("api delete") + 1
    world = World()
    world.behaviour.keeps_context = False
    world.faults = {at: "killed_after"}
    with pytest.raises(Killed):
        move(world)
    world.revive()
    report = move(world)
    assert report.outcome == "in_doubt"
    assert report.error is not None
    assert "manifest" in report.error.message
    assert "annotation" in report.error.remedy


# -- everything can fail anywhere -------------------------------------------------------------------------------------

FAULTS = ("killed", "killed_after", "lost_before", "lost_after", "error")
#: More than any run makes; a test at the end sees to that.
MOST_CALLS = 62


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", range(1, MOST_CALLS))
def test_one_fault_anywhere_then_run_again(at: int, kind: str, fault: str) -> None:
    """Whatever one call does, the world never has two copies, and running the play again brings it to a clean end.

    No controller starts a fresh pod in between, and a StatefulSet is there again, once, as its user wrote it.
    """
    world = World(**KINDS[kind])
    world.faults = {at: fault}
    outcome = ""
    try:
        outcome = move(world).outcome
    except Killed:
        outcome = "killed"
    except PodferryError:  # only before anything was touched
        assert world.source == "running"
        assert the_pod(world)
    world.check()
    if outcome in ("finished", "undone", "cancelled", "refused"):
        assert (world.source == "running") != (world.target == "running")
        if world.wanted is not None:
            assert world.statefulset is not None, f"{outcome}, and the StatefulSet is gone"
    for _attempt in range(3):
        world.revive()
        report = move(world)
        if report.outcome in ("finished", "already_there"):
            break
    assert report.outcome in ("finished", "already_there"), (report.error, report.refusals, report.ways_out)
    clean(world)
    assert predicates.node_of(the_pod(world)) == "node-b"


@pytest.mark.parametrize("kind", KINDS)
def test_the_sweep_above_covers_every_call(kind: str) -> None:
    world = World(**KINDS[kind])
    move(world)
    assert world.calls < MOST_CALLS


@pytest.mark.parametrize("seed", range(240))
def test_several_faults_in_several_runs(seed: int) -> None:
    """Faults also while an earlier run is gone on with."""
    chance = random.Random(seed)
    world = World(**list(KINDS.values())[seed % 3])
    for _attempt in range(4):
        world.faults = {world.calls + chance.randrange(1, MOST_CALLS): chance.choice(FAULTS) for _round in range(3)}
        try:
            move(world)
        except Killed:
            pass
        except PodferryError:
            pass  # failed before anything was decided
        world.check()
        world.revive()
    for _attempt in range(3):
        report = move(world)
        if report.outcome in ("finished", "already_there"):
            break
        world.revive()
    assert report.outcome in ("finished", "already_there"), (report.error, report.refusals, report.ways_out)
    clean(world)


def test_a_cancel_from_elsewhere_between_data_and_commit_is_told_as_one() -> None:
    world = World()
    node = world.nodes["node-a"]
    relinquish = node.op_relinquish

    def cancelled_just_before(run: str) -> None:
        world.abort(node.runs[run], "cancelled")
        relinquish(run)

    node.op_relinquish = cancelled_just_before  # type: ignore[method-assign]
    report = move(world)
    assert report.outcome == "cancelled"
    assert report.error is not None
    assert report.error.type == "cancelled"
    clean(world)


def test_the_source_is_told_how_fast_it_may_send_and_who_began() -> None:
    world = World()
    node = world.nodes["node-a"]
    start, told = node.op_ferry_start, dict[str, Any]()

    def op_ferry_start(**args: Any) -> Any:
        told.update(args)
        return start(**args)

    node.op_ferry_start = op_ferry_start  # type: ignore[method-assign]
    chosen = Options(world.name, "node-b", "default", bandwidth=1000)
    Migration(chosen, dataclasses.replace(world.tools(), who="me@here")).move()
    assert told["bandwidth"] == 1000
    assert told["context"]["by"] == "me@here"
    assert told["context"]["since"].startswith("20")


@pytest.mark.parametrize("replicaset", [False, True], ids=["successor", "twin"])
@pytest.mark.parametrize("outcome", ["committed", "aborted", "died", "in_doubt_resumed"])
def test_a_turn_is_taken_once_and_always_given_on(replicaset: bool, outcome: str) -> None:
    world = World(replicaset=replicaset)
    world.behaviour.outcome = outcome
    seen: list[str] = []

    class Turn:
        def begin(self, interrupted: Any) -> None:
            seen.append("begin" if "node-b ferry_start" not in world.log else "late")

        def end(self, bytes_sent: int) -> None:
            seen.append("end")

    Migration(Options(world.name, "node-b", "default"), dataclasses.replace(world.tools(), turn=Turn)).move()
    assert seen[0] == "begin"
    assert seen.count("begin") == 1
    assert seen[-1] == "end"


def test_a_turn_is_given_on_before_the_long_end_of_a_move() -> None:
    """The next pod may freeze while this one's target is waited for."""
    world = World(replicaset=True)

    class Turn:
        def begin(self, interrupted: Any) -> None:
            return

        def end(self, bytes_sent: int) -> None:
            world.log.append(f"turn ends with {bytes_sent}")

    Migration(Options(world.name, "node-b", "default"), dataclasses.replace(world.tools(), turn=Turn)).move()
    assert world.log.index("turn ends with 10") < world.log.index("api patch")
