# SPDX-License-Identifier: Apache-2.0
"""The controller's way to a checkpoint and back, against one node that does as it is told, or not."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.action import pod_checkpoint
from ansible_collections.podferry.live.plugins.module_utils._archive.errors import WrongCheckpoint
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.adopt import Archive, adopt
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.choose import select
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.make import Checkpoints, Wish, kept_object
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.pod import RestoredPod
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.restore import (
    RestoreFailed,
    Restores,
    Wanted,
    pod_of,
)
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.stores import NodeShelf
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.vault import Keys, Vault
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError, KubeTimeout
from ansible_collections.podferry.live.plugins.module_utils._migrate.errors import NodeError, PodferryError, SessionLost
from ansible_collections.podferry.live.plugins.module_utils._migrate.peer import Peer
from ansible_collections.podferry.live.plugins.module_utils._migrate.ports import InventoryHost, Sessions, Tools
from ansible_collections.podferry.live.plugins.module_utils._migrate.session import Event, EventLog
from ansible_collections.podferry.live.plugins.module_utils._plan.options import ARRIVAL, Options
from ansible_collections.podferry.live.plugins.module_utils._store import manifest as manifests
from ansible_collections.podferry.live.plugins.plugin_utils import _shelf
from doubles import objects
from doubles.world import Clock

SPEC = {"kind": "path", "path": "/srv/checkpoints"}
RUN = "0123456789ab"
IMAGE = "docker.io/library/counter@sha256:" + "7" * 64


class Runs(list):  # type: ignore[type-arg]
    """The runs of a node, and the operation that lists them."""

    def __call__(self, **_args: Any) -> dict[str, Any]:
        return {"runs": list(self)}


class Node:
    """A node that remembers what it was asked. ``end`` is what the dump comes to; ``fails`` names an operation that does not work."""

    alive = True

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.sink: Callable[[Event], None] = lambda _event: None
        self.end: dict[str, Any] = {"outcome": "captured", "frozen_ms": 120.0, "connections_closed": 1}
        self.fails = ""
        self.stored: list[tuple[str, str]] = []
        self.saved: dict[str, Any] = {}
        self.runs = Runs()
        self.has_image = True

    def call(self, op: str, *, timeout_s: float = 30.0, **args: Any) -> dict[str, Any]:
        self.asked.append(op)
        if op == self.fails:
            raise NodeError("node-a", "command_failed", f"{op} does not work")
        return getattr(self, op)(**args) or {}

    def close(self) -> None:
        return

    def facts(self) -> dict[str, Any]:
        return objects.facts()

    def inspect(self, **_args: Any) -> dict[str, Any]:
        return objects.inspection()

    def image_pull(self, **_args: Any) -> None:
        self.has_image = True

    def __getattr__(self, name: str) -> Any:
        def answer(**args: Any) -> dict[str, Any]:
            if name == "image":
                return {"present": self.has_image}
            if name == "ferry_start":
                self.started = args
                self.sink(Event("node-a", "end", args["run"], "source", self.end))
            elif name == "store_entries":
                return {"entries": [{"manifest": m, "signature": s} for m, s in self.stored]}
            elif name == "checkpoint_save":
                self.saved = args
                sizes = {"memory": 4096, "files": 10, "stored": 100}
                draft = {**args["fields"], "format": 1, "parent": args["parent"], "compression": "zstd",
                         "encryption": "none", "bytes": sizes, "blobs": blobs(args["fields"]["id"])}  # fmt: skip
                return {"manifest": manifests.canonical(manifests.make(draft)).decode()}
            elif name == "store_publish":
                self.stored.append((args["manifest"], args["signature"]))
            elif name == "restore_load":
                return {"pod": kept_object(objects.pod()), "state": {"connections_closed": 0}}
            return {}

        return answer


def blobs(origin: str) -> list[dict[str, Any]]:
    return [
        {"name": f"{kind}.0", "kind": kind, "size": 10, "sha256": "a" * 64, "origin": origin}
        for kind in ("index", "state")
    ]


class Cluster:
    """Pods by name."""

    def __init__(self, *pods: dict[str, Any]) -> None:
        self.pods = {pod["metadata"]["name"]: pod for pod in pods}
        self.ready = True

    def get_pod(self, _namespace: str, name: str) -> Any:
        return self.pods.get(name)

    def list_pods(self, _namespace: str | None, **_selectors: Any) -> list[Any]:
        return list(self.pods.values())

    def create_pod(self, _namespace: str, manifest: Any, *, dry_run: bool = False) -> Any:
        name = manifest["metadata"]["name"]
        if name in self.pods:
            raise KubeError(409, "AlreadyExists", f"{name} exists")
        if not dry_run:
            self.pods[name] = {**manifest, "status": objects.running_status(self.ready)}
            self.pods[name]["metadata"]["uid"] = f"uid-{name}"
        return manifest

    def delete_pod(self, _namespace: str, name: str, *, uid: str, grace_s: int | None) -> bool:
        return self.pods.pop(name, None) is not None

    def patch_pod(self, _namespace: str, name: str, **changes: Any) -> Any:
        for key, values in changes.items():
            for field, value in values.items():
                assert value is None
                self.pods[name]["metadata"][key].pop(field, None)
        return self.pods[name]

    def wait_pod(self, _namespace: str, name: str, condition: Any, *, timeout_s: float) -> Any:
        pod = self.pods.get(name)
        if not condition(pod):
            raise KubeTimeout(f"{name} is not as it should be after {timeout_s} s")
        return pod


class Silent:
    def phase(self, *_words: Any) -> None: ...
    def progress(self, *_words: Any) -> None: ...
    def warning(self, *_words: Any) -> None: ...


@pytest.fixture
def node() -> Node:
    return Node()


def tools(node: Node, cluster: Cluster) -> Tools:
    def opened(_host: Any, _node: str, sink: Callable[[Event], None]) -> Any:
        node.sink = sink
        return node

    numbers = itertools.count(1)
    return Tools(
        cluster=cluster,  # type: ignore[arg-type]
        open_session=opened,
        inventory={"node-a": [InventoryHost("node-a")]},
        reporter=Silent(),  # type: ignore[arg-type]
        own_digest=objects.DIGEST,
        new_run=lambda: f"{next(numbers):012x}",
        clock=Clock(),
        sleep=lambda _s: None,
        wall=lambda: 1764000000.0,
        interrupt=threading.Event(),
    )


def vault(peer: Peer, **keys: str) -> Vault:
    return Vault("the store", peer, NodeShelf(SPEC, peer.call), Keys(**keys))


def take(node: Node, pod: dict[str, Any] | None = None, wish: Wish | None = None, *, dry: bool = False) -> Any:
    pod = pod or objects.pod()
    work = Checkpoints(tools(node, Cluster(pod)), vault, Options("counter", "", "default"), wish or Wish())
    return work.take(pod, dry=dry)


def test_a_checkpoint_is_published_last_and_the_run_ended(node: Node) -> None:
    taken = take(node)
    assert (taken.outcome, taken.frozen_ms, taken.connections_closed) == ("stored", 120.0, 1)
    order = [op for op in node.asked if op in ("ferry_start", "checkpoint_save", "store_publish", "finish")]
    assert order == ["ferry_start", "checkpoint_save", "store_publish", "finish"]
    assert node.started["mode"] == "checkpoint"
    assert "status" not in node.started["object"]


def test_the_next_one_is_made_against_the_last(node: Node) -> None:
    first = take(node)
    second = take(node)
    assert (first.parent, second.parent) == ("", first.id)
    assert take(node, wish=Wish(incremental=False)).parent == ""


@pytest.mark.parametrize("fails", ["ferry_start", "checkpoint_save", "store_publish"])
def test_what_fails_ends_the_run_and_says_so(node: Node, fails: str) -> None:
    node.fails = fails
    taken = take(node)
    assert taken.outcome == "failed"
    assert fails in taken.error["message"]
    assert node.asked[-1] == "finish"


def test_a_dump_that_failed_stores_nothing(node: Node) -> None:
    node.end = {"outcome": "aborted", "error": {"type": "dump_failed", "message": "io_uring", "remedy": "no"}}
    taken = take(node)
    assert (taken.outcome, taken.error["message"]) == ("failed", "io_uring")
    assert "checkpoint_save" not in node.asked


def test_a_refused_pod_is_not_touched(node: Node) -> None:
    taken = take(node, objects.pod(change={"spec": {"hostNetwork": True}}))
    assert taken.outcome == "refused"
    assert "ferry_start" not in node.asked


def test_check_mode_only_decides(node: Node) -> None:
    assert take(node, dry=True).outcome == "planned"
    assert "ferry_start" not in node.asked


def test_what_a_dead_controller_left_is_removed_first(node: Node) -> None:
    node.runs.append({"run": RUN, "mode": "checkpoint", "alive": False})
    assert take(node).outcome == "stored"
    assert node.asked.index("finish") < node.asked.index("ferry_start")


def untouched(node: Node) -> bool:
    return not {"ferry_start", "checkpoint_save", "store_publish", "finish", "cancel"} & set(node.asked)


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize("busy", [True, False])
def test_a_checkpoint_that_somebody_takes_or_stores_is_waited_for(node: Node, dry: bool, busy: bool) -> None:
    entry = {"run": RUN, "mode": "checkpoint", "state": "copied" if busy else "frozen", "alive": True, "busy": busy}
    node.runs.append({**entry, "context": {"by": "she@there"}})
    taken = take(node, dry=dry)
    assert (taken.outcome, taken.refusals[0]["code"]) == ("refused", "migration_under_way")
    assert "started by she@there" in taken.refusals[0]["reason"]
    assert ("storing" in taken.refusals[0]["reason"]) is busy
    assert taken.refusals[0]["remedy"].startswith("Wait")
    assert untouched(node)


def test_what_a_killed_load_of_this_pod_left_is_removed_too(node: Node) -> None:
    node.runs.append({"run": RUN, "mode": "restore", "state": "loading", "alive": False})
    assert take(node).outcome == "stored"
    assert node.asked.index("finish") < node.asked.index("ferry_start")


@pytest.mark.parametrize("dry", [True, False])
@pytest.mark.parametrize(
    ("change", "recipient", "says"),
    [
        ({"store": {"kind": "s3", "region": "x"}}, "", "needs bucket"),
        ({"store": {"kind": "registry"}}, "", "needs url"),
        ({"signing_key": "none"}, "", "signing_key is no private"),
        ({"verify_key": "none"}, "", "verify_key is no public"),
        ({"identity": "none"}, "", "identity is no secret key"),
        ({}, "age1oops", "recipient is no public key"),
    ],
)
def test_what_is_known_to_be_wrong_is_said_before_the_pod_stands(
    node: Node, dry: bool, change: dict[str, Any], recipient: str, says: str
) -> None:
    given = {"store": None, "signing_key": None, "verify_key": None, "identity": None, **change}
    pod = objects.pod()
    opener = _shelf.vault_opener(given)
    work = Checkpoints(
        tools(node, Cluster(pod)), opener, Options("counter", "", "default"), Wish(recipient=recipient)
    )  # fmt: skip
    taken = work.take(pod, dry=dry)
    assert (taken.outcome, taken.error["type"], taken.error["phase"]) == ("refused", "invalid_input", "preflight")
    assert says in taken.error["message"] and untouched(node)


@pytest.mark.parametrize("dry", [True, False])
def test_a_store_that_does_not_answer_is_found_before_the_pod_stands(node: Node, dry: bool) -> None:
    node.fails = "store_entries"
    taken = take(node, dry=dry)
    assert taken.outcome == "refused" and "store_entries" in taken.error["message"]
    assert untouched(node)


def test_after_a_ctrl_c_no_pod_is_begun(node: Node) -> None:
    pod = objects.pod()
    given = tools(node, Cluster(pod))
    given.interrupt.set()
    taken = Checkpoints(given, vault, Options("counter", "", "default"), Wish()).take(pod)
    assert (taken.outcome, taken.error["type"]) == ("cancelled", "cancelled")
    assert node.asked == []
    assert pod_checkpoint.outcome({}, [taken])["failed"]


def test_a_ctrl_c_stops_the_storing(node: Node) -> None:
    """The node is told, takes away what it has stored, and the run is ended."""
    pod = objects.pod()
    given = tools(node, Cluster(pod))
    told = threading.Event()

    def checkpoint_save(**_args: Any) -> None:
        given.interrupt.set()
        assert told.wait(10)
        raise NodeError("node-a", "cancelled", "the work was stopped")

    node.checkpoint_save = checkpoint_save  # type: ignore[attr-defined]
    node.cancel = lambda **_args: told.set()  # type: ignore[attr-defined]
    taken = Checkpoints(given, vault, Options("counter", "", "default"), Wish()).take(pod)
    assert (taken.outcome, taken.error["message"]) == ("cancelled", "the work was stopped")
    assert node.asked[-1] == "finish" and "store_publish" not in node.asked


def test_a_node_that_does_not_stop_storing_is_not_waited_for(node: Node) -> None:
    pod = objects.pod()
    given = tools(node, Cluster(pod))
    over = threading.Event()
    times = itertools.count(0, 50)
    given = dataclasses.replace(given, clock=lambda: float(next(times)))
    node.end = {"outcome": "captured", "frozen_ms": 1.0}

    def checkpoint_save(**_args: Any) -> None:
        given.interrupt.set()
        over.wait(20)
        raise NodeError("node-a", "cancelled", "late")

    node.checkpoint_save = checkpoint_save  # type: ignore[attr-defined]
    taken = Checkpoints(given, vault, Options("counter", "", "default"), Wish()).take(pod)
    over.set()
    assert taken.outcome == "cancelled" and "does not stop" in taken.error["message"]
    assert node.asked.count("cancel") > 1


# --- restore ---------------------------------------------------------------------------------------------------------


def restores(node: Node) -> Restores:
    def opened(_host: Any, _node: str, _sink: Any) -> Any:
        return node

    peer = Peer("node-b", InventoryHost("node-b"), Sessions(opened, Clock(), lambda _s: None), EventLog())
    return Restores(peer, vault(peer), objects.DIGEST, clock=Clock(), sleep=lambda _s: None)


WANTED = Wanted("default", "counter")


def test_the_latest_is_armed_with_a_pod_of_its_own_name(node: Node) -> None:
    take(node)
    last = take(node)
    armed = restores(node).arm(WANTED, RUN)
    assert armed.checkpoint == last.id
    meta = armed.manifest["metadata"]
    assert meta["annotations"][ARRIVAL] == RUN
    assert meta["annotations"]["podferry.live/restored-from"] == last.id
    assert set(meta["labels"]) == {"podferry.live/run"}
    assert meta["name"] == f"counter-r{RUN[:6]}"


def test_in_the_place_of_the_original() -> None:
    source = kept_object(objects.pod())
    built = pod_of(source, Wanted("default", "counter", same_name=True), "id", node="node-b", run=RUN)
    assert built["metadata"]["name"] == "counter"
    assert built["metadata"]["labels"]["app"] == "counter"
    moved = pod_of(source, Wanted("default", "counter", to_namespace="other"), "id", node="node-b", run=RUN)
    assert moved["metadata"]["namespace"] == "other"


def test_no_such_checkpoint(node: Node) -> None:
    taken = take(node)
    with pytest.raises(PodferryError) as caught:
        restores(node).look(Wanted("default", "counter", "20200101T000000Z-000000000000"))
    assert taken.id in caught.value.remedy


def test_an_image_that_nobody_can_fetch_is_said_before_anything_is_loaded(node: Node) -> None:
    take(node)
    node.has_image = False
    with pytest.raises(PodferryError, match="is not on node"):
        restores(node).arm(WANTED, RUN)
    assert "restore_load" not in node.asked


def test_what_fails_after_the_load_is_ended(node: Node) -> None:
    take(node)
    node.fails = "restore_start"
    with pytest.raises(PodferryError):
        restores(node).arm(WANTED, RUN)
    assert node.asked[-1] == "finish"


@pytest.mark.parametrize("error", [SessionLost("node-b", "no answer within 184 s"), KeyboardInterrupt()])
def test_a_load_that_nobody_hears_the_end_of_is_ended(node: Node, error: BaseException) -> None:
    """The whole memory may be on the node, and the caller does not learn the run's id in time."""
    take(node)
    node.asked.clear()

    def restore_load(**_args: Any) -> None:
        raise error

    node.restore_load = restore_load  # type: ignore[attr-defined]
    with pytest.raises(type(error)):
        restores(node).arm(WANTED, RUN)
    assert node.asked[-1] == "finish"


def test_an_archive_that_nobody_hears_the_end_of_is_ended(node: Node) -> None:
    def archive_adopt(**_args: Any) -> None:
        raise SessionLost("node-a", "no answer within 184 s")

    node.archive_weigh = lambda **_args: {"unpacked": 1}  # type: ignore[attr-defined]
    node.archive_adopt = archive_adopt  # type: ignore[attr-defined]
    with pytest.raises(SessionLost):
        adopt(Archive("/a.tar", 1, "app", objects.pod()), RUN, node, vault(node), Wish(), lambda: 0.0)  # type: ignore[arg-type]
    assert node.asked[-1] == "finish"


def imported(node: Node, pod: dict[str, Any], **told: Any) -> dict[str, Any]:
    """Import an archive that says this of itself; what went into the store."""
    node.node = "node-a"  # type: ignore[attr-defined]
    node.archive_weigh = lambda **_args: {"unpacked": 1}  # type: ignore[attr-defined]
    node.archive_adopt = lambda **_args: {"created": "2026-11-25T17:41:44Z", **told}  # type: ignore[attr-defined]
    adopt(Archive("/a.tar", 1, "c", pod), RUN, node, vault(node), Wish(), lambda: 0.0)  # type: ignore[arg-type]
    fields: dict[str, Any] = node.saved["fields"]
    return fields


def test_an_archive_of_an_earlier_pod_of_that_name(node: Node) -> None:
    assert imported(node, objects.pod(), uid="uid-counter")["uid"] == "uid-counter"
    assert imported(node, objects.pod(), uid="")["uid"] == "uid-counter"
    node.saved, node.asked[:] = {}, []
    with pytest.raises(WrongCheckpoint, match="uid-before, not of the one with uid-counter"):
        imported(node, objects.pod(), uid="uid-before")
    assert node.saved == {} and node.asked[-1] == "finish"


def test_an_archive_of_a_static_pod(node: Node) -> None:
    mirror = objects.merged(objects.pod(), {"metadata": {"annotations": {"kubernetes.io/config.mirror": "abc"}}})
    assert imported(node, mirror, uid="abc")["uid"] == "uid-counter"


@pytest.mark.parametrize(
    ("image_id", "same"),
    [
        (IMAGE, True),
        ("mirror.example/counter@sha256:" + "7" * 64, True),
        ("", True),
        ("sha256:" + "8" * 64, True),  # of its configuration
        ("8" * 64, True),
        (IMAGE.replace("7" * 64, "8" * 64), False),
    ],
)
def test_an_archive_of_another_image(node: Node, image_id: str, same: bool) -> None:
    pod = objects.pod()
    pod["status"]["containerStatuses"][0]["imageID"] = IMAGE
    container = {"name": "c", "image": "counter", "image_id": image_id}
    if same:
        assert imported(node, pod, containers=[container])["containers"][0]["image_id"] == IMAGE
    else:
        with pytest.raises(WrongCheckpoint, match="8888, not of "):
            imported(node, pod, containers=[container])


def test_an_archive_of_another_image_by_its_configuration(node: Node) -> None:
    pod = objects.pod()
    pod["status"]["containerStatuses"][0]["imageID"] = "sha256:" + "7" * 64
    with pytest.raises(WrongCheckpoint):
        imported(node, pod, containers=[{"image_id": "8" * 64}])
    assert imported(node, pod, containers=[{"image_id": "7" * 64}])


def test_a_run_that_is_there_is_not_loaded_over(node: Node) -> None:
    take(node)
    node.asked.clear()
    node.runs.append({"run": RUN, "mode": "restore", "state": "prepared", "alive": True})
    with pytest.raises(PodferryError, match="already"):
        restores(node).arm(WANTED, RUN)
    assert not {"restore_load", "finish"} & set(node.asked)


def test_a_killed_load_is_swept_by_the_next(node: Node) -> None:
    take(node)
    node.asked.clear()
    node.runs.append({"run": "b" * 12, "mode": "restore", "state": "loading", "alive": False})
    restores(node).arm(WANTED, RUN)
    assert node.asked.index("finish") < node.asked.index("restore_load")


@pytest.mark.parametrize("ended", [True, False])
def test_the_end_is_asked_for_also_when_the_node_lists_nothing(node: Node, ended: bool) -> None:
    node.finish = lambda **_args: {"ended": ended}  # type: ignore[attr-defined]
    assert restores(node).end(RUN) is ended
    assert node.asked[-1] == "finish"


def test_waiting_tells_what_runs_or_why_it_does_not(node: Node) -> None:
    node.runs.append({"run": RUN, "alive": True, "record": {"resumed": True}, "restored": [{"name": "c", "pid": 7}]})
    assert restores(node).wait(RUN, 5) == [{"name": "c", "pid": 7}]
    node.runs[0] = {"run": RUN, "alive": False, "state": "aborted", "error": {"message": "no"}, "criu_log": ["a"]}
    with pytest.raises(RestoreFailed) as caught:
        restores(node).wait(RUN, 5)
    assert caught.value.log == ["a"]
    node.runs[0] = {"run": RUN, "alive": True, "state": "prepared"}
    with pytest.raises(PodferryError, match="not restored within"):
        restores(node).wait(RUN, 1)
    node.runs.clear()
    with pytest.raises(PodferryError, match="knows no run"):
        restores(node).wait(RUN, 1)
    assert restores(node).end(RUN) is False


# --- the pod ---------------------------------------------------------------------------------------------------------


def manifest() -> dict[str, Any]:
    return pod_of(kept_object(objects.pod()), WANTED, "id", node="node-b", run=RUN)


def test_the_pod_is_made_once_settled_once_and_taken_away_only_while_it_waits() -> None:
    cluster = Cluster()
    pod = RestoredPod(cluster, manifest())  # type: ignore[arg-type]
    assert pod.create(dry=True, timeout_s=1)[0] and not cluster.pods
    assert [pod.create(dry=False, timeout_s=1)[0] for _round in range(2)] == [True, False]
    assert [pod.settle(dry=False, timeout_s=1)[0] for _round in range(2)] == [True, False]
    (made,) = cluster.pods.values()
    assert ARRIVAL not in made["metadata"]["annotations"]
    assert pod.remove(dry=False, timeout_s=1)[0] is False
    assert cluster.pods


def test_a_pod_that_waits_goes() -> None:
    cluster = Cluster()
    pod = RestoredPod(cluster, manifest())  # type: ignore[arg-type]
    pod.create(dry=False, timeout_s=1)
    assert pod.remove(dry=False, timeout_s=1)[0] is True
    assert not cluster.pods


def test_another_pod_has_the_name() -> None:
    other = objects.pod(manifest()["metadata"]["name"])
    with pytest.raises(KubeError) as caught:
        RestoredPod(Cluster(other), manifest()).create(dry=False, timeout_s=1)  # type: ignore[arg-type]
    assert caught.value.conflict


def test_a_pod_that_does_not_become_ready() -> None:
    cluster = Cluster()
    cluster.ready = False
    pod = RestoredPod(cluster, manifest())  # type: ignore[arg-type]
    pod.create(dry=False, timeout_s=1)
    with pytest.raises(PodferryError, match="not Ready"):
        pod.settle(dry=False, timeout_s=1)


def test_only_a_manifest_of_a_restore_is_taken() -> None:
    with pytest.raises(PodferryError):
        RestoredPod(Cluster(), objects.pod())  # type: ignore[arg-type]


# --- which pods ------------------------------------------------------------------------------------------------------


def test_which_pods_are_meant(node: Node) -> None:
    two = Cluster(objects.pod("b"), objects.pod("a"), objects.pod("c", change={"status": {"phase": "Pending"}}))
    chosen = select(tools(node, two), Options("", "", "default"), selector="app=counter", everything=False)
    assert [p["metadata"]["name"] for p in chosen] == ["a", "b"]
    assert len(select(tools(node, two), Options("a", "", "default"), selector="", everything=False)) == 1
    with pytest.raises(PodferryError):
        select(tools(node, Cluster()), Options("", "", "default"), selector="", everything=True)
    with pytest.raises(PodferryError):
        select(tools(node, Cluster()), Options("", "", "default"), selector="", everything=False)
