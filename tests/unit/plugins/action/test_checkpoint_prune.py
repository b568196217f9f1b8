# SPDX-License-Identifier: Apache-2.0
"""What may be pruned is said by whom it is asked of, not by what was left empty."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.action.checkpoint_prune import ARGUMENTS, policy
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput


def given(**arguments: Any) -> dict[str, Any]:
    return {name: option.get("default") for name, option in ARGUMENTS.items()} | {"count": 5} | arguments


@pytest.mark.parametrize("namespace", ["", None])
def test_a_pod_has_a_namespace(namespace: str | None) -> None:
    """A variable that is empty must not make that name's pods of every namespace of it."""
    with pytest.raises(InvalidInput, match="namespace is empty"):
        policy(given(pod="web", namespace=namespace))


@pytest.mark.parametrize("place", [{}, {"namespace": "prod"}, {"namespace": "prod", "pod": "web"}])
def test_all_one_namespace_or_one_pod(place: dict[str, str]) -> None:
    assert policy(given(**place)).count == 5
