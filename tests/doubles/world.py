# SPDX-License-Identifier: Apache-2.0
"""Two nodes and an API in one process, as the session protocol and Kubernetes promise them, with faults on demand.

The world keeps the promise that matters itself: it raises ``TwoCopies`` the moment source and target could both run.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from ansible_collections.podferry.live.plugins.module_utils._kube import predicates
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError, KubeTimeout, KubeUnavailable
from ansible_collections.podferry.live.plugins.module_utils._migrate.errors import NodeError, SessionLost
from ansible_collections.podferry.live.plugins.module_utils._migrate.ports import InventoryHost, Tools
from ansible_collections.podferry.live.plugins.module_utils._migrate.session import Event, Session
from ansible_collections.podferry.live.plugins.module_utils._plan.options import ARRIVAL
from ansible_collections.podferry.live.plugins.module_utils._plan.selectors import selector_matches
from ansible_collections.podferry.live.plugins.module_utils._plan.statefulset import restorable
from doubles import objects

JsonDict = dict[str, Any]


class TwoCopies(BaseException):
    """The workload could run twice. Not an Exception: nothing may swallow it."""


class FreshStart(BaseException):
    """A controller has started a pod from its image in the place of the one that moves."""


class Killed(BaseException):
    """The controller's process ends here."""


class Clock:
    """Time passes by being looked at, so that every deadline is reached at once."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.05
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Half:
    """A run on one node."""

    run: str
    role: str
    args: JsonDict
    state: str = "prepared"
    alive: bool = True
    record: str = "none"
    resumed: bool = False


@dataclass
class Node:
    """What a node answers. ``behaviour`` says how its ferries act: see ``World``."""

    name: str
    world: World
    facts: JsonDict = field(default_factory=objects.facts)
    inspection: JsonDict = field(default_factory=objects.inspection)
    image: bool = True
    pulled: bool = False
    runs: dict[str, Half] = field(default_factory=dict)
    reachable: bool = True
    sinks: list[Callable[[Event], None]] = field(default_factory=list)

    def emit(self, half: Half, name: str, **data: Any) -> None:
        for sink in self.sinks:
            sink(Event(self.name, name, half.run, half.role, {"event": name, "wall": 1.0, **data}, self.world.clock()))

    def answer(self, op: str, args: JsonDict) -> JsonDict:
        handler = getattr(self, f"op_{op}", None)
        assert handler is not None, f"the contract has no op {op}"
        try:
            return handler(**args) or {}
        except KeyError as exc:
            raise NodeError(self.name, "not_found", f"this node knows no run {exc}") from exc

    def op_hello(self) -> JsonDict:
        return {"engine": objects.DIGEST}

    def op_facts(self) -> JsonDict:
        return self.facts

    def op_inspect(self, **_args: Any) -> JsonDict:
        return self.inspection

    def op_image(self, **_args: Any) -> JsonDict:
        return {"present": self.image or self.pulled}

    def op_image_pull(self, **_args: Any) -> None:
        if not self.world.behaviour.pull_works:
            raise NodeError(self.name, "command_failed", "registry says no")
        self.pulled = True

    def op_runs(self, namespace: str | None = None, pod: str | None = None) -> JsonDict:
        listed = []
        for key, half in self.runs.items():
            args = half.args
            listed.append(
                {
                    "run": key,
                    "role": half.role,
                    "state": half.state,
                    "mode": args["mode"],
                    "namespace": args["namespace"],
                    "pod": args["pod"],
                    "uid": args.get("uid"),
                    "target_pod": args.get("target_pod"),
                    "source_pod": args.get("source_pod"),
                    "target_node": args.get("target_node"),
                    "alive": half.alive,
                    "context": args.get("context") if self.world.behaviour.keeps_context else None,
                    "record": {"state": half.record, "resumed": half.resumed} if half.role == "target" else None,
                }
            )
        return {"runs": [e for e in listed if namespace in (None, e["namespace"])]}

    def op_ferry_start(self, **args: Any) -> JsonDict:
        assert set(args["deadlines"]) == {"idle", "claim", "freeze", "restore", "settle", "silence"}
        assert all(v > 0 for v in args["deadlines"].values())
        assert args["need_bytes"] > 0
        if args["role"] == "source" and not self.world.behaviour.port_open:
            raise NodeError(self.name, "link_lost", "the target's ferry cannot be reached", "open the port")
        self.runs[args["run"]] = Half(args["run"], args["role"], args)
        return {"port": 17900} if args["role"] == "target" else {"connected": True, "rtt_ms": 0.2}

    def op_arm(self, run: str) -> None:
        self.runs[run].record = "armed"

    def op_cancel(self, run: str) -> JsonDict:
        half = self.runs.get(run)
        if half is None or not half.alive or half.state in ("go_given", "relinquished", "committed", "in_doubt"):
            return {"cancelled": False}
        if half.role == "source":
            self.world.abort(half, "cancelled")
        else:
            half.alive = False
            self.world.give_up(half)
        return {"cancelled": True}

    def op_go(self, run: str) -> None:
        half = self.runs[run]
        if half.state != "prepared" or not half.alive:
            raise NodeError(self.name, "state_conflict", f"the source is {half.state}")
        half.state = "waiting"
        self.world.going(half)

    def op_relinquish(self, run: str) -> None:
        self.world.relinquish(self.runs[run])

    def op_kill(self, run: str) -> None:
        half = self.runs[run]
        if half.state not in ("relinquished", "committed", "killed"):
            raise NodeError(self.name, "state_conflict", f"not killed: {half.state}")
        half.state = "killed"
        self.world.source = "dead"

    def op_surrender(self, run: str) -> JsonDict:
        half = self.runs[run]
        half.alive = False
        return {"surrendered": self.world.give_up(half), "reason": "let go"}

    def op_undo_arm(self, run: str, deadlines: JsonDict, target_record: str) -> None:
        half = self.runs[run]
        assert target_record == "aborted"
        if half.state not in ("relinquished", "killed"):
            raise NodeError(self.name, "state_conflict", half.state)
        half.state = "killed"
        self.world.source = "dead"
        self.runs[f"{run}.undo"] = Half(run, "target", {**half.args, "mode": "undo"}, record="armed")

    def op_record(self, run: str) -> JsonDict:
        half = self.runs.get(run)
        return {"state": half.record, "resumed": half.resumed} if half else {"state": "none", "resumed": False}

    def op_thaw(self, run: str, target_record: str) -> None:
        half = self.runs[run]
        assert target_record == "aborted"
        if half.state not in ("in_doubt", "go_given", "relinquished", "aborted"):
            raise NodeError(self.name, "state_conflict", half.state)
        half.state, half.alive = "aborted", False
        self.world.thaw_source()

    def op_settle(self, run: str, target_record: str) -> None:
        half = self.runs[run]
        assert target_record in ("going", "done")
        if half.state in ("in_doubt", "go_given"):
            half.state = "relinquished" if half.args["mode"] == "successor" else "committed"

    def op_finish(self, run: str) -> None:
        half = self.runs.get(run)
        if half is None:
            return
        if half.role == "source":
            if half.state in ("in_doubt", "go_given"):
                raise NodeError(self.name, "state_conflict", "in doubt")
            if half.state in ("committed", "relinquished", "killed"):
                self.world.check_pod_is_going(half)
                if self.world.source == "frozen":
                    self.world.source = "dead"
            elif half.state not in ("prepared", "aborted"):
                self.world.thaw_source()
        elif not half.resumed and not self.world.give_up(half):
            raise NodeError(self.name, "state_conflict", "neither let go nor given up")
        self.runs.pop(run)
        self.runs.pop(f"{run}.undo", None)

    def controller_gone(self) -> None:
        """End of input on the session: a source that was not told to go runs on."""
        for half in self.runs.values():
            if half.role == "source" and half.state == "prepared":
                self.world.abort(half, "controller lost")
            elif half.role == "source" and half.state == "data_ready" and half.alive:
                self.world.abort(half, "controller lost")  # nobody else could say relinquish
            elif half.role == "target" and half.record in ("none", "armed") and not self.world.source_is_waiting(half):
                half.alive = False
                self.world.give_up(half)


@dataclass
class Behaviour:
    """How the ferries act in this world. ``outcome`` of a go: committed, aborted, died, silent, in_doubt_going, ..."""

    outcome: str = "committed"
    restore_works: bool = True
    undo_works: bool = True
    port_open: bool = True
    pull_works: bool = True
    keeps_context: bool = True
    becomes_ready: bool = True
    adopts: bool = True


class World:
    """Source pod ``counter`` (or one of a ReplicaSet, or ``web-1`` of a StatefulSet of two) on node-a, free node-b."""

    def __init__(self, *, replicaset: bool = False, statefulset: bool = False) -> None:
        self.clock = Clock()
        self.behaviour = Behaviour()
        self.nodes = {name: Node(name, self) for name in ("node-a", "node-b")}
        self.source = "running"
        self.target = "none"
        self.interrupt = threading.Event()
        self.log: list[str] = []
        self.faults: dict[int, str] = {}
        self.calls = 0
        self.runs_made = 0
        self.version = 100
        self.replicaset = objects.replicaset() if replicaset else None
        self.statefulset = objects.statefulset() if statefulset else None
        self.wanted = restorable(self.statefulset) if self.statefulset else None
        """The StatefulSet as its user wants it."""
        self.budgets: list[JsonDict] = []
        self.autoscalers: list[JsonDict] = []
        self.claims: dict[str, JsonDict] = {}
        self.volumes: dict[str, JsonDict] = {}
        if self.statefulset:
            first = objects.ordinal(self.statefulset, 1)
        else:
            first = objects.owned(self.replicaset) if self.replicaset else objects.pod()
        self.pods: dict[str, JsonDict] = {first["metadata"]["name"]: first}
        if self.statefulset:
            self.pods["web-0"] = objects.ordinal(self.statefulset, 0)
        self.name: str = first["metadata"]["name"]
        self.events: list[str] = []
        self.background: list[Callable[[], None]] = []
        """What runs beside a migration; here it runs when a test lets it."""
        self.statefulsets_deleted = 0
        self.statefulsets_made = 0

    # -- the workload -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        if self.source == "running" and self.target == "running":
            raise TwoCopies

    def thaw_source(self) -> None:
        if self.source == "dead":
            return
        if self.target == "ran":
            raise TwoCopies
        self.source = "running"
        self.check()

    def run_target(self, half: Half) -> None:
        assert half.record == "going"
        half.resumed, half.state = True, "resumed"
        half.alive = False
        self.target = "running"
        self.check()

    def give_up(self, half: Half) -> bool:
        if half.resumed:
            return False
        half.record, half.state = "aborted", "aborted"
        return True

    def other(self, half: Half) -> Half:
        return self.nodes["node-b"].runs[half.run]

    def source_is_waiting(self, half: Half) -> bool:
        mine = self.nodes["node-a"].runs.get(half.run)
        return mine is not None and mine.state not in ("prepared", "aborted")

    def abort(self, half: Half, why: str) -> None:
        half.state, half.alive = "aborted", False
        self.thaw_source()
        target = self.nodes["node-b"].runs.get(half.run)
        if target is not None:
            target.alive = False
            self.give_up(target)
        error = {"type": why, "message": why, "remedy": "", "phase": "dump"}
        self.nodes["node-a"].emit(half, "end", outcome="aborted", phase="dump", error=error, phases=[])

    # -- the ferries --------------------------------------------------------------------------------------------------

    def going(self, half: Half) -> None:
        a = self.nodes["node-a"]
        a.emit(half, "phase", phase="freeze")
        self.source = "frozen"
        half.state = "frozen"
        if self.behaviour.outcome == "cancel_midway":
            self.interrupt.set()
            return
        if self.behaviour.outcome == "died":
            half.state, half.alive = "aborted", False
            self.thaw_source()
            self.give_up(self.other(half))
            a.emit(half, "ferry_ended")
            return
        if self.behaviour.outcome == "aborted":
            self.abort(half, "dump_failed")
            return
        a.emit(half, "progress", bytes=1 << 20, seconds=0.1)
        if half.args["mode"] == "successor":
            half.state = "data_ready"
            a.emit(half, "data_ready", bytes=1 << 20)
            return
        self.commit_twin(half)

    def commit_twin(self, half: Half) -> None:
        a, target = self.nodes["node-a"], self.other(half)
        half.state = "go_given"
        outcome = self.behaviour.outcome
        if outcome in ("committed", "in_doubt_resumed"):
            target.record = "going"
            self.run_target(target)
            self.start_pod(target)
        elif outcome == "in_doubt_going":  # the target ferry died between its rename and the thaw
            target.record, target.alive = "going", False
        half.alive = False
        if outcome == "committed":
            half.state = "committed"
            a.emit(half, "end", outcome="committed", downtime_ms=300.0, bytes={"wire": 10, "files": 20}, phases=[])
            self.nodes["node-b"].emit(
                target, "resumed", downtime_ms=300.0, phases=[{"name": "restore", "start_ms": 1, "ms": 2}]
            )
        else:  # in_doubt_armed, in_doubt_going, in_doubt_resumed
            half.state = "in_doubt"
            error = {"type": "link_lost", "message": "no answer to the go", "remedy": "", "phase": "commit"}
            a.emit(half, "end", outcome="in_doubt", error=error, phases=[])

    def relinquish(self, half: Half) -> None:
        if half.state != "data_ready" or not half.alive:
            raise NodeError("node-a", "state_conflict", f"the source is {half.state}")
        target = self.other(half)
        if self.behaviour.outcome == "in_doubt_armed":
            half.state, half.alive = "in_doubt", False
            self.nodes["node-a"].emit(half, "end", outcome="in_doubt", phases=[])
            raise NodeError("node-a", "link_lost", "no answer")
        target.record = "going"
        half.state, half.alive = "relinquished", False
        self.nodes["node-a"].emit(half, "end", outcome="relinquished", downtime_ms=None, bytes={"wire": 10}, phases=[])

    def create_reached(self, pod: JsonDict) -> None:
        """The runtime's ``create`` for a podferry pod: the handler looks for an arrival."""
        run = predicates.annotations_of(pod).get(ARRIVAL)
        node = self.nodes[str(predicates.node_of(pod))]
        undo = node.runs.get(f"{run}.undo")
        half = undo or node.runs.get(str(run))
        if half is None or (undo is None and half.role != "target") or half.record in ("aborted", "none"):
            return  # 'create' fails, again and again
        if undo is not None:
            undo.record = "going"
            if self.behaviour.undo_works:
                self.run_target(undo)
                self.start_pod(undo, str(pod["metadata"]["name"]))
                node.emit(undo, "resumed", downtime_ms=900.0, phases=[])
            else:
                node.emit(undo, "restore_failed", error={"type": "restore_failed", "message": "no", "remedy": ""})
            return
        if half.record == "going" and half.args["mode"] == "successor":
            if self.behaviour.restore_works:
                self.run_target(half)
                self.start_pod(half)
                node.emit(half, "resumed", downtime_ms=600.0, phases=[])
            else:
                half.alive = False
                self.give_up(half)
                node.emit(
                    half,
                    "restore_failed",
                    error={
                        "type": "restore_failed",
                        "message": "criu says no",
                        "remedy": "see log",
                        "phase": "restore",
                    },
                )

    def start_pod(self, half: Half, name: str = "") -> None:
        pod = self.pods.get(name or str(half.args["target_pod"]))
        if pod is not None and self.behaviour.becomes_ready:
            pod["status"] = objects.running_status()

    def check_pod_is_going(self, half: Half) -> None:
        """PITFALLS 8: a container that is killed before its pod is terminating is started again."""
        pod = self.pods.get(str(half.args["pod"]))
        if self.source == "frozen" and pod is not None and predicates.uid_of(pod) == half.args["uid"]:
            assert predicates.terminating(pod), "the source is killed before its pod is terminating"

    # -- faults -------------------------------------------------------------------------------------------------------

    def fault(self, what: str) -> str:
        self.calls += 1
        self.log.append(what)
        return self.faults.get(self.calls, "")

    def revive(self) -> None:
        """A new controller in a world without further faults."""
        for node in self.nodes.values():
            node.controller_gone()
            node.sinks.clear()
            node.reachable = True
        self.faults.clear()
        self.interrupt.clear()
        self.behaviour = Behaviour(keeps_context=self.behaviour.keeps_context)

    def tools(self, reporter: Any = None) -> Tools:
        return Tools(
            cluster=FakeCluster(self),
            open_session=self.open_session,
            inventory={name: [InventoryHost(name)] for name in self.nodes},
            reporter=reporter or Recorder(),
            own_digest=objects.DIGEST,
            new_run=self.new_run,
            clock=self.clock,
            sleep=self.clock.sleep,
            wall=lambda: 1700000000.0,
            interrupt=self.interrupt,
            beside=self.background.append,
            ready_timeout_s=5.0,
            tick_s=0.0005,
        )

    def new_run(self) -> str:
        self.runs_made += 1
        return f"abcd{self.runs_made:08x}"

    def open_session(self, _host: InventoryHost, node: str, sink: Callable[[Event], None]) -> Session:
        if not self.nodes[node].reachable:
            raise SessionLost(node, "Connection refused")
        return cast(Session, FakeSession(self, self.nodes[node], sink))


class FakeSession:
    def __init__(self, world: World, node: Node, sink: Callable[[Event], None]) -> None:
        self.world, self.node_object, self.sink = world, node, sink
        self.alive = True
        node.sinks.append(sink)

    def call(self, op: str, *, timeout_s: float = 30.0, **args: Any) -> JsonDict:
        if not self.alive or not self.node_object.reachable:
            self.alive = False
            raise SessionLost(self.node_object.name, "ended")
        fault = self.world.fault(f"{self.node_object.name} {op}")
        if fault == "killed":
            raise Killed
        if fault == "error":
            raise NodeError(self.node_object.name, "command_failed", f"{op} fails")
        if fault == "lost_before":
            self._lose()
        result = self.node_object.answer(op, args)
        if fault == "killed_after":
            raise Killed
        if fault == "lost_after":
            self._lose()
        return result

    def _lose(self) -> None:
        self.close()
        raise SessionLost(self.node_object.name, "ended")

    def close(self) -> None:
        if self.alive:
            self.alive = False
            if self.sink in self.node_object.sinks:
                self.node_object.sinks.remove(self.sink)
            self.node_object.controller_gone()


class FakeCluster:
    """The API, with a kubelet that does at once what it would do in a moment."""

    def __init__(self, world: World) -> None:
        self.world = world

    def _enter(self, what: str) -> str:
        fault = self.world.fault(f"api {what}")
        if fault == "killed":
            raise Killed
        if fault == "error":
            raise KubeError(403, "Forbidden", f"{what} is forbidden")
        if fault == "lost_before":
            raise KubeUnavailable(f"{what}: connection refused")
        return fault

    def _leave(self, fault: str) -> None:
        if fault == "killed_after":
            raise Killed
        if fault == "lost_after":
            raise KubeUnavailable("connection reset")

    def get_pod(self, namespace: str, name: str) -> JsonDict | None:
        self._leave(self._enter(f"get {self._role(name)}"))
        return self.world.pods.get(name)

    def _role(self, name: str) -> str:
        return "source" if name == self.world.name else "other"

    def list_pods(self, namespace: str | None, *, field_selector: str = "", label_selector: str = "") -> list[JsonDict]:
        self._leave(self._enter("list"))
        pods = list(self.world.pods.values())
        if "=" in label_selector:
            key, _eq, value = label_selector.partition("=")
            pods = [p for p in pods if predicates.labels_of(p).get(key) == value]
        if field_selector.startswith("metadata.name="):
            pods = [p for p in pods if predicates.name_of(p) == field_selector.partition("=")[2]]
        return pods

    def create_pod(self, namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> JsonDict:
        fault = self._enter("dry run" if dry_run else "create")
        name = manifest["metadata"]["name"]
        if name in self.world.pods:
            raise KubeError(409, "AlreadyExists", f'pods "{name}" already exists')
        self.world.version += 1
        pod = objects.merged(
            dict(manifest), {"metadata": {"uid": f"uid-{name}-{self.world.version}"}, "status": {"phase": "Pending"}}
        )
        if not dry_run:
            self.world.pods[name] = pod
            self._statefulset_looks()
            self.world.create_reached(pod)
        self._leave(fault)
        return pod

    def delete_pod(self, namespace: str, name: str, *, uid: str, grace_s: int | None) -> bool:
        fault = self._enter("delete")
        pod = self.world.pods.get(name)
        if pod is None or predicates.uid_of(pod) != uid:
            return False
        self._delete(name)
        self._leave(fault)
        return True

    def _delete(self, name: str) -> None:
        """Gone at once, as with grace 0; a frozen source stays frozen (SIGTERM waits) until it is killed."""
        del self.world.pods[name]
        self._statefulset_looks()

    def patch_pod(
        self,
        namespace: str,
        name: str,
        *,
        labels: Mapping[str, str | None] | None = None,
        annotations: Mapping[str, str | None] | None = None,
        finalizers: Sequence[str] | None = None,
    ) -> JsonDict:
        fault = self._enter("patch")
        pod = self.world.pods.get(name)
        if pod is None:
            raise KubeError(404, "NotFound", f'pods "{name}" not found')
        for kind, change in (("labels", labels), ("annotations", annotations)):
            for key, value in (change or {}).items():
                if value is None:
                    pod["metadata"].setdefault(kind, {}).pop(key, None)
                else:
                    pod["metadata"].setdefault(kind, {})[key] = value
        if finalizers is not None:
            pod["metadata"]["finalizers"] = list(finalizers)
        self._replicaset_looks(pod)
        self._leave(fault)
        return pod

    def mark_not_ready(self, namespace: str, name: str, *, uid: str, reason: str, message: str) -> None:
        fault = self._enter("not ready")
        pod = self.world.pods.get(name)
        if pod is not None and predicates.uid_of(pod) == uid:
            assert self.world.source != "running", "a source that runs is taken out of its Services"
            others = [c for c in pod["status"]["conditions"] if c["type"] != "Ready"]
            mine = {"type": "Ready", "status": "False", "reason": reason, "message": message}
            pod["status"]["conditions"] = [*others, mine]
        self._leave(fault)

    def _replicaset_looks(self, pod: JsonDict) -> None:
        """As recorded in deployment_adopt.json: adopt what matches, then one too many goes (not Ready, lowest cost)."""
        rs = self.world.replicaset
        if rs is None or not self.world.behaviour.adopts:
            return
        mine = [
            p for p in self.world.pods.values() if selector_matches(rs["spec"]["selector"], predicates.labels_of(p))
        ]
        for p in mine:
            p["metadata"]["ownerReferences"] = [objects.reference(rs)]
        if len(mine) > 1:
            cost = "controller.kubernetes.io/pod-deletion-cost"
            victim = min(mine, key=lambda p: (predicates.ready(p), int(predicates.annotations_of(p).get(cost, "0"))))
            assert victim["metadata"]["name"] == self.world.name, "the ReplicaSet deletes the moved pod"
            self._delete(victim["metadata"]["name"])

    def wait_pod(
        self, namespace: str, name: str, condition: Callable[[Any], bool], *, timeout_s: float
    ) -> JsonDict | None:
        self._leave(self._enter("wait"))
        pod = self.world.pods.get(name)
        if condition(pod):
            return pod
        raise KubeTimeout(f"pod {namespace}/{name}: not yet after {timeout_s:.0f} s", pod)

    def get_replicaset(self, namespace: str, name: str) -> JsonDict | None:
        self._leave(self._enter("get replicaset"))
        return self.world.replicaset

    def get_deployment(self, namespace: str, name: str) -> JsonDict | None:
        return None

    def get_claim(self, namespace: str, name: str) -> JsonDict | None:
        return self.world.claims.get(name)

    def get_volume(self, name: str) -> JsonDict | None:
        self._leave(self._enter("get volume"))
        return self.world.volumes.get(name)

    # As recorded in statefulset_orphan.json: the object stays for a moment with finalizer ``orphan``, its pods lose their
    # owner; a new one adopts what has the name and the labels, and starts what is missing.

    def get_statefulset(self, namespace: str, name: str) -> JsonDict | None:
        self._leave(self._enter("get statefulset"))
        seen = self.world.statefulset
        if seen is not None and predicates.terminating(seen):
            self.world.statefulset = None  # whoever looks again sees it gone
        return copy.deepcopy(seen)

    def orphan_statefulset(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None:
        fault = self._enter("orphan statefulset")
        there = self.world.statefulset
        if there is None:
            raise KubeError(404, "NotFound", f'statefulsets.apps "{name}" not found')
        meta = there["metadata"]
        if (meta["uid"], meta["resourceVersion"]) != (uid, resource_version):
            raise KubeError(409, "Conflict", "the precondition does not hold")
        self.world.version += 1
        meta.update(deletionTimestamp="now", finalizers=["orphan"], resourceVersion=f"{self.world.version}")
        for pod in self.world.pods.values():
            pod["metadata"].pop("ownerReferences", None)
        self.world.statefulsets_deleted += 1
        self._leave(fault)

    def create_statefulset(self, namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> JsonDict:
        fault = self._enter("dry run" if dry_run else "create statefulset")
        if dry_run:
            self._leave(fault)
            return dict(manifest)
        if self.world.statefulset is not None:
            raise KubeError(409, "AlreadyExists", "statefulsets.apps already exists")
        assert dict(manifest) == self.world.wanted, "not what its user had written"
        self.world.version += 1
        fresh = {"uid": f"uid-sts-{self.world.version}", "resourceVersion": f"{self.world.version}", "generation": 1}
        made = objects.statefulset(change={"metadata": fresh})
        self.world.statefulset = made
        self.world.statefulsets_made += 1
        self._statefulset_looks()
        self._leave(fault)
        return copy.deepcopy(made)

    def _statefulset_looks(self) -> None:
        owner = self.world.statefulset
        if owner is None or predicates.terminating(owner):
            return
        for number in range(owner["spec"]["replicas"]):
            pod = self.world.pods.get(f"web-{number}")
            if pod is None:
                raise FreshStart(f"web-{number}")
            if selector_matches(owner["spec"]["selector"], predicates.labels_of(pod)):
                pod["metadata"].setdefault("ownerReferences", [objects.reference(owner)])
            assert predicates.labels_of(pod)["controller-revision-hash"] == owner["status"]["updateRevision"]

    def list_budgets(self, namespace: str) -> list[JsonDict]:
        self._leave(self._enter("list budgets"))
        return self.world.budgets

    def list_autoscalers(self, namespace: str) -> list[JsonDict]:
        self._leave(self._enter("list autoscalers"))
        return self.world.autoscalers

    def list_nodes(self) -> list[JsonDict]:
        self._leave(self._enter("list nodes"))
        return [objects.node(name) for name in self.world.nodes]

    def get_node(self, name: str) -> JsonDict | None:
        self._leave(self._enter("get node"))
        return objects.node(name) if name in self.world.nodes else None

    def get_runtime_class(self, name: str) -> JsonDict | None:
        self._leave(self._enter("get runtimeclass"))
        return objects.runtime_class()

    def pod_event(self, pod: Mapping[str, Any], *, reason: str, message: str, warning: bool = False) -> None:
        self.world.events.append(reason)


class Recorder:
    """What a person would have seen."""

    def __init__(self) -> None:
        self.phases: list[tuple[str, str]] = []
        self.progressed: list[tuple[int, int, float]] = []
        self.warnings: list[str] = []

    def phase(self, name: str, node: str = "", detail: str = "") -> None:
        self.phases.append((node, name))

    def progress(self, sent: int, expected: int, rate: float) -> None:
        self.progressed.append((sent, expected, rate))

    def warning(self, text: str) -> None:
        self.warnings.append(text)
