# SPDX-License-Identifier: Apache-2.0
"""Hooks as users write them, well and badly; and that nothing shown of them holds a secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._hooks.spec import Hook, Surroundings, parse

FILES: dict[str, Any] = {
    "/w/good.yml": [{"name": "x"}],
    "/w/empty.yml": None,
    "/w/nothing.yml": [],
    "/w/play.yml": [{"hosts": "all"}],
}
SECRET = "s3cr3t-value"


def load(path: str) -> Any:
    if path not in FILES:
        raise InvalidInput(f"there is no task file {path} on the controller")
    return FILES[path]


AROUND = Surroundings(
    load,
    absolute=lambda path: path if path.startswith("/") else f"/w/{path}",
    hosts=["control-host"],
    values={"ip": "192.0.2.1", "pod": "web-0", "downtime_ms": None},
)


def good(given: Any) -> list[Hook]:
    hooks, errors = parse("pre_migration", given, AROUND)
    assert errors == []
    return hooks


@pytest.mark.parametrize("given", [None, "", "  ", [], "[]"])
def test_none(given: Any) -> None:
    assert good(given) == []


def test_every_kind_from_a_list_and_from_json() -> None:
    given = [
        {"tasks": "good.yml", "name": "first"},
        {"command": ["sh", "-c", "exit 0"], "container": "main", "timeout": 5},
        {"http": {"url": "https://example.com:8443/x", "method": "post", "status": "202", "body": {"a": 1}}},
    ]
    hooks = good(given)
    assert hooks == good(json.dumps(given))
    assert [h.kind for h in hooks] == ["tasks", "command", "http"]
    assert [h.title for h in hooks] == [
        "first (task file /w/good.yml)",
        "command in container main: sh -c 'exit 0'",
        "POST https://example.com:8443/x",
    ]
    assert (hooks[1].command, hooks[1].container, hooks[1].timeout) == (["sh", "-c", "exit 0"], "main", 5)
    assert hooks[2].http == {
        "url": "https://example.com:8443/x", "method": "POST", "headers": {}, "status": [202], "timeout": 30,
        "validate_certs": True, "delegate_to": "localhost", "body": {"a": 1}, "body_format": "json",
    }  # fmt: skip


def test_defaults() -> None:
    command, call = good([{"command": ["sleep", 1]}, {"http": {"url": "http://[2001:db8::1]/x"}}])
    assert (command.command, command.container, command.timeout, command.no_log) == (["sleep", "1"], "", 60, False)
    assert (call.http["method"], call.http["status"], call.title) == (
        "GET",
        [200, 201, 202, 204],
        "GET http://[2001:db8::1]/x",
    )


def test_the_migrations_values_are_put_in() -> None:
    call = {"url": "http://$(podferry_migration.ip)/$(other)", "headers": {"X": "$(podferry_migration.pod)"}}
    call["body"] = {"deep": ["$(podferry_migration.pod)", 1], "none": "<$(podferry_migration.downtime_ms)>"}
    made, command = good([{"http": call}, {"command": ["echo", "$(podferry_migration.pod)", "$(hostname)"]}])
    assert made.http["url"] == "http://192.0.2.1/$(other)"
    assert made.http["headers"] == {"X": "web-0"}
    assert made.http["body"] == {"deep": ["web-0", 1], "none": "<>"}
    assert command.command == ["echo", "web-0", "$(hostname)"]


def test_titles_hold_no_secret_and_secrets_are_known() -> None:
    call = {
        "url": f"http://user:{SECRET}@example.com/x?token={SECRET}",
        "headers": {"Authorization": f"Bearer {SECRET}-2", "X": "1"},
        "body": {"deep": [SECRET + "-3"]},
    }
    (hook,) = good([{"http": call}])
    assert SECRET not in hook.title
    assert "user" not in hook.title
    for secret in (SECRET, f"{SECRET}-2", f"{SECRET}-3", f"token={SECRET}", f"Bearer {SECRET}-2"):
        assert secret in hook.secrets
    assert "1" not in hook.secrets
    assert hook.secrets == sorted(hook.secrets, key=len, reverse=True), "a part must not be hidden before the whole"
    (webhook,) = good([{"http": {"url": "https://chat.example.com/services/T01/Zx81kPq07LmN42Vb?to=a%20friend"}}])
    assert webhook.title == "GET https://chat.example.com/services/T01/…"
    assert {"Zx81kPq07LmN42Vb", "a friend"} <= set(webhook.secrets)
    (quiet,) = good([{"command": ["tool", SECRET], "no_log": True, "name": "tool"}])
    assert quiet.title == "tool (command, hidden by no_log)"
    (long,) = good([{"command": ["x" * 500]}])
    assert len(long.title) <= 120


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"command": ["x"]}, "is a mapping; it has to be a list"),
        ("{not json", "is text, and not JSON"),
        ('{"command": ["x"]}', "is a mapping"),
        (["x"], "hook 1: it is text"),
        ([{}], "hook 1: it is empty; it needs exactly one of tasks, command, http"),
        ([{"comand": ["x"]}], "has only comand"),
        ([{"command": ["x"], "tasks": "good.yml"}], "has tasks and command"),
        ([{"command": ["x"], "timout": 3}], "a hook of kind command has no timout; it may have command, container"),
        ([{"tasks": "good.yml", "timeout": 3}], "a hook of kind tasks has no timeout"),
        ([{"command": "kill -USR1 1"}], "command is text; give a list of words"),
        ([{"command": []}], "command is not a list of words"),
        ([{"command": ["x", ["y"]]}], "command is not a list of words"),
        ([{"command": ["x", True]}], "command is not a list of words"),
        ([{"command": [""]}], "the program, is empty"),
        ([{"command": ["x"], "container": "No_Such"}], "container='No_Such' is not the name of a container"),
        ([{"command": ["x"], "timeout": 0}], "timeout=0 is not a number of seconds"),
        ([{"command": ["x"], "timeout": "soon"}], "timeout='soon' is not a number of seconds"),
        ([{"command": ["x"], "timeout": True}], "timeout=True is not a number of seconds"),
        ([{"command": ["$(podferry_migration.adress)"]}], "there is no podferry_migration.adress; there are downtime_ms, ip, pod"),
        ([{"command": ["x"], "no_log": "maybe"}], "no_log is neither true nor false"),
        ([{"command": ["x"], "name": 3}], "name is a number, not text"),
        ([{"tasks": ""}], "tasks is empty"),
        ([{"tasks": "none.yml"}], "there is no task file /w/none.yml"),
        ([{"tasks": "empty.yml"}], "/w/empty.yml is not a list of tasks"),
        ([{"tasks": "nothing.yml"}], "holds no task"),
        ([{"tasks": "play.yml"}], "is a playbook"),
        ([{"http": "http://x/"}], "http is text, not a mapping"),
        ([{"http": {}}], "http has no url"),
        ([{"http": {"url": "ftp://x/"}}], "does not begin with http://"),
        ([{"http": {"url": "http:///x"}}], "does not begin with http://"),
        ([{"http": {"url": "http://x:99999/"}}], "the url cannot be read"),
        ([{"http": {"url": "http://x/a b"}}], "percent-encoded"),
        ([{"http": {"url": "http://x/", "method": "BREW"}}], "method='BREW' is none of GET"),
        ([{"http": {"url": "http://x/", "header": {}}}], "http has no header; it may have body"),
        ([{"http": {"url": "http://x/", "headers": ["a"]}}], "headers is not a mapping"),
        ([{"http": {"url": "http://x/", "headers": {"A": f"{SECRET}\n"}}}], "header 'A' has a line end"),
        ([{"http": {"url": "http://x/", "status": [200, "ok"]}}], "is not an HTTP status"),
        ([{"http": {"url": "http://x/", "status": []}}], "is not an HTTP status"),
        ([{"http": {"url": "http://x/", "delegate_to": "nobody"}}], "delegate_to='nobody' is not a host"),
    ],
)  # fmt: skip
def test_wrong(given: Any, words: str) -> None:
    hooks, errors = parse("post_migration", given, AROUND)
    assert hooks == []
    assert len(errors) == 1
    assert errors[0].startswith("post_migration")
    assert words in errors[0]
    assert SECRET not in errors[0]


def test_all_mistakes_are_told_at_once() -> None:
    _hooks, errors = parse("pre_migration", [{"command": "x"}, {"command": ["x"]}, {"tasks": "none.yml"}], AROUND)
    assert [e.partition(":")[0] for e in errors] == ["pre_migration, hook 1", "pre_migration, hook 3"]
