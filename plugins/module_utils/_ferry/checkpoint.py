# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A checkpoint's ferry: the pod is dumped into this node's memory and runs on; storing the state comes after that."""

from __future__ import annotations

import os
import typing as t

from .._common.errors import InvalidInput, PodferryError
from .._common.files import write_json
from .._runtime import oci
from .._runtime.process import Runner
from . import deadman, logs
from .base import roster
from .control import Peer, Server
from .departure import GET_READY_SECONDS, Departure
from .paths import RunPaths

STATE = "state.json"
"""What a restore has to know beside the files."""
POD = "pod.json"
"""The pod as the API had it."""


class CheckpointFerry(Departure):
    """One checkpoint of one pod."""

    modes = ("checkpoint",)
    keeps_rounds = True

    def __init__(self, paths: RunPaths, config: t.Mapping[str, t.Any], server: Server, runner: Runner) -> None:
        super().__init__(paths, config, server, runner)
        self._can_hold_loopback = True  # whoever restores says no if he cannot
        if not isinstance(config.get("object"), dict):
            raise InvalidInput("the pod's object is missing")

    def on_gone(self, peer: Peer) -> None:
        """Nobody would store the state."""
        if peer.subscribed and not self.server.controlled():
            self._cancelled = True

    def prepare(self) -> dict[str, t.Any]:
        """Reserve memory; the pod runs on.

        :returns: the answer to ``ferry_start``.
        """
        self.phases.enter("prepare")
        self._claim()
        return {}

    def run(self) -> None:
        """Freeze, dump, thaw. The pod runs on, whatever happens."""
        try:
            if int(self.config.get("stage_bytes") or 0):
                self._stage()
            deadman.within(len(self._containers) * GET_READY_SECONDS + deadman.MARGIN)
            self._get_ready()
            self._freeze()
            self.enter("dump")
            flushed = self._dump_all()
            self._wait_for_flush(flushed)
            held = self._mend()
            for item in self._containers:
                logs.copy(item.owner, os.path.join(self.paths.container(item.name), "log"))
            frozen_ms = self._go_on()
            self.enter("describe")
            self._cancellable = False
            self._describe(held)
        except (PodferryError, OSError, ValueError) as error:
            known = error if isinstance(error, PodferryError) else PodferryError(f"{type(error).__name__}: {error}")
            tail = self._put_back(known)
            self._say_end("aborted", known, criu_log=tail)
        else:
            self._say_end("captured", None, frozen_ms=frozen_ms)

    def _describe(self, held: bool) -> None:
        description = {
            "freeze_ns": self._freeze_ns,
            "hold_loopback": held,
            "connections_closed": self._closed,
            "containers": [item.name for item in self._containers],
            "destinations": {item.name: oci.destinations(item.config) for item in self._containers},
            "engine": self._containers[0].engine,
            "roster": roster(self.config),
        }
        write_json(os.path.join(self.paths.images, STATE), description)
        write_json(os.path.join(self.paths.images, POD), dict(self.config["object"]))

    def _say_end(self, outcome: str, error: PodferryError | None, **more: t.Any) -> None:
        self.phases.leave()
        self.emit(
            "end", outcome=outcome, phase=self.phases.current, error=error.to_dict() if error else None,
            phases=self.phases.entries(), connections_closed=self._closed, **more,
        )  # fmt: skip
