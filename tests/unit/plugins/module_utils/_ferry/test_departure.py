# SPDX-License-Identifier: Apache-2.0
"""A source of several containers from its freeze to its last dump: what is dumped must be as old as the files (P3)."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common import faults
from ansible_collections.podferry.live.plugins.module_utils._common.errors import FreezeFailed
from ansible_collections.podferry.live.plugins.module_utils._ferry import departure, thaw
from doubles.cgroups import FakeCgroup


class FakeDump:
    """A dump that is over at once. CRIU's parasite uses the container's CPU time."""

    def __init__(self, group: FakeCgroup) -> None:
        self._group = group
        self.begun = False

    def tell(self, _options: object) -> None:
        pass

    def begin(self) -> None:
        self.begun = True
        self._group.usage += 1000

    def described(self) -> bool:
        return True

    def running(self) -> bool:
        return False

    def finish(self) -> None:
        pass


class Pod:
    """Two containers and the ferry that dumps them; ``events`` happen at fault points."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.groups = {name: FakeCgroup(f"/g/{name}") for name in ("one", "two")}
        self.dumps = [FakeDump(group) for group in self.groups.values()]
        self.events: dict[tuple[str, str], Callable[[], object]] = {}
        patch.setattr(faults, "point", lambda name, of="": self.events.get((name, of), lambda: None)())
        patch.setattr(departure, "foreign_processes", lambda _item: [])
        patch.setattr(departure, "quota", types.SimpleNamespace(read=lambda _pid: {}, lift=lambda _quotas: None))
        patch.setattr(thaw, "depart", lambda *_words: None)
        ferry: Any = object.__new__(departure.Departure)
        ferry._containers = [
            types.SimpleNamespace(name=name, pid=0, cgroup=group) for name, group in self.groups.items()
        ]
        ferry._dumps, ferry._usage, ferry.tcp = self.dumps, {}, "close"
        ferry._between = types.SimpleNamespace(look=lambda: None, options=list)
        ferry.deadlines = types.SimpleNamespace(freeze=30.0)
        ferry.config = {"namespace": "default", "pod": "web"}
        ferry.paths, ferry.journal = None, types.SimpleNamespace(write=lambda *_words, **_more: None)
        ferry.enter = lambda _phase: None
        ferry._flush, ferry._pack = list, lambda _item: []
        self.ferry = ferry

    def thaw_and_refreeze(self, name: str) -> None:
        """What somebody else does; nothing of it is to be seen afterwards but the time that the container has run."""
        self.groups[name].thaw()
        self.groups[name].freeze(1.0)


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch) -> Pod:
    return Pod(monkeypatch)


def test_what_the_dump_itself_uses_does_not_count(pod: Pod) -> None:
    pod.ferry._freeze()
    pod.ferry._dump_all()
    pod.ferry._verify_still()
    assert all(dump.begun for dump in pod.dumps)


@pytest.mark.parametrize("at", [("source:dump:after", "one"), ("source:dump:before", "two")])
def test_p3_one_that_ran_between_two_dumps(pod: Pod, at: tuple[str, str]) -> None:
    """The volumes were packed with the first container; what it wrote to them since then is only in its memory."""
    pod.events[at] = lambda: pod.thaw_and_refreeze("two")
    pod.ferry._freeze()
    with pytest.raises(FreezeFailed, match="container two did not stay frozen from the freeze to its dump"):
        pod.ferry._dump_all()
    assert [dump.begun for dump in pod.dumps] == [True, False]


def test_one_that_runs_on_before_its_dump(pod: Pod) -> None:
    pod.events["source:dump:before", "two"] = pod.groups["two"].thaw
    pod.ferry._freeze()
    with pytest.raises(FreezeFailed, match="container two did not stay frozen"):
        pod.ferry._dump_all()


def test_one_that_ran_before_the_first_dump(pod: Pod) -> None:
    pod.ferry._freeze()
    pod.thaw_and_refreeze("one")
    with pytest.raises(FreezeFailed, match="container one did not stay frozen"):
        pod.ferry._dump_all()
    assert not any(dump.begun for dump in pod.dumps)


def test_p3_one_that_ran_after_its_dump(pod: Pod) -> None:
    pod.events["source:dump:before", "two"] = lambda: pod.thaw_and_refreeze("one")
    pod.ferry._freeze()
    pod.ferry._dump_all()
    with pytest.raises(FreezeFailed, match="container one did not stay frozen after its dump"):
        pod.ferry._verify_still()
