# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A store with its keys: what is put there is signed, what is taken from there is believed only with its signature."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._migrate.errors import PodferryError, SessionLost
from .._migrate.peer import Peer
from .._store import codec
from .._store.contract import Denied, Entry, Full
from .._store.manifest import Manifest, canonical, parse
from .._store.names import Place
from . import retention, signing
from .stores import Shelf

JsonDict = dict[str, Any]


@dataclass(frozen=True)
class Keys:
    """What checkpoints are signed, checked and opened with. PEM and age texts; empty: not asked for."""

    signing_key: str = field(default="", repr=False)
    verify_key: str = ""
    identity: str = field(default="", repr=False)


class Vault:
    """One store as one node reaches it."""

    def __init__(self, name: str, peer: Peer, shelf: Shelf, keys: Keys) -> None:
        self._name = name
        self._peer = peer
        self._shelf = shelf
        self._keys = keys
        self.warnings: list[str] = []
        """What :meth:`save` did otherwise than it was asked to."""

    def __str__(self) -> str:
        return self._name

    def look(self, namespace: str, pod: str, recipient: str) -> None:
        """Before a pod stands still for it: keys are keys, and the store answers. Nothing is written.

        Raises InvalidInput, PodferryError.
        """
        if self._keys.signing_key:
            signing.public_key(self._keys.signing_key)
        if self._keys.verify_key:
            signing.valid_public(self._keys.verify_key)
        codec.valid_recipient(recipient)
        codec.valid_identity(self._keys.identity)
        self._shelf.entries(namespace, pod)

    def find(self, namespace: str, pod: str, wanted: str) -> Entry:
        """The checkpoint of that id, or the ``latest``. Raises PodferryError when there is none or it is not to be believed."""
        there = self._shelf.entries(namespace, pod)
        fitting = [e for e in there if wanted in ("latest", e.manifest.id)]
        if not fitting:
            known = ", ".join(e.manifest.id for e in there[-5:])
            raise PodferryError(
                f"{self} has no checkpoint {wanted} of pod {namespace}/{pod}",
                f"It has {known}." if known else "It has none of this pod.",
            )
        if self._keys.verify_key:
            signing.verify(fitting[-1].data, fitting[-1].signature, self._keys.verify_key)
        return fitting[-1]

    def save(
        self,
        run: str,
        fields: Mapping[str, Any],
        *,
        need_bytes: int,
        incremental: bool,
        compression: str,
        recipient: str,
        timeout_s: float,
    ) -> Manifest:
        """Have the node store what ``run`` has dumped, then sign the manifest and make it visible.

        When that fails, what was stored is taken away again. Raises PodferryError.
        """
        place, checkpoint = Place(str(fields["namespace"]), str(fields["pod"])), str(fields["id"])
        parent = self._parent(place, compression, recipient) if incremental else None
        above = parent.id if parent else ""
        with (
            self._using(place, [checkpoint, *([above] if above else [])], run),
            self._undone(place, checkpoint, run, above),
        ):
            told = self._peer.call(
                "checkpoint_save",
                timeout_s=timeout_s,
                run=run,
                store=self._shelf.for_saving(place, checkpoint, need_bytes, parent),
                fields=dict(fields),
                parent=above,
                compression=compression,
                recipient=recipient,
                identity=self._keys.identity,
            )
            manifest = parse(str(told["manifest"]).encode())
            if (manifest.place, manifest.id) != (place, checkpoint):
                raise PodferryError("the node made the manifest of another checkpoint")
            known = set(parent.blobs) if parent else set()
            if any(blob.origin != checkpoint and blob not in known for blob in manifest.blobs):
                raise PodferryError(
                    f"the store had another checkpoint as {above} when the node read it",
                    "Look at who writes to the store.",
                )
            signature = signing.sign(canonical(manifest), self._keys.signing_key) if self._keys.signing_key else ""
            self._shelf.publish(manifest, signature)
        if above and not manifest.parent:
            self.warnings.append(f"{above} was very much larger, so this checkpoint is a full one")
        return manifest

    @contextlib.contextmanager
    def _undone(self, place: Place, checkpoint: str, run: str, parent: str) -> Iterator[None]:
        """What fails leaves nothing in the store, if that can be had; the error is that of what failed."""
        try:
            yield
        except SessionLost:
            raise  # what the node does is not known: it may be publishing just now
        except Exception:
            with contextlib.suppress(PodferryError):
                self._shelf.discard(place, checkpoint, run, parent)
            raise

    def _parent(self, place: Place, compression: str, recipient: str) -> Manifest | None:
        if recipient and not self._keys.identity:
            return None  # which pages the last one has is encrypted, too
        there = self._shelf.entries(*place)
        newest = next((entry.manifest for entry in reversed(there) if self._believed(entry)), None)
        if there and newest != there[-1].manifest:
            self.warnings.append(
                f"nothing was built upon {there[-1].manifest.id}: none of the keys in verify_key has signed it as it is"
            )
        fits = newest and retention.parent_for([newest], compression, "age" if recipient else "none")
        return newest if fits else None

    def _believed(self, entry: Entry) -> bool:
        """Whether it may be built upon: what we sign vouches for the pages that it inherits."""
        if self._keys.verify_key:
            try:
                signing.verify(entry.data, entry.signature, self._keys.verify_key)
            except signing.NotTrusted:
                return False
        return True

    def load(self, run: str, entry: Entry, *, need_bytes: int, timeout_s: float) -> JsonDict:
        """Have the node bring a checkpoint into its memory, verified. Returns what came with the state. Raises PodferryError."""
        manifest = entry.manifest
        with self._using(manifest.place, [manifest.id], run, reads=True):
            return self._peer.call(
                "restore_load",
                timeout_s=timeout_s,
                run=run,
                store=self._shelf.for_loading(manifest),
                manifest=entry.data.decode(),
                identity=self._keys.identity,
                need_bytes=need_bytes,
            )

    @contextlib.contextmanager
    def _using(self, place: Place, ids: Sequence[str], run: str, *, reads: bool = False) -> Iterator[None]:
        """Nobody prunes these meanwhile. Who only ``reads`` a store that takes no lease does without."""
        for identity in ids:
            try:
                self._shelf.lease(place, identity, run)
            except (Denied, Full):
                if not reads:
                    raise
        try:
            yield
        finally:
            for identity in ids:
                with contextlib.suppress(PodferryError):
                    self._shelf.release(place, identity, run)
