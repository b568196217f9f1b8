# SPDX-License-Identifier: Apache-2.0
"""Hooks before and after a move: in order, with the right variables, and a failing one stops the right thing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster
from e2e.support.faultpoints import held
from e2e.support.lab import Lab
from e2e.support.plays import Plays
from e2e.test_interrupted import kill

SECRET = "open-sesame-2026"
FAILS = ["sh", "-c", "echo disk is full; echo really >&2; exit 3"]


def put(key: str, value: str) -> list[str]:
    """A command for the JSON service's container that makes it remember something: in its memory, nowhere else."""
    call = f"urlopen(Request('http://127.0.0.1:8080/{key}', json.dumps({value!r}).encode(), method='PUT'), timeout=10)"
    return ["python3", "-c", f"import json; from urllib.request import Request, urlopen; {call}"]


def remembered(lab: Lab, cluster: Cluster, pod: str) -> dict[str, Any]:
    """What the JSON service has in its memory."""
    url = f"http://{cluster.pod_ip(pod)}:8080/"
    answer = lab.ssh("control-host", "curl", "--silent", "--fail", "--max-time", "5", url).stdout
    state: dict[str, Any] = json.loads(answer)["state"]
    return state


def untouched(cluster: Cluster, pod: str, before: dict[str, Any] | None) -> None:
    """The pod is the one that it was, nothing was written to it, and there is no other made of it."""
    now = cluster.get(pod)
    assert before is not None and now is not None
    assert now["metadata"] == before["metadata"]
    assert now["spec"] == before["spec"]
    assert cluster.moved(pod) == pod
    events = cluster.core.list_namespaced_event(cluster.namespace).items
    assert not [e for e in events if e.involved_object.name == pod and e.reason == "MigrationStarted"]


@pytest.fixture
def tasks(tmp_path: Path) -> Iterator[Path]:
    """A task file that writes down, from a machine of the lab, what it was told, and asks the pod at its address."""
    path = tmp_path / "tasks.yml"
    path.write_text(
        f"""
- name: Ask the pod
  ansible.builtin.uri:
    url: http://{{{{ podferry_migration.ip }}}}:8080/
    return_content: true
  delegate_to: control-host
  register: asked
- name: Write down
  ansible.builtin.copy:
    dest: {tmp_path}/{{{{ podferry_migration.phase }}}}.json
    content: "{{{{ {{'told': podferry_migration, 'state': asked.json.state}} | to_json }}}}"
    mode: "0600"
""",
        encoding="utf-8",
    )
    yield path


@pytest.mark.parametrize("name", ["keep", "new"])
def test_hooks_of_every_kind_run_in_their_order(
    lab: Lab, plays: Plays, cluster: Cluster, traces: Traces, tasks: Path, name: str
) -> None:
    pod = cluster.create(workloads.json_service(cluster.name("json"), "node-a"))
    before = cluster.pod_ip(pod)
    answers = {"method": "PUT", "headers": {"X-Token": SECRET}, "status": 200, "delegate_to": "control-host"}

    result = plays.migrate(
        pod,
        "node-b",
        "-vvv",
        name=name,
        pre_migration=[{"command": put("a", "from the command"), "container": "main"}, {"tasks": str(tasks)}],
        # As a survey gives it.
        post_migration=json.dumps(
            [
                {"tasks": str(tasks)},
                {
                    "http": {
                        **answers,
                        "url": "http://$(podferry_migration.ip):8080/b",
                        "body": {"pod": "$(podferry_migration.pod)", "node": "$(podferry_migration.node)"},
                    }
                },
                {"http": {**answers, "url": "http://{{ podferry_migration.ip }}:8080/c?token=" + SECRET, "body": "1"}},
            ]
        ),
    ).ok()

    moved = cluster.moved(pod)
    assert cluster.node(moved) == "node-b"
    pre = json.loads((tasks.parent / "pre_migration.json").read_text())
    post = json.loads((tasks.parent / "post_migration.json").read_text())
    assert pre["state"] == post["state"] == {"a": "from the command"}
    assert {k: pre["told"][k] for k in ("pod", "node", "ip", "outcome", "target_node", "downtime_ms")} == {
        "pod": pod, "node": "node-a", "ip": before, "outcome": "planned", "target_node": "node-b", "downtime_ms": None,
    }  # fmt: skip
    assert result.report is not None
    assert {k: post["told"][k] for k in ("pod", "node", "ip", "outcome", "source_node", "source_ip", "run")} == {
        "pod": moved, "node": "node-b", "ip": cluster.pod_ip(moved), "outcome": "finished",
        "source_node": "node-a", "source_ip": before, "run": result.report["run"],
    }  # fmt: skip
    assert post["told"]["downtime_ms"] == result.report["downtime_ms"] > 0
    state = remembered(lab, cluster, moved)
    assert state == {"a": "from the command", "b": {"pod": moved, "node": "node-b"}, f"c?token={SECRET}": 1}
    assert SECRET not in result.output, "a header or a query was shown"
    traces.assert_none()

    (tasks.parent / "post_migration.json").unlink()
    again = plays.migrate(
        moved, "node-b", pre_migration=[{"command": put("a", "again")}], post_migration=[{"tasks": str(tasks)}]
    )
    assert again.ok().changed == 0
    assert remembered(lab, cluster, moved) == state, "hooks of a pod that is there already"
    assert not (tasks.parent / "post_migration.json").exists()


@pytest.mark.parametrize("kind", ["command", "hidden", "http", "tasks"])
def test_a_failing_pre_hook_leaves_everything_untouched(
    plays: Plays, cluster: Cluster, traces: Traces, tmp_path: Path, kind: str
) -> None:
    pod = cluster.create(workloads.counter(cluster.name("counter"), "node-a", 8))
    before = cluster.get(pod)
    path = tmp_path / "fails.yml"
    path.write_text("- name: Look at the disk\n  ansible.builtin.fail: {msg: disk is full}\n", encoding="utf-8")
    call = {
        "url": f"http://{cluster.pod_ip(pod)}:9/x?{SECRET}",
        "headers": {"X-Token": SECRET},
        "delegate_to": "control-host",
    }
    hook, words = {
        "command": ({"command": FAILS}, ("command: sh -c", "exit status 3", "disk is full", "really")),
        "hidden": (
            {"command": ["sh", "-c", f"echo {SECRET}; exit 3"], "no_log": True},
            ("command, hidden by no_log", "status 3"),
        ),
        "http": ({"http": call}, (f"GET http://{cluster.pod_ip(pod)}:9/x", "Connection refused")),
        "tasks": ({"tasks": str(path)}, (f"task file {path}", "Look at the disk", "disk is full")),
    }[kind]
    hook["name"] = "look first"

    result = plays.migrate(
        pod, "node-b", pre_migration=[{"command": ["true"]}, hook, {"command": ["sh", "-c", "exit 77"]}]
    )

    result.refused("pre_migration 2: look first", "not moved", "still runs on node-a", *words)
    assert "exit status 77" not in result.output
    assert SECRET not in result.output
    assert result.report is None
    untouched(cluster, pod, before)
    ticks.assert_unbroken(cluster.logs(pod))
    traces.assert_none(timeout=2)


def test_a_failing_post_hook_says_that_the_pod_has_moved(plays: Plays, cluster: Cluster, traces: Traces) -> None:
    pod = cluster.create(workloads.counter(cluster.name("counter"), "node-a", 8))

    result = plays.migrate(pod, "node-b", name="keep", post_migration=[{"command": FAILS}, {"command": ["true"]}])

    result.refused("HAS MOVED to node-b", "post_migration 1: command", "exit status 3", "disk is full", "already")
    assert result.report is not None
    assert result.report["outcome"] == "finished"
    assert cluster.node(pod) == "node-b"
    ticks.assert_unbroken(cluster.logs(pod))
    traces.assert_none()


def test_a_post_hook_whose_host_is_away(plays: Plays, cluster: Cluster) -> None:
    """Ansible rescues nobody from an unreachable host: the message has to come all the same."""
    pod = cluster.create(workloads.counter(cluster.name("counter"), "node-a", 8))
    call = {"url": "http://127.0.0.1/", "delegate_to": "away"}
    inventory = plays.scratch / "away.yml"
    inventory.write_text("all: {hosts: {away: {ansible_host: 127.0.0.1, ansible_port: 9}}}\n", encoding="utf-8")
    result = plays.migrate(pod, "node-b", "-i", str(inventory), name="keep", post_migration=[{"http": call}])
    result.refused("HAS MOVED to node-b", "post_migration 1: GET http://127.0.0.1/")
    assert cluster.node(pod) == "node-b"


def test_wrong_hooks_are_told_before_anything_is_touched(
    lab: Lab, plays: Plays, cluster: Cluster, traces: Traces, tmp_path: Path
) -> None:
    """All mistakes at once, those of the post-hooks too; and no hook has run."""
    pod = cluster.create(workloads.json_service(cluster.name("json"), "node-a"))
    before = cluster.get(pod)
    path = tmp_path / "wrong.yml"
    path.write_text("- name: X\n  no_such_module: {}\n", encoding="utf-8")
    good = {"command": put("ran", "yes")}
    for hooks, words in (
        (
            {
                "pre_migration": [good, {"command": "sync"}],
                "post_migration": [{"tasks": "/none.yml"}, {"tasks": str(path)}],
            },
            ("pre_migration, hook 2: command is text", "hook 1: there is no task file /none.yml", "no_such_module"),
        ),
        ({"pre_migration": [good], "post_migration": "[{"}, ("post_migration is text, and not JSON",)),
        (
            {"pre_migration": [good], "post_migration": [{"command": ["x", "{{ podferry_migration.adress }}"]}]},
            ("adress",),
        ),
        (
            {"pre_migration": [good], "post_migration": [{"command": ["x"], "container": "other"}]},
            ("has no container other; it has main",),
        ),
    ):
        plays.migrate(pod, "node-b", **hooks).refused(*words)
        untouched(cluster, pod, before)
    assert remembered(lab, cluster, pod) == {}
    traces.assert_none(timeout=2)


def test_hooks_are_listed_in_check_mode_and_not_run(
    lab: Lab, plays: Plays, cluster: Cluster, traces: Traces, tasks: Path
) -> None:
    pod = cluster.create(workloads.json_service(cluster.name("json"), "node-a"))
    before = cluster.get(pod)
    hooks = {
        "pre_migration": [{"name": "remember", "command": put("ran", "yes")}],
        "post_migration": [{"tasks": str(tasks)}],
    }
    result = plays.migrate(pod, "node-b", "--check", "--diff", **hooks).ok()
    assert result.changed == 1
    assert "pre_migration 1: remember (command: python3" in result.output
    assert f"post_migration 1: task file {tasks}" in result.output
    assert remembered(lab, cluster, pod) == {}
    assert not (tasks.parent / "post_migration.json").exists()
    untouched(cluster, pod, before)
    traces.assert_none(timeout=2)


def test_a_refused_move_runs_no_hook(lab: Lab, plays: Plays, cluster: Cluster) -> None:
    pod = cluster.create(workloads.json_service(cluster.name("json"), "node-a"))
    hooks = {"pre_migration": [{"command": put("ran", "yes")}], "post_migration": [{"command": put("ran", "yes")}]}
    plays.migrate(pod, "node-z", **hooks).refused("not moved, nothing was touched")
    assert remembered(lab, cluster, pod) == {}


def test_a_command_that_does_not_end(plays: Plays, cluster: Cluster, traces: Traces) -> None:
    pod = cluster.create(workloads.counter(cluster.name("counter"), "node-a", 8))
    before = cluster.get(pod)
    begun = time.monotonic()
    result = plays.migrate(pod, "node-b", pre_migration=[{"command": ["sleep", "30"], "timeout": 2}])
    result.refused("had not ended after 2 s", "goes on in container main", "not moved")
    assert time.monotonic() - begun < 25
    untouched(cluster, pod, before)
    traces.assert_none(timeout=2)


def test_a_later_run_that_ends_the_move_runs_the_post_hooks(
    lab: Lab, plays: Plays, cluster: Cluster, traces: Traces, tasks: Path
) -> None:
    """The controller dies after the commit: the second run finds the pod moved, execs into nothing frozen, and tells the post-hooks."""
    pod = cluster.create(workloads.json_service(cluster.name("json"), "node-a"))
    hooks = {"pre_migration": [{"command": put("runs", "one")}], "post_migration": [{"tasks": str(tasks)}]}
    with held(lab, "node-a", "source:journal:committed:before") as hold:
        play = plays.start_migrate(pod, "node-b", name="new", **hooks)
        hold.wait()
        kill(play)
        hold.release()
    hooks["pre_migration"] = [{"command": put("runs", "two")}]

    deadline = time.monotonic() + 60
    result = plays.migrate(pod, "node-b", name="new", **hooks)
    while "migration_under_way" in result.output and time.monotonic() < deadline:
        time.sleep(2)
        result = plays.migrate(pod, "node-b", name="new", **hooks)
    result.ok()

    moved = cluster.moved(pod)
    assert cluster.node(moved) == "node-b"
    assert remembered(lab, cluster, moved) == {"runs": "one"}, "a pre-hook ran though nothing was left to be moved"
    told = json.loads((tasks.parent / "post_migration.json").read_text())["told"]
    assert (told["pod"], told["node"], told["outcome"]) == (moved, "node-b", "finished")
    assert result.report is not None
    assert result.report["resumed_run"]
    traces.assert_none()
