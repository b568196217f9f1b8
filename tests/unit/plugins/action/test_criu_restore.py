# SPDX-License-Identifier: Apache-2.0
"""What a task returns is what is documented, in check mode too: plays go on with it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.plugins.action import ActionBase

from ansible_collections.podferry.live.plugins.action import criu_restore
from ansible_collections.podferry.live.plugins.modules import criu_restore as documented
from ansible_collections.podferry.live.plugins.plugin_utils._nodes import InventoryError

RUN = "0123456789ab"
ARMED = SimpleNamespace(checkpoint="id", node="node-a", manifest={"kind": "Pod"}, warnings=[], namespace="n", pod="p")


class Restores:
    """A node where everything works; ``has`` says whether it has the run."""

    has = True

    def __init__(self, *_args: Any) -> None: ...

    def look(self, _wanted: Any) -> Any:
        return SimpleNamespace(manifest=SimpleNamespace(id="id"))

    def arm(self, _wanted: Any, _run: str, *, context: Any) -> Any:
        return ARMED

    def known(self, _run: str) -> bool:
        return self.has

    def end(self, _run: str) -> bool:
        return self.has

    def wait(self, _run: str, _timeout: float) -> list[Any]:
        return [{"name": "c"}]


def run(monkeypatch: pytest.MonkeyPatch, *, check: bool = False, **arguments: Any) -> dict[str, Any]:
    monkeypatch.setattr(ActionBase, "run", lambda *_args: {})
    monkeypatch.setattr(criu_restore, "Restores", Restores)
    monkeypatch.setattr(criu_restore, "vault_opener", lambda _arguments: lambda _peer: None)
    monkeypatch.setattr(criu_restore, "who", lambda _vars: "me")
    action = criu_restore.ActionModule.__new__(criu_restore.ActionModule)
    action._task = SimpleNamespace(check_mode=check)
    action._play_context = None
    given = {name: option.get("default") for name, option in criu_restore.ARGUMENTS.items()} | arguments
    monkeypatch.setattr(action, "validate_argument_spec", lambda **_options: (None, given), raising=False)
    result: dict[str, Any] = action.run()
    return result


@pytest.fixture(autouse=True)
def node(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = SimpleNamespace(node="node-a", close=lambda: None)
    monkeypatch.setattr(criu_restore, "node_peer", lambda *_args: peer)


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("state", ["armed", "restored", "absent"])
def test_what_is_documented_is_returned(monkeypatch: pytest.MonkeyPatch, state: str, check: bool) -> None:
    place = {"namespace": "n", "pod": "p"} if state == "armed" else {"run": RUN}
    result = run(monkeypatch, check=check, state=state, **place)
    for name, value in yaml.safe_load(documented.RETURN).items():
        when = value["returned"]
        if when.startswith("always") or (
            when.startswith(f"state={state}") and not (check and when.endswith("except in check mode"))
        ):
            assert name in result, when
    assert len(result["run"]) == 12 and result["msg"]


@pytest.mark.parametrize("check", [False, True])
def test_what_is_not_there(monkeypatch: pytest.MonkeyPatch, check: bool) -> None:
    monkeypatch.setattr(Restores, "has", False)
    result = run(monkeypatch, check=check, state="absent", run=RUN)
    assert not result["changed"] and result["msg"] == f"node-a has nothing of run {RUN}"


def test_a_host_that_is_no_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: Any) -> None:
        raise InventoryError("localhost is no node")

    monkeypatch.setattr(criu_restore, "node_peer", refuse)
    result = run(monkeypatch, state="restored", run=RUN)
    assert result["failed"] and result["run"] == RUN


def test_the_examples_hold_in_check_mode() -> None:
    """They use of the first task's result only what there is, or do not run."""
    for task in yaml.safe_load(documented.EXAMPLES)[1:]:
        assert "armed.manifest" not in str(task) or task["when"] == "not ansible_check_mode"
