# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The process of a ferry: take the request that describes the run, then carry it out."""

from __future__ import annotations

import select
import sys
import time

from .._common import faults
from .._common.errors import DeadlineExceeded, InvalidInput, PodferryError
from .._runtime import process
from . import paths
from .base import Ferry
from .checkpoint import CheckpointFerry
from .control import Message, Peer, Server
from .source import SourceFerry
from .target import TargetFerry

_CONFIG_SECONDS = 20.0
_LINGER_SECONDS = 1.0


def main(run: str, role: str) -> int:
    """Run one ferry; returns when its part has ended."""
    faults.load()
    place = paths.RunPaths(run)
    server = Server(place.control)
    peer, request = _first_request(server)
    try:
        ferry = _ferry(role, request)(place, request, server, process.run)
        peer.subscribed = True
        answer = ferry.prepare()
    except PodferryError as error:
        error.phase = error.phase or "prepare"
        peer.refuse(request, error)
        return 1
    except (OSError, ValueError, KeyError) as error:
        peer.refuse(request, InvalidInput(f"{type(error).__name__}: {error}", phase="prepare"))
        return 1
    peer.answer(request, answer)
    ferry.run()
    # Answer what came too late, so that nobody waits for an answer that never comes.
    end = time.monotonic() + _LINGER_SECONDS
    while time.monotonic() < end and server.controlled():
        try:
            ferry.pump()
        except PodferryError as error:
            sys.stderr.write(error.message + "\n")
        select.select([server.wake], [], [], 0.1)
        if role == "source":
            break
    return 0


def _ferry(role: str, request: Message) -> type[Ferry]:
    if role == "target":
        return TargetFerry
    return CheckpointFerry if request.get("mode") == "checkpoint" else SourceFerry


def _first_request(server: Server) -> tuple[Peer, Message]:
    deadline = time.monotonic() + _CONFIG_SECONDS
    while time.monotonic() < deadline:
        select.select([server.wake], [], [], 0.5)
        item = server.next()
        if item is not None and item[1] is not None and item[1].get("op") == "ferry_start":
            return item[0], item[1]
    raise DeadlineExceeded("nobody said what to carry")
