# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Bring a checkpoint back as a pod: its state into a node's memory, an arrival for the handler, and the pod to create."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .._kube import predicates
from .._migrate.errors import DeadlineExceeded, NodeError, PodferryError
from .._migrate.peer import Peer
from .._plan import checkpoint as decisions
from .._plan import estimate, manifest
from .._plan.facts import NodeFacts
from .._plan.options import RESTORED_FROM
from .._store.contract import Entry
from .make import left_over
from .vault import Vault

Obj = Mapping[str, Any]

_MARGIN_BYTES = 64 * 1024 * 1024
_SLOWEST_STORE_BYTES_S = 2 * 1024 * 1024
_CLAIM_S = 180.0
"""From the arrival until the pod's first container: whoever creates the pod is another task, with an API to wait for."""
_PULL_TIMEOUT_S = 900.0
_GUARD_S = 10.0
"""After the end of a ferry its guard writes down why."""


@dataclass(frozen=True)
class Wanted:
    """Which checkpoint, and as what it is to come back."""

    namespace: str
    pod: str
    id: str = "latest"
    to_namespace: str = ""
    to_pod: str = ""
    """Empty: a name made from the pod's and the run's."""
    same_name: bool = False
    """It takes the place of the pod that it was: labels and all. Not a copy."""


@dataclass
class Armed:
    """An arrival that waits for its pod."""

    run: str
    checkpoint: str
    node: str
    namespace: str
    pod: str
    manifest: dict[str, Any]
    """The pod to create."""
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Restores:
    """Restores on one node."""

    def __init__(
        self,
        peer: Peer,
        vault: Vault,
        own_digest: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._peer = peer
        self._vault = vault
        self._own_digest = own_digest
        self._clock = clock
        self._sleep = sleep

    def look(self, wanted: Wanted) -> Entry:
        """The checkpoint, when this node can take it. Raises PodferryError."""
        entry = self._vault.find(wanted.namespace, wanted.pod, wanted.id)
        facts = NodeFacts.parse(self._peer.call("facts"))
        refusals = decisions.check_target(
            NodeFacts.parse(entry.manifest.facts),
            facts,
            self._own_digest,
            source_name=entry.manifest.node,
            target_name=self._peer.node,
            need=_need(entry),
            memory=int(entry.manifest.bytes.get("memory") or 0),
        )
        if refusals:
            raise PodferryError(
                "the checkpoint cannot be restored here: " + " ".join(r.reason for r in refusals),
                " ".join(r.remedy for r in refusals),
                "preflight",
            )
        for container in entry.manifest.containers:
            self._image(str(container["name"]), str(container["image"]), str(container["image_id"]))
        return entry

    def _image(self, container: str, ref: str, identifier: str) -> None:
        """A container's changed files fit only on the very image that they were changed from."""
        if self._peer.call("image", ref=ref, id=identifier).get("present"):
            return
        if "@" not in identifier:
            raise PodferryError(
                f"image {ref} of container {container} is not on node {self._peer.node}, and no registry can be asked for it",
                "Import the image that the checkpoint was taken of.",
                "preflight",
            )
        self._peer.call("image_pull", timeout_s=_PULL_TIMEOUT_S, ref=ref, id=identifier)

    def arm(self, wanted: Wanted, run: str, *, context: Mapping[str, Any] | None = None) -> Armed:
        """Load the checkpoint and leave its arrival. Nothing of the run stays when this fails. Raises PodferryError."""
        entry = self.look(wanted)
        need = _need(entry)
        self._sweep(wanted, run)
        try:  # also when the node does not answer in time: it may have the whole state in its memory
            loaded = self._vault.load(run, entry, need_bytes=need, timeout_s=120.0 + need / _SLOWEST_STORE_BYTES_S)
            pod = pod_of(loaded["pod"], wanted, entry.manifest.id, node=self._peer.node, run=run)
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            times = estimate.deadlines(need, twin=False).to_dict()
            self._peer.call(
                "restore_start",
                timeout_s=60.0,
                run=run,
                namespace=namespace,
                pod=name,
                deadlines={**times, "claim": _CLAIM_S},
                context=dict(context or {}),
            )
        except BaseException:
            with contextlib.suppress(PodferryError):
                self._peer.call("finish", run=run, timeout_s=60.0)
            raise
        warnings = [] if loaded["state"].get("connections_closed") in (None, 0) else [
            f"{loaded['state']['connections_closed']} TCP connections were closed in the checkpoint."
        ]  # fmt: skip
        return Armed(run, entry.manifest.id, self._peer.node, namespace, name, pod, warnings)

    def _sweep(self, wanted: Wanted, run: str) -> None:
        """Remove what restores of this pod left whose session was killed while they loaded. Raises PodferryError for a run that is there."""
        if self.known(run):
            raise PodferryError(f"node {self._peer.node} has a run {run} already", "Give another run, or none.")
        told = self._peer.call("runs", namespace=wanted.namespace, pod=wanted.pod).get("runs") or []
        for entry in told:
            if entry.get("mode") == "restore" and left_over(entry):
                self._peer.call("finish", run=str(entry["run"]), timeout_s=60.0)

    def wait(self, run: str, timeout_s: float) -> list[dict[str, Any]]:
        """Wait until the restored pod runs. Returns its containers. Raises RestoreFailed with CRIU's reason, PodferryError."""
        deadline = self._clock() + timeout_s
        patience = self._clock() + _GUARD_S
        while True:
            entry = self._entry(run)
            if entry is None:
                raise PodferryError(f"node {self._peer.node} knows no run {run}", "Arm the restore again.", "restore")
            if (entry.get("record") or {}).get("resumed"):
                return [dict(each) for each in entry.get("restored") or []]
            if entry.get("alive"):
                patience = self._clock() + _GUARD_S
            if entry.get("state") in ("aborted", "restore_lost") or self._clock() >= patience:
                raise RestoreFailed(self._peer.node, entry)
            if self._clock() >= deadline:
                raise DeadlineExceeded(
                    f"the pod was not restored within {timeout_s:.0f} s",
                    "Look at the events of the pod: image, volumes, network, RuntimeClass.",
                )
            self._sleep(0.2)

    def known(self, run: str) -> bool:
        """Whether the node has anything of the run."""
        return self._entry(run) is not None

    def end(self, run: str) -> bool:
        """Remove what the run has on the node; a restore that has not run is given up. False when there was nothing."""
        with contextlib.suppress(PodferryError):
            self._peer.call("cancel", run=run)
        return bool(self._peer.call("finish", run=run, timeout_s=60.0).get("ended"))

    def _entry(self, run: str) -> Mapping[str, Any] | None:
        told = self._peer.call("runs").get("runs") or []
        return next((dict(e) for e in told if e.get("run") == run), None)


class RestoreFailed(NodeError):
    """The restore failed on its node; ``log`` has CRIU's last lines."""

    def __init__(self, node: str, entry: Mapping[str, Any]) -> None:
        error = entry.get("error") or {}
        super().__init__(
            node,
            str(error.get("type") or "restore_failed"),
            str(error.get("message") or "the restore's ferry ended"),
            str(error.get("remedy") or ""),
            "restore",
        )
        self.log = [str(line) for line in entry.get("criu_log") or []]


def _need(entry: Entry) -> int:
    sizes = entry.manifest.bytes
    return int(sizes.get("memory") or 0) + int(sizes.get("files") or 0) + _MARGIN_BYTES


def pod_of(source: Obj, wanted: Wanted, checkpoint: str, *, node: str, run: str) -> dict[str, Any]:
    """The pod to create for a checkpoint of ``source``.

    A copy has a name of its own and none of the labels, so that no Service or controller takes it for the original; with
    ``same_name`` it is the pod that it was. Another namespace is possible for both.
    """
    name = predicates.name_of(source)
    mode = "successor" if wanted.same_name else "copy"
    if not wanted.same_name:
        name = wanted.to_pod or f"{name[:48].rstrip('-.')}-r{run[:6]}"
    built = manifest.build(source, mode=mode, name=name, target_node=node, run=run)  # type: ignore[arg-type]
    meta = built["metadata"]
    for key in [k for k in meta["annotations"] if k.endswith(("/moved-from", "/copied-from"))]:
        del meta["annotations"][key]
    meta["annotations"][RESTORED_FROM] = checkpoint
    if wanted.to_namespace:
        meta["namespace"] = wanted.to_namespace
    return built
