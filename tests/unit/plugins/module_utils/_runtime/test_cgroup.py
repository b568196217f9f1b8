# SPDX-License-Identifier: Apache-2.0
"""Freezing, thawing and killing over folders that look like cgroups, version 1 and 2."""

from __future__ import annotations

import os
import pathlib
import signal
import time

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import FreezeFailed, NotFound
from ansible_collections.podferry.live.plugins.module_utils._runtime import cgroup as cgroups
from ansible_collections.podferry.live.plugins.module_utils._runtime.cgroup import Cgroup, parse_membership


class Tree:
    """One cgroup as files; what is written to it is noted, and the kernel's part is played."""

    def __init__(self, root: pathlib.Path, unified: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = root / "pod"
        self.path.mkdir(parents=True)
        self.unified = unified
        self.orders: list[str] = []
        self.settles_after = 0
        """Orders to freeze that have no effect before one does."""
        self.sticks = False
        self.procs([11, 12])
        self._state(False)
        if unified:
            (self.path / "cgroup.kill").touch()
            (self.path / "cpu.stat").write_text("usage_usec 1500\nuser_usec 1\n")
        self.usage = root / "usage"
        self.usage.mkdir()
        (self.usage / "cpuacct.usage").write_text("1500000\n")
        monkeypatch.setattr(cgroups, "write_text", self._write)
        monkeypatch.setattr(cgroups.os, "kill", self._kill)
        self.group = Cgroup(str(self.path), str(self.path if unified else self.usage), unified)

    def procs(self, pids: list[int]) -> None:
        (self.path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))

    def _state(self, frozen: bool) -> None:
        if self.unified:
            (self.path / "cgroup.events").write_text(f"populated 1\nfrozen {int(frozen)}\n")
        else:
            (self.path / "freezer.state").write_text("FROZEN\n" if frozen else "THAWED\n")

    def _write(self, path: str, value: str) -> None:
        name = os.path.basename(path)
        self.orders.append(f"{name}={value}")
        if value in ("FROZEN",) or (name == "cgroup.freeze" and value == "1"):
            self.settles_after -= 1
            self._state(self.settles_after < 0)
        elif name == "cgroup.kill":
            self.procs([])
        elif not self.sticks:
            self._state(False)

    def _kill(self, pid: int, number: int) -> None:
        self.orders.append(f"kill {pid} {signal.Signals(number).name}")
        left = [int(word) for word in (self.path / "cgroup.procs").read_text().split() if int(word) != pid]
        self.procs(left)


@pytest.fixture(params=[False, True], ids=["v1", "v2"])
def tree(request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path, request.param, monkeypatch)


@pytest.fixture
def v1(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path, False, monkeypatch)


@pytest.fixture
def v2(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    return Tree(tmp_path, True, monkeypatch)


def test_there_and_back(tree: Tree) -> None:
    assert not tree.group.frozen() and not tree.group.stands()
    assert tree.group.freeze(1.0) > 0
    assert tree.group.frozen() and tree.group.stands()
    tree.group.thaw()
    assert not tree.group.frozen()


def test_a_frozen_group_without_processes_does_not_stand(tree: Tree) -> None:
    tree.group.freeze(1.0)
    tree.procs([])
    assert tree.group.frozen() and not tree.group.stands()


def test_a_v1_freeze_that_hangs_is_undone_and_tried_again(v1: Tree) -> None:
    v1.settles_after = 2
    v1.group.freeze(5.0)
    assert v1.orders == ["freezer.state=FROZEN", "freezer.state=THAWED"] * 2 + ["freezer.state=FROZEN"]


def test_p2_a_freeze_that_never_settles_leaves_it_running(tree: Tree) -> None:
    tree.settles_after = 10_000
    with pytest.raises(FreezeFailed, match="did not freeze within"):
        tree.group.freeze(0.1)
    assert tree.orders[-1] in ("freezer.state=THAWED", "cgroup.freeze=0")
    assert not tree.group.frozen()


def test_who_stands_between_vfork_and_exec_gets_the_time_to_leave_it(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [[11], [11], []]
    monkeypatch.setattr(cgroups.vfork, "waiting", lambda pids: answers.pop(0) if pids == [11, 12] else [])
    first = time.monotonic_ns()
    assert tree.group.freeze(5.0) > first + 2 * 4_000_000  # the moment of the order that counts
    assert tree.group.frozen() and answers == []
    assert [order.rpartition("=")[2] in ("FROZEN", "1") for order in tree.orders] == [True, False, True, False, True]


def test_p2_who_stays_between_vfork_and_exec_runs_on(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups.vfork, "waiting", lambda _pids: [11])
    with pytest.raises(FreezeFailed, match=r"process 11 in .* stood between vfork and exec"):
        tree.group.freeze(0.1)
    assert not tree.group.frozen()


def test_a_group_that_is_gone(tmp_path: pathlib.Path) -> None:
    for unified in (True, False):
        group = Cgroup(str(tmp_path / "gone"), str(tmp_path / "gone"), unified)
        with pytest.raises(FreezeFailed, match="cannot freeze"):
            group.freeze(0.1)
        group.thaw()
        group.kill()
        assert not group.exists() and not group.frozen() and group.pids() == []


def test_p2_a_thaw_that_does_not_take_is_an_error(tree: Tree) -> None:
    tree.group.freeze(1.0)
    tree.sticks = True
    with pytest.raises(FreezeFailed, match="stays frozen"):
        tree.group.thaw()


def test_p1_on_v1_everything_is_killed_before_it_is_thawed(v1: Tree) -> None:
    v1.group.freeze(1.0)
    v1.orders.clear()
    v1.group.kill()
    assert v1.orders == ["kill 11 SIGKILL", "kill 12 SIGKILL", "freezer.state=THAWED"]


def test_p1_on_v2_everything_is_killed_before_it_is_thawed(v2: Tree) -> None:
    v2.group.freeze(1.0)
    v2.orders.clear()
    v2.group.kill()
    assert v2.orders[0] == "cgroup.kill=1" and "cgroup.freeze=0" not in v2.orders[:1]


def test_v2_without_cgroup_kill(v2: Tree) -> None:
    (v2.path / "cgroup.kill").unlink()
    v2.group.freeze(1.0)
    v2.orders.clear()
    v2.group.kill()
    assert v2.orders == ["kill 11 SIGKILL", "kill 12 SIGKILL", "cgroup.freeze=0"]


def test_what_does_not_die_is_an_error(v1: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups.os, "kill", lambda _pid, _number: None)
    with pytest.raises(FreezeFailed, match="do not die"):
        v1.group.kill(timeout=0.05)


def test_who_dies_by_himself_meanwhile(v1: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_pid: int, _number: int) -> None:
        v1.procs([])
        raise ProcessLookupError

    monkeypatch.setattr(cgroups.os, "kill", gone)
    v1.group.kill()


def test_processes_below_count(tree: Tree) -> None:
    (tree.path / "below").mkdir()
    (tree.path / "below/cgroup.procs").write_text("13\n")
    assert sorted(tree.group.pids()) == [11, 12, 13]


def test_cpu_time_in_nanoseconds(tree: Tree) -> None:
    assert tree.group.usage_ns() == 1_500_000


def test_memberships() -> None:
    text = "9:cpu,cpuacct:/kubepods/pod:1\n7:freezer:/kubepods/x\n1:name=systemd:/s\n0::/unified\n"
    found = parse_membership(text)
    assert found["freezer"] == "/kubepods/x" and found["cpuacct"] == found["cpu"] == "/kubepods/pod:1"
    assert found[""] == "/unified"


@pytest.mark.parametrize("unified", [False, True])
@pytest.mark.parametrize("path", ["/", "/..", ""])
def test_nobody_freezes_the_root(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, unified: bool, path: str
) -> None:
    if unified:
        (tmp_path / "cgroup.controllers").touch()
    monkeypatch.setattr(cgroups, "read_text", lambda _path: f"7:freezer:{path}\n0::{path}\n")
    with pytest.raises(NotFound, match="no cgroup of its own"):
        Cgroup.of_process(1, str(tmp_path))


def test_of_a_process(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "read_text", lambda _path: "9:cpu,cpuacct:/a\n7:freezer:/f\n0::/u\n")
    assert Cgroup.of_process(1, str(tmp_path)).path == f"{tmp_path}/freezer/f"
    (tmp_path / "cgroup.controllers").touch()
    assert Cgroup.of_process(1, str(tmp_path)).path == f"{tmp_path}/u"


def test_of_nobody() -> None:
    with pytest.raises(NotFound, match="is gone"):
        Cgroup.of_process(2**22 + 1)
