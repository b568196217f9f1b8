# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Letting the source run again, by what its journal says. The ferry, its guard and a later session all come here."""

from __future__ import annotations

import contextlib
import fcntl
import os
import typing as t

from .._common import faults
from .._common.errors import PodferryError, StateConflict
from .._runtime import quota
from .._runtime.cgroup import Cgroup
from . import paths
from .journal import Journal


def claim(place: paths.RunPaths, namespace: str, pod: str) -> None:
    """Make this the one run that may freeze the pod. Held until the run is finished here.

    :raises StateConflict: another run of the pod has not been finished on this node.
    """
    folder = os.path.join(place.state, "runs")
    link = os.path.join(folder, f".leaving-{paths.valid_name(namespace)}_{paths.valid_name(pod)}")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not os.path.isdir(link):  # there is none, or it is of a run whose directory is gone
            with contextlib.suppress(FileNotFoundError):
                os.unlink(link)
            os.symlink(place.directory, link)
            return
        other = _who(link, place.state)
    finally:
        os.close(descriptor)
    raise StateConflict(
        f"another run is moving pod {namespace}/{pod} from this node{other}",
        "Wait for its end or cancel it (playbooks/cancel.yml); when its controller is gone, run the play again.",
    )


def _who(link: str, state: str) -> str:
    """Whose run holds the claim, and since when, as far as its journal tells."""
    try:
        run = os.path.basename(os.readlink(link))
        context = Journal.load(paths.RunPaths(run, state)).data.get("context") or {}
    except (OSError, ValueError, PodferryError):
        return ""
    told = [f"{word} {context[key]}" for key, word in (("by", "by"), ("since", "since")) if context.get(key)]
    return f" ({', '.join([f'run {run}', *told])})"


def depart(place: paths.RunPaths, namespace: str, pod: str) -> None:
    """From the freeze on, this node does not start the pod from its image either (a killed source, a restarted kubelet).

    It is an arrival without a record, which the handler refuses; it binds pods that run under our handler. A run that
    brings the same pod here keeps its own.
    """
    os.makedirs(paths.arrivals(place.state), mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.symlink(place.directory, paths.arrival(namespace, pod, place.state))


def stay(place: paths.RunPaths, namespace: str, pod: str) -> None:
    """Take :func:`depart` back."""
    link = paths.arrival(namespace, pod, place.state)
    if os.path.islink(link) and os.readlink(link) == place.directory:
        os.unlink(link)


def run_again(journal: t.Mapping[str, t.Any], state: str = paths.STATE) -> list[PodferryError]:
    """Thaw every container of the journal and put back the CPU quotas that the dump had lifted.

    :returns: what went wrong; one container that refuses does not keep the others frozen.
    """
    failed: list[PodferryError] = []
    for item in journal.get("containers") or []:
        faults.point("source:thaw:before", str(item["name"]))
        try:
            Cgroup.at(str(item["cgroup"])).thaw()
        except PodferryError as error:
            failed.append(error)
    quota.put_back(journal.get("quotas") or {})
    if journal.get("run"):
        stay(paths.RunPaths(str(journal["run"]), state), str(journal["namespace"]), str(journal["pod"]))
    return failed
