# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What happens to a run after its ferries have ended: kill, thaw, surrender, undo, finish. Driven by journal and record."""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from .._common.errors import InvalidInput, LeftOver, NotFound, PodferryError, StateConflict
from .._common.files import read_json, write_atomic
from .._runtime.cgroup import Cgroup
from .._runtime.process import Runner
from . import busy, paths, thaw, through, units
from .arrival import give_up
from .control import Client
from .journal import THAW_BY_GUARD, Journal, all_runs
from .record import Record

_SHOWN = (
    "role", "state", "mode", "namespace", "pod", "uid", "target_pod", "source_pod", "source_node", "target_node",
    "containers", "downtime_ms", "freeze_ns", "error", "context", "criu_log",
)  # fmt: skip
"""What of a journal a controller gets to see."""


_DROP_SECONDS = 20.0


FORSAKEN = "forsaken"
"""What a person says in the place of the target's record, to go back to the source's older state (docs/failures.md)."""

_IN_DOUBT = ("in_doubt", "go_given", "relinquished", "aborted")
_THAWED_ON = {"aborted": _IN_DOUBT, FORSAKEN: (*_IN_DOUBT, "committed")}
"""What is said of the target to the states of a source that goes on then."""


def runs(namespace: str | None, pod: str | None, runner: Runner, state: str = paths.STATE) -> list[dict[str, t.Any]]:
    """The runs that this node knows, of one pod (as source's or target's name) or of all."""
    found = []
    for place, journal in all_runs(state):
        data = journal.data
        if namespace and data.get("namespace") != namespace:
            continue
        if pod and pod not in (data.get("pod"), data.get("target_pod"), data.get("source_pod")):
            continue
        role = str(data.get("role"))
        held = busy.held(place)
        alive = held or units.alive(place, role, runner)
        # Read anew after that look: a ferry that has ended by now may have committed since the first reading.
        try:
            data = Journal.load(place).data
        except NotFound:
            continue  # somebody ends it just now
        entry = {name: data.get(name) for name in _SHOWN}
        entry["run"], entry["busy"], entry["alive"] = place.run, held, alive
        # Who works on it is a session, and that lives as long as its controller.
        entry["controlled"] = held or (alive and _controlled(place))
        if role == "target":
            entry["record"] = record_of(place)
            entry["restored"] = _restored(place)
        found.append(entry)
    return found


def _restored(place: paths.RunPaths) -> list[dict[str, t.Any]]:
    """The containers that stand or run restored: name, id and the process that was first in them."""
    found: list[dict[str, t.Any]] = []
    try:
        names = sorted(os.listdir(place.directory))
    except FileNotFoundError:
        return found  # somebody ends it just now
    for name in names:
        kind, _dot, container = name.partition(".")
        if kind == "restored":
            with contextlib.suppress(OSError, ValueError):
                mark = read_json(os.path.join(place.directory, name))
                found.append({"name": container, "id": mark.get("id"), "pid": mark.get("pid")})
    return found


def _controlled(place: paths.RunPaths) -> bool | None:
    """Whether some controller listens to the ferry of this run; None when it is too busy to say."""
    try:
        client = Client(place.control, timeout=5.0)
    except NotFound:
        return False
    try:
        return bool(client.ask({"op": "status", "id": 1}).get("controlled"))
    except PodferryError:
        return None
    finally:
        client.close()


def record_of(place: paths.RunPaths) -> dict[str, t.Any]:
    """The target's record, and whether the target may have run."""
    record = Record(place.directory)
    return {"state": record.state(), "resumed": record.thawed()}


def kill_source(place: paths.RunPaths) -> None:
    """End the frozen source without one more instruction of it.

    :raises StateConflict: the source was not given up.
    """
    journal = Journal.load(place)
    if journal.state not in ("relinquished", "committed", "killed"):
        raise StateConflict(f"the source of run {place.run} is {journal.state}: it is not killed")
    for item in journal.data["containers"]:
        Cgroup.at(str(item["cgroup"])).kill()
    journal.write("killed")


def surrender(place: paths.RunPaths, runner: Runner) -> dict[str, t.Any]:
    """Give the arrival up for good, unless the target has been let go."""
    if not os.path.isdir(place.directory):
        raise NotFound(
            f"this node has no record of run {place.run}: it was restarted, or the run was ended there",
            "Look whether the target pod's container runs; see docs/failures.md#in_doubt.",
        )
    units.stop(place, "target", runner)
    record = Record(place.directory)
    given_up = give_up(place, record)
    if given_up:
        Journal.load(place).write("aborted")
    return {"surrendered": given_up, "reason": "" if given_up else "the target was let go"}


def thaw_source(place: paths.RunPaths, proof: t.Mapping[str, t.Any], runner: Runner) -> None:
    """Thaw a source in doubt, on the proof that the target's record is aborted.

    ``forsaken`` instead is the word of a person, never of a controller: the target ran and is gone, and what it did does
    not count. Then also a source that was told that its target runs goes on.

    :raises StateConflict: no such proof, or the source was killed.
    """
    stands = _THAWED_ON.get(str(proof.get("target_record")))
    if stands is None:
        raise StateConflict("the source is thawed only on the proof that the target's record is aborted")
    journal = _after_its_ferry(place, runner)
    if journal.state == "copied":
        return  # it runs
    if journal.state not in stands:
        raise StateConflict(f"the source of run {place.run} is {journal.state}: it cannot be thawed")
    if journal.state != "aborted":  # that was written after the thaw: what stands now stands for another run
        _thaw(journal)
        journal.write("aborted")


def _after_its_ferry(place: paths.RunPaths, runner: Runner) -> Journal:
    """The journal of a source to which somebody else writes now: a ferry that still waits would write over that."""
    if Journal.load(place).state in ("go_given", "in_doubt", "relinquished"):
        units.stop(place, "source", runner)
    return Journal.load(place)


def _thaw(journal: Journal) -> None:
    failed = thaw.run_again(journal.data)
    if failed:
        raise failed[0]


def settle(place: paths.RunPaths, proof: t.Mapping[str, t.Any], runner: Runner) -> None:
    """Take over for a source in doubt what the target's record says: it was let go.

    :raises StateConflict: the proof says something else.
    """
    if proof.get("target_record") not in ("going", "done"):
        raise StateConflict("only a target that was let go settles a source in doubt")
    journal = _after_its_ferry(place, runner)
    if journal.state in ("in_doubt", "go_given"):
        journal.write("relinquished" if journal.data.get("mode") == "successor" else "committed")


def finish(place: paths.RunPaths, runner: Runner) -> bool:
    """End a run on this node and remove everything of it. Does nothing for a run that is not there.

    :returns: whether there was something.
    :raises StateConflict: the run has not come to an end that allows it, or another session is just storing its state.
    """
    if not os.path.isdir(place.directory):
        _remove_staging(place)  # a node that was restarted has forgotten the rest
        return False
    with contextlib.ExitStack() as kept:
        try:
            kept.enter_context(busy.ending(place))
        except NotFound:
            return True  # who worked on it has just removed it
        _end(place, runner)
    return True


def _end(place: paths.RunPaths, runner: Runner) -> None:
    try:
        journal = Journal.load(place)
    except NotFound:
        for role in ("source", "target"):  # a ferry that never came to its first step
            units.stop(place, role, runner)
        _remove(place, runner)
        return
    role = str(journal.data["role"])
    if role == "source":
        _finish_source(place, runner)
    else:
        _finish_target(place, runner)
    _drop_stored(journal)
    undo = place.run + ".undo"
    if role == "source" and os.path.isdir(os.path.join(place.state, "runs", undo)):
        finish(paths.RunPaths(undo, place.state), runner)
    _remove(place, runner)


def _drop_stored(journal: Journal) -> None:
    """What went through a store does not stay there. One that cannot be reached keeps what nobody can read: its key is gone."""
    way = journal.data.get("through")
    if isinstance(way, dict):
        with contextlib.suppress(PodferryError):
            through.drop_soon({**way, **way["fields"]}, _DROP_SECONDS)


def _finish_source(place: paths.RunPaths, runner: Runner) -> None:
    _without_doubt(place)
    units.stop(place, "source", runner)  # its guard thaws
    journal = _without_doubt(place)  # the word may have gone out until the ferry stood
    if journal.state in ("relinquished", "committed", "killed"):
        kill_source(place)
    elif journal.state in THAW_BY_GUARD:
        _thaw(journal)


def _without_doubt(place: paths.RunPaths) -> Journal:
    journal = Journal.load(place)
    if journal.state in ("in_doubt", "go_given"):
        raise StateConflict(
            f"run {place.run} is in doubt: whether its target runs is not known here",
            "Settle it first: run the play again, or see docs/failures.md#in_doubt.",
        )
    return journal


def _finish_target(place: paths.RunPaths, runner: Runner) -> None:
    units.stop(place, "target", runner)
    record = Record(place.directory)
    if record.thawed():
        _note_arrival(place)
        if record.state() == "going":
            record.move("going", "done")
    elif not give_up(place, record):
        raise StateConflict(f"run {place.run} cannot be ended: its target is neither let go nor given up")


def _note_arrival(place: paths.RunPaths) -> None:
    """From here on the pod may be started from its image: where the runtime does not forget its mark, say so beside it."""
    for name in os.listdir(place.directory):
        if not name.startswith("restored."):
            continue
        with contextlib.suppress(OSError, ValueError):  # the pod is gone: nothing will be started
            mark = read_json(os.path.join(place.directory, name)).get("arrived")
            if mark:
                write_atomic(str(mark), place.run.partition(".")[0] + "\n")


def _remove(place: paths.RunPaths, runner: Runner) -> None:
    for name in sorted(os.listdir(place.directory)):
        kind, _dot, _container = name.partition(".")
        if kind == "claim":
            with contextlib.suppress(OSError, ValueError, KeyError, PodferryError):  # a handler died while it wrote it
                identifier = str(read_json(os.path.join(place.directory, name))["identifier"])
                shutil.rmtree(paths.claim(identifier, place.state), ignore_errors=True)
    for folder in (paths.arrivals(place.state), os.path.join(place.state, "runs")):
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            link = os.path.join(folder, name)
            if os.path.islink(link) and os.readlink(link) == place.directory:
                os.unlink(link)
    if os.path.ismount(place.images):
        done = runner(["umount", place.images])
        if done.code != 0:
            runner(["umount", "--lazy", place.images])
    _remove_staging(place)
    shutil.rmtree(place.directory)


def _remove_staging(place: paths.RunPaths) -> None:
    try:
        place.remove_staging()
    except OSError as error:
        raise LeftOver(
            f"copies of the pod's files stay in {place.staging}: {error.strerror}",
            "See to the disk of this node, then run the play for this pod again: it removes them.",
        ) from error


def undo_config(place: paths.RunPaths, proof: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The ``ferry_start`` request that brings the pod back on its own node from its own dump.

    :raises StateConflict: there is nothing to bring back.
    """
    if proof.get("target_record") != "aborted":
        raise StateConflict("the pod is brought back only on the proof that the target's record is aborted")
    journal = Journal.load(place)
    data = journal.data
    if journal.state not in ("relinquished", "killed") or data.get("mode") != "successor":
        raise StateConflict(f"run {place.run} is {journal.state}: there is nothing to undo")
    if not os.path.ismount(place.images):
        raise InvalidInput("the dump is gone")
    thaw.stay(place, str(data["namespace"]), str(data["pod"]))  # the handler restores it here now
    return {
        "op": "ferry_start", "run": place.run + ".undo", "role": "target", "mode": "undo", "namespace": data["namespace"],
        "pod": data["pod"], "containers": [item["name"] for item in data["containers"]], "images": place.images,
        "staging": place.staging,
        "freeze_ns": data["freeze_ns"], "hold_loopback": bool(data.get("hold_loopback")), **(data.get("roster") or {}),
    }  # fmt: skip
