# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a ferry's unit runs when the ferry has ended, however it ended (``ExecStopPost``)."""

from __future__ import annotations

import os
import typing as t

from .._common.errors import NotFound, PodferryError
from .._common.files import read_json
from .._runtime import loopback, process, quota
from .._runtime.cgroup import Cgroup
from .._runtime.process import Runner
from . import paths, thaw
from .arrival import give_up
from .journal import THAW_BY_GUARD, Journal
from .record import Record


def main(run: str, role: str) -> int:
    """Leave source or target in a state that keeps the promises. Safe to run at any time, and twice."""
    place = paths.RunPaths(run)
    try:
        journal = Journal.load(place)
    except NotFound:
        return 0
    if role == "source":
        guard_source(journal)
    else:
        guard_target(place, journal)
    if os.path.exists(place.control):
        os.unlink(place.control)
    return 0


def guard_source(journal: Journal) -> None:
    """Thaw the source when its ferry died before the go; after it only the target's record knows who may run."""
    if journal.state in THAW_BY_GUARD:
        failed = thaw.run_again(journal.data)
        if failed:
            raise failed[0]
        journal.write("aborted", error={"type": "ferry_lost", "message": "the source's ferry died; its guard thawed the pod",
                                        "remedy": "Run the migration again.", "phase": journal.state})  # fmt: skip
    elif journal.state in ("prepared", "waiting"):
        journal.write("aborted", error={"type": "ferry_lost", "message": "the source's ferry died before the freeze",
                                        "remedy": "Run the migration again.", "phase": journal.state})  # fmt: skip
    elif journal.state == "go_given":
        journal.write("in_doubt", error={"type": "ferry_lost", "message": "the source's ferry died after the go",
                                         "remedy": "Run the play again: it asks the target.", "phase": "commit"})  # fmt: skip


def guard_target(place: paths.RunPaths, journal: Journal, runner: Runner = process.run) -> None:
    """Finish what was committed, give up what was not."""
    record = Record(place.directory)
    state = record.state()
    if state == "armed":
        give_up(place, record)
        journal.write("aborted", error={"type": "ferry_lost", "message": "the target's ferry died before the commit",
                                        "remedy": "Run the migration again.", "phase": journal.state})  # fmt: skip
    elif state == "going" and not _at_its_end(journal) and not finished(place, journal, runner):
        journal.write("restore_lost", error={"type": "ferry_lost", "message": "the target's ferry died before its restore",
                                             "remedy": "The play brings the pod back at its source.", "phase": "restore"})  # fmt: skip


def _at_its_end(journal: Journal) -> bool:
    """The ferry had let everything go: a pod that is frozen now is frozen by somebody else, its next migration say."""
    return journal.state == "resumed" and "error" not in journal.data


def held_mark(place: paths.RunPaths, names: t.Sequence[str]) -> str:
    """Where it stands that TCP on the pod's loopback is dropped, and in which network namespace."""
    return place.mark("loopback", names[0])


def finished(place: paths.RunPaths, journal: Journal, runner: Runner) -> bool:
    """Thaw what was let go and stands restored; False when there is nothing (any more) that could be let go.

    :raises FreezeFailed: a container refused; the others run.
    """
    names = [str(name) for name in journal.data["containers"]]
    marks = [place.mark("restored", name) for name in names]
    if not all(os.path.exists(mark) for mark in marks) or os.path.exists(place.incomplete):
        return False
    record = Record(place.directory)
    with record.lock():
        if record.state() != "going":
            return False
        restored = [read_json(mark) for mark in marks]
        groups = [Cgroup.at(str(entry["cgroup"])) for entry in restored]
        if not record.thawed() and not all(group.stands() for group in groups):
            return False  # killed while it stood frozen: nothing of it has run, so the source may still go on
        if not record.thawed() and not _loopback_works(held_mark(place, names), runner):
            return False  # the same: nothing of it has run
        record.mark_thawed()
        failed: list[PodferryError] = []
        for entry, group in zip(restored, groups):
            quota.put_back(entry.get("quotas") or {})
            try:
                group.thaw()
            except PodferryError as error:
                failed.append(error)  # it is committed: the others must run all the same
    if failed:
        raise failed[0]
    if journal.state != "resumed":
        journal.write("resumed")
    return True


def _loopback_works(mark: str, runner: Runner) -> bool:
    """Take back what the ferry could not any more; False when the pod's connections with itself would stay dropped."""
    try:
        netns = str(read_json(mark)["netns"])
    except FileNotFoundError:
        return True
    try:
        loopback.hold(netns, runner)  # it may have died right after it let go: then there is something to delete again
        loopback.let_go(netns, runner)
    except PodferryError:
        return False
    os.unlink(mark)
    return True
