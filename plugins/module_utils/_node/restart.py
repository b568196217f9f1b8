# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A restart of the container runtime that running pods survive, and after which its CRI answers."""

from __future__ import annotations

import time
import typing as t

from .._common.errors import CommandFailed, DeadlineExceeded, PodferryError
from .._runtime import facts, running
from .._runtime.process import Runner

_PACE = 0.5


class ContainersLost(PodferryError):
    """None of the containers lived through the restart."""

    kind = "containers_lost"


class RestartUnsafe(PodferryError):
    """Its unit would end the containers with the service."""

    kind = "restart_unsafe"


def restart(
    machine: facts.Probe,
    run: Runner,
    engine: str,
    seconds: float,
    listing: t.Callable[[str, str], t.Sequence[running.Running]] = running.running,
    sleep: t.Callable[[float], None] = time.sleep,
    clock: t.Callable[[], float] = time.monotonic,
) -> dict[str, t.Any]:
    """Restart the service, wait until its CRI answers, and compare what ran.

    :param seconds: how long the CRI may take.
    :raises PodferryError: it would end the containers and was not restarted, it did not answer, or what ran is gone.
    """
    _refuse_unsafe(machine, engine)
    before = _containers(machine, engine, listing)
    started = clock()
    done = run(["systemctl", "restart", engine], timeout=seconds + 60)
    if done.code != 0:
        raise CommandFailed(
            f"`systemctl restart {engine}` failed: {done.stderr.strip()[-300:]}",
            f"Look at `journalctl -u {engine}`.",
        )
    while True:
        service = machine.service(engine)
        if service is not None and facts.Runtime(machine, engine, service).answers():
            break
        if clock() - started > seconds:
            raise DeadlineExceeded(
                f"the CRI of {engine} does not answer {seconds:g} s after its restart",
                f"Look at `journalctl -u {engine}`.",
            )
        sleep(_PACE)
    took = clock() - started
    after = _containers(machine, engine, listing)
    # A container may end by itself meanwhile; that none of several is left would be our doing.
    if before and not set(before) & set(after):
        raise ContainersLost(
            f"none of {len(before)} containers lived through the restart of {engine}",
            f"Look at `journalctl -u {engine}`.",
        )
    return {"seconds": round(took, 1), "before": len(before), "after": len(after)}


def _refuse_unsafe(machine: facts.Probe, engine: str) -> None:
    """Refuse what would end the containers; the restart of a service that does not run ends nothing."""
    service = machine.service(engine)
    if service is not None and not facts.Runtime(machine, engine, service).restart_safe():
        raise RestartUnsafe(
            f"a restart of {engine}.service would end every container of the node, so it was not restarted",
            f"Give the unit KillMode=process, as its packages do (`systemctl edit {engine}`), and then `systemctl restart {engine}`.",
        )


def _containers(
    machine: facts.Probe, engine: str, listing: t.Callable[[str, str], t.Sequence[running.Running]]
) -> list[tuple[str, int]]:
    """Return id and first process of what runs; nothing when the runtime does not run or cannot say where its state is."""
    service = machine.service(engine)
    if service is None:
        return []
    try:
        state = facts.Runtime(machine, engine, service).config().state_dir
    except PodferryError:
        return []
    return [(container.id, container.pid) for container in listing(engine, state)]
