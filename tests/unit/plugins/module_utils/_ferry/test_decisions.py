# SPDX-License-Identifier: Apache-2.0
"""What guards and later sessions decide from journal and record: every state, and P1 and P2 as assertions."""

from __future__ import annotations

import errno
import io
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    CommandFailed,
    FreezeFailed,
    LeftOver,
    NotFound,
    RestoreFailed,
    StateConflict,
)
from ansible_collections.podferry.live.plugins.module_utils._ferry import arrival, guard, lifecycle, paths, thaw, units
from ansible_collections.podferry.live.plugins.module_utils._ferry.journal import SOURCE_STATES, Journal
from ansible_collections.podferry.live.plugins.module_utils._ferry.record import Record
from ansible_collections.podferry.live.plugins.module_utils._ferry.session import OPERATIONS, Session
from ansible_collections.podferry.live.plugins.module_utils._runtime.process import Completed
from doubles.cgroups import Cgroups, FakeCgroup

RUN = "0123456789ab"
CONTAINER = "ab" * 32


class Node:
    """One node's state folder, with two cgroups of a pod that is being moved."""

    def __init__(self, state: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = state
        self.place = paths.RunPaths(RUN, str(state))
        self.place.create()
        (state / "arrivals").mkdir()
        self.groups = [FakeCgroup("/g/one"), FakeCgroup("/g/two")]
        known = Cgroups(*self.groups)
        for module in (guard, lifecycle, thaw):
            monkeypatch.setattr(module, "Cgroup", known)
        monkeypatch.setattr(
            arrival, "cgroups_of", lambda identifier: [g for g in self.groups if identifier == CONTAINER]
        )
        monkeypatch.setattr(arrival, "_alive", lambda pid, identifier: False)
        monkeypatch.setattr(paths, "STATE", str(state))
        monkeypatch.setattr(paths.RunPaths.__init__, "__defaults__", (str(state),))
        self.commands: list[list[str]] = []
        self.on_stop: Callable[[], None] = lambda: None

    def run(
        self, argv: Sequence[str], *, stdin: str = "", timeout: float = 60.0, env: Mapping[str, str] | None = None
    ) -> Completed:
        self.commands.append(list(argv))
        if argv[:2] == ["systemctl", "stop"]:
            self.on_stop()
        return Completed(0, "", "")

    def source(self, state: str, mode: str = "twin", frozen: bool = True) -> Journal:
        for group in self.groups:
            group.is_frozen = frozen
        journal = Journal(self.place)
        journal.write(
            state, role="source", run=RUN, mode=mode, namespace="default", pod="web",
            containers=[{"name": "one", "cgroup": "/g/one"}, {"name": "two", "cgroup": "/g/two"}],
        )  # fmt: skip
        return journal

    def target(self, record: str, *, restored: bool = True, thawed: bool = False, journal: str = "prepared") -> Record:
        for group in self.groups:
            group.is_frozen = not thawed
        Journal(self.place).write(
            journal, role="target", run=RUN, namespace="default", pod="web", containers=["one", "two"]
        )
        made = Record(self.place.directory)
        if record != "none":
            made.arm({})
            (self.state / "arrivals/default_web").symlink_to(self.place.directory)
        if record in ("going", "done"):
            made.move("armed", "going")
        if record in ("aborted", "done"):
            made.move(made.state(), record)  # type: ignore[arg-type]
        if restored:
            for name in ("one", "two"):
                pathlib.Path(self.place.mark("restored", name)).write_text(json.dumps({"cgroup": f"/g/{name}"}))
        pathlib.Path(self.place.mark("claim", "one")).write_text(json.dumps({"identifier": CONTAINER, "pid": 1}))
        if thawed:
            made.mark_thawed()
        return made

    def journal(self) -> str:
        return Journal.load(self.place).state

    @property
    def running(self) -> int:
        return sum(group.runs for group in self.groups)

    @property
    def thaws(self) -> int:
        return sum(group.thaws for group in self.groups)

    @property
    def dead(self) -> bool:
        return not any(group.alive for group in self.groups)


@pytest.fixture
def node(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


# --- the source's guard -----------------------------------------------------------------------------------------------

GUARD_OF_SOURCE = {
    "prepared": ("aborted", False),
    "waiting": ("aborted", False),
    "freezing": ("aborted", True),
    "frozen": ("aborted", True),
    "data_ready": ("aborted", True),
    "go_given": ("in_doubt", False),
    "relinquished": ("relinquished", False),
    "committed": ("committed", False),
    "aborted": ("aborted", False),
    "in_doubt": ("in_doubt", False),
    "killed": ("killed", False),
    "copied": ("copied", False),
}


def test_the_table_knows_every_state() -> None:
    assert set(GUARD_OF_SOURCE) == set(SOURCE_STATES)


@pytest.mark.parametrize(("state", "expected"), GUARD_OF_SOURCE.items())
def test_guard_of_the_source(node: Node, state: str, expected: tuple[str, bool]) -> None:
    node.source(state)
    for _twice in range(2):
        assert guard.main(RUN, "source") == 0
        assert (node.journal(), node.running == 2) == expected
    assert node.thaws == (2 if expected[1] else 0)
    assert not node.dead


@pytest.mark.parametrize("state", ["go_given", "in_doubt", "relinquished", "committed", "killed"])
def test_p1_no_guard_thaws_a_source_that_may_have_been_let_go(node: Node, state: str) -> None:
    node.source(state)
    guard.main(RUN, "source")
    assert node.thaws == 0


def test_p2_one_container_that_refuses_does_not_keep_the_other_frozen(node: Node) -> None:
    node.source("frozen")
    node.groups[0].refuses = 1
    with pytest.raises(FreezeFailed):
        guard.main(RUN, "source")
    assert node.groups[1].runs and node.journal() == "frozen"
    guard.main(RUN, "source")
    assert node.running == 2 and node.journal() == "aborted"


def test_a_guard_without_a_journal_does_nothing(node: Node) -> None:
    assert guard.main(RUN, "source") == guard.main(RUN, "target") == 0


# --- the target's guard -----------------------------------------------------------------------------------------------

GUARD_OF_TARGET = [
    # record, restored, thawed before -> record, runs, dead
    ("none", False, False, "none", False, False),
    ("armed", False, False, "aborted", False, True),
    ("armed", True, False, "aborted", False, True),
    ("going", False, False, "going", False, False),
    ("going", True, False, "going", True, False),
    ("going", True, True, "going", True, False),
    ("aborted", True, False, "aborted", False, False),
    ("done", True, True, "done", True, False),
]


@pytest.mark.parametrize(("record", "restored", "thawed", "after", "runs", "dead"), GUARD_OF_TARGET)
def test_guard_of_the_target(
    node: Node, record: str, restored: bool, thawed: bool, after: str, runs: bool, dead: bool
) -> None:
    made = node.target(record, restored=restored, thawed=thawed)
    for _twice in range(2):
        guard.main(RUN, "target")
        assert (made.state(), node.running == 2, node.dead) == (after, runs, dead)
    assert made.thawed() == runs


def test_a_ferry_that_died_between_two_thaws_is_finished(node: Node) -> None:
    record = node.target("going")
    record.mark_thawed()
    node.groups[0].is_frozen = False
    guard.main(RUN, "target")
    assert node.running == 2 and node.journal() == "resumed"


def test_what_was_killed_while_it_stood_frozen_is_not_let_go(node: Node) -> None:
    record = node.target("going")
    for group in node.groups:
        group.alive = False
    guard.main(RUN, "target")
    assert not record.thawed() and node.journal() == "restore_lost"
    assert lifecycle.surrender(node.place, node.run)["surrendered"], "the source may go on"


def test_p3_what_lacks_what_was_in_its_sockets_is_not_let_go(node: Node) -> None:
    """All containers stand restored, but the ferry died before it had filled the sockets between them."""
    record = node.target("going")
    pathlib.Path(node.place.incomplete).touch()
    guard.main(RUN, "target")
    assert not record.thawed() and node.running == 0 and node.journal() == "restore_lost"


def test_p1_a_late_guard_does_not_thaw_what_the_next_migration_froze(node: Node) -> None:
    node.target("going", thawed=True, journal="resumed")
    for group in node.groups:
        group.is_frozen = True
    guard.main(RUN, "target")
    assert node.running == 0


# --- giving an arrival up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "thawed", "given_up"),
    [("none", False, True), ("armed", False, True), ("aborted", False, True), ("going", False, True),
     ("going", True, False), ("armed", True, False), ("done", True, False), ("done", False, False)],
)  # fmt: skip
def test_give_up(node: Node, record: str, thawed: bool, given_up: bool) -> None:
    made = node.target(record, thawed=thawed)
    assert arrival.give_up(node.place, made) is given_up
    assert node.dead is given_up, "what was given up is dead, what was let go lives"
    if given_up and record != "none":
        assert made.state() == "aborted"


def test_give_up_that_loses_the_race_leaves_everything_alone(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    made = node.target("armed")
    real = Record.move

    def late(self: Record, old: str, new: str) -> bool:
        if new == "aborted":
            real(self, "armed", "going")  # the ferry's own rename came first
        return real(self, old, new)  # type: ignore[arg-type]

    monkeypatch.setattr(Record, "move", late)
    assert arrival.give_up(node.place, made) is False
    assert not node.dead and made.state() == "going"


def test_give_up_is_no_proof_while_something_lives(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    made = node.target("armed")
    clock = iter(range(1000))
    monkeypatch.setattr(arrival.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(arrival.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(arrival, "_alive", lambda pid, identifier: True)
    monkeypatch.setattr(arrival, "_terminate", lambda pid, identifier: None)
    with pytest.raises(RestoreFailed, match="does not die"):
        arrival.give_up(node.place, made)
    assert made.state() == "aborted", "it may never run, even though it is not dead yet"


def test_give_up_ends_every_container_that_has_come(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    made = node.target("armed")
    for name in ("main", "second"):
        pathlib.Path(node.place.mark("claim", name)).write_text("{}")
    stopped: list[str] = []
    monkeypatch.setattr(arrival, "_stop_claim", lambda _run, name: stopped.append(name))
    assert arrival.give_up(node.place, made)
    assert {"main", "second"} <= set(stopped)


def test_arming_twice_and_for_two_runs(node: Node) -> None:
    record = Record(node.place.directory)
    arrival.arm(node.place, record, "default", "web", {"containers": ["one"]})
    other = paths.RunPaths("ffffffffffff", str(node.state))
    other.create()
    with pytest.raises(StateConflict, match="another run is bringing default/web"):
        arrival.arm(other, Record(other.directory), "default", "web", {"containers": ["one"]})
    assert os.readlink(node.state / "arrivals/default_web") == node.place.directory


def test_an_arrival_that_points_nowhere_is_replaced(node: Node) -> None:
    (node.state / "arrivals/default_web").symlink_to(node.state / "runs/gone")
    arrival.arm(node.place, Record(node.place.directory), "default", "web", {"containers": ["one"]})
    assert os.readlink(node.state / "arrivals/default_web") == node.place.directory


# --- what a session may do with the source ----------------------------------------------------------------------------


@pytest.mark.parametrize("state", SOURCE_STATES)
def test_kill_only_a_source_that_was_given_up(node: Node, state: str) -> None:
    node.source(state)
    if state in ("relinquished", "committed", "killed"):
        lifecycle.kill_source(node.place)
        lifecycle.kill_source(node.place)
        assert node.dead and node.journal() == "killed" and node.thaws == 0
    else:
        with pytest.raises(StateConflict, match="is not killed"):
            lifecycle.kill_source(node.place)
        assert not node.dead and node.journal() == state


@pytest.mark.parametrize("state", SOURCE_STATES)
@pytest.mark.parametrize("proof", ["aborted", "forsaken", "going", "done", "armed", "none", None])
def test_thaw_needs_the_proof_and_a_source_in_doubt(node: Node, state: str, proof: str | None) -> None:
    node.source(state)
    allowed = proof in ("aborted", "forsaken") and state in ("in_doubt", "go_given", "relinquished", "aborted")
    allowed |= (proof, state) == ("forsaken", "committed")
    if proof in ("aborted", "forsaken") and state == "copied":
        lifecycle.thaw_source(node.place, {"target_record": proof}, node.run)
        assert (node.journal(), node.running) == ("copied", 0)  # it runs already
    elif allowed:
        lifecycle.thaw_source(node.place, {"target_record": proof}, node.run)
        assert node.journal() == "aborted"
        assert node.running == (0 if state == "aborted" else 2), "an aborted run has thawed already"
    else:
        with pytest.raises(StateConflict):
            lifecycle.thaw_source(node.place, {"target_record": proof}, node.run)
        assert node.thaws == 0 and node.journal() == state


@pytest.mark.parametrize(("proof", "ends"), [("aborted", "aborted"), ("going", "committed")])
def test_a_ferry_that_waits_for_its_answer_does_not_write_over_what_was_settled(
    node: Node, proof: str, ends: str
) -> None:
    ferry, stopped = node.source("go_given"), False

    def stop() -> None:
        nonlocal stopped
        stopped = True

    node.on_stop = stop
    decide = lifecycle.thaw_source if proof == "aborted" else lifecycle.settle
    decide(node.place, {"target_record": proof}, node.run)
    if not stopped:
        ferry.write("in_doubt")  # what it does when its link breaks
    assert node.journal() == ends


def test_p2_a_run_that_commits_while_it_is_looked_at_reads_as_committed(node: Node) -> None:
    """The ferry ends between the reading of the journal and the question whether it is at work."""
    journal = node.source("data_ready")

    def systemctl(argv: Sequence[str], **options: Any) -> Completed:
        if "is-active" in argv:
            journal.write("committed")
            return Completed(3, "", "")
        return node.run(argv, **options)

    with open(node.place.control, "w"):
        pass
    (entry,) = lifecycle.runs("default", None, systemctl, str(node.state))
    assert (entry["alive"], entry["state"]) == (False, "committed")


@pytest.mark.parametrize("state", SOURCE_STATES)
@pytest.mark.parametrize("proof", ["going", "done", "aborted", "armed", None])
@pytest.mark.parametrize("mode", ["twin", "successor"])
def test_settle(node: Node, state: str, proof: str | None, mode: str) -> None:
    node.source(state, mode)
    if proof not in ("going", "done"):
        with pytest.raises(StateConflict):
            lifecycle.settle(node.place, {"target_record": proof}, node.run)
    else:
        lifecycle.settle(node.place, {"target_record": proof}, node.run)
    word = "relinquished" if mode == "successor" else "committed"
    doubtful = state in ("in_doubt", "go_given") and proof in ("going", "done")
    assert node.journal() == (word if doubtful else state) and node.thaws == 0


@pytest.mark.parametrize("state", SOURCE_STATES)
def test_finish_of_a_source(node: Node, state: str) -> None:
    node.source(state)
    node.on_stop = lambda: void(guard.main(RUN, "source"))
    if state in ("in_doubt", "go_given"):
        with pytest.raises(StateConflict, match="is in doubt"):
            lifecycle.finish(node.place, node.run)
        assert node.thaws == 0 and not node.dead and os.path.isdir(node.place.directory)
        assert node.commands == [], "a ferry that waits for its answer is not stopped"
        return
    lifecycle.finish(node.place, node.run)
    assert node.dead is (state in ("relinquished", "committed", "killed"))
    assert node.running == (2 if state in ("freezing", "frozen", "data_ready") else 0)
    assert not os.path.exists(node.place.directory) and os.listdir(node.state / "arrivals") == []
    lifecycle.finish(node.place, node.run)


def void(_value: object) -> None:
    return None


@pytest.mark.parametrize(("reached", "ends"), [("go_given", "doubt"), ("committed", "dead"), ("in_doubt", "doubt")])
def test_p1_finish_that_meets_a_ferry_on_its_way(node: Node, reached: str, ends: str) -> None:
    """The ferry gave the go between the first look at the journal and its end."""
    journal = node.source("frozen")

    def stop() -> None:
        journal.write(reached)
        guard.main(RUN, "source")

    node.on_stop = stop
    if ends == "doubt":
        with pytest.raises(StateConflict, match="is in doubt"):
            lifecycle.finish(node.place, node.run)
        assert not node.dead
    else:
        lifecycle.finish(node.place, node.run)
        assert node.dead
    assert node.thaws == 0


def test_p1_a_late_finish_does_not_thaw_what_the_next_run_froze(node: Node) -> None:
    node.source("aborted", frozen=True)
    lifecycle.finish(node.place, node.run)
    assert node.running == 0


def test_p5_a_run_whose_files_stay_is_not_forgotten(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    os.makedirs(node.place.staging)
    rmdir = os.rmdir

    def busy(path: str, **options: Any) -> None:
        if path == node.place.staging:
            raise OSError(errno.EBUSY, "busy", path)
        rmdir(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rmdir", busy)
        with pytest.raises(LeftOver, match="busy"):
            lifecycle.finish(node.place, node.run)
    assert os.path.isdir(node.place.directory)
    lifecycle.finish(node.place, node.run)
    assert not os.path.exists(node.place.directory) and not os.path.exists(node.place.staging)


def test_p5_a_node_that_has_forgotten_a_run_removes_its_files(node: Node) -> None:
    os.makedirs(node.place.staging)
    shutil.rmtree(node.place.directory)
    assert lifecycle.finish(node.place, node.run) is False
    assert not os.path.exists(node.place.staging)


def test_finish_of_a_run_without_a_journal(node: Node) -> None:
    lifecycle.finish(node.place, node.run)
    assert not os.path.exists(node.place.directory)
    assert [words[2] for words in node.commands if words[1] == "stop"] == [
        f"podferry-{RUN}-source.service", f"podferry-{RUN}-target.service",
    ]  # fmt: skip


# --- and with the target ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "thawed", "answer"),
    [
        ("armed", False, True),
        ("going", False, True),
        ("aborted", False, True),
        ("going", True, False),
        ("done", True, False),
    ],
)
def test_surrender(node: Node, record: str, thawed: bool, answer: bool) -> None:
    made = node.target(record, thawed=thawed)
    assert lifecycle.surrender(node.place, node.run)["surrendered"] is answer
    assert node.dead is answer and (made.state() == "aborted") is answer
    assert lifecycle.record_of(node.place) == {"state": made.state(), "resumed": thawed}


def test_surrender_on_a_node_that_forgot(node: Node) -> None:
    os.rmdir(node.place.directory)
    with pytest.raises(NotFound, match="no record"):
        lifecycle.surrender(node.place, node.run)


@pytest.mark.parametrize(
    ("record", "thawed", "dead"),
    [
        ("none", False, True),
        ("armed", False, True),
        ("going", False, True),
        ("aborted", False, True),
        ("going", True, False),
    ],
)
def test_finish_of_a_target(node: Node, record: str, thawed: bool, dead: bool) -> None:
    claims = node.state / "claims" / CONTAINER
    claims.mkdir(parents=True)
    node.target(record, thawed=thawed)
    lifecycle.finish(node.place, node.run)
    assert node.dead is dead
    assert not os.path.exists(node.place.directory) and not claims.exists()
    assert os.listdir(node.state / "arrivals") == []


def test_finish_in_spite_of_a_claim_that_was_half_written(node: Node) -> None:
    node.target("aborted")
    pathlib.Path(node.place.directory, "claim.one.77.77.tmp").write_text('{"ident')
    lifecycle.finish(node.place, node.run)
    assert not os.path.exists(node.place.directory)


def test_finish_leaves_the_arrival_of_another_run(node: Node) -> None:
    node.source("aborted")
    other = node.state / "runs/ffffffffffff"
    other.mkdir()
    (node.state / "arrivals/default_web").symlink_to(other)
    lifecycle.finish(node.place, node.run)
    assert os.listdir(node.state / "arrivals") == ["default_web"]


# --- a pod that leaves is not started from its image ------------------------------------------------------------------


def test_departure_and_stay(node: Node) -> None:
    journal = node.source("frozen")
    thaw.depart(node.place, "default", "web")
    thaw.depart(node.place, "default", "web")
    assert os.readlink(node.state / "arrivals/default_web") == node.place.directory
    thaw.run_again(journal.data, str(node.state))
    assert os.listdir(node.state / "arrivals") == []


def test_a_departure_does_not_take_an_arrivals_place(node: Node) -> None:
    node.source("frozen")
    other = node.state / "runs/ffffffffffff"
    other.mkdir()
    (node.state / "arrivals/default_web").symlink_to(other)
    thaw.depart(node.place, "default", "web")
    thaw.stay(node.place, "default", "web")
    assert os.readlink(node.state / "arrivals/default_web") == str(other)


# --- undoing a successor ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", SOURCE_STATES)
@pytest.mark.parametrize("mode", ["twin", "successor"])
def test_undo_only_of_a_successors_source(node: Node, state: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = node.source(state, mode)
    journal.write(state, freeze_ns=5)
    monkeypatch.setattr(lifecycle.os.path, "ismount", lambda path: path == node.place.images)
    if mode == "successor" and state in ("relinquished", "killed"):
        config = lifecycle.undo_config(node.place, {"target_record": "aborted"})
        assert (config["run"], config["role"], config["mode"]) == (RUN + ".undo", "target", "undo")
        assert config["images"] == node.place.images and config["containers"] == ["one", "two"]
    else:
        with pytest.raises(StateConflict, match="nothing to undo"):
            lifecycle.undo_config(node.place, {"target_record": "aborted"})


class Listening(Session):
    """A session whose ferries are not there: what they are asked is kept."""

    def __init__(self, node: Node) -> None:
        super().__init__(io.StringIO(), node.run)
        self.asked: list[Any] = []

    def attach(self, run: str, role: str, client: Any) -> Any:
        return self

    def ask(self, request: Mapping[str, Any]) -> Any:
        self.asked.append(request["op"])
        return {}


@pytest.fixture
def undone(node: Node, monkeypatch: pytest.MonkeyPatch) -> paths.RunPaths:
    """A source that was killed, and an undo of it that stands restored."""
    node.source("killed", "successor").write("killed", freeze_ns=5, containers=[])  # the cgroups are the undo's here
    place = node.place
    monkeypatch.setattr(lifecycle.os.path, "ismount", lambda path: path == place.images)
    monkeypatch.setattr(units, "start", lambda place, role, runner: None)
    node.place = paths.RunPaths(RUN + ".undo", str(node.state))
    node.place.create()
    node.target("going")
    return node.place


ARM = {"run": RUN, "target_record": "aborted", "deadlines": {}}


def test_p1_no_second_undo_of_a_pod_that_the_guard_lets_go(node: Node, undone: paths.RunPaths) -> None:
    """The undo's ferry is ended to make place for another, and its guard, which runs then, thaws what stands restored."""
    node.on_stop = lambda: void(guard.main(undone.run, "target"))
    session = Listening(node)
    with pytest.raises(StateConflict, match="brought back already"):
        OPERATIONS["undo_arm"](session, ARM)
    assert node.running == 2
    assert session.asked == []
    assert Record(undone.directory).thawed()


def test_an_undo_that_gave_up_makes_place_for_another(node: Node, undone: paths.RunPaths) -> None:
    os.unlink(undone.mark("restored", "two"))
    node.on_stop = lambda: void(guard.main(undone.run, "target"))
    session = Listening(node)
    assert OPERATIONS["undo_arm"](session, ARM) == {}
    assert session.asked == ["ferry_start", "arm"]
    assert node.dead and node.running == 0
    assert os.listdir(undone.directory) == []


def test_what_systemd_refuses_is_an_error(node: Node) -> None:
    def refuse(argv: Sequence[str], **_more: object) -> Completed:
        return Completed(1, "", "Failed to connect to bus")

    with pytest.raises(CommandFailed, match="systemd did not start"):
        units.start(node.place, "source", refuse)
