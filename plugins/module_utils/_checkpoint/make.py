# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Take a checkpoint of a pod: dumped by its node into memory, stored while it runs on, visible once it is signed."""

from __future__ import annotations

import contextlib
import copy
import datetime
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from dataclasses import asdict, dataclass, field
from typing import Any

from .._kube import predicates
from .._migrate.errors import Cancelled, DeadlineExceeded, NodeError, PodferryError, SessionLost
from .._migrate.gather import containers
from .._migrate.leftovers import LOADING
from .._migrate.peer import Peer, Peers
from .._migrate.ports import Tools
from .._migrate.session import Event, EventLog
from .._plan import checkpoint as decisions
from .._plan import containers as roster
from .._plan.budgets import need_bytes
from .._plan.facts import NodeFacts, PodInspection
from .._plan.options import Options
from .._plan.refusals import Refusal, refuse
from .._store import names
from .._store.manifest import Manifest
from .vault import Vault

Obj = Mapping[str, Any]

_START_TIMEOUT_S = 60.0
_END_MARGIN_S = 60.0
_SLOWEST_STORE_BYTES_S = 2 * 1024 * 1024
_STOP_S = 60.0
"""Until a node that was told to stop storing has taken away what it had stored."""
_KEPT_FACTS = ("arch", "kernel", "cpu_flags", "cpu_model", "cgroup", "time_namespaces")
_KEPT_PARTS = {"criu": ("version", "check_ok"), "runtime": ("engine", "version", "runc", "oci")}
_SERVER_SET = ("managedFields", "resourceVersion", "generation", "creationTimestamp", "selfLink")


@dataclass(frozen=True)
class Wish:
    """How checkpoints are to be kept."""

    compression: str = "zstd"
    recipient: str = ""
    """age's public key; empty: not encrypted."""
    incremental: bool = True
    """Pages that the pod's last checkpoint in the store holds are not stored again."""


@dataclass
class Taken:
    """What became of one pod. Times in ms, sizes in bytes."""

    namespace: str
    pod: str
    node: str = ""
    id: str = ""
    outcome: str = "planned"
    """planned, stored, refused, cancelled or failed"""
    frozen_ms: float | None = None
    bytes: dict[str, int] = field(default_factory=dict)
    parent: str = ""
    connections_closed: int = 0
    warnings: list[str] = field(default_factory=list)
    refusals: list[dict[str, str]] = field(default_factory=list)
    error: dict[str, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Checkpoints:
    """Takes checkpoints, one pod after the other. Raises nothing for one pod: its record says what went wrong."""

    def __init__(self, tools: Tools, open_vault: Callable[[Peer], Vault], options: Options, wish: Wish) -> None:
        self._tools = tools
        self._open_vault = open_vault
        self._options = options
        self._wish = wish
        self._events = EventLog()
        self._peers = Peers(tools, self._events)

    def close(self) -> None:
        self._peers.close()

    def take(self, pod: Obj, *, dry: bool = False) -> Taken:
        """Checkpoint one pod; ``dry`` only decides."""
        namespace, name = str(predicates.metadata(pod).get("namespace")), predicates.name_of(pod)
        taken = Taken(namespace, name, predicates.node_of(pod) or "")
        self._tools.reporter.phase("checkpoint", taken.node, f"{namespace}/{name}")
        try:
            decided = self._decide(pod, taken)
            if decided is not None and not dry:
                self._check_interrupt()
                subject, vault = decided
                self._carry(subject, taken, vault)
        except PodferryError as exc:
            # A node's word for it, too: it may have been told by somebody else (playbooks/cancel.yml).
            stopped = isinstance(exc, Cancelled) or getattr(exc, "type", "") == Cancelled.kind
            taken.outcome, taken.error = "cancelled" if stopped else "failed", exc.to_dict()
        return taken

    def _decide(self, pod: Obj, taken: Taken) -> tuple[decisions.Subject, Vault] | None:
        """All that can be known before the pod is touched; None when it is refused."""
        self._check_interrupt()
        subject = self._look(pod, taken)
        taken.warnings = decisions.warnings(subject)
        refusals = decisions.check_source(subject, self._options)
        if refusals:
            taken.refusals, taken.outcome = [r.to_dict() for r in refusals], "refused"
            return None
        try:
            peer = self._peers.get(taken.node)
            refusals = under_way(self._runs(peer, taken))
            if not refusals:
                vault = self._open_vault(peer)
                vault.look(taken.namespace, taken.pod, self._wish.recipient)
                return subject, vault
        except PodferryError as exc:
            exc.phase = exc.phase or "preflight"
            taken.outcome, taken.error = "refused", exc.to_dict()
            return None
        taken.refusals, taken.outcome = [r.to_dict() for r in refusals], "refused"
        return None

    def _check_interrupt(self) -> None:
        if self._tools.interrupt.is_set():
            raise Cancelled("the checkpoint was cancelled before it was begun", "The pod runs on.")

    def _look(self, pod: Obj, taken: Taken) -> decisions.Subject:
        hosts = [h.name for h in self._tools.inventory.get(taken.node, ())]
        subject = decisions.Subject(pod, hosts, self._tools.own_digest)
        if not taken.node or len(hosts) != 1 or not predicates.running(pod):
            return subject
        try:
            peer = self._peers.get(taken.node)
            told = peer.call("facts", patience_s=0.0)
            facts = NodeFacts.parse(told)
            inspection = PodInspection.parse(
                peer.call(
                    "inspect",
                    namespace=taken.namespace,
                    pod=taken.pod,
                    uid=predicates.uid_of(pod),
                    pod_ip=predicates.pod_ip(pod),
                    containers=containers(pod),
                    patience_s=0.0,
                )
            )
        except (SessionLost, NodeError) as exc:
            return decisions.Subject(pod, hosts, self._tools.own_digest, error=exc.message)
        return decisions.Subject(pod, hosts, self._tools.own_digest, facts, inspection, told=told)

    def _carry(self, subject: decisions.Subject, taken: Taken, vault: Vault) -> None:
        peer = self._peers.get(taken.node)
        self._sweep(peer, taken)
        run = self._tools.new_run()
        now = datetime.datetime.fromtimestamp(self._tools.wall(), datetime.UTC)
        taken.id = names.new_id(now, run)
        try:
            self._start(peer, run, subject, taken)
            self._await_end(peer, run, subject, taken)
            self._store(peer, run, subject, taken, now, vault)
            taken.outcome = "stored"
        finally:
            if taken.outcome != "stored":  # an earlier session of ours may still be storing it
                with contextlib.suppress(PodferryError):
                    peer.call("cancel", run=run, patience_s=0.0)
            with contextlib.suppress(PodferryError):
                peer.call("finish", run=run, timeout_s=60.0, patience_s=20.0)

    def _runs(self, peer: Peer, taken: Taken) -> list[Mapping[str, Any]]:
        return list(peer.call("runs", namespace=taken.namespace, pod=taken.pod).get("runs") or [])

    def _sweep(self, peer: Peer, taken: Taken) -> None:
        """A checkpoint whose controller died left its state in memory; it holds the pod's place."""
        for entry in self._runs(peer, taken):
            if left_over(entry):
                peer.call("finish", run=str(entry["run"]), timeout_s=60.0)

    def _start(self, peer: Peer, run: str, subject: decisions.Subject, taken: Taken) -> None:
        pod, inspection = subject.pod, subject.inspection
        if inspection is None:
            raise PodferryError("the pod's node did not tell about it")
        self._tools.reporter.phase("dump", taken.node, "the pod stands meanwhile")
        peer.call(
            "ferry_start",
            timeout_s=_START_TIMEOUT_S,
            run=run,
            role="source",
            mode="checkpoint",
            namespace=taken.namespace,
            pod=taken.pod,
            uid=predicates.uid_of(pod),
            pod_ip=predicates.pod_ip(pod),
            containers=containers(pod),
            need_bytes=size_of(inspection, self._options),
            stage_bytes=inspection.stage_bytes,
            tcp=self._options.tcp,
            deadlines=decisions.deadlines(pod, inspection, self._options).to_dict(),
            source_pod=taken.pod,
            source_node=taken.node,
            context={"by": self._tools.who, "since": taken.id},
            object=kept_object(pod),
            **roster.settings(pod),
        )

    def _await_end(self, peer: Peer, run: str, subject: decisions.Subject, taken: Taken) -> None:
        """Raises PodferryError when the dump failed; the pod runs on in any case."""
        limit = decisions.deadlines(subject.pod, subject.inspection, self._options)
        stage_s = (subject.inspection.stage_bytes if subject.inspection else 0) / _SLOWEST_STORE_BYTES_S
        end = self._wait(peer, run, limit.freeze + stage_s + _END_MARGIN_S)
        if end.get("outcome") != "captured":
            error = end.get("error") or {}
            raise NodeError(
                taken.node,
                str(error.get("type") or "error"),
                str(error.get("message") or "the dump failed"),
                str(error.get("remedy") or ""),
                str(error.get("phase") or "dump"),
            )
        taken.frozen_ms = float(end["frozen_ms"])
        taken.connections_closed = int(end.get("connections_closed") or 0)

    def _wait(self, peer: Peer, run: str, timeout_s: float) -> Mapping[str, Any]:
        deadline = self._tools.clock() + timeout_s
        cancelled = False
        while self._tools.clock() < deadline:
            event: Event | None = self._events.take(self._tools.tick_s)
            if event is not None and event.run == run and event.name == "end":
                return event.data
            if event is not None and event.run == run and event.name == "ferry_ended":
                raise PodferryError("the ferry ended without a word", "See 'journalctl -u podferry-*' on the node.")
            if not peer.alive:
                raise SessionLost(peer.node, f"the session to {peer.node} ended during the checkpoint")
            if self._tools.interrupt.is_set() and not cancelled:
                cancelled = True
                with contextlib.suppress(PodferryError):
                    peer.call("cancel", run=run, patience_s=0.0)
        if cancelled:
            raise Cancelled("the checkpoint was cancelled", "The pod runs on.")
        raise DeadlineExceeded(f"the dump did not end within {timeout_s:.0f} s", "See the node's journal.")

    def _store(
        self, peer: Peer, run: str, subject: decisions.Subject, taken: Taken, now: datetime.datetime, vault: Vault
    ) -> None:
        self._tools.reporter.phase("store", taken.node, f"{vault}; the pod runs on")
        pod = subject.pod
        need = size_of(subject.inspection, self._options)
        fields = {
            "id": taken.id,
            "namespace": taken.namespace,
            "pod": taken.pod,
            "uid": predicates.uid_of(pod),
            "node": taken.node,
            "created": names.written(now),
            "kind": "pod",
            "containers": [
                {
                    "name": str(status.get("name")),
                    "image": roster.image_of(pod, str(status.get("name"))),
                    "image_id": str(status.get("imageID") or "").rpartition("://")[2],
                }
                for status in roster.statuses(pod)
            ],
            "facts": kept_facts(subject.told),
        }

        def save() -> Manifest:
            return vault.save(
                run,
                fields,
                need_bytes=need,
                incremental=self._wish.incremental,
                compression=self._wish.compression,
                recipient=self._wish.recipient,
                timeout_s=_START_TIMEOUT_S + need / _SLOWEST_STORE_BYTES_S,
            )

        manifest = self._unless_stopped(peer, run, save)
        taken.warnings += vault.warnings
        taken.parent = manifest.parent
        taken.bytes = dict(manifest.bytes)

    def _unless_stopped(self, peer: Peer, run: str, save: Callable[[], Manifest]) -> Manifest:
        """Wait for ``save``, which may take hours, and for somebody who does not want to.

        The node is told until it stops: it may not have begun, or be done, when it hears of it first. What was published stays.
        """
        saved: futures.Future[Manifest] = futures.Future()

        def carry() -> None:
            try:
                saved.set_result(save())
            except BaseException as exc:  # noqa: BLE001 - it is raised in the other thread
                saved.set_exception(exc)

        threading.Thread(target=carry, name="podferry-store", daemon=True).start()
        deadline: float | None = None
        while not futures.wait((saved,), self._tools.tick_s).done:
            if not self._tools.interrupt.is_set():
                continue
            if deadline is None:
                deadline = self._tools.clock() + _STOP_S
                self._tools.reporter.phase("cancel", peer.node, f"run {run}")
            with contextlib.suppress(PodferryError):
                peer.call("cancel", run=run, patience_s=0.0)
            if self._tools.clock() >= deadline:
                raise Cancelled(
                    "the checkpoint was cancelled, and the node does not stop storing it", "The pod runs on."
                )
        return saved.result()


def left_over(entry: Mapping[str, Any]) -> bool:
    """Nobody works on this run any more: a checkpoint that was not stored, or one that was to be restored and did not come whole."""
    mode = entry.get("mode")
    return (mode == "checkpoint" or (mode == "restore" and entry.get("state") == LOADING)) and not entry.get("alive")


def under_way(runs: Iterable[Mapping[str, Any]]) -> list[Refusal]:
    """Why there is no checkpoint of the pod now: there is another one at work."""
    found = []
    for entry in runs:
        if entry.get("mode") == "checkpoint" and entry.get("alive"):
            by = str((entry.get("context") or {}).get("by") or "")
            what = "is storing" if entry.get("busy") else "takes"
            found.append(
                refuse(
                    "migration_under_way",
                    f"Run {entry['run']} {what} a checkpoint of this pod{f', started by {by}' if by else ''}.",
                )
            )
    return found


def size_of(inspection: PodInspection | None, options: Options) -> int:
    """Bytes that the state may take in the node's memory until it is stored: files that were copied before the freeze come there too."""
    return need_bytes(inspection, options) + inspection.stage_bytes if inspection is not None else 0


def kept_object(pod: Obj) -> dict[str, Any]:
    """The pod as a restore will want it: without what the API server set, and without its status."""
    kept: dict[str, Any] = copy.deepcopy({key: pod[key] for key in ("metadata", "spec") if key in pod})
    for name in _SERVER_SET:
        kept["metadata"].pop(name, None)
    return {"apiVersion": "v1", "kind": "Pod", **kept}


def kept_facts(told: Mapping[str, Any]) -> dict[str, Any]:
    """What a restore compares its own node with, in the form of op ``facts``."""
    kept = {name: told[name] for name in _KEPT_FACTS if name in told}
    for name, wanted in _KEPT_PARTS.items():
        part = told.get(name) or {}
        kept[name] = {key: part[key] for key in wanted if key in part}
    return kept
