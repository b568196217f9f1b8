# SPDX-License-Identifier: Apache-2.0
"""The kubelet's parts that need no runtime: status, logs, volumes, discovery of columns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podferry_standin.api import tables
from podferry_standin.api.resources import PODS
from podferry_standin.kubelet import logs, status, volumes
from podferry_standin.kubelet.config import flag, quantity
from podferry_standin.kubelet.states import CREATED, EXITED, RUNNING

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
    pod["metadata"]["deletionTimestamp"] = "x"
    assert tables.pod_reason(pod) == "Terminating"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [("true", True), ("True", True), ("1", True), ("", True), ("false", False), ("False", False), ("0", False)],
)
def test_truth_in_a_query_is_read_as_kubernetes_does(query: str, wanted: bool) -> None:
    assert flag({"stdout": [query]}, "stdout") is wanted
    assert flag({}, "stdout") is False
