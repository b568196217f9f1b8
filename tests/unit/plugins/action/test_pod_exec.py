# SPDX-License-Identifier: Apache-2.0
"""The results of a command in a container, and the documented arguments of both plugins for hooks."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from ansible_collections.podferry.live.plugins.action import hooks_info, pod_exec
from ansible_collections.podferry.live.plugins.doc_fragments import _kubernetes_auth
from ansible_collections.podferry.live.plugins.module_utils._kube.pod_exec import Executed
from ansible_collections.podferry.live.plugins.modules import hooks_info as hooks_module
from ansible_collections.podferry.live.plugins.modules import pod_exec as exec_module

AUTH = yaml.safe_load(_kubernetes_auth.ModuleDocFragment.DOCUMENTATION)["options"]


@pytest.mark.parametrize(
    ("arguments", "documented"),
    [
        (pod_exec.ARGUMENTS, {**yaml.safe_load(exec_module.DOCUMENTATION)["options"], **AUTH}),
        (hooks_info.ARGUMENTS, yaml.safe_load(hooks_module.DOCUMENTATION)["options"]),
    ],
)
def test_arguments_are_those_that_are_documented(arguments: dict[str, Any], documented: dict[str, Any]) -> None:
    assert set(arguments) == set(documented)
    for name, option in arguments.items():
        for key in ("type", "elements", "default", "choices", "required", "aliases"):
            assert option.get(key) == documented[name].get(key), f"{name}: {key}"


def outcome(done: Executed, quiet: bool = False) -> dict[str, Any]:
    return pod_exec.outcome({}, done, "main", quiet=quiet)


def test_success_keeps_the_output() -> None:
    made = outcome(Executed(0, "a\nb\n", "c"))
    assert not made.get("failed")
    assert (made["changed"], made["rc"], made["stdout_lines"], made["stderr"]) == (True, 0, ["a", "b"], "c")


def test_failure_names_the_status_and_shows_the_output_unless_it_is_hidden() -> None:
    made = outcome(Executed(3, "said\n", "complained\n"))
    assert made["failed"]
    assert made["msg"] == "exit status 3 in container main.\nsaid\ncomplained"
    assert outcome(Executed(3, "said\n", "complained\n"), quiet=True)["msg"] == "exit status 3 in container main."


def test_no_exit_status() -> None:
    made = outcome(Executed(None, "", "", "it had not ended after 2 s", timed_out=True))
    assert made["failed"]
    assert made["rc"] is None
    assert "no exit status: it had not ended after 2 s" in made["msg"]
    assert "goes on in container main" in made["remedy"]
    assert outcome(Executed(None, "", "", "not found"))["remedy"] == ""


def test_static_imports_are_not_looked_for() -> None:
    tasks = [
        {"import_tasks": "x.yml"},
        {"block": [{"ansible.builtin.import_role": {"name": "r"}}, {"debug": {}}], "rescue": [{"import_tasks": "y"}]},
        {"include_tasks": "z.yml"},
    ]
    assert hooks_info.without_imports(tasks) == [
        {"block": [{"debug": {}}], "rescue": []},
        {"include_tasks": "z.yml"},
    ]
