# SPDX-License-Identifier: Apache-2.0
"""PodDisruptionBudgets, by the rules of the eviction API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._plan.disruption import check_budgets
from ansible_collections.podferry.live.plugins.module_utils._plan.options import Options
from ansible_collections.podferry.live.plugins.module_utils._plan.plan import Snapshot, plan
from doubles import objects

NONE_LEFT: dict[str, Any] = {"status": {"disruptionsAllowed": 0}}
UNREADY = {"status": objects.running_status(ready=False)}


def allowed(change: dict[str, Any], pod: dict[str, Any] | None = None) -> bool:
    return not check_budgets(objects.pod(change=pod), [objects.budget(change=change)])


@pytest.mark.parametrize(
    ("change", "pod", "may"),
    [
        ({}, None, True),
        (NONE_LEFT, None, False),
        ({**NONE_LEFT, "spec": {"selector": {"matchLabels": {"app": "other"}}}}, None, True),
        ({"metadata": {"generation": 2}}, None, False),
        # a pod that is not Ready: only a budget that is short keeps it, unless it says AlwaysAllow
        ({"status": {"disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2}}, UNREADY, True),
        ({"status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 2}}, UNREADY, False),
        (
            {
                "spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"},
                "status": {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 2},
            },
            UNREADY,
            True,
        ),
    ],
)
def test_a_budget(change: dict[str, Any], pod: dict[str, Any] | None, may: bool) -> None:
    assert allowed(change, pod) is may


def test_an_empty_selector_means_all_pods_and_none_means_no_pod() -> None:
    budget = objects.budget(allowed=0)
    budget["spec"]["selector"] = {}
    assert check_budgets(objects.pod(), [budget])
    budget["spec"]["selector"] = None
    assert not check_budgets(objects.pod(), [budget])


def test_a_twin_is_no_disruption() -> None:
    seen = Snapshot(run="abcdef012345", own_digest="", pod=objects.pod(), budgets=[objects.budget(allowed=0)])
    options = Options("counter", "node-b", "default")
    assert "disruption_budget" in [r.code for r in plan(seen, options).refusals]
    assert "disruption_budget" not in [r.code for r in plan(seen, replace(options, name="new")).refusals]
