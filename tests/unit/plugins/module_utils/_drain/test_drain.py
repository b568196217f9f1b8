# SPDX-License-Identifier: Apache-2.0
"""A drain from its first look to its report: decisions with reasons, limits, tries, stops, and what is done to the node."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._drain import drain as module
from ansible_collections.podferry.live.plugins.module_utils._drain import survey as survey_module
from ansible_collections.podferry.live.plugins.module_utils._drain.cordon import CORDONED_BY, Cordon
from ansible_collections.podferry.live.plugins.module_utils._drain.drain import Drain
from ansible_collections.podferry.live.plugins.module_utils._drain.item import Item
from ansible_collections.podferry.live.plugins.module_utils._drain.latecomers import starting
from ansible_collections.podferry.live.plugins.module_utils._drain.options import DrainOptions
from ansible_collections.podferry.live.plugins.module_utils._drain.signs import DRAIN, announcement
from ansible_collections.podferry.live.plugins.module_utils._drain.survey import Survey
from ansible_collections.podferry.live.plugins.module_utils._kube import predicates
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError, KubeUnavailable
from ansible_collections.podferry.live.plugins.module_utils._plan.options import Options
from ansible_collections.podferry.live.plugins.module_utils._plan.refusals import refuse
from ansible_collections.podferry.live.plugins.module_utils._report.drain import DrainReport, PodRecord, summary, table
from ansible_collections.podferry.live.plugins.module_utils._report.record import Failure, Outcome, Place, Report
from doubles import objects
from doubles.drain import Nodes, tools
from doubles.world import World

HOST_PATH = {"spec": {"volumes": [{"name": "h", "hostPath": {"path": "/data"}}]}}


def owner(kind: str) -> dict[str, Any]:
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": "it", "uid": "u", "controller": True}
    return {"metadata": {"ownerReferences": [reference]}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.001)


@pytest.fixture
def world() -> World:
    """``counter`` can move; ``agent`` is a DaemonSet's, ``disk`` holds on to the node, ``done`` has ended."""
    made = World()
    for pod in (
        objects.pod("agent", change=owner("DaemonSet")),
        objects.pod("disk", change=objects.merged(HOST_PATH, owner("Job"))),
        objects.pod("done", change={"status": {"phase": "Succeeded"}}),
    ):
        made.pods[pod["metadata"]["name"]] = pod
    return made


def drain(world: World, nodes: Nodes | None = None, **options: Any) -> DrainReport:
    cluster = nodes or Nodes(world)
    return Drain(DrainOptions(**{"node": "node-a", **options}), tools(world, cluster), cluster, tick_s=0.01).run()


def fates(report: DrainReport) -> dict[str, tuple[str, str, str]]:
    return {p.pod: (p.decision, p.outcome, p.target) for p in report.pods}


# -- decisions --------------------------------------------------------------------------------------------------------


def test_preview_decides_and_touches_nothing(world: World) -> None:
    nodes = Nodes(world)
    report = Drain(DrainOptions("node-a"), tools(world, nodes), nodes).preview()
    assert report.outcome == "planned"
    assert report.changed_node
    assert fates(report) == {
        "counter": ("move", "planned", "node-b"),
        "agent": ("leave", "left", ""),
        "disk": ("leave", "left", ""),
        "done": ("leave", "left", ""),
    }
    by_name = {p.pod: p for p in report.pods}
    assert "DaemonSet it" in by_name["agent"].reason
    assert {"owner", "host_path"} <= {r["code"] for r in by_name["disk"].refusals}
    assert nodes.patches == []
    harmless = ("get", "list", "dry run", "runs", "facts", "inspect", "image", "hello")
    assert [s for s in world.log if not any(word in s for word in harmless)] == []
    lines = table(report)
    assert lines[0] == "node node-a: 1 to move, 0 to evict, 3 to leave"
    assert any("default/counter" in line and "node-b" in line and "image there" in line for line in lines)
    assert any("host_path" in line and "/data" in line for line in lines)


def test_nodes_are_asked_once_whatever_the_number_of_pods(world: World) -> None:
    for number in range(5):
        pod = objects.pod(f"more-{number}")
        world.pods[pod["metadata"]["name"]] = pod
    nodes = Nodes(world)
    Drain(DrainOptions("node-a"), tools(world, nodes), nodes).preview()
    assert world.log.count("node-a facts") == world.log.count("node-b facts") == 1
    assert world.log.count("node-a inspect") == 7, "once a pod that might move"


def test_all_pods_are_listed_once_whatever_their_number_on_the_node(world: World) -> None:
    for number in range(5):
        world.pods[f"more-{number}"] = objects.pod(f"more-{number}")
    nodes = Nodes(world)
    listed, everywhere = nodes.list_pods, []

    def list_pods(namespace: str | None, **more: Any) -> Any:
        if not more.get("field_selector"):
            everywhere.append(namespace)
        return listed(namespace, **more)

    nodes.list_pods = list_pods  # type: ignore[method-assign]
    report = Drain(DrainOptions("node-a"), tools(world, nodes), nodes).preview()
    assert [p.decision for p in report.pods].count("move") == 6
    assert everywhere == [None]


def test_the_drain_moves_what_can_move(world: World) -> None:
    nodes = Nodes(world)
    report = drain(world, nodes)
    assert report.outcome == "drained"
    assert fates(report)["counter"] == ("move", "finished", "node-b")
    assert predicates.node_of(world.pods["counter"]) == "node-b"
    assert {p.pod for p in report.pods if p.outcome == "left"} == {"agent", "disk", "done"}
    slowest = report.to_dict()["slowest_freeze"]
    assert slowest == {"namespace": "default", "pod": "counter", "downtime_ms": 600.0}
    assert (report.cordoned, report.uncordoned, report.changed_node) == (True, False, True)
    node = nodes.nodes["node-a"]
    assert node["spec"]["unschedulable"]
    assert set(node["metadata"]["annotations"]) == {CORDONED_BY}
    text = "\n".join(summary(report))
    assert "slowest freeze 600 ms (default/counter)" in text
    assert "left: Volume h is the path /data" in text or "host_path" not in text
    assert "drained but for one pod that stayed" in text, "what ends or belongs to the node does not count"


def test_a_second_drain_changes_nothing(world: World) -> None:
    nodes = Nodes(world)
    drain(world, nodes)
    before = len([s for s in world.log if "create" in s])
    report = drain(world, nodes)
    assert (report.outcome, report.changed_node) == ("drained", False)
    assert {p.outcome for p in report.pods} == {"left"}
    assert len([s for s in world.log if "create" in s]) == before


def test_a_pod_that_stays_in_its_zone_is_moved_and_not_evicted(world: World) -> None:
    """It is apart from another by zone: within its own zone a move changes nothing."""
    term = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}
    apart = {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}
    world.pods["counter"]["spec"].update(apart)
    world.pods["db"] = objects.pod("db", "node-b", {"metadata": {"labels": {"app": "db"}}})
    nodes = Nodes(world)
    for node in nodes.nodes.values():
        node["metadata"]["labels"]["zone"] = "1"
    assert fates(drain(world, nodes, rest="evict"))["counter"] == ("move", "finished", "node-b")


def test_only_what_was_selected(world: World) -> None:
    assert set(fates(drain(world, selector="app=other"))) == set()
    assert "counter" in fates(drain(world, selector="app=counter"))


def test_nowhere_to_go_is_a_failure_that_names_the_nodes(world: World) -> None:
    nodes = Nodes(world)
    nodes.patch_node("node-b", annotations={}, unschedulable=True)
    report = drain(world, nodes)
    assert (report.outcome, fates(report)["counter"]) == ("incomplete", ("leave", "no_target", ""))
    assert "Node node-b is marked unschedulable" in "\n".join(summary(report))
    assert report.uncordoned, "it failed, and we had cordoned"


@pytest.mark.parametrize(("wish", "works", "lifted"), [
    ("on_failure", True, False), ("on_failure", False, True), ("always", True, True), ("always", False, True),
    ("never", True, False), ("never", False, False),
])  # fmt: skip
@pytest.mark.parametrize("cordoned_before", [False, True])
def test_uncordon(world: World, wish: Any, works: bool, lifted: bool, cordoned_before: bool) -> None:
    nodes = Nodes(world)
    if cordoned_before:
        nodes.patch_node("node-a", annotations={}, unschedulable=True)
    world.behaviour.outcome = "committed" if works else "aborted"
    report = drain(world, nodes, uncordon=wish)
    assert report.outcome == ("drained" if works else "incomplete")
    assert report.uncordoned == (lifted and not cordoned_before)
    assert bool(nodes.nodes["node-a"]["spec"].get("unschedulable")) != report.uncordoned
    assert DRAIN not in nodes.nodes["node-a"]["metadata"]["annotations"]


def test_a_move_that_fails_is_tried_once_more_and_leaves_the_pod(world: World) -> None:
    world.behaviour.outcome = "aborted"
    report = drain(world)
    (record,) = (p for p in report.pods if p.pod == "counter")
    assert (record.outcome, record.attempts) == ("undone", 2)
    assert record.error
    assert world.source == "running"
    assert "undone" in "\n".join(summary(report))


def test_a_drain_of_a_node_that_is_drained_already_is_refused(world: World) -> None:
    nodes = Nodes(world)
    told = '{"run": "x", "by": "she@there", "since": "2026-11-25T14:00:00", "renewed": 1700000000.0}'
    nodes.patch_node("node-a", annotations={DRAIN: told}, unschedulable=True)
    report = drain(world, nodes)
    assert report.outcome == "refused"
    assert "she@there since 2026-11-25T14:00:00" in report.error
    assert [s for s in world.log if "delete" in s] == []


def test_the_api_goes_away_after_the_cordon(world: World) -> None:
    """The report says so, and the node is given back if that can be done."""
    nodes = Nodes(world)
    listed = nodes.list_pods

    def list_pods(*args: Any, **more: Any) -> Any:
        raise KubeUnavailable("connection refused")

    nodes.list_pods = list_pods  # type: ignore[method-assign]
    report = drain(world, nodes)
    assert (report.outcome, report.uncordoned) == ("failed", True)
    assert "connection refused" in report.error
    assert listed


@pytest.mark.parametrize("cordoned_before", [False, True])
@pytest.mark.parametrize("wish", ["on_failure", "never"])
def test_marks_that_cannot_be_taken_back_are_told_as_they_are(world: World, cordoned_before: bool, wish: Any) -> None:
    nodes = Nodes(world)
    if cordoned_before:
        nodes.patch_node("node-a", annotations={}, unschedulable=True)
    patched = nodes.patch_node

    def patch_node(name: str, **more: Any) -> Any:
        if more["annotations"].get(DRAIN) is None:
            raise KubeUnavailable("connection refused")
        return patched(name, **more)

    nodes.patch_node = patch_node  # type: ignore[method-assign]
    world.behaviour.outcome = "aborted"
    report = drain(world, nodes, uncordon=wish)
    assert (report.cordoned, report.uncordoned, report.changed_node) == (True, False, not cordoned_before)
    (warning,) = (w for w in report.warnings if "could not be taken back" in w)
    assert ("kubectl uncordon" in warning) == (not cordoned_before and wish == "on_failure")


def test_an_api_that_fails_right_after_the_cordon_leaves_the_node_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes(world)

    def list_nodes() -> Any:
        raise KubeUnavailable("timed out")

    nodes.list_nodes = list_nodes  # type: ignore[method-assign]
    monkeypatch.setattr(Cordon, "check", lambda _self: None)
    with pytest.raises(PodferryError, match="timed out"):
        drain(world, nodes, uncordon="never")
    assert nodes.patches, "it had been cordoned"
    assert not nodes.nodes["node-a"]["spec"].get("unschedulable")
    assert nodes.nodes["node-a"]["metadata"]["annotations"] == {}


def inspecting(world: World, act: Callable[[int], None]) -> None:
    """Act each time when a pod is inspected."""
    node, seen = world.nodes["node-a"], [0]
    answer = node.answer

    def answers(op: str, args: Any) -> Any:
        if op == "inspect":
            seen[0] += 1
            act(seen[0])
        return answer(op, args)

    node.answer = answers  # type: ignore[method-assign]


def test_a_drain_shows_signs_of_life_while_it_looks_at_pods(world: World) -> None:
    nodes = Nodes(world)
    renewed: list[int] = []
    inspecting(world, lambda _number: world.clock.sleep(30.0))
    patched = nodes.patch_node

    def patch_node(name: str, **more: Any) -> Any:
        renewed.append(len([s for s in world.log if s.endswith(" inspect")]))
        return patched(name, **more)

    nodes.patch_node = patch_node  # type: ignore[method-assign]
    drain(world, nodes)
    assert 1 in renewed, "between the first pod and the second"


def test_a_drain_shows_signs_of_life_while_nodes_do_not_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, given = Nodes(world), tools(world, Nodes(world))
    monkeypatch.setattr(survey_module, "_LOOK_S", 0.001)
    survey, enough, looks = Survey(DrainOptions("node-a"), given, nodes), threading.Event(), [0]
    monkeypatch.setattr(survey, "_facts_of", lambda _name: enough.wait(10))

    def between() -> None:
        looks[0] += 1
        if looks[0] == 3:
            enough.set()

    survey.look(between)
    assert looks[0] >= 3


@pytest.mark.parametrize("why", ["user", "deadline"])
def test_a_drain_is_stopped_while_it_looks_at_pods(world: World, why: str) -> None:
    nodes = Nodes(world)

    def act(_number: int) -> None:
        if why == "user":
            world.interrupt.set()
        else:
            world.clock.sleep(100.0)

    inspecting(world, act)
    report = drain(world, nodes, deadline_s=90.0)
    assert report.outcome == ("cancelled" if why == "user" else "incomplete")
    assert "before every pod had been looked at" in report.error
    assert world.log.count("node-a inspect") == 1
    assert predicates.node_of(world.pods["counter"]) == "node-a"
    assert report.uncordoned


def test_a_drain_that_has_lost_its_node_begins_nothing_more(world: World) -> None:
    nodes = Nodes(world)
    told = '{"run": "x", "by": "she@there", "since": "2026-11-25T14:00:00", "renewed": 1700000000.0}'

    def act(_number: int) -> None:
        nodes.patch_node("node-a", annotations={DRAIN: told})
        world.clock.sleep(30.0)

    inspecting(world, act)
    report = drain(world, nodes)
    assert report.outcome == "incomplete"
    assert predicates.node_of(world.pods["counter"]) == "node-a"
    assert "she@there" in report.error
    assert announcement(nodes.nodes["node-a"]).run == "x"  # type: ignore[union-attr]
    assert not report.uncordoned


# -- what came just before the cordon ---------------------------------------------------------------------------------


def coming(name: str, reason: str = "ContainerCreating", **change: Any) -> dict[str, Any]:
    """A pod that is bound to the node and does not run yet."""
    waiting = {"name": "c", "ready": False, "restartCount": 0, "state": {"waiting": {"reason": reason}}}
    return objects.pod(
        name, change=objects.merged({"status": {"phase": "Pending", "containerStatuses": [waiting]}}, change)
    )


def after(nodes: Nodes, lists: int, act: Callable[[], None], *, and_on: bool = False) -> None:
    """Act when the pods of the node are listed for that time, ``and_on``: and each time after."""
    listed, seen = nodes.list_pods, [0]

    def list_pods(*args: Any, **more: Any) -> Any:
        if more.get("field_selector") == "spec.nodeName=node-a":
            seen[0] += 1
            if seen[0] == lists or (and_on and seen[0] > lists):
                act()
        return listed(*args, **more)

    nodes.list_pods = list_pods  # type: ignore[method-assign]


def test_a_pod_that_starts_while_the_others_move_is_moved_too(world: World) -> None:
    world.pods["late"] = coming("late")
    nodes = Nodes(world)
    looked = Drain(DrainOptions("node-a"), tools(world, nodes), nodes).preview()
    assert "still starting" in next(p for p in looked.pods if p.pod == "late").reason
    after(nodes, 3, lambda: world.pods.update(late=objects.pod("late")))
    fate = fates(drain(world, nodes))["late"]
    assert (fate[0], fate[2]) == ("move", "node-b"), "it was decided about when it ran"


def test_a_pod_that_does_not_come_up_in_time_keeps_the_node_from_being_drained(world: World) -> None:
    world.pods["late"] = coming("late")
    report = drain(world)
    assert (report.outcome, fates(report)["late"]) == ("incomplete", ("leave", "undecided", ""))
    assert fates(report)["counter"][1] == "finished", "the others are not kept by it"
    (record,) = (p for p in report.pods if p.pod == "late")
    assert "it was still starting when the drain looked" in record.error
    assert "Run the play again" in record.remedy


@pytest.mark.parametrize("reason", ["CrashLoopBackOff", "ImagePullBackOff"])
def test_a_pod_that_cannot_start_is_left_with_its_reason(world: World, reason: str) -> None:
    world.pods["bad"] = coming("bad", reason)
    report = drain(world)
    assert (report.outcome, fates(report)["bad"]) == ("drained", ("leave", "left", ""))
    assert "drained but for 2 pods that stayed" in summary(report)[0]


def test_a_pod_that_the_survey_has_not_seen_is_decided_about(world: World) -> None:
    nodes = Nodes(world)
    after(nodes, 2, lambda: world.pods.update(new=objects.pod("new", change=HOST_PATH)))
    report = drain(world, nodes)
    assert (report.outcome, fates(report)["new"]) == ("drained", ("leave", "left", ""))
    assert "host_path" in [r["code"] for p in report.pods if p.pod == "new" for r in p.refusals]


def test_an_api_that_goes_away_before_the_evictions_has_not_changed_what_was_to_be_evicted(world: World) -> None:
    nodes = Nodes(world)

    def gone() -> None:
        raise KubeUnavailable("connection refused")

    after(nodes, 2, gone, and_on=True)
    report = drain(world, nodes, rest="evict")
    assert (report.outcome, fates(report)["counter"][1]) == ("failed", "finished")
    assert fates(report)["disk"] == ("evict", "not_started", "")


@pytest.mark.parametrize("earlier", [False, True])
def test_a_drain_that_cannot_take_its_cordon_back_says_what_was_there_before(world: World, earlier: bool) -> None:
    nodes = Nodes(world)
    if earlier:
        nodes.patch_node("node-a", annotations={CORDONED_BY: "x me@here then"}, unschedulable=True)
    patched = nodes.patch_node

    def patch_node(name: str, **more: Any) -> Any:
        if more["annotations"].get(DRAIN) is None:
            raise KubeUnavailable("connection refused")
        patched(name, **more)
        raise KubeUnavailable("connection reset")

    nodes.patch_node = patch_node  # type: ignore[method-assign]
    report = drain(world, nodes, uncordon="always")
    assert (report.outcome, report.cordoned, report.changed_node) == ("failed", True, not earlier)
    (warning,) = report.warnings
    assert ("kubectl uncordon" in warning) == (not earlier)


def test_a_pod_that_is_there_at_the_end_unasked_is_told(world: World) -> None:
    nodes = Nodes(world)
    after(nodes, 3, lambda: world.pods.update(new=objects.pod("new")))
    report = drain(world, nodes)
    assert (report.outcome, fates(report)["new"]) == ("incomplete", ("leave", "undecided", ""))
    assert "NOT drained" in summary(report)[0]


def test_a_starting_pod_that_somebody_owns_is_evicted_as_asked(world: World) -> None:
    world.pods["late"] = coming("late", **owner("Job"))
    report = drain(world, rest="evict")
    assert (report.outcome, fates(report)["late"]) == ("drained", ("evict", "evicted", ""))


def test_a_wish_to_stop_ends_the_wait_for_starting_pods(world: World) -> None:
    world.pods["late"] = coming("late")
    nodes = Nodes(world)
    after(nodes, 3, world.interrupt.set)
    begun = world.clock.now
    report = drain(world, nodes)
    assert report.outcome == "cancelled"
    assert world.clock.now - begun < module._STARTING_S


@pytest.mark.parametrize(
    ("status", "so"),
    [
        ({"phase": "Pending", "containerStatuses": []}, True),
        ({"phase": "Pending", "initContainerStatuses": [{"state": {"running": {}}}], "containerStatuses": []}, True),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [{"state": {"terminated": {"exitCode": 0}}}],
                "containerStatuses": [],
            },
            True,
        ),
        (
            {
                "phase": "Pending",
                "initContainerStatuses": [{"state": {"terminated": {"exitCode": 1}}}],
                "containerStatuses": [],
            },
            False,
        ),
        ({"phase": "Running", "containerStatuses": [{"state": {"terminated": {"exitCode": 0}}}]}, False),
        ({}, False),
    ],
)
def test_what_is_on_its_way_to_run(status: dict[str, Any], so: bool) -> None:
    assert starting(objects.pod(change={"status": status})) == so


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_evict_what_somebody_creates_again(world: World) -> None:
    world.pods["mine"] = objects.pod("mine", change=HOST_PATH)
    nodes = Nodes(world)
    nodes.budgets["disk"] = 2
    report = drain(world, nodes, rest="evict")
    assert report.outcome == "drained"
    assert nodes.evicted == ["disk"]
    assert fates(report)["disk"] == ("evict", "evicted", "")
    assert fates(report)["mine"] == ("leave", "left", "")
    assert "nobody would create it again" in next(p for p in report.pods if p.pod == "mine").reason


def test_a_budget_that_never_allows_it_ends_with_the_deadline(world: World) -> None:
    nodes = Nodes(world)
    nodes.budgets["disk"] = 10**6
    report = drain(world, nodes, rest="evict", deadline_s=60.0)
    assert report.outcome == "incomplete"
    record = next(p for p in report.pods if p.pod == "disk")
    assert (record.outcome, "disruption budget" in record.error) == ("not_evicted", True)


def test_a_conflict_is_no_eviction(world: World) -> None:
    """A budget that somebody else counted at the same moment: the pod is there, and is asked for again."""
    nodes = Nodes(world)
    evict_pod, answers = nodes.evict_pod, [KubeError(409, "Conflict", "the budget has been modified")]

    def evict(*args: Any, **more: Any) -> bool:
        if answers:
            raise answers.pop()
        return evict_pod(*args, **more)

    nodes.evict_pod = evict  # type: ignore[method-assign]
    report = drain(world, nodes, rest="evict")
    assert (report.outcome, fates(report)["disk"][1]) == ("drained", "evicted")
    assert nodes.evicted == ["disk"]


def test_a_conflict_because_the_pod_is_another_one(world: World) -> None:
    nodes = Nodes(world)

    def evict(_namespace: str, name: str, **_more: Any) -> bool:
        world.pods[name] = objects.pod(name, "node-b", {"metadata": {"uid": "another"}})
        raise KubeError(409, "Conflict", "the uid in the precondition does not match")

    nodes.evict_pod = evict  # type: ignore[method-assign,assignment]
    assert fates(drain(world, nodes, rest="evict"))["disk"][1] == "evicted"
    assert "disk" in world.pods


def test_an_eviction_that_outlasts_the_drain_is_told_and_counts_as_changed(world: World) -> None:
    nodes = Nodes(world)
    nodes.grace.add("disk")
    report = drain(world, nodes, rest="evict", deadline_s=60.0)
    assert (report.outcome, fates(report)["disk"]) == ("incomplete", ("evict", "evicting", ""))
    assert nodes.evicted == ["disk"], "asked once"


def test_a_pod_that_was_restored_at_home_stays_so_in_the_record() -> None:
    first = report_of("p", "node-b", "undone")
    first.restored_at_home = True
    record = PodRecord("default", "p", "move")
    record.take(first)
    record.take(report_of("p", "node-b", "undone"))
    assert record.restored_at_home


# -- many at once -----------------------------------------------------------------------------------------------------


@dataclass
class Moves:
    """In the place of ``Migration``: counts who is under way with whom."""

    outcomes: dict[str, list[Any]] = field(default_factory=dict)
    most: int = 0
    most_to: dict[str, int] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    under_way: list[tuple[str, str]] = field(default_factory=list)
    siblings: int = 0
    asked: list[Options] = field(default_factory=list)
    during: Callable[[str], None] = lambda _pod: time.sleep(0.005)

    def __post_init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, options: Options, given: Any) -> Moves._One:
        return Moves._One(self, options, given)

    class _One:
        def __init__(self, moves: Moves, options: Options, given: Any) -> None:
            self.moves, self.options, self.tools = moves, options, given

        def move(self) -> tuple[None, Report]:
            moves, pod, target = self.moves, self.options.pod, self.options.target
            with moves.lock:
                moves.asked.append(self.options)
                moves.under_way.append((pod, target))
                moves.most = max(moves.most, len(moves.under_way))
                there = sum(1 for _pod, to in moves.under_way if to == target)
                moves.most_to[target] = max(moves.most_to.get(target, 0), there)
                families = [moves.owners[p] for p, _to in moves.under_way if moves.owners.get(p)]
                moves.siblings += len(families) - len(set(families))
            moves.during(pod)
            with moves.lock:
                moves.under_way.remove((pod, target))
                left = moves.outcomes.get(pod) or ["finished"]
                outcome = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(outcome, BaseException):
                raise outcome
            if self.tools.interrupt.is_set() and outcome == "wait":
                outcome = "cancelled"
            return None, report_of(pod, target, outcome)


def report_of(pod: str, target: str, outcome: Any) -> Report:
    word, _sep, code = str(outcome).partition(":")
    report = Report("r", "default", pod, outcome=word)  # type: ignore[arg-type]
    report.target = Place(target, pod)
    report.downtime_ms = 100.0
    if code:
        report.refusals = [refuse(code, "so it is").to_dict()]
    if word in ("undone", "cancelled"):
        report.error = Failure("dump", word, "it went wrong", "look")
    return report


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Moves:
    made = Moves()
    monkeypatch.setattr(module, "Migration", made)
    return made


def many(
    monkeypatch: pytest.MonkeyPatch,
    moves: Moves,
    items: list[Item],
    interrupt: threading.Event | None = None,
    again: Callable[[Item], str] = lambda item: item.record.target,
    **options: Any,
) -> DrainReport:
    world = World()
    world.pods.clear()
    nodes = Nodes(world)
    given = replace(tools(world, nodes), clock=time.monotonic, interrupt=interrupt or threading.Event())
    made = Drain(DrainOptions("node-a", **options), given, nodes, tick_s=0.01)
    monkeypatch.setattr(made._survey, "look", lambda _between: items)
    monkeypatch.setattr(made._survey, "place_again", again)
    return made.run()


def item(name: str, target: str = "node-b", owner_uid: str = "") -> Item:
    return Item(PodRecord("default", name, "move", target=target), objects.pod(name), owner_uid)


def test_limits_hold_and_are_used(monkeypatch: pytest.MonkeyPatch, moves: Moves) -> None:
    items = [item(f"p{n}", f"node-{'bcd'[n % 3]}") for n in range(30)]
    report = many(monkeypatch, moves, items, parallel=5, per_node=2)
    assert report.outcome == "drained"
    assert report.counts == {"finished": 30}
    assert moves.most == 5
    assert set(moves.most_to.values()) == {2}


def test_one_target_gets_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch, moves: Moves) -> None:
    many(monkeypatch, moves, [item(f"p{n}") for n in range(10)], parallel=8, per_node=3)
    assert moves.most == 3


def test_siblings_go_one_after_the_other(monkeypatch: pytest.MonkeyPatch, moves: Moves) -> None:
    items = [item(f"p{n}", owner_uid="rs" if n % 2 else "") for n in range(12)]
    moves.owners = {i.record.pod: i.owner_uid for i in items}
    report = many(monkeypatch, moves, items, parallel=4, per_node=4)
    assert report.counts == {"finished": 12}
    assert moves.siblings == 0
    assert moves.most > 1


@pytest.mark.parametrize(
    ("outcomes", "end", "attempts"),
    [
        (["refused:owner_not_stable", "refused:owner_not_stable", "finished"], "finished", 3),
        (["refused:target_unschedulable", "finished"], "finished", 2),
        (["refused:host_path", "finished"], "refused", 1),
        (["refused:owner_not_stable"], "refused", module._REFUSED_TRIES),
        (["undone", "finished"], "finished", 2),
        (["undone"], "undone", 2),
        (["in_doubt", "finished"], "in_doubt", 1),
        (["cancelled", "finished"], "cancelled", 1),
        ([PodferryError("gone", "look"), "finished"], "finished", 2),
        ([ValueError("defect")], "in_doubt", 1),
    ],
)
def test_what_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, moves: Moves, outcomes: list[Any], end: Outcome, attempts: int
) -> None:
    moves.outcomes["p"] = outcomes
    report = many(monkeypatch, moves, [item("p")])
    assert (report.pods[0].outcome, report.pods[0].attempts) == (end, attempts)
    assert report.outcome == ("drained" if end == "finished" else "incomplete")
    if end == "finished":
        assert report.pods[0].error == ""


def test_one_target_gets_no_more_than_it_may_when_a_pod_is_placed_again(
    monkeypatch: pytest.MonkeyPatch, moves: Moves
) -> None:
    moves.outcomes["p0"] = ["refused:target_capacity", "finished"]
    moves.during = lambda pod: time.sleep(0.1 if pod == "p1" else 0.005)
    items = [item("p0", "node-b"), item("p1", "node-c")]
    report = many(monkeypatch, moves, items, again=lambda _item: "node-c", parallel=2, per_node=1)
    assert report.counts == {"finished": 2}
    assert moves.most_to == {"node-b": 1, "node-c": 1}
    assert report.pods[0].target == "node-c"


def test_two_that_are_placed_again_in_each_others_place_do_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch, moves: Moves
) -> None:
    other = {"node-b": "node-c", "node-c": "node-b"}
    both = threading.Barrier(2)
    for pod in ("p0", "p1"):
        moves.outcomes[pod] = ["refused:target_capacity", "finished"]
    items = [item("p0", "node-b"), item("p1", "node-c")]

    def again(one: Item) -> str:
        both.wait(5)
        return other[one.record.target]

    report = many(monkeypatch, moves, items, again=again, parallel=2, per_node=1, deadline_s=10.0)
    assert report.counts == {"finished": 2}
    assert set(moves.most_to.values()) == {1}


def test_a_pod_that_finds_no_other_place_keeps_what_was_reserved_for_it(world: World) -> None:
    nodes = Nodes(world)
    given = tools(world, nodes)
    survey = Survey(DrainOptions("node-a"), given, nodes)
    (counter,) = (i for i in survey.look() if i.record.pod == "counter")
    before = dict(survey._planned)
    nodes.patch_node("node-b", annotations={}, unschedulable=True)
    assert survey.place_again(counter) == ""
    assert survey._planned == before
    nodes.patch_node("node-b", annotations={}, unschedulable=False)
    assert survey.place_again(counter) == "node-b", "its own reservation is no obstacle"


def test_one_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, moves: Moves) -> None:
    moves.outcomes["p1"] = ["undone"]
    report = many(monkeypatch, moves, [item(f"p{n}") for n in range(4)])
    assert report.counts == {"finished": 3, "undone": 1}


def test_ctrl_c_starts_nothing_more_and_waits_for_the_end_of_what_runs(
    monkeypatch: pytest.MonkeyPatch, moves: Moves
) -> None:
    stop = threading.Event()

    def during(pod: str) -> None:
        if pod == "p1":
            stop.set()
        time.sleep(0.1)

    moves.during = during
    moves.outcomes["p1"] = ["wait"]
    report = many(monkeypatch, moves, [item(f"p{n}") for n in range(5)], stop)
    assert report.outcome == "cancelled"
    ends = {p.pod: p.outcome for p in report.pods}
    assert ends == {"p0": "finished", "p1": "cancelled", "p2": "not_started", "p3": "not_started", "p4": "not_started"}
    assert report.uncordoned


def test_the_deadline_does_the_same(monkeypatch: pytest.MonkeyPatch, moves: Moves) -> None:
    moves.during = lambda _pod: time.sleep(0.2)
    report = many(monkeypatch, moves, [item(f"p{n}") for n in range(5)], parallel=1, deadline_s=0.1)
    assert report.outcome == "incomplete"
    assert report.counts == {"finished": 1, "not_started": 4}
    assert "deadline" in " ".join(report.warnings)


def test_the_cap_is_shared(monkeypatch: pytest.MonkeyPatch, moves: Moves) -> None:
    many(monkeypatch, moves, [item("p")], bandwidth=100, freezes=4)
    assert moves.asked[0].bandwidth == 25
