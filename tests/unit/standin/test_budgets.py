# SPDX-License-Identifier: Apache-2.0
"""Disruption budgets: what they count, and the evictions they allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from simulated import SimulatedKubelets

from podferry_standin.api import errors
from podferry_standin.api.controllers import Manager
from podferry_standin.api.registry import Registry
from podferry_standin.api.resources import BY_NAME, DEPLOYMENTS, PODS
from podferry_standin.api.storage import Store

Obj = dict[str, Any]
BUDGETS = BY_NAME["poddisruptionbudgets"]
MERGE = "application/merge-patch+json"


@pytest.fixture
def manager() -> Manager:
    registry = Registry(Store())
    made = Manager(registry)
    made.controllers.append(SimulatedKubelets(registry))
    template = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": {"app": "d"}}, "template": template}
    made.settle()
    registry.create(DEPLOYMENTS, "default", {"metadata": {"name": "d"}, "spec": spec})
    made.settle()
    return made


def names(manager: Manager) -> list[str]:
    return [pod["metadata"]["name"] for pod in manager.registry.store.list(PODS)]


def budget(manager: Manager, **spec: Any) -> Callable[[], tuple[int, int, int, int]]:
    """A budget; what it says when called: allowed, healthy, desired, expected."""
    selector = {"matchLabels": {"app": "d"}}
    manager.registry.create(BUDGETS, "default", {"metadata": {"name": "b"}, "spec": {"selector": selector, **spec}})

    def says() -> tuple[int, int, int, int]:
        manager.settle()
        status = manager.registry.get(BUDGETS, "default", "b")["status"]
        keys = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
        return tuple(status[key] for key in keys)  # type: ignore[return-value]

    return says


def refused(call: Callable[[], Any]) -> errors.ApiError:
    with pytest.raises(errors.ApiError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"minAvailable": 2}, (1, 3, 2, 3)),
        ({"minAvailable": 5}, (0, 3, 5, 3)),
        ({"minAvailable": "50%"}, (1, 3, 2, 3)),
        ({"maxUnavailable": 1}, (1, 3, 2, 3)),
        ({"maxUnavailable": "50%"}, (2, 3, 1, 3)),
    ],
)
def test_what_a_budget_says(manager: Manager, spec: Obj, said: tuple[int, ...]) -> None:
    assert budget(manager, **spec)() == said
    (condition,) = manager.registry.get(BUDGETS, "default", "b")["status"]["conditions"]
    wanted = ("True", "SufficientPods") if said[0] else ("False", "InsufficientPods")
    assert (condition["type"], condition["status"], condition["reason"]) == ("DisruptionAllowed", *wanted)


def test_pods_that_are_missing_count_as_unavailable(manager: Manager) -> None:
    """maxUnavailable looks at what the Deployment wants, not at what there happens to be."""
    budget(manager, maxUnavailable=1)
    manager.registry.create(
        BY_NAME["resourcequotas"], "default", {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}}
    )
    manager.registry.delete(PODS, "default", names(manager)[0], {"gracePeriodSeconds": 0})
    for _round in range(5):  # it does not come to rest: the ReplicaSet tries again and again
        manager.reconcile()
    status = manager.registry.get(BUDGETS, "default", "b")["status"]
    assert (status["disruptionsAllowed"], status["currentHealthy"], status["expectedPods"]) == (0, 2, 3)


def test_an_eviction_uses_the_budget_up_and_its_replacement_brings_it_back(manager: Manager) -> None:
    says, registry = budget(manager, minAvailable=2), manager.registry
    says()
    first, second, _third = names(manager)
    registry.evict("default", first, None, dry_run=True)
    assert says() == (1, 3, 2, 3) and "deletionTimestamp" not in registry.get(PODS, "default", first)["metadata"]
    registry.evict("default", first, None)
    assert registry.get(BUDGETS, "default", "b")["status"]["disruptionsAllowed"] == 0, "at once"
    going = registry.get(PODS, "default", first)
    assert going["status"]["conditions"][-1]["reason"] == "EvictionByEvictionAPI"
    assert refused(lambda: registry.evict("default", second, None)).code == 429
    registry.evict("default", first, None)  # it goes anyway
    assert says() == (1, 3, 2, 3) and first not in names(manager)


def test_a_budget_that_was_not_looked_at_yet_says_later(manager: Manager) -> None:
    budget(manager, minAvailable=1)
    error = refused(lambda: manager.registry.evict("default", names(manager)[0], None))
    assert (error.code, (error.details or {})["retryAfterSeconds"]) == (429, 10)


def test_two_budgets_are_one_too_many(manager: Manager) -> None:
    says, registry = budget(manager, minAvailable=1), manager.registry
    other = {"metadata": {"name": "c"}, "spec": {"minAvailable": 1, "selector": {}}}
    registry.create(BUDGETS, "default", other)
    says()
    assert refused(lambda: registry.evict("default", names(manager)[0], None)).code == 500


def test_a_pending_pod_may_always_be_evicted(manager: Manager) -> None:
    says, registry = budget(manager, minAvailable=3), manager.registry
    assert says() == (0, 3, 3, 3)
    pending = {
        "metadata": {"name": "x", "labels": {"app": "d"}},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]},
    }
    registry.create(PODS, "default", pending)
    registry.evict("default", "x", None)
    assert "x" not in names(manager), "it had no node yet"


def test_a_controller_without_a_number_fails_the_count(manager: Manager) -> None:
    says, registry = budget(manager, maxUnavailable=1), manager.registry
    reference = {"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "u", "controller": True}
    body = {"metadata": {"name": "o", "labels": {"app": "d"}, "ownerReferences": [reference]}}
    registry.create(PODS, "default", {**body, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
    assert says()[0] == 0
    (condition,) = registry.get(BUDGETS, "default", "b")["status"]["conditions"]
    assert condition["reason"] == "SyncFailed"
    error = refused(lambda: registry.evict("default", names(manager)[0], None))
    assert "failed sync" in (error.details or {})["causes"][0]["message"]
