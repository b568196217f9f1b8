# SPDX-License-Identifier: Apache-2.0
"""What the benchmark of a node leaves when something of it fails: nothing. It measures on the lab (playbook benchmark)."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    CommandFailed,
    DeadlineExceeded,
    FreezeFailed,
    PodferryError,
)
from ansible_collections.podferry.live.plugins.module_utils._node import benchmark
from ansible_collections.podferry.live.plugins.module_utils._node.benchmark import Floor
from ansible_collections.podferry.live.plugins.module_utils._node.proof import Tools


class Stuck:
    """A cgroup whose processes do not die."""

    def kill(self) -> None:
        raise FreezeFailed("processes [1] do not die")


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Who was killed; and the benchmark finds no cgroups."""
    found: list[int] = []
    real = os.kill

    def kill(pid: int, number: int) -> None:
        if number == signal.SIGKILL:
            found.append(pid)
        real(pid, number)

    monkeypatch.setattr(os, "kill", kill)
    monkeypatch.setattr(Floor, "_cgroups", lambda _self: [])
    yield found


def floor(tmp_path: Path, criu: str) -> Floor:
    """One with a runtime that always succeeds."""
    tools = Tools(script(tmp_path / "runc", "exit 0"), script(tmp_path / "criu", criu), "", False)
    return Floor(tools, str(tmp_path / "work/benchmark-1"), 1)


def test_a_process_whose_restore_failed_is_not_looked_for(tmp_path: Path, killed: list[int]) -> None:
    """It has ended and was waited for: whoever has its number by then is somebody else."""
    with (
        pytest.raises(CommandFailed, match="restore"),
        floor(tmp_path, '[ "$1" = dump ] || exit 1\nkill -9 "$3"') as made,
    ):
        made.criu()
    assert killed == []
    assert os.listdir(tmp_path / "work") == []


def test_a_process_that_could_not_be_dumped_is_ended(tmp_path: Path, killed: list[int]) -> None:
    with pytest.raises(CommandFailed, match="dump"), floor(tmp_path, "exit 1") as made:
        made.criu()
    assert len(killed) == 1
    assert os.listdir(tmp_path / "work") == []


@pytest.mark.usefixtures("killed")
def test_a_program_that_hangs_is_an_error_with_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "_SECONDS", 2.0)
    with (
        pytest.raises(DeadlineExceeded, match=r"dump .*did not end within 2 s"),
        floor(tmp_path, "exec sleep 60") as made,
    ):
        made.criu()
    assert os.listdir(tmp_path / "work") == []


@pytest.mark.usefixtures("killed")
def test_a_program_that_is_not_there_is_an_error_with_words(tmp_path: Path) -> None:
    tools = Tools(str(tmp_path / "no-runc"), str(tmp_path / "no-criu"), "", False)
    with (
        pytest.raises(CommandFailed, match=r"cannot start .*/no-criu"),
        Floor(tools, str(tmp_path / "work/benchmark-1"), 1) as made,
    ):
        made.criu()
    assert os.listdir(tmp_path / "work") == []


@pytest.mark.usefixtures("killed")
def test_the_folder_goes_although_a_process_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Floor, "_cgroups", lambda _self: [Stuck()])
    with pytest.raises(PodferryError, match="the first error"), floor(tmp_path, "exit 0"):
        raise PodferryError("the first error")
    assert os.listdir(tmp_path / "work") == []


def test_the_folder_goes_when_it_cannot_be_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_folder: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(benchmark, "make_root", full)
    with pytest.raises(OSError, match="No space"), floor(tmp_path, "exit 0"):
        pass
    assert os.listdir(tmp_path / "work") == []
