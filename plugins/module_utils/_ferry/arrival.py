# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Arrivals: writing one, and making sure that one which was given up never runs."""

from __future__ import annotations

import contextlib
import json
import os
import time
import typing as t

from .._common.errors import RestoreFailed, StateConflict
from .._common.files import read_text
from .._runtime import process, volumes
from .._runtime.cgroup import ROOT, Cgroup, is_unified
from . import paths
from .record import Record


def arm(run: paths.RunPaths, record: Record, namespace: str, pod: str, content: t.Mapping[str, t.Any]) -> None:
    """Write record and arrival. ``content`` is what the handler has to know about the pod's containers.

    :raises StateConflict: another run is bringing a pod of that name here.
    """
    os.makedirs(paths.arrivals(run.state), mode=0o700, exist_ok=True)
    os.makedirs(os.path.join(run.state, "claims"), mode=0o700, exist_ok=True)
    arrival = paths.arrival(namespace, pod, run.state)
    record.arm({"namespace": namespace, "pod": pod, **content})
    try:
        os.symlink(run.directory, arrival)
    except FileExistsError as error:
        if os.path.exists(arrival):
            raise StateConflict(
                f"another run is bringing {namespace}/{pod} to this node", "Wait for it or finish it."
            ) from error
        os.unlink(arrival)
        os.symlink(run.directory, arrival)


_ARRIVED = "podferry.arrived"


def arrived_mark(config: t.Mapping[str, t.Any], uid: str) -> str | None:
    """Where it stands that a pod has arrived: in the kubelet's folder of the pod, with which it goes.

    CRI-O makes containers with the annotations that the sandbox was created with: a pod that has arrived long ago still
    carries the mark of an arrival there, also after the node was restarted and every record is gone.
    """
    folder = volumes.pod_directory(config, uid)
    return os.path.join(folder, _ARRIVED) if folder else None


def has_arrived(config: t.Mapping[str, t.Any], uid: str, run: str) -> bool:
    """Whether this pod's arrival by ``run`` came to its end on this node."""
    try:
        return read_text(arrived_mark(config, uid) or "").strip() == run
    except OSError:
        return False


def give_up(run: paths.RunPaths, record: Record) -> bool:
    """Make sure that nothing of this arrival runs or ever will: the proof on which the source may be thawed.

    :returns: False when the target was let go already; then it must live.
    """
    with record.lock():
        state = record.state()
        if state in ("done",) or record.thawed():
            return False
        if state in ("armed", "going") and not record.move(state, "aborted"):
            return record.state() == "aborted"
    for name in sorted(os.listdir(run.directory)):
        kind, _dot, container = name.partition(".")
        if kind == "claim":
            _stop_claim(run, container)
    return True


def _stop_claim(run: paths.RunPaths, container: str) -> None:
    """End the process behind a ``create`` and everything in the container's cgroup, frozen or not."""
    try:
        claim = json.loads(read_text(run.mark("claim", container)))
    except (OSError, ValueError):
        return
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        groups = cgroups_of(str(claim["identifier"]))
        for group in groups:
            group.kill()
        if not _alive(int(claim["pid"]), str(claim["identifier"])) and not any(group.pids() for group in groups):
            _sweep(str(claim["identifier"]))
            return
        if time.monotonic() > deadline - 8:
            _terminate(int(claim["pid"]), str(claim["identifier"]))
        time.sleep(0.02)
    raise RestoreFailed(f"container {container} of a failed arrival does not die")


def _sweep(identifier: str) -> None:
    """Remove what a runc that was killed in its restore leaves and its ``delete`` does not find: a mount, empty cgroups."""
    endings = (f"/{identifier}/criu-root", f"/{identifier}/userdata/criu-root")  # runc's; crun's, in its bundle
    points = [line.split()[4] for line in read_text("/proc/self/mountinfo").splitlines()]
    for point in {point for point in points if point.endswith(endings)}:
        process.run(["umount", "--lazy", point])
        for folder in (point, os.path.dirname(point)):
            with contextlib.suppress(OSError):  # the runtime's own state is in it: its delete takes that
                os.rmdir(folder)
    for folder, _folders, _names in os.walk(ROOT, topdown=False):
        if identifier in folder:  # also what crun makes below the container's own
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def cgroups_of(identifier: str) -> list[Cgroup]:
    """Every cgroup that can freeze and belongs to this container."""
    root = ROOT if is_unified() else f"{ROOT}/freezer"
    return [Cgroup.at(folder) for folder, _folders, _names in os.walk(root) if identifier in os.path.basename(folder)]


def _alive(pid: int, identifier: str) -> bool:
    """Whether ``pid`` is still the handler, or the runtime that it became, of this container."""
    try:
        return identifier.encode() in open(f"/proc/{pid}/cmdline", "rb").read()
    except OSError:
        return False


def _terminate(pid: int, identifier: str) -> None:
    if _alive(pid, identifier):
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
