# SPDX-License-Identifier: Apache-2.0
"""The pod that an archive is imported for: one container, whoever says what it is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.podferry.live.plugins.action import checkpoint_import
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from doubles import objects

SIDECAR = {"name": "log", "image": "log", "restartPolicy": "Always"}


def run(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> dict[str, Any]:
    """In check mode, with an archive that is there."""
    monkeypatch.setattr(ActionBase, "run", lambda *_args: {})
    cluster = SimpleNamespace(get_pod=lambda _namespace, name: objects.pod(name) if name == "counter" else None)
    monkeypatch.setattr(checkpoint_import, "make_cluster", lambda _arguments: cluster)
    action = checkpoint_import.ActionModule.__new__(checkpoint_import.ActionModule)
    action._task = SimpleNamespace(check_mode=True)
    given = {"path": "/a.tar", "container": "c", "namespace": "default", "definition": None, "pod": None, **arguments}
    monkeypatch.setattr(action, "validate_argument_spec", lambda **_options: (None, given), raising=False)
    monkeypatch.setattr(action, "_size", lambda _path, _vars: 1)
    result: dict[str, Any] = action.run()
    return result


@pytest.mark.parametrize("given", [{"pod": "counter"}, {"definition": objects.pod()}])
def test_either_source(monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]) -> None:
    assert run(monkeypatch, **given)["msg"] == "would import /a.tar"
    assert "has the containers c: an archive holds one" in run(monkeypatch, container="other", **given)["msg"]


def test_a_definition_of_several_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    definition = objects.pod(change={"spec": {"initContainers": [SIDECAR]}})
    assert "has the containers log, c" in run(monkeypatch, definition=definition)["msg"]


@pytest.mark.parametrize(
    "definition",
    [
        {},
        {"kind": "Pod"},
        {"metadata": {"name": "web"}},
        {"spec": {"containers": [{"name": "c"}]}},
        {"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {}}},
        {"metadata": {"name": "web"}, "spec": {"containers": []}},
        {"metadata": {"name": "web"}, "spec": {"containers": ["c"]}},
        {"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "c"}]}},
    ],
)
def test_what_is_no_pod(monkeypatch: pytest.MonkeyPatch, definition: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        checkpoint_import.pod_of(definition, "default")
    assert run(monkeypatch, definition=definition)["failed"]


def test_the_namespace_of_a_definition() -> None:
    definition: dict[str, Any] = {"metadata": {"name": "web"}, "spec": {"containers": [{"name": "c"}]}}
    assert checkpoint_import.pod_of(definition, "shop")["metadata"] == {"name": "web", "namespace": "shop"}
    definition["metadata"]["namespace"] = "prod"
    assert checkpoint_import.pod_of(definition, "shop")["metadata"]["namespace"] == "prod"
