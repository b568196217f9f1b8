# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What every store can do. A store keeps blobs and manifests; what is in them is none of its business.

A checkpoint is there from the moment at which its manifest is: :meth:`Store.publish` is the last step of writing one.
"""

from __future__ import annotations

import typing as t

from .._common.errors import InvalidInput, NotFound, PodferryError
from .manifest import Blob, Manifest
from .names import Place
from .spool import Pulse, Spool, no_pulse

Spec = t.Mapping[str, t.Any]
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
LEASE_SECONDS = 900.0
"""A lease that was not renewed for so long belongs to somebody who is gone."""


class Denied(PodferryError):
    """The store does not let us do that."""

    kind = "store_denied"


class Full(PodferryError):
    """The store has no room, no inodes or no quota left."""

    kind = "store_full"

    def __init__(
        self, message: str = "the store is full", remedy: str = "Prune it (playbooks/prune.yml) or give it more room."
    ) -> None:
        super().__init__(message, remedy)


class Entry(t.NamedTuple):
    """A complete checkpoint: its manifest, the signature (empty: none) and the bytes that are signed."""

    manifest: Manifest
    signature: str
    data: bytes


class Lease(t.NamedTuple):
    """Somebody uses a checkpoint just now."""

    place: Place
    id: str
    holder: str


class Store(t.Protocol):
    """One place for checkpoints."""

    def put(self, place: Place, blob: Blob, spool: Spool) -> bool:
        """Store a blob; False when it was there already."""

    def has(self, place: Place, blob: Blob, *, read: bool = False) -> bool:
        """Whether the blob is there, with the bytes that it should have.

        :param read: look at every byte, where its size would do else.
        """

    def get(self, place: Place, blob: Blob, spool: Spool) -> None:
        """Fetch a blob, unchecked.

        :raises NotFound: it is not there.
        """

    def publish(self, manifest: Manifest, data: bytes, signature: str) -> None:
        """Make a checkpoint visible, whole.

        :raises NotFound: a blob of it is missing.
        """

    def entries(self, namespace: str = "", pod: str = "") -> t.List[Entry]:
        """All complete checkpoints, newest last."""

    def entry(self, place: Place, identity: str) -> Entry:
        """:raises NotFound: there is no such checkpoint, or it is not complete."""

    def remove(self, place: Place, ids: t.Sequence[str]) -> int:
        """Take these checkpoints away, and blobs that no other one refers to; returns the bytes freed.

        :raises StateConflict: one is in use; it and those after it are still there.
        """

    def sweep(self, namespace: str = "", pod: str = "", *, dry: bool = False) -> int:
        """Take away what no checkpoint needs and nobody is writing; returns its bytes. ``dry``: only say how many."""

    def discard(self, place: Place, identity: str, holder: str) -> None:
        """Take away what was stored of a checkpoint that will not be published."""

    def lease(self, place: Place, identity: str, holder: str) -> None:
        """Say, or say again, that ``holder`` uses a checkpoint: until :data:`LEASE_SECONDS` from now nobody removes it."""

    def release(self, place: Place, identity: str, holder: str) -> None:
        """``holder`` does not use it any more. Nobody minds if it did not."""

    def leases(self, namespace: str = "", pod: str = "") -> t.List[Lease]:
        """All that have not gone stale."""


def open_store(spec: Spec, pulse: Pulse = no_pulse) -> Store:
    """The store that ``spec`` describes.

    :raises InvalidInput: there is no such kind, or something is missing.
    """
    kind = spec.get("kind")
    if kind == "path":
        from .path import PathStore

        return PathStore(text(spec, "path"), pulse)
    if kind == "registry":
        from .registry import RegistryStore

        return RegistryStore(spec, pulse)
    if kind == "s3":
        from .s3 import BucketStore

        return BucketStore(spec, pulse)
    if kind == "link":
        from .link import LinkedStore

        return LinkedStore(spec, pulse)
    raise InvalidInput(f"there is no store of the kind {str(kind)[:40]!r}")


def sound(store: Store, place: Place, blob: Blob, pulse: Pulse) -> bool:
    """Whether a store gives back the very bytes of a blob."""
    with Spool(blob.size) as spool:
        try:
            store.get(place, blob, spool)
        except NotFound:
            return False
        return spool.measure(pulse) == (blob.size, blob.sha256)


def text(spec: Spec, name: str, default: str | None = None) -> str:
    """A text of a specification.

    :raises InvalidInput: it is missing, or something else.
    """
    value = spec.get(name, default)
    if not isinstance(value, str) or (not value and default is None):
        raise InvalidInput(f"a store of the kind {str(spec.get('kind'))[:40]} needs {name}")
    return value
