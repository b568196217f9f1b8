# SPDX-License-Identifier: Apache-2.0
"""The target's ferry from the first restore of several containers to their thaw, and its guard when it dies there."""

from __future__ import annotations

import json
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common import faults
from ansible_collections.podferry.live.plugins.module_utils._common.errors import CommandFailed, FreezeFailed
from ansible_collections.podferry.live.plugins.module_utils._ferry import guard, paths, target
from ansible_collections.podferry.live.plugins.module_utils._ferry.journal import Journal
from ansible_collections.podferry.live.plugins.module_utils._ferry.record import Record
from ansible_collections.podferry.live.plugins.module_utils._runtime.process import Completed
from doubles.cgroups import Cgroups, FakeCgroup

NETNS = "/var/run/netns/cni-1"
NAMES = ["one", "two"]


class Killed(BaseException):
    """SIGKILL: nothing in the ferry may catch it."""


class Network:
    """nftables in the pod's network namespace."""

    def __init__(self) -> None:
        self.held = False
        self.works = True

    def run(
        self, argv: Sequence[str], *, stdin: str = "", timeout: float = 60.0, env: Mapping[str, str] | None = None
    ) -> Completed:
        assert argv[:3] == ["nsenter", f"--net={NETNS}", "nft"], argv
        if not self.works or (argv[3].startswith("delete") and not self.held):
            return Completed(1, "", "Error: No such file or directory")
        self.held = argv[3].startswith("add")
        return Completed(0, "", "")


class Arriving:
    """A successor of two containers that are connected over the pod's loopback."""

    def __init__(self, state: pathlib.Path, patch: pytest.MonkeyPatch) -> None:
        self.network = Network()
        self.groups = {name: FakeCgroup(f"/g/{name}", frozen=True) for name in NAMES}
        self.place = paths.RunPaths("0123456789ab", str(state))
        self.place.create()
        Journal(self.place).write("prepared", role="target", mode="successor", containers=NAMES)
        self.record = Record(self.place.directory)
        self.record.arm({})
        self.record.move("armed", "going")
        self.dies_at = ("", "")
        config = {"linux": {"namespaces": [{"type": "network", "path": NETNS}]}}
        ferry: Any = object.__new__(target.TargetFerry)
        ferry.paths, ferry.record, ferry.names, ferry.runner = self.place, self.record, NAMES, self.network.run
        ferry.gates = {name: types.SimpleNamespace(config=config, cgroup=None, init=0) for name in NAMES}
        ferry.deadlines = types.SimpleNamespace(restore=10.0)
        ferry._hold_loopback, ferry._freeze_ns, ferry._misfit = True, 0, None
        ferry._reunion = types.SimpleNamespace(complete=lambda _processes: None)
        ferry._expect_claim_since = None
        ferry.enter = lambda _phase: None
        ferry._restore = self._restore
        self.ferry = ferry
        patch.setattr(target.procfs, "being_ended", lambda _pid: False)
        patch.setattr(faults, "point", self._point)
        patch.setattr(guard, "Cgroup", Cgroups(*self.groups.values()))

    def _restore(self, name: str, gate: Any, _deadline: float) -> None:
        assert self.network.held, "a connection's first end must not meet an empty place"
        gate.cgroup = self.groups[name]
        pathlib.Path(self.place.mark("restored", name)).write_text(json.dumps({"cgroup": gate.cgroup.path}))

    def _point(self, name: str, of: str = "") -> None:
        if (name, of) == self.dies_at:
            raise Killed

    def guard(self) -> str:
        """Run it; returns what the journal says then."""
        guard.guard_target(self.place, Journal.load(self.place), self.network.run)
        return Journal.load(self.place).state

    @property
    def thawed(self) -> list[str]:
        return [name for name, group in self.groups.items() if not group.is_frozen]


@pytest.fixture
def arriving(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Arriving:
    return Arriving(tmp_path, monkeypatch)


def test_all_goes_well(arriving: Arriving) -> None:
    arriving.ferry._restore_all()
    assert not arriving.network.held
    arriving.ferry._let_go()
    arriving.network.works = False
    arriving.guard()
    assert arriving.thawed == NAMES, "there is no rule left that the guard would look for"


def test_p3_a_ferry_that_dies_before_it_lets_the_loopback_go(arriving: Arriving) -> None:
    arriving.dies_at = ("target:restore:after", "two")
    with pytest.raises(Killed):
        arriving.ferry._restore_all()
    assert arriving.network.held
    assert arriving.guard() == "resumed"
    assert not arriving.network.held and arriving.thawed == NAMES


def test_one_that_dies_right_after(arriving: Arriving, monkeypatch: pytest.MonkeyPatch) -> None:
    real = target.loopback.let_go

    def last_act(netns: str, runner: Any) -> None:
        real(netns, runner)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(target.loopback, "let_go", last_act)
        with pytest.raises(Killed):
            arriving.ferry._restore_all()
    assert arriving.guard() == "resumed"
    assert not arriving.network.held and arriving.thawed == NAMES


def test_one_that_cannot_hold_it(arriving: Arriving) -> None:
    arriving.network.works = False
    with pytest.raises(CommandFailed):
        arriving.ferry._restore_all()
    assert arriving.guard() == "restore_lost"


def test_p1_p2_what_cannot_be_let_go_by_the_guard_either_goes_home(arriving: Arriving) -> None:
    arriving.dies_at = ("target:restore:after", "two")
    with pytest.raises(Killed):
        arriving.ferry._restore_all()
    arriving.network.works = False
    for _twice in range(2):
        assert arriving.guard() == "restore_lost"
        assert arriving.thawed == [] and not arriving.record.thawed(), "so the arrival can be given up"


def test_p2_one_container_that_refuses_does_not_keep_the_other_frozen(arriving: Arriving) -> None:
    arriving.ferry._restore_all()
    arriving.groups["one"].refuses = 1
    with pytest.raises(FreezeFailed, match="/g/one"):
        arriving.ferry._let_go()
    assert arriving.thawed == ["two"] and arriving.record.thawed()
    assert arriving.guard() == "resumed"
    assert arriving.thawed == NAMES


def test_p2_nor_when_its_guard_is_refused(arriving: Arriving) -> None:
    arriving.ferry._restore_all()
    arriving.groups["one"].refuses = 1
    with pytest.raises(FreezeFailed, match="/g/one"):
        arriving.guard()
    assert arriving.thawed == ["two"] and arriving.record.thawed()
    assert arriving.guard() == "resumed"
    assert arriving.thawed == NAMES
