# SPDX-License-Identifier: Apache-2.0
"""A postStart hook that has run where the container comes from is answered, once; every other call is executed."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from ansible_collections.podferry.live.plugins.module_utils._ferry import hooks, paths

CONTAINER = "ab" * 32
HOOK = ["/bin/announce", "--once"]
# The handler is a process of its own: what it does ends it.
CALL = f"""
import sys
from ansible_collections.podferry.live.plugins.module_utils._ferry import hooks, paths
paths.claim.__defaults__ = (sys.argv[1],)
sys.exit(hooks.post_start("/bin/echo", sys.argv[2:] + ["{CONTAINER}"]))
"""


@pytest.fixture
def state(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(paths.claim, "__defaults__", (str(tmp_path),))
    os.makedirs(paths.claim(CONTAINER))
    (tmp_path / "pid").touch()
    return tmp_path


def call(state: pathlib.Path, command: list[str], *more: str) -> tuple[str, float]:
    """What the runtime was called with, and how long it took (seconds)."""
    (state / "process.json").write_text(json.dumps({"args": command, "cwd": "/"}))
    words = ["exec", "--process", str(state / "process.json"), "--pid-file", str(state / "pid"), *more]
    began = time.monotonic()
    argv = [sys.executable, "-c", CALL, str(state), *words]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=env)
    return done.stdout.strip(), time.monotonic() - began


def test_the_hook_is_answered_once(state: pathlib.Path) -> None:
    hooks.expect(CONTAINER, HOOK)
    said, _took = call(state, HOOK, "--detach")
    assert said == ""
    assert int((state / "pid").read_text()) > 1
    said, _took = call(state, HOOK, "--detach")
    assert said.startswith("exec --process")


def test_another_command_is_executed_and_the_hook_still_awaited(state: pathlib.Path) -> None:
    hooks.expect(CONTAINER, HOOK)
    assert call(state, ["/bin/probe"])[0].startswith("exec --process")
    assert call(state, HOOK, "--detach")[0] == ""


def test_without_a_hook(state: pathlib.Path) -> None:
    assert call(state, HOOK)[0].startswith("exec --process")


def test_whoever_does_not_detach_hears_the_end(state: pathlib.Path) -> None:
    hooks.expect(CONTAINER, HOOK)
    assert call(state, HOOK)[0] == ""
