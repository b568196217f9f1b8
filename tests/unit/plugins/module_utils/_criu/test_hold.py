# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""The criu that stands before the real one: it holds back runc's own call, and nothing else."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._criu.hold import Hold, can_hold

FRONT = Path(__file__).resolve().parents[5] / "roles/node/files/libexec"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A PATH with the front first and a CRIU that writes down how it was called."""
    real = tmp_path / "bin"
    real.mkdir()
    criu = real / "criu"
    criu.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/called\n')
    criu.chmod(0o755)
    return {"PATH": f"{FRONT}:{real}:/usr/bin:/bin"}


def start(env: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([str(FRONT / "criu"), *words], env=env)


def reached(hold: Hold) -> None:
    deadline = time.monotonic() + 10
    while not hold.reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_runcs_own_call_waits_until_it_is_released(tmp_path: Path, env: dict[str, str]) -> None:
    hold = Hold(str(tmp_path))
    with start({**env, "PODFERRY_HOLD": hold.path}, "swrk", "3") as process:
        reached(hold)
        assert process.poll() is None
        assert not (tmp_path / "called").exists()
        hold.release()
        assert process.wait(10) == 0
    assert (tmp_path / "called").read_text() == "swrk 3\n"


@pytest.mark.parametrize("words", [("swrk", "7"), ("--version",), ("swrk", "33"), ("check",)])
def test_other_calls_pass(tmp_path: Path, env: dict[str, str], words: tuple[str, ...]) -> None:
    hold = Hold(str(tmp_path))
    with start({**env, "PODFERRY_HOLD": hold.path}, *words) as process:
        assert process.wait(10) == 0
    assert not hold.reached()
    assert (tmp_path / "called").read_text() == " ".join(words) + "\n"


def test_without_a_hold_everything_passes(tmp_path: Path, env: dict[str, str]) -> None:
    with start(env, "swrk", "3") as process:
        assert process.wait(10) == 0
    assert (tmp_path / "called").exists()


def test_a_hold_that_is_broken_off_does_not_become_a_dump(tmp_path: Path, env: dict[str, str]) -> None:
    """The end of the pipe without the word: whoever held it died."""
    hold = Hold(str(tmp_path))
    with start({**env, "PODFERRY_HOLD": hold.path}, "swrk", "3") as process:
        reached(hold)
        hold.break_off()
        assert process.wait(10) == 1
    assert not (tmp_path / "called").exists()


def test_a_word_given_early_is_heard(tmp_path: Path, env: dict[str, str]) -> None:
    hold = Hold(str(tmp_path))
    hold.release()
    with start({**env, "PODFERRY_HOLD": hold.path}, "swrk", "3") as process:
        assert process.wait(10) == 0
    assert (tmp_path / "called").exists()


def test_the_front_comes_before_criu_and_only_then(tmp_path: Path) -> None:
    hold = Hold(str(tmp_path))
    env = hold.environment({"PATH": "/usr/bin", "CRIU_CONFIG_FILE": "x"})
    assert env["PATH"] == "/usr/local/libexec/podferry:/usr/bin"
    assert env["PODFERRY_HOLD"] == hold.path
    assert env["CRIU_CONFIG_FILE"] == "x"


@pytest.mark.parametrize(
    ("runtime", "known"), [("/usr/sbin/runc", True), ("runc", True), ("/usr/bin/crun", False), ("", False)]
)
def test_only_runc_is_known_to_call_it_that_way(runtime: str, known: bool) -> None:
    assert can_hold(runtime) is known
