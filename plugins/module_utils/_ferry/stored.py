# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A session's work with checkpoints: what a ferry has dumped goes to a store, what a store has comes to a ferry."""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from .._archive.convert import convert
from .._archive.convert import weigh as weight_of
from .._common.errors import InvalidInput, StateConflict
from .._common.files import read_json, write_json
from .._runtime import loopback
from .._runtime.process import Runner
from .._store import node
from .._store.manifest import canonical, parse
from .._store.spool import Pulse, no_pulse
from . import busy, lifecycle, paths
from .base import mount_images, roster
from .checkpoint import POD, STATE
from .journal import LOADING, Journal

Arguments = t.Mapping[str, t.Any]


def save(place: paths.RunPaths, arguments: Arguments, pulse: Pulse = no_pulse) -> dict[str, t.Any]:
    """Put what the run's ferry has dumped into a store. It is a checkpoint only once it is published.

    The ferry has ended: until this has, too, the run is kept from everybody who cleans up.

    :returns: the manifest, as the text to be signed.
    :raises NotFound: the run was ended.
    :raises StateConflict: the run has not dumped anything.
    :raises InvalidInput: a part of what it has dumped is not there.
    """
    with busy.Work(place, pulse) as work:
        journal = Journal.load(place)
        if journal.data.get("mode") != "checkpoint" or journal.state != "copied":
            raise StateConflict(f"run {place.run} is {journal.state}: it has no checkpoint to store")
        dumped = [str(item["name"]) for item in journal.data["containers"]]
        for name in dumped:
            shutil.rmtree(place.work(name), ignore_errors=True)  # logs of the dump
        _gather(place)
        _check_whole(place, dumped)
        manifest = node.save(
            arguments["store"],
            place.images,
            arguments["fields"],
            parent=str(arguments.get("parent") or ""),
            compression=str(arguments.get("compression") or "zstd"),
            recipient=str(arguments.get("recipient") or ""),
            identity=str(arguments.get("identity") or ""),
            pulse=work.pulse,
        )
    return {"manifest": canonical(manifest).decode()}


def _check_whole(place: paths.RunPaths, dumped: t.Iterable[str]) -> None:
    """What is stored as a checkpoint must be one: whoever restores it would find out too late."""
    read_object(place, POD)
    described = read_object(place, STATE).get("containers")
    if not isinstance(described, list) or not described:
        raise InvalidInput(f"the dump's {STATE} names no containers", "Take another checkpoint.")
    for name in [*described, *dumped]:
        if not os.path.isdir(place.criu(paths.valid_name(name))):
            raise InvalidInput(f"the dump has nothing of container {name}", "Take another checkpoint.")


def _gather(place: paths.RunPaths) -> None:
    """Bring what was copied to the disk in rounds beside the rest of the state."""
    for folder, _folders, names in os.walk(place.staging):
        there = os.path.join(place.images, os.path.relpath(folder, place.staging))
        os.makedirs(there, mode=0o700, exist_ok=True)
        for name in names:
            shutil.move(os.path.join(folder, name), os.path.join(there, name))


def adopt(place: paths.RunPaths, arguments: Arguments, runner: Runner, pulse: Pulse = no_pulse) -> dict[str, t.Any]:
    """Take an archive of the kubelet's (or another engine's) for what a ferry of ours would have dumped.

    :returns: what its manifest has to say, as far as the archive tells.
    :raises PodferryError: it is not what it should be, or nothing that can be restored.
    """
    pod = arguments.get("object")
    if not isinstance(pod, dict):
        raise InvalidInput("the pod's object is missing")
    namespace, name = paths.valid_name(arguments.get("namespace")), paths.valid_name(arguments.get("pod"))
    container = paths.valid_name(arguments.get("container"))
    with _coming(place, runner, pulse, role="source", mode="checkpoint", namespace=namespace, pod=name) as work:
        size = int(arguments["need_bytes"])
        mount_images(place, size, runner)
        fields = convert(
            str(arguments["path"]),
            place.images,
            container=container,
            limit=size,
            namespace=namespace,
            pod=name,
            pod_object=pod,
            pulse=work.pulse,
        )
        # Which containers have finished, say, only the pod tells.
        state = {**read_object(place, STATE), "roster": roster(arguments.get("roster") or {})}
        write_json(os.path.join(place.images, STATE), state)
        work.pulse()
        Journal.load(place).write("copied")
    return fields


@contextlib.contextmanager
def _coming(place: paths.RunPaths, runner: Runner, pulse: Pulse, **about: t.Any) -> t.Iterator[busy.Work]:
    """A new run whose state comes into this node's memory. Nothing of it stays when that fails or is stopped.

    The journal comes first, so that whoever looks for leftovers of the pod finds it if this process is killed.

    :raises StateConflict: there is a run of that id.
    """
    try:
        place.create()
    except FileExistsError:
        raise StateConflict(f"this node has a run {place.run} already", "Give the id of another.") from None
    try:
        with busy.Work(place, pulse) as work:
            Journal(place).write(LOADING, run=place.run, containers=[], **about)
            yield work
    except BaseException:
        lifecycle.finish(place, runner)
        raise


def weigh(arguments: Arguments) -> dict[str, t.Any]:
    """How many bytes an archive needs in memory, before anything is made of it. Its own size says little.

    :raises PodferryError: it is none.
    """
    return {"unpacked": weight_of(str(arguments["path"]))}


def load(place: paths.RunPaths, arguments: Arguments, runner: Runner, pulse: Pulse = no_pulse) -> dict[str, t.Any]:
    """Bring a checkpoint's state into memory of this node, verified; the run is there from now on.

    :returns: the pod as the API had it, and what the restore has to know.
    """
    manifest = parse(str(arguments["manifest"]).encode())
    namespace, pod = manifest.place
    with _coming(place, runner, pulse, role="target", mode="restore", namespace=namespace, pod=pod) as work:
        size = int(arguments["need_bytes"])
        mount_images(place, size, runner)
        node.load(
            arguments["store"],
            manifest,
            place.images,
            identity=str(arguments.get("identity") or ""),
            limit=size,
            run=place.run,
            pulse=work.pulse,
        )
        return {"pod": read_object(place, POD), "state": read_object(place, STATE)}


def read_object(place: paths.RunPaths, name: str) -> dict[str, t.Any]:
    """A description that came with a state.

    :raises InvalidInput: it is not there, or not an object.
    """
    try:
        data = read_json(os.path.join(place.images, name))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the checkpoint has no {name} that can be read") from error
    if not isinstance(data, dict):
        raise InvalidInput(f"the checkpoint's {name} is not an object")
    return data


def restore_request(place: paths.RunPaths, arguments: Arguments) -> dict[str, t.Any]:
    """The ``ferry_start`` request that restores what :func:`load` has brought, as pod ``namespace``/``pod``.

    :raises InvalidInput: the state does not describe what it holds.
    """
    state = read_object(place, STATE)
    try:
        names = [paths.valid_name(name) for name in state["containers"]]
        destinations = {
            paths.valid_name(name): [str(item) for item in found] for name, found in state["destinations"].items()
        }
        containers = roster(dict(state["roster"]))  # and nothing else that stands there
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInput(f"the checkpoint's {STATE} is not of its form: {error}") from error
    if not names or any(not os.path.isdir(place.criu(name)) for name in names):
        raise InvalidInput("the checkpoint does not hold a dump of each of its containers")
    if state.get("hold_loopback") and not loopback.possible():
        raise StateConflict(
            "the pod's containers are connected with each other, and this node cannot hold such connections",
            "Restore it on a node that has nft.",
        )
    return {
        "op": "ferry_start", "run": place.run, "role": "target", "mode": "restore",
        "namespace": paths.valid_name(arguments["namespace"]), "pod": paths.valid_name(arguments["pod"]),
        "containers": names, "destinations": destinations, "hold_loopback": bool(state.get("hold_loopback")),
        "staging": place.images, "deadlines": arguments.get("deadlines") or {}, "context": arguments.get("context") or {}, **containers,
    }  # fmt: skip
