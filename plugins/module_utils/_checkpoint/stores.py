# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A store of checkpoints as the controller sees it: the nodes carry the bytes, here manifests are signed and believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .._migrate.errors import PodferryError
from .._migrate.peer import Peer
from .._store.manifest import Manifest, canonical, parse
from . import signing

JsonDict = dict[str, Any]


@dataclass(frozen=True)
class Keys:
    """What a store's checkpoints are signed, checked and opened with. PEM and age texts; empty: not asked for."""

    signing_key: str = field(default="", repr=False)
    verify_key: str = ""
    identity: str = field(default="", repr=False)


@dataclass(frozen=True)
class Entry:
    """One complete checkpoint of a store."""

    manifest: Manifest
    signature: str


class Specs(Protocol):
    """How a node reaches the store: :class:`Fixed`, or one that has to make addresses for each checkpoint first."""

    def for_save(self, fields: Mapping[str, Any], need_bytes: int, parent: Manifest | None) -> JsonDict: ...
    def for_load(self, manifest: Manifest) -> JsonDict: ...
    def for_list(self) -> JsonDict: ...
    def entries(self, namespace: str, pod: str) -> Sequence[tuple[bytes, str]] | None:
        """Manifests and signatures, where the controller can list them by itself; None: a node has to."""

    def remove(self, namespace: str, pod: str, ids: Sequence[str]) -> int | None:
        """Remove checkpoints; bytes freed, or None: a node has to."""


@dataclass(frozen=True)
class Fixed:
    """A store that nodes reach in the same way whatever is asked of it."""

    spec: JsonDict = field(repr=False)

    def for_save(self, fields: Mapping[str, Any], need_bytes: int, parent: Manifest | None) -> JsonDict:
        return self.spec

    def for_load(self, manifest: Manifest) -> JsonDict:
        return self.spec

    def for_list(self) -> JsonDict:
        return self.spec

    def entries(self, namespace: str, pod: str) -> Sequence[tuple[bytes, str]] | None:
        return None

    def remove(self, namespace: str, pod: str, ids: Sequence[str]) -> int | None:
        return None


class Shelf:
    """One store with its keys."""

    def __init__(self, name: str, specs: Specs, keys: Keys) -> None:
        self._name = name
        self._specs = specs
        self._keys = keys

    def __str__(self) -> str:
        return self._name

    def entries(self, peer: Peer, namespace: str = "", pod: str = "") -> list[Entry]:
        """Complete checkpoints, oldest first. Raises PodferryError for a manifest that is not of its form."""
        own = self._specs.entries(namespace, pod)
        if own is None:
            told = peer.call(
                "store_entries", timeout_s=120.0, store=self._specs.for_list(), namespace=namespace, pod=pod
            )
            own = [(str(e["manifest"]).encode(), str(e.get("signature") or "")) for e in told.get("entries") or []]
        return [Entry(parse(raw), signature) for raw, signature in own]

    def find(self, peer: Peer, namespace: str, pod: str, wanted: str) -> Entry:
        """The checkpoint of that id, or the ``latest``. Raises PodferryError when there is none or it is not to be believed."""
        there = self.entries(peer, namespace, pod)
        fitting = [e for e in there if wanted in ("latest", e.manifest.id)]
        if not fitting:
            known = ", ".join(e.manifest.id for e in there[-5:])
            raise PodferryError(
                f"{self} has no checkpoint {wanted} of pod {namespace}/{pod}",
                f"It has {known}." if known else "It has none of this pod.",
            )
        self.believe(fitting[-1])
        return fitting[-1]

    def believe(self, entry: Entry) -> None:
        """Raises PodferryError unless the manifest carries the signature that is asked for."""
        if self._keys.verify_key:
            signing.verify(canonical(entry.manifest), entry.signature, self._keys.verify_key)

    def latest(self, peer: Peer, namespace: str, pod: str) -> str:
        """Id of the pod's last checkpoint, empty when there is none."""
        there = self.entries(peer, namespace, pod)
        return there[-1].manifest.id if there else ""

    def save(
        self,
        peer: Peer,
        run: str,
        fields: Mapping[str, Any],
        *,
        need_bytes: int,
        parent: str,
        compression: str,
        recipient: str,
        timeout_s: float,
    ) -> Manifest:
        """Have the node store what run ``run`` has dumped, then sign the manifest and make it visible."""
        spec = self._specs.for_save(fields, need_bytes, None)
        told = peer.call(
            "checkpoint_save",
            timeout_s=timeout_s,
            run=run,
            store=spec,
            fields=dict(fields),
            parent=parent,
            compression=compression,
            recipient=recipient,
            identity=self._keys.identity,
        )
        raw = str(told["manifest"]).encode()
        manifest = parse(raw)
        for name in ("id", "namespace", "pod"):
            if getattr(manifest, name) != fields[name]:
                raise PodferryError(f"the node made a manifest for another checkpoint: its {name} differs")
        signature = signing.sign(raw, self._keys.signing_key) if self._keys.signing_key else ""
        peer.call("store_publish", timeout_s=120.0, store=spec, manifest=raw.decode(), signature=signature)
        return manifest

    def load(self, peer: Peer, run: str, entry: Entry, *, need_bytes: int, timeout_s: float) -> JsonDict:
        """Have the node bring a checkpoint into its memory, verified. Returns what came with the state."""
        return peer.call(
            "restore_load",
            timeout_s=timeout_s,
            run=run,
            store=self._specs.for_load(entry.manifest),
            manifest=canonical(entry.manifest).decode(),
            identity=self._keys.identity,
            need_bytes=need_bytes,
        )
