# SPDX-License-Identifier: Apache-2.0
"""Watches that run beside a migration: what they see, what they say, and that they end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError, KubeTimeout, KubeUnavailable
from ansible_collections.podferry.live.plugins.module_utils._migrate import ending, lookout
from ansible_collections.podferry.live.plugins.module_utils._migrate.ports import in_a_thread
from ansible_collections.podferry.live.plugins.module_utils._migrate.session import EventLog
from doubles import objects

Pod = Optional[Mapping[str, Any]]  # noqa: UP045 - pylint takes the other form for an operation


class Api:
    """Shows a watch one state of the pod after another; errors are raised, and so is the end of a slice."""

    def __init__(self, *states: Any) -> None:
        self.states = list(states)
        self.marked: list[tuple[str, str]] = []

    def wait_pod(self, _namespace: str, name: str, condition: Callable[[Pod], bool], *, timeout_s: float) -> Pod:
        while self.states:
            state = self.states.pop(0)
            if isinstance(state, Exception):
                raise state
            if condition(state):
                return dict(state) if state is not None else None
        raise KubeTimeout(f"pod {name} after {timeout_s}")

    def mark_not_ready(self, _namespace: str, name: str, *, uid: str, reason: str, message: str) -> None:
        self.marked.append((name, uid))


def run_with(api: Api) -> Any:
    plan = SimpleNamespace(namespace="default", pod="counter", target_pod="counter-m1", target_node="node-b")
    tools = SimpleNamespace(cluster=api, beside=in_a_thread, clock=time.monotonic)
    return SimpleNamespace(id="0123456789ab", plan=plan, tools=tools, events=EventLog())


def pod(ready: bool = True, uid: str = "u", **status: Any) -> dict[str, Any]:
    made = objects.pod(change={"metadata": {"uid": uid}})
    made["status"] = {**objects.running_status(ready), **status}
    return made


def leaving() -> dict[str, Any]:
    made = pod()
    made["metadata"]["deletionTimestamp"] = "now"
    return made


@pytest.mark.parametrize(
    ("end", "word"),
    [
        (None, "deleted"),
        (pod(uid="another"), "deleted"),
        (leaving(), "deleted"),
        (pod(phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource"), "OutOfcpu"),
    ],
    ids=["gone", "another of the name", "terminating", "not taken by its kubelet"],
)
def test_a_target_that_will_not_be_is_told(end: Any, word: str) -> None:
    trouble = (KubeUnavailable("refused"), KubeError(503, "ServiceUnavailable", "starting"))
    run = run_with(Api(pod(False), *trouble, pod(), end))
    with lookout.TargetGone(run, "counter-m1", "u"):
        event = run.events.take(10.0)
    assert (event.name, event.run) == ("target_gone", run.id)
    assert word in event.data["message"]


def test_a_target_that_is_there_is_no_news() -> None:
    api = Api(pod(False), pod(), KubeTimeout("slice"), pod())
    run = run_with(api)
    with lookout.TargetGone(run, "counter-m1", "u"):
        while api.states:
            time.sleep(0.01)
    assert run.events.take(0.0) is None


def test_what_is_not_wanted_any_more_says_nothing() -> None:
    run = run_with(Api(None))
    watch = lookout.TargetGone(run, "counter-m1", "u")
    watch.__exit__()
    watch._watch()
    assert run.events.take(0.0) is None


def test_without_the_right_to_look_nobody_looks() -> None:
    run = run_with(Api(KubeError(403, "Forbidden", "no"), None))
    lookout.TargetGone(run, "counter-m1", "u")._watch()
    assert run.events.take(0.0) is None


def test_a_source_is_marked_whenever_its_kubelet_says_ready() -> None:
    api = Api(pod(False), pod(), pod(False), pod(), leaving())
    lookout.Unrouted(run_with(api), "counter", "u")._watch()
    assert api.marked == [("counter", "u")] * 2


@pytest.mark.parametrize(("mode", "marks"), [("twin", 1), ("copy", 0)])
def test_a_copys_source_is_not_marked(mode: str, marks: int) -> None:
    run = run_with(Api())
    run.plan.mode, run.plan.uid = mode, "u"
    with ending.unrouted(run, ready=True):
        assert len(run.tools.cluster.marked) == marks
