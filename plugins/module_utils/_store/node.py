# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What the rest of the node's code asks of a store. Specifications and manifests come from the controller."""

from __future__ import annotations

import contextlib
import functools
import time
import typing as t

from .._common.errors import InvalidInput, PodferryError, StateConflict
from . import codec, manifest, names
from . import pack as packing
from .contract import Denied, Entry, Full, Lease, Spec, Store, open_store
from .manifest import Blob, Manifest
from .names import Place
from .silence import silent
from .spool import Pulse, Spool, no_pulse

_RENEW_SECONDS = 60.0
_PARENT_BYTES = 8 << 30
_Function = t.TypeVar("_Function", bound=t.Callable[..., t.Any])


def _told(function: _Function) -> _Function:
    """Turn errors of disks and networks into ours."""

    @functools.wraps(function)
    def call(*arguments: t.Any, **options: t.Any) -> t.Any:
        try:
            return function(*arguments, **options)
        except OSError as error:
            raise PodferryError(
                f"the store cannot be used: {error.strerror or error}", "Look at the store from this node."
            ) from error

    return t.cast("_Function", call)


@_told
def save(
    spec: Spec,
    folder: str,
    fields: t.Mapping[str, t.Any],
    *,
    parent: str = "",
    compression: str = "zstd",
    recipient: str = "",
    identity: str = "",
    pulse: Pulse = no_pulse,
) -> Manifest:
    """Store the state in ``folder``. Nobody sees the checkpoint until :func:`publish`.

    :param fields: ``id``, ``namespace``, ``pod``, ``uid``, ``node``, ``created``, ``kind``, ``containers`` and ``facts`` of the manifest.
    :param parent: an earlier checkpoint of this pod in this store: its pages are not stored again. One that was very much
        larger than the state is not used; what is made then names no parent.
    :param identity: needed to read the parent's index when that is encrypted.
    :raises NotFound: there is no such parent.
    :raises StateConflict: the parent is compressed or encrypted in another way.
    """
    codec.valid_recipient(recipient)
    encryption = "age" if recipient else "none"
    draft = {
        **fields,
        "format": manifest.FORMAT,
        "parent": parent,
        "compression": compression,
        "encryption": encryption,
    }
    place, checkpoint = names.valid_place(draft.get("namespace"), draft.get("pod")), names.valid_id(draft.get("id"))
    with _Using(
        open_store(spec, pulse), place, checkpoint, [checkpoint, *([parent] if parent else [])], pulse
    ) as using:
        try:
            before = None
            earlier = using.store.entry(place, parent).manifest if parent else None
            if earlier is not None:
                if (earlier.compression, earlier.encryption) != (compression, encryption):
                    raise StateConflict(
                        f"the checkpoint {parent} is stored with {earlier.compression} and {earlier.encryption}, not with {compression} and {encryption}",
                        "Store a full one, without parent.",
                    )
                limit = packing.index_limit(earlier.bytes["memory"] + earlier.bytes["files"])
                if limit <= _most_index(folder):
                    get = _getter(using.store, place)
                    index = packing.read_index(get, earlier, identity=identity, limit=limit, pulse=using.pulse)
                    before = packing.Parent(earlier, index)

            def out(blob: Blob, spool: Spool) -> None:
                using.store.put(place, blob, spool)

            packed = packing.pack(
                folder,
                out,
                origin=checkpoint,
                parent=before,
                compression=compression,
                recipient=recipient,
                pulse=using.pulse,
            )
            sizes = {"memory": packed.memory, "files": packed.files, "stored": packed.stored}
            draft["parent"] = parent if before is not None else ""
            made = manifest.make({**draft, "bytes": sizes, "blobs": [vars(blob) for blob in packed.blobs]})
        except BaseException as error:
            if not silent(error):
                with contextlib.suppress(OSError, PodferryError):  # why it failed is what has to be known
                    using.store.discard(place, checkpoint, checkpoint)
            raise
        using.keep([checkpoint, made.parent])  # until it is published, or for as long as a lease lasts
        return made


def _most_index(folder: str) -> int:
    """Bytes that the index of a parent may have, whatever its manifest says: as that of 8 GiB, or of four times our state."""
    return packing.index_limit(max(4 * sum(packing.listing(folder).values()), _PARENT_BYTES))


def _getter(store: Store, place: Place) -> packing.Get:
    def get(blob: Blob, spool: Spool) -> None:
        store.get(place, blob, spool)

    return get


@_told
def publish(spec: Spec, document: bytes, signature: str) -> None:
    """Make a checkpoint visible: ``document`` is :func:`.manifest.canonical` of what :func:`save` returned.

    :raises NotFound: a blob of it is missing.
    """
    made = manifest.parse(document)
    store = open_store(spec)
    if signature and (len(signature) > 200 or not signature.isascii() or not signature.isprintable()):
        raise InvalidInput("the signature of a checkpoint is no short text")
    store.publish(made, document, signature)
    for used in (made.id, made.parent):
        if used:
            store.release(made.place, used, made.id)


@_told
def entries(spec: Spec, namespace: str = "", pod: str = "") -> t.List[Entry]:
    """Complete checkpoints, newest last: (manifest, signature, what is signed)."""
    return open_store(spec).entries(namespace, pod)


@_told
def leases(spec: Spec, namespace: str = "", pod: str = "") -> t.List[Lease]:
    """Checkpoints that somebody uses just now."""
    return open_store(spec).leases(namespace, pod)


@_told
def load(
    spec: Spec,
    made: Manifest,
    folder: str,
    *,
    identity: str = "",
    limit: int,
    run: str = "",
    pulse: Pulse = no_pulse,
) -> None:
    """Fill the empty ``folder`` with the state of a checkpoint, verified against its manifest.

    :param limit: bytes that the state may have.
    :param run: who restores; the checkpoint cannot be removed meanwhile.
    :raises NotFound: it is not in the store.
    :raises InvalidInput: something is not what the manifest vouches for.
    """
    holder = run or f"load-{time.monotonic_ns()}"
    with _Using(open_store(spec, pulse), made.place, holder, [made.id], pulse, reads=made) as using:
        packing.unpack(
            _getter(using.store, made.place), made, folder, identity=identity, limit=limit, pulse=using.pulse
        )


@_told
def lease(spec: Spec, namespace: str, pod: str, identity: str, holder: str) -> None:
    """Say that ``holder`` uses a checkpoint."""
    open_store(spec).lease(names.valid_place(namespace, pod), identity, holder)


@_told
def release(spec: Spec, namespace: str, pod: str, identity: str, holder: str) -> None:
    """It does not any more."""
    open_store(spec).release(names.valid_place(namespace, pod), identity, holder)


@_told
def discard(spec: Spec, namespace: str, pod: str, identity: str, parent: str = "") -> None:
    """Take away what :func:`save` has stored, when it is not going to be published."""
    store, place = open_store(spec), names.valid_place(namespace, pod)
    store.discard(place, names.valid_id(identity), identity)
    if parent:
        store.release(place, names.valid_id(parent), identity)


@_told
def remove(spec: Spec, namespace: str, pod: str, ids: t.Sequence[str]) -> int:
    """Take checkpoints away; blobs that others refer to stay. Returns the bytes freed.

    :raises StateConflict: one is in use.
    """
    place = names.valid_place(namespace, pod)
    return open_store(spec).remove(place, [names.valid_id(identity) for identity in ids])


@_told
def sweep(spec: Spec, namespace: str = "", pod: str = "", *, dry: bool = False) -> int:
    """Take away what no checkpoint needs and nobody is writing; returns its bytes."""
    return open_store(spec).sweep(namespace, pod, dry=dry)


@_told
def copy(
    source: Spec,
    target: Spec,
    made: Manifest,
    signature: str,
    *,
    run: str = "",
    read: bool = False,
    pulse: Pulse = no_pulse,
) -> t.Dict[str, int]:
    """Copy a checkpoint from one store to another. Blobs that are there do not travel, so what was interrupted goes on.

    :param read: compare what the target has then byte by byte, because the source is going to be removed.
    :returns: how many ``bytes`` and ``blobs`` travelled, and how many blobs were ``present``.
    :raises InvalidInput: a blob is not what the manifest vouches for.
    """
    holder = run or f"copy-{made.id}"
    done = {"bytes": 0, "blobs": 0, "present": 0}
    place, owners = made.place, [made.id, *sorted(made.origins)]
    with contextlib.ExitStack() as opened:
        origin = opened.enter_context(_Using(open_store(source, pulse), place, holder, [made.id], pulse, reads=made))
        goal = opened.enter_context(_Using(open_store(target, origin.pulse), place, holder, owners, origin.pulse))
        for blob in made.blobs:
            goal.pulse()  # renews both; not in the middle of a request, which may use the same connection
            if goal.store.has(place, blob, read=read):
                done["present"] += 1
                continue
            with Spool(blob.size) as spool:
                packing.fetch(_getter(origin.store, place), blob, spool, goal.pulse)
                goal.store.put(place, blob, spool)
            if read and not goal.store.has(place, blob, read=True):
                raise StateConflict(
                    f"{blob.key} is damaged in the other store, which does not take it anew",
                    "The source keeps it. Remove the checkpoint from the other store, and move it again. "
                    "A registry has to collect its garbage in between.",
                )
            done["bytes"] += blob.size
            done["blobs"] += 1
        goal.store.publish(made, manifest.canonical(made), signature)
    return done


class _Using:
    """A store, and leases in it that are renewed by the pulse and given back at the end.

    :param reads: the checkpoint that is read. It has to be there once the lease is.
    """

    def __init__(
        self,
        store: Store,
        place: Place,
        holder: str,
        ids: t.Sequence[str],
        pulse: Pulse,
        reads: Manifest | None = None,
    ) -> None:
        self.store = store
        self._reads = reads
        self._place = place
        self._holder = holder
        self._ids = list(ids)
        self._pulse = pulse
        self._renewed = 0.0

    def __enter__(self) -> _Using:
        try:
            self._renew()
            if self._reads is not None and self.store.entry(self._place, self._reads.id).manifest != self._reads:
                raise InvalidInput(f"the store has another checkpoint as {self._reads.id}", "Read its list again.")
        except BaseException as error:
            self.__exit__(None, error)
            raise
        return self

    def __exit__(self, _kind: object = None, error: BaseException | None = None, _trace: object = None) -> None:
        for identity in () if silent(error) else self._ids:
            try:
                self.store.release(self._place, identity, self._holder)
            except (OSError, PodferryError):
                continue  # it goes stale

    def _renew(self) -> None:
        for identity in self._ids:
            try:
                self.store.lease(self._place, identity, self._holder)
            except (Denied, Full):
                if self._reads is None:
                    raise  # who only may read restores without a lease, and so does who has a full store
        self._renewed = time.monotonic()

    def keep(self, ids: t.Sequence[str]) -> None:
        """Do not give these back."""
        self._ids = [identity for identity in self._ids if identity not in ids]

    def pulse(self) -> None:
        """Pass the pulse on, and renew now and then."""
        self._pulse()
        if time.monotonic() - self._renewed > _RENEW_SECONDS:
            self._renew()
