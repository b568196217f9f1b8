# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Copies a checkpoint to another store, as seen from one node; or from one node's store to another node's, over a connection of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .._common.errors import NotFound, PodferryError, StateConflict
from .._migrate import keys
from .._store.contract import Entry
from .._store.names import Place
from . import signing
from .stores import Shelf

COPY_TIMEOUT_S = 24 * 3600.0


class Node(Protocol):
    """A session to a node."""

    def call(self, op: str, *, timeout_s: float = 30.0, **args: Any) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Receiver:
    """The node whose own store gets the checkpoint, and where it listens for the other one."""

    node: Node
    address: str
    ports: tuple[int, int]


@dataclass(frozen=True)
class Transferred:
    """What was done. ``bytes`` travelled, in ``blobs``; ``present`` were there already."""

    entry: Entry
    changed: bool
    bytes: int = 0
    blobs: int = 0
    present: int = 0
    freed: int = 0


def find(shelf: Shelf, place: Place, wanted: str, verify_key: str) -> Entry:
    """The checkpoint of that id, or the ``latest``. Raises NotFound, signing.NotTrusted."""
    there = shelf.entries(*place)
    fitting = [entry for entry in there if wanted in ("latest", entry.manifest.id)]
    if not fitting:
        known = ", ".join(entry.manifest.id for entry in there[-5:])
        raise NotFound(
            f"the store has no checkpoint {wanted} of pod {'/'.join(place)}",
            f"It has {known}." if known else "It has none of this pod.",
        )
    if verify_key:
        signing.verify(fitting[-1].data, fitting[-1].signature, verify_key)
    return fitting[-1]


def present(shelf: Shelf, entry: Entry) -> bool:
    """Whether the store has this checkpoint, as far as its manifest tells.

    Raises StateConflict when it has another one of that id.
    """
    return _found(shelf, entry) is not None


def _found(shelf: Shelf, entry: Entry) -> Entry | None:
    for other in shelf.entries(*entry.manifest.place):
        if other.manifest.id == entry.manifest.id:
            if other.data != entry.data:
                raise StateConflict(
                    f"the other store has another checkpoint as {entry.manifest.id}", "Remove one of the two."
                )
            return other
    return None


def transfer(
    entry: Entry,
    source: Shelf,
    target: Shelf,
    sender: Node,
    run: str,
    *,
    receiver: Receiver | None = None,
    move: bool = False,
) -> Transferred:
    """Copy what ``target`` does not have; with ``move`` remove it from ``source`` then.

    What was interrupted goes on with the next call. Nothing is removed on a manifest's word: with ``move`` all that the
    target has is read. Raises PodferryError.
    """
    made = entry.manifest
    done: Mapping[str, Any] = {}
    there = _found(target, entry)
    if move:
        _look_apart(source, target, entry, run)
    if there is None or move:
        with _using(source, entry, run), _using(target, entry, run):
            spec = target.for_copying(made)
            if receiver is not None:
                spec = _link(entry, spec, receiver, run)
            done = sender.call(
                "store_copy",
                timeout_s=COPY_TIMEOUT_S,
                source=source.for_loading(made),
                target=spec,
                manifest=entry.data.decode("ascii"),
                signature=entry.signature or (there.signature if there is not None else ""),
                run=run,
                read=move,
            )
    if move and not present(target, entry):
        raise StateConflict(
            f"the other store does not show {made.id} after it was copied",
            "The source keeps it. Look at the other store, and move it again.",
        )
    freed = source.remove(made.place, [made.id]) if move else 0
    counts = {name: int(done.get(name, 0)) for name in ("bytes", "blobs", "present")}
    return Transferred(entry, there is None or move, freed=freed, **counts)


def _look_apart(source: Shelf, target: Shelf, entry: Entry, run: str) -> None:
    """One store may have two names: a link, a mount, an alias of a server. What is put into one is seen in the other then.

    Raises StateConflict.
    """
    place, identity, other = entry.manifest.place, entry.manifest.id, f"{run}-source"
    try:
        target.mark(place, identity, run)
        source.mark(place, identity, other)  # a client of NFS that has changed a folder reads it anew
        seen = any(lease.holder == run for lease in source.leases(*place))
    finally:
        for shelf, holder in ((target, run), (source, other)):
            with contextlib.suppress(PodferryError):  # it goes stale
                shelf.unmark(place, identity, holder)
    if seen:
        raise StateConflict(
            "source and target of the move are one store: the checkpoint would be removed from both",
            "Nothing was changed. Give another store as to, or leave move out.",
        )


def _link(entry: Entry, store: Mapping[str, Any], receiver: Receiver, run: str) -> dict[str, Any]:
    """Have the other node listen for the sender; how the sender reaches it. The keys are made for this run."""
    sending, receiving = keys.make_pair(run)
    answer = receiver.node.call(
        "store_listen",
        store=dict(store),
        manifest=entry.data.decode("ascii"),
        keys=receiving.to_dict(),
        address=receiver.address,
        ports=list(receiver.ports),
    )
    return {"kind": "link", "address": receiver.address, "port": int(answer["port"]), "keys": sending.to_dict()}


@contextlib.contextmanager
def _using(shelf: Shelf, entry: Entry, run: str) -> Iterator[None]:
    """Nobody prunes it meanwhile; of stores that nodes reach the node itself sees to that."""
    ids = [entry.manifest.id, *sorted(entry.manifest.origins)]
    for identity in ids:
        shelf.lease(entry.manifest.place, identity, run)
    try:
        yield
    finally:
        for identity in ids:
            with contextlib.suppress(PodferryError):  # it goes stale
                shelf.release(entry.manifest.place, identity, run)
