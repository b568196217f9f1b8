# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What the orchestration needs from outside, as protocols: handed in, so that all of it is tested without a cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .session import Event, NodeSession

JsonDict = dict[str, Any]

DEFAULT_PORTS = (17900, 17999)


class ClusterApi(Protocol):
    """The part of ``_kube.cluster.Cluster`` that is used here. Errors as there."""

    def get_pod(self, namespace: str, name: str) -> JsonDict | None: ...

    def list_pods(
        self, namespace: str | None, *, field_selector: str = "", label_selector: str = ""
    ) -> list[JsonDict]: ...

    def create_pod(self, namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> JsonDict: ...
    def delete_pod(self, namespace: str, name: str, *, uid: str, grace_s: int | None) -> bool: ...

    def patch_pod(
        self,
        namespace: str,
        name: str,
        *,
        labels: Mapping[str, str | None] | None = None,
        annotations: Mapping[str, str | None] | None = None,
        finalizers: Sequence[str] | None = None,
    ) -> JsonDict: ...

    def mark_not_ready(self, namespace: str, name: str, *, uid: str, reason: str, message: str) -> None: ...

    def wait_pod(
        self, namespace: str, name: str, condition: Callable[[Mapping[str, Any] | None], bool], *, timeout_s: float
    ) -> JsonDict | None: ...

    def get_replicaset(self, namespace: str, name: str) -> JsonDict | None: ...
    def get_deployment(self, namespace: str, name: str) -> JsonDict | None: ...
    def get_claim(self, namespace: str, name: str) -> JsonDict | None: ...
    def get_volume(self, name: str) -> JsonDict | None: ...
    def get_statefulset(self, namespace: str, name: str) -> JsonDict | None: ...
    def create_statefulset(self, namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> JsonDict: ...
    def orphan_statefulset(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None: ...
    def list_budgets(self, namespace: str) -> list[JsonDict]: ...
    def list_autoscalers(self, namespace: str) -> list[JsonDict]: ...
    def list_nodes(self) -> list[JsonDict]: ...
    def get_node(self, name: str) -> JsonDict | None: ...
    def get_runtime_class(self, name: str) -> JsonDict | None: ...
    def pod_event(self, pod: Mapping[str, Any], *, reason: str, message: str, warning: bool = False) -> None: ...


class Reporter(Protocol):
    """Where a person watches. ``node`` is '' for steps of the controller."""

    def phase(self, name: str, node: str = "", detail: str = "") -> None: ...
    def progress(self, sent: int, expected: int, rate: float) -> None: ...
    def warning(self, text: str) -> None: ...


@dataclass(frozen=True)
class InventoryHost:
    """One inventory host that stands for a node."""

    name: str
    address: str | None = None
    """Where its ferry listens; None: the node's InternalIP."""
    ports: tuple[int, int] = DEFAULT_PORTS


class Turn(Protocol):
    """When a migration may begin to use what it shares with others (the nodes' processors, the link), and that it has ended."""

    def begin(self, interrupted: Callable[[], bool]) -> None:
        """Wait for it, for as long as nobody wants to stop."""

    def end(self, bytes_sent: int) -> None:
        """Give it on. Idempotent; also without a begin."""


class Alone:
    """The turn of a migration that shares nothing."""

    def begin(self, interrupted: Callable[[], bool]) -> None:
        return

    def end(self, bytes_sent: int) -> None:
        return


def in_a_thread(work: Callable[[], None]) -> None:
    """Do something beside, until it ends by itself; the process does not wait for it."""
    threading.Thread(target=work, name="podferry-lookout", daemon=True).start()


OpenSession = Callable[[InventoryHost, str, Callable[[Event], None]], NodeSession]
"""(host, node name, event sink) to a session. Raises SessionLost."""


@dataclass(frozen=True)
class Detour:
    """A store that the state of the freeze goes through."""

    name: str
    spec: Callable[[Mapping[str, Any], int], JsonDict] = field(repr=False)
    """(fields of the manifest, bytes that may come) to how both nodes reach the store."""
    drop: Callable[[Mapping[str, Any]], None] = field(repr=False)
    """Take away what went through it, as far as nodes cannot do it themselves. Raises PodferryError."""


class Reach(Protocol):
    """What it takes to talk to nodes."""

    @property
    def open_session(self) -> OpenSession: ...
    @property
    def clock(self) -> Callable[[], float]: ...
    @property
    def sleep(self) -> Callable[[float], None]: ...


@dataclass(frozen=True)
class Sessions:
    """Nodes without a cluster."""

    open_session: OpenSession
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Tools:
    """Everything from outside."""

    cluster: ClusterApi
    open_session: OpenSession
    inventory: Mapping[str, Sequence[InventoryHost]]
    """Node name to the hosts that stand for it."""
    reporter: Reporter
    own_digest: str
    new_run: Callable[[], str]
    who: str = ""
    """Who asked for it, for those who find the run under way: a user and his machine."""
    detour: Detour | None = None
    """None: all goes over the ferries' own connection."""
    turn: Callable[[], Turn] = Alone
    beside: Callable[[Callable[[], None]], None] = in_a_thread
    """Starts what looks out while the run goes on."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    wall: Callable[[], float] = time.time
    interrupt: threading.Event = field(default_factory=threading.Event)
    """Set by Ctrl-C or SIGTERM: cancel if that is still possible, else see the run through."""
    ready_timeout_s: float = 300.0
    tick_s: float = 0.2
    """How often a wait for events looks at the clock and at ``interrupt``."""
    settle_s: float = 30.0
    """How long an earlier run's ferries get to come to their end by themselves."""
    owner_settle_s: float = 15.0
    """How long a rollout or a scaling that is under way is waited for before the pod is refused."""
    api_patience_s: float = 180.0
    """How long the API may be away after the commit before this run gives up waiting for it."""
