# SPDX-License-Identifier: Apache-2.0
"""The kubelet's parts that need no runtime: status, logs, volumes, discovery of columns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podferry_standin.api import defaults, patch, tables
from podferry_standin.api.resources import PODS
from podferry_standin.kubelet import logs, status, volumes
from podferry_standin.kubelet.query import flag
from podferry_standin.kubelet.states import CREATED, EXITED, RUNNING
from podferry_standin.quantities import quantity

Obj = dict[str, Any]
SPEC = {"name": "c", "image": "i:1"}


def attempt(state: int, number: int = 0, code: int = 0, reason: str = "", started: int = 10**9) -> Any:
    made = SimpleNamespace(
        id="0" * 64,
        metadata=SimpleNamespace(name="c", attempt=number),
        state=state,
        started_at=started,
        finished_at=2 * 10**9,
    )
    made.exit_code, made.reason, made.message, made.image_ref, made.image = (
        code,
        reason,
        "",
        "sha256:1",
        SimpleNamespace(image="i:1"),
    )
    return made


def built(
    *,
    current: Any = None,
    previous: Any = None,
    waiting: Any = None,
    policy: str = "Always",
    terminating: bool = False,
    ready: bool = True,
) -> Obj:
    pod = {
        "metadata": {"generation": 1},
        "spec": {"restartPolicy": policy, "containers": [SPEC]},
        "status": {"phase": "Pending"},
    }
    container = status.ContainerView(SPEC, current, previous, waiting, probed_ready=ready)
    return status.build(status.PodView(pod, "10.0.0.1", "containerd", "10.1.1.1", True, terminating, [container]))


def test_created_is_still_creating() -> None:
    made = built(current=attempt(CREATED))
    assert made["phase"] == "Pending" and made["containerStatuses"][0]["state"] == {
        "waiting": {"reason": "ContainerCreating"}
    }
    assert "podIP" not in made and "containerID" not in made["containerStatuses"][0]


def test_running_and_ready_are_two_things() -> None:
    made = built(current=attempt(RUNNING), ready=False)
    assert made["phase"] == "Running" and made["containerStatuses"][0]["ready"] is False
    assert next(c for c in made["conditions"] if c["type"] == "Ready")["reason"] == "ContainersNotReady"


@pytest.mark.parametrize(
    ("policy", "code", "phase"),
    [
        ("Never", 0, "Succeeded"),
        ("Never", 1, "Failed"),
        ("OnFailure", 0, "Succeeded"),
        ("OnFailure", 1, "Running"),
        ("Always", 0, "Running"),
    ],
)
def test_phases_at_the_end(policy: str, code: int, phase: str) -> None:
    assert built(current=attempt(EXITED, code=code), policy=policy)["phase"] == phase


def test_a_terminating_pod_ends_whatever_its_policy() -> None:
    assert built(current=attempt(EXITED, code=137), terminating=True)["phase"] == "Failed"
    assert built(current=attempt(EXITED), terminating=True)["phase"] == "Succeeded"


def test_a_failed_start_waits_with_its_reason() -> None:
    made = built(current=attempt(EXITED, 2, 128, "StartError", started=0), waiting=("RunContainerError", "no"))
    entry = made["containerStatuses"][0]
    assert made["phase"] == "Pending" and entry["restartCount"] == 2
    assert entry["state"] == {"waiting": {"reason": "RunContainerError", "message": "no"}}
    assert entry["lastState"]["terminated"]["exitCode"] == 128


def test_a_restart_shows_the_attempt_before() -> None:
    entry = built(current=attempt(RUNNING, 1), previous=attempt(EXITED, 0, 3))["containerStatuses"][0]
    assert entry["restartCount"] == 1 and entry["lastState"]["terminated"]["exitCode"] == 3


def pod_status(
    main: dict[str, Any],
    init: dict[str, Any] | None = None,
    *,
    policy: str = "Always",
    old: Obj | None = None,
    **spec: Any,
) -> Obj:
    """The status of a pod with these attempts by name; init containers that begin with ``s`` are sidecars."""

    def view(name: str, current: Any, sidecar: bool) -> status.ContainerView:
        body = {"name": name, "image": "i:1", **({"restartPolicy": "Always"} if sidecar else {})}
        if isinstance(current, status.ContainerView):
            return status.ContainerView(body, current.current, current.previous, current.waiting, current.probed_ready)
        return status.ContainerView(body, current)

    inits = [view(name, current, name[0] == "s") for name, current in (init or {}).items()]
    mains = [view(name, current, False) for name, current in main.items()]
    body = {"restartPolicy": policy, "containers": [v.spec for v in mains], "initContainers": [v.spec for v in inits]}
    pod = {"metadata": {"generation": 1}, "spec": {**body, **spec}, "status": old or {"phase": "Pending"}}
    return status.build(status.PodView(pod, "10.0.0.1", "containerd", "10.1.1.1", True, False, mains, inits))


def condition(made: Obj, kind: str) -> tuple[str, str]:
    found = next(item for item in made["conditions"] if item["type"] == kind)
    return found["status"], found.get("reason", "")


def test_a_pod_is_pending_until_all_its_containers_were_started() -> None:
    assert pod_status({"a": attempt(RUNNING), "b": None})["phase"] == "Pending"
    assert pod_status({"a": attempt(RUNNING), "b": attempt(RUNNING)})["phase"] == "Running"
    crashed = status.ContainerView({}, attempt(EXITED, 1, 3), None, ("CrashLoopBackOff", ""))
    made = pod_status({"a": attempt(RUNNING), "b": crashed})
    assert made["phase"] == "Running" and [c["restartCount"] for c in made["containerStatuses"]] == [0, 1]
    assert condition(made, "Ready") == ("False", "ContainersNotReady")


def test_init_containers_in_the_status() -> None:
    made = pod_status({"m": None}, {"a": attempt(EXITED), "b": attempt(RUNNING)})
    first, second = made["initContainerStatuses"]
    assert made["phase"] == "Pending" and first["ready"] and not second["ready"]
    assert first["state"]["terminated"]["reason"] == "Completed" and first["started"] is False
    assert condition(made, "Initialized") == ("False", "ContainersNotInitialized")
    assert next(c for c in made["conditions"] if c["type"] == "Initialized")["message"].endswith("status: [b]")
    assert made["containerStatuses"][0]["state"] == {"waiting": {"reason": "PodInitializing"}}
    made = pod_status({"m": attempt(RUNNING)}, {"a": attempt(EXITED), "b": attempt(EXITED)})
    assert made["phase"] == "Running" and condition(made, "Initialized") == ("True", "")


def test_an_init_container_that_fails_for_good_fails_the_pod() -> None:
    made = pod_status({"m": None}, {"a": attempt(EXITED, code=1)}, policy="Never")
    assert made["phase"] == "Failed" and condition(made, "Initialized") == ("False", "ContainersNotInitialized")
    waiting = status.ContainerView({}, attempt(EXITED, 2, 1), None, ("CrashLoopBackOff", "x"))
    made = pod_status({"m": None}, {"a": waiting})
    assert made["phase"] == "Pending" and made["initContainerStatuses"][0]["restartCount"] == 2


def test_what_the_runtime_forgot_stays_in_the_status() -> None:
    old = pod_status({"m": attempt(RUNNING)}, {"a": attempt(EXITED)})
    made = pod_status({"m": attempt(RUNNING)}, {"a": None}, old=old)
    assert made["initContainerStatuses"] == old["initContainerStatuses"] and made["phase"] == "Running"


def test_sidecars_in_the_status() -> None:
    made = pod_status({"m": None}, {"s": attempt(RUNNING)})
    assert made["phase"] == "Pending" and condition(made, "Initialized") == ("True", "")
    assert made["initContainerStatuses"][0]["ready"] and made["initContainerStatuses"][0]["started"]
    made = pod_status({"m": attempt(RUNNING)}, {"s": attempt(RUNNING)})
    assert made["phase"] == "Running" and condition(made, "Ready") == ("True", "")
    unready = status.ContainerView({}, attempt(RUNNING), probed_ready=False)
    made = pod_status({"m": attempt(RUNNING)}, {"s": unready})
    assert condition(made, "ContainersReady") == ("False", "ContainersNotReady"), "a sidecar counts"
    made = pod_status({"m": attempt(EXITED)}, {"s": attempt(EXITED, code=137)}, policy="Never")
    assert made["phase"] == "Succeeded", "how a sidecar ends does not matter"
    made = pod_status({"m": attempt(EXITED)}, {"s": attempt(RUNNING)}, policy="Never")
    assert made["phase"] == "Running"


def test_readiness_gates_and_conditions_of_others() -> None:
    gates = [{"conditionType": "example.com/ok"}]
    made = pod_status({"m": attempt(RUNNING)}, readinessGates=gates)
    assert (condition(made, "ContainersReady")[0], condition(made, "Ready")) == (
        "True",
        ("False", "ReadinessGatesNotReady"),
    )
    theirs = {"type": "example.com/ok", "status": "True", "reason": "Theirs"}
    made = pod_status({"m": attempt(RUNNING)}, readinessGates=gates, old={"phase": "Pending", "conditions": [theirs]})
    assert condition(made, "Ready") == ("True", "") and theirs in made["conditions"]


def test_the_status_patch_leaves_the_conditions_of_others() -> None:
    pod = {"metadata": {}, "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}}
    made = pod_status({"m": None}, old=pod["status"])
    theirs = {"type": "example.com/ok", "status": "True", "lastProbeTime": None, "lastTransitionTime": None}
    pod["status"]["conditions"].append(theirs)  # set while the kubelet was at work
    after = patch.apply(pod, {"status": status.patch_of(made)}, "application/strategic-merge-patch+json")
    defaults.pod_status(after["status"])
    assert after["status"]["conditions"] == [theirs, *made["conditions"]]
    gone = pod_status({"m": attempt(RUNNING)}, old=after["status"])
    after = patch.apply(after, {"status": status.patch_of(gone)}, "application/strategic-merge-patch+json")
    defaults.pod_status(after["status"])
    assert after["status"] == gone, "reasons that no longer hold are gone"


LOG = (
    b"2026-01-01T00:00:00.000000001Z stdout F one\n"
    b"2026-01-01T00:00:01.000000001Z stdout P tw\n"
    b"2026-01-01T00:00:01.000000002Z stdout F o\n"
    b"2026-01-01T00:00:02.000000001Z stderr F three\n"
)


def read(path: Path, **query: str) -> bytes:
    return b"".join(logs.read(path, logs.Options.parse(query), lambda: False))


def test_logs(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(LOG)
    assert read(path) == b"one\ntwo\nthree\n"
    assert read(path, tailLines="1") == b"three\n"
    assert read(path, tailLines="0") == b""
    assert read(path, limitBytes="5") == b"one\nt"
    assert read(path, sinceTime="2026-01-01T00:00:02Z") == b"three\n"
    assert read(path, tailLines="1", timestamps="true") == b"2026-01-01T00:00:02.000000001Z three\n"
    assert read(path, follow="true") == b"one\ntwo\nthree\n"


def test_volumes_change_by_one_rename(tmp_path: Path) -> None:
    volumes.write_atomically(tmp_path, {"a": (b"1", 0o644), "d/e": (b"2", 0o600)})
    first = (tmp_path / "..data").resolve()
    assert (tmp_path / "a").read_bytes() == b"1" and (tmp_path / "d/e").read_bytes() == b"2"
    volumes.write_atomically(tmp_path, {"a": (b"1", 0o644), "d/e": (b"2", 0o600)})
    assert (tmp_path / "..data").resolve() == first, "the same: nothing is written"
    volumes.write_atomically(tmp_path, {"b": (b"3", 0o644)})
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("..")) == ["b"]
    assert not first.exists() and (tmp_path / "b").read_bytes() == b"3"


def test_quantities() -> None:
    assert [quantity(text) for text in ("1", "500m", "64Mi", "1k", 2)] == [1, 0.5, 64 << 20, 1000, 2]


def test_columns() -> None:
    pod: Obj = {
        "metadata": {"name": "p", "creationTimestamp": None},
        "spec": {"containers": [SPEC]},
        "status": built(current=attempt(RUNNING)),
    }
    made = tables.table(PODS, [pod], "1")
    cells = dict(zip((column["name"] for column in made["columnDefinitions"]), made["rows"][0]["cells"], strict=True))
    assert (cells["Ready"], cells["Status"], cells["Restarts"], cells["IP"]) == ("1/1", "Running", 0, "10.1.1.1")
    assert cells["Readiness Gates"] == "<none>"
    pod["metadata"]["deletionTimestamp"] = "x"
    assert tables.pod_reason(pod) == "Terminating"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [("true", True), ("True", True), ("1", True), ("", True), ("false", False), ("False", False), ("0", False)],
)
def test_truth_in_a_query_is_read_as_kubernetes_does(query: str, wanted: bool) -> None:
    assert flag({"stdout": [query]}, "stdout") is wanted
    assert flag({}, "stdout") is False


def test_columns_count_sidecars_and_say_how_far_initialization_is() -> None:
    def cells(made: Obj, *init: str) -> tuple[str, str, int]:
        inits = [{"name": name, **({"restartPolicy": "Always"} if name[0] == "s" else {})} for name in init]
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [SPEC], "initContainers": inits}, "status": made}
        row = tables.table(PODS, [pod], "1")["rows"][0]["cells"]
        return row[1], row[2], row[3]

    assert cells(pod_status({"c": None}, {"a": attempt(EXITED), "b": attempt(RUNNING)}), "a", "b") == (
        "0/1",
        "Init:1/2",
        0,
    )
    failed = pod_status({"c": None}, {"a": attempt(EXITED, 3, 1)}, policy="Never")
    assert cells(failed, "a") == ("0/1", "Init:Error", 3)
    up = pod_status({"c": attempt(RUNNING, 1)}, {"s": attempt(RUNNING, 2), "a": attempt(EXITED, 5)})
    assert cells(up, "s", "a") == ("2/2", "Running", 3)
