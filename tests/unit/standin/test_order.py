# SPDX-License-Identifier: Apache-2.0
"""Which containers start and stop when: init containers, sidecars and ordinary ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from podferry_standin.kubelet import order
from podferry_standin.kubelet.states import CREATED, EXITED, RUNNING

Obj = dict[str, Any]

UP = SimpleNamespace(state=RUNNING, exit_code=0)
HALF = SimpleNamespace(state=CREATED, exit_code=0)
OK = SimpleNamespace(state=EXITED, exit_code=0)
BAD = SimpleNamespace(state=EXITED, exit_code=1)


def spec(*init: str, policy: str = "Always", main: tuple[str, ...] = ("m", "n")) -> Obj:
    """Init containers whose names begin with ``s`` are sidecars."""
    made = [{"name": name, **({"restartPolicy": "Always"} if name[0] == "s" else {})} for name in init]
    return {"restartPolicy": policy, "initContainers": made, "containers": [{"name": name} for name in main]}


def starts(of: Obj, unstarted: tuple[str, ...] = (), **latest: Any) -> list[str] | None:
    """The names that start; None when the pod has ended."""
    plan = order.plan(of, latest, lambda container, _now: container["name"] not in unstarted)
    return None if plan.ended else [container["name"] for container in plan.start]


def test_without_init_containers_all_start_in_order() -> None:
    assert starts(spec()) == ["m", "n"]
    assert starts(spec(), m=UP) == ["n"]
    assert starts(spec(), m=UP, n=BAD) == ["n"]
    assert starts(spec(), m=HALF, n=UP) == ["m"]


def test_init_containers_one_after_another_each_to_its_end() -> None:
    of = spec("a", "b")
    assert starts(of) == ["a"]
    assert starts(of, a=UP) == []
    assert starts(of, a=OK) == ["b"]
    assert starts(of, a=OK, b=UP) == []
    assert starts(of, a=OK, b=OK) == ["m", "n"]
    assert starts(of, a=OK, b=BAD) == ["b"]


def test_finished_init_containers_do_not_run_again() -> None:
    assert starts(spec("a", "b"), b=OK) == ["m", "n"], "the first was removed; the last tells how far the pod is"
    assert starts(spec("a", "b"), m=UP, n=BAD) == ["n"], "all were removed; a running container tells the same"
    assert starts(spec("a", "b"), a=OK, b=OK, m=BAD, n=BAD) == ["m", "n"]


@pytest.mark.parametrize(("policy", "wanted"), [("Never", None), ("OnFailure", ["a"]), ("Always", ["a"])])
def test_an_init_container_that_fails(policy: str, wanted: list[str] | None) -> None:
    assert starts(spec("a", policy=policy), a=BAD) == wanted


def test_sidecars_start_before_and_their_startup_gates_the_next() -> None:
    of = spec("s1", "a", "s2")
    assert starts(of) == ["s1"]
    assert starts(of, ("s1",), s1=UP) == []
    assert starts(of, s1=UP) == ["a"]
    assert starts(of, s1=UP, a=UP) == []
    assert starts(of, s1=UP, a=OK) == ["s2"]
    assert starts(of, ("s2",), s1=UP, a=OK, s2=UP) == []
    assert starts(of, s1=UP, a=OK, s2=UP) == ["m", "n"]


def test_a_sidecar_that_ends_is_started_again_at_any_time() -> None:
    of = spec("s1", "a", "s2")
    assert starts(of, s1=BAD, a=UP) == ["s1"], "while the pod is initialized"
    assert starts(of, s1=OK, a=OK, s2=UP, m=UP, n=UP) == ["s1"], "also when it ended well"
    assert starts(of, s1=UP, a=OK, s2=BAD, m=UP, n=BAD) == ["s2", "n"]
    assert starts(of, m=UP, n=UP) == ["s1", "s2"], "also when nothing is left of it"
    assert starts(spec("s1", policy="Never"), s1=BAD, m=UP, n=UP) == ["s1"], "whatever the pod's policy"


def test_sidecars_do_not_keep_a_pod_alive() -> None:
    of = spec("s", policy="Never")
    assert starts(of, s=UP, m=OK, n=UP) == []
    assert starts(of, s=UP, m=OK, n=BAD) is None
    assert starts(of, s=BAD, m=OK, n=UP) == ["s"]
    assert starts(spec("s", policy="OnFailure"), s=UP, m=OK, n=BAD) == ["n"]


def test_the_end_takes_sidecars_last_and_backwards() -> None:
    of = spec("s1", "a", "s2")
    assert order.stop_groups(of, {"m", "n", "s1", "s2"}) == [{"m", "n"}, {"s2"}, {"s1"}]
    assert order.stop_groups(of, {"s1", "a"}) == [{"a"}, {"s1"}]
    assert order.stop_groups(of, set()) == []


def test_a_lost_sandbox_is_not_replaced_when_the_pod_has_ended() -> None:
    assert not order.has_ended(spec(), {"m": OK, "n": OK})
    assert order.has_ended(spec(policy="Never"), {"m": BAD})
    assert not order.has_ended(spec(policy="Never"), {})
    assert order.has_ended(spec(policy="OnFailure"), {"m": OK, "n": OK})
    assert not order.has_ended(spec(policy="OnFailure"), {"m": OK, "n": BAD})
