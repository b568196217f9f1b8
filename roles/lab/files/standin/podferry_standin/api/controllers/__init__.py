# SPDX-License-Identifier: Apache-2.0
"""The controllers, and the loop that runs them whenever something they look at changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from ..registry import Registry
from .base import CLOCK, Controller
from .deployment import DeploymentController
from .garbage import GarbageCollector, NamespaceController
from .nodes import NodeLifecycle
from .policy import DisruptionController, QuotaController
from .replicaset import ReplicaSetController
from .scheduler import Scheduler
from .services import EndpointsController
from .statefulset import StatefulSetController
from .volumes import VolumeController

log = logging.getLogger("standin.controllers")

_TICK_SECONDS = 1.0
_RETRY_TICKS = 5
_SETTLE_ROUNDS = 50


class Manager:
    """All controllers over one registry. Each is a function of what is stored; none keeps a queue of its own."""

    def __init__(self, registry: Registry, *, ca: str = "", shared: Path | None = None) -> None:
        self.registry = registry
        self.controllers: list[Controller] = [
            NamespaceController(registry, ca),
            DeploymentController(registry),
            ReplicaSetController(registry),
            StatefulSetController(registry),
            VolumeController(registry, shared),
            Scheduler(registry),
            NodeLifecycle(registry),
            EndpointsController(registry),
            DisruptionController(registry),
            QuotaController(registry),
            GarbageCollector(registry),
        ]

    def reconcile(self, changed: set[str] | None = None) -> None:
        """One round: every controller that watches one of the resources; all of them when None."""
        for controller in self.controllers:
            if changed is None or changed & controller.watches:
                try:
                    controller.reconcile()
                except Exception:
                    log.exception("%s failed", type(controller).__name__)

    def settle(self) -> None:
        """For tests: rounds until nothing changes any more."""
        for _round in range(_SETTLE_ROUNDS):
            before = self.registry.store.revision
            self.reconcile()
            if self.registry.store.revision == before:
                return
        raise RuntimeError("the controllers do not come to rest")

    async def running(self, _app: web.Application) -> AsyncIterator[None]:
        """Run as long as the application does."""
        task = asyncio.create_task(self._loop())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _loop(self) -> None:
        """After every change those who watch it; every second those who watch the clock; now and then all, to try again."""
        ticks = 0
        with self.registry.store.subscribe() as queue:
            self.reconcile()
            while True:
                changed: set[str] | None
                try:
                    changed = {CLOCK, (await asyncio.wait_for(queue.get(), _TICK_SECONDS)).resource.plural}
                    await asyncio.sleep(0)
                except TimeoutError:
                    ticks += 1
                    changed = {CLOCK} if ticks % _RETRY_TICKS else None
                while not queue.empty():
                    changed = (changed or set()) | {queue.get_nowait().resource.plural}
                self.reconcile(changed)
