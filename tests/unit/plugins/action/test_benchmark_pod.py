# SPDX-License-Identifier: Apache-2.0
"""The pod of a benchmark: which one is measured, and that it goes whatever became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.action.benchmark_pod import ActionModule, BenchmarkPod, manifest
from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kube.config import AuthOptions
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import (
    KubeError,
    KubeTimeout,
    KubeUnavailable,
)
from ansible_collections.podferry.live.plugins.module_utils._kube.rest import RestClient
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction

ARGUMENTS: dict[str, Any] = {
    "name": "counter",
    "namespace": "n",
    "node": "node-a",
    "image": "i",
    "mib": 256,
    "timeout": 5,
}
TICKS = "".join(f"tick {number} 0 {number * 10_000_000}\n" for number in range(1, 60))
WAITS = KubeError(400, "Bad Request", 'container "counter" in pod "counter" is waiting to start')


def pod(**change: Any) -> dict[str, Any]:
    """As the API has it when it runs."""
    made = manifest({**ARGUMENTS, **change})
    made["metadata"]["uid"] = "u"
    made["status"] = {"phase": "Running", "containerStatuses": [{"name": "counter", "state": {"running": {}}}]}
    return made


class Cluster:
    """One pod, or none."""

    def __init__(self, there: dict[str, Any] | None) -> None:
        self.there = there
        self.done: list[str] = []

    def get_pod(self, _namespace: str, _name: str) -> Any:
        return self.there

    def create_pod(self, _namespace: str, _manifest: Mapping[str, Any]) -> None:
        self.done.append("create")
        self.there = pod()

    def wait_pod(self, _namespace: str, name: str, condition: Any, *, timeout_s: float) -> None:
        if not condition(self.there):
            raise KubeTimeout(f"pod {name} after {timeout_s} s")

    def delete_pod(self, _namespace: str, _name: str, *, uid: str, grace_s: int) -> None:
        self.done.append(f"delete {uid} {grace_s}")


def benchmark(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, log: str | Exception = TICKS) -> BenchmarkPod:
    def read(_self: BenchmarkPod) -> str:
        if isinstance(log, Exception):
            raise log
        return log

    monkeypatch.setattr(BenchmarkPod, "_log", read)
    return BenchmarkPod(cluster, AuthOptions(), ARGUMENTS)  # type: ignore[arg-type]


def test_it_is_made_and_one_that_is_like_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(None)
    made = benchmark(monkeypatch, cluster)
    assert made.make() == {"changed": True, "gap": None}
    assert made.make() == {"changed": False, "gap": None}
    assert cluster.done == ["create"]


@pytest.mark.parametrize(
    ("change", "what"), [({"mib": 16}, "memory"), ({"node": "node-b"}, "node"), ({"image": "j"}, "image")]
)
def test_another_one_is_not_measured_in_its_place(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], what: str
) -> None:
    cluster = Cluster(pod(**change))
    with pytest.raises(PodferryError, match=f"with another .*{what}$") as caught:
        benchmark(monkeypatch, cluster).make()
    assert "state: absent" in caught.value.remedy
    assert cluster.done == []


def test_its_account_is_read_before_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(pod())
    removed = benchmark(monkeypatch, cluster).remove()
    assert (removed["changed"], removed["gap"]["lost"], removed["warnings"]) == (True, 0, [])
    assert cluster.done == ["delete u 0"]


def test_containers_that_an_admission_webhook_has_put_before_it_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    there = pod()
    there["spec"]["containers"].insert(0, {"name": "proxy", "image": "p"})
    there["status"]["containerStatuses"].append({"name": "proxy", "state": {"running": {}}})
    assert benchmark(monkeypatch, Cluster(there)).make()["changed"] is False


@pytest.mark.parametrize("error", [WAITS, KubeUnavailable("timed out")])
def test_one_without_a_log_goes_nevertheless(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """The API answers 400 for a container that waits, for its image say."""
    cluster = Cluster(pod())
    removed = benchmark(monkeypatch, cluster, error).remove()
    assert (removed["changed"], removed["gap"]) == (True, None)
    assert "could not be read" in removed["warnings"][0]
    assert cluster.done == ["delete u 0"]


def test_one_that_does_not_come_to_run_is_a_failure_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    late = KubeTimeout("pod n/counter: container counter is waiting: ErrImagePull after 5 s")

    def make(_self: BenchmarkPod) -> dict[str, Any]:
        raise late

    class Task:
        check_mode = False

    action = ActionModule.__new__(ActionModule)
    action._task = Task()
    monkeypatch.setattr(ControllerAction, "run", lambda *_arguments: {})
    monkeypatch.setattr(action, "validate_argument_spec", lambda **_spec: (None, {**ARGUMENTS, "state": "present"}))
    monkeypatch.setattr(RestClient, "from_options", lambda _options: None)
    monkeypatch.setattr(BenchmarkPod, "make", make)
    made = action.run()
    assert made["failed"] and "ErrImagePull" in made["msg"]
