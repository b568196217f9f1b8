# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A store on another node, over a TLS connection with keys of this run: what a checkpoint is copied to when there is no store that both reach.

The receiving node listens for one connection of one run, and does what :class:`.contract.Store` says with a store of its own.
It takes blobs and manifests of the one checkpoint that the controller named.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
import typing as t

from .._common.errors import DeadlineExceeded, InvalidInput, LinkLost, NotFound, PodferryError, StateConflict, from_dict
from .._ferry import tls
from .._ferry.link import Link, Message
from . import manifest as documents
from .contract import Entry, Lease, Spec, Store, open_store, text
from .manifest import Blob, Manifest
from .names import Place
from .spool import Pulse, Spool, no_pulse

CONNECT_SECONDS = 60.0
SILENCE_SECONDS = 120.0
"""Longer than reading or flushing one blob takes."""


class LinkedStore:
    """The sending end; see :class:`.contract.Store`."""

    def __init__(self, spec: Spec, pulse: Pulse = no_pulse) -> None:
        keys, port = spec.get("keys"), spec.get("port")
        if not isinstance(keys, dict) or not isinstance(port, int):
            raise InvalidInput("a store on another node needs keys and port")
        connection = tls.connect(tls.Keys.from_dict(keys), text(spec, "address"), port, 20.0)
        self._link = Link(connection, SILENCE_SECONDS, "store")
        self._pulse = pulse

    def put(self, place: Place, blob: Blob, spool: Spool) -> bool:
        self._link.send("put", key=blob.key, size=spool.length)
        for block in spool.blocks():
            self._link.send_data(block)
            self._pulse()
        return bool(self._answer().get("stored"))

    def has(self, place: Place, blob: Blob, *, read: bool = False) -> bool:
        self._link.send("has", key=blob.key, read=read)
        return bool(self._answer().get("there"))

    def publish(self, manifest: Manifest, data: bytes, signature: str) -> None:
        self._link.send("publish", signature=signature)
        self._answer()

    def lease(self, place: Place, identity: str, holder: str) -> None:
        self._link.send("lease", id=identity, holder=holder)
        self._answer()

    def release(self, place: Place, identity: str, holder: str) -> None:
        with contextlib.suppress(LinkLost):  # who has lost us lets it go
            self._link.send("release", id=identity, holder=holder)
            self._answer()

    def _answer(self) -> Message:
        """:raises PodferryError: what went wrong over there."""
        deadline = time.monotonic() + SILENCE_SECONDS
        while True:
            message = self._link.message(1.0)
            self._pulse()
            if message is not None:
                break
            if time.monotonic() > deadline:
                raise LinkLost("the other node does not answer")
        if message["m"] == "error":
            raise from_dict(message.get("error") or {})
        return message

    def get(self, place: Place, blob: Blob, spool: Spool) -> None:
        raise _only_copy()

    def entries(self, namespace: str = "", pod: str = "") -> t.List[Entry]:
        raise _only_copy()

    def entry(self, place: Place, identity: str) -> Entry:
        raise _only_copy()

    def remove(self, place: Place, ids: t.Sequence[str]) -> int:
        raise _only_copy()

    def sweep(self, namespace: str = "", pod: str = "", *, dry: bool = False) -> int:
        raise _only_copy()

    def leases(self, namespace: str = "", pod: str = "") -> t.List[Lease]:
        raise _only_copy()

    def discard(self, place: Place, identity: str, holder: str) -> None:
        self.release(place, identity, holder)


def _only_copy() -> StateConflict:
    return StateConflict("a store on another node is there to be copied to")


def listen(arguments: t.Mapping[str, t.Any]) -> t.Dict[str, int]:
    """Wait, in the background, for the sending node; returns the port.

    ``store``: ours; ``manifest``: of the checkpoint that may come; ``keys``, ``address``, ``ports``: where and whom to expect.

    :raises NotFound: no port is free.
    """
    spec = arguments.get("store")
    if not isinstance(spec, dict):
        raise InvalidInput("store is no specification of a store")
    made = documents.parse(str(arguments.get("manifest") or "").encode())
    keys = tls.Keys.from_dict(arguments.get("keys") or {})
    first, last = _ports(arguments.get("ports"))
    open_store(spec)  # say at once what is wrong with it
    for port in range(first, last + 1):
        try:
            listener = socket.create_server((str(arguments.get("address")), port), backlog=4)
        except OSError:
            continue
        threading.Thread(target=_serve, args=(listener, keys, spec, made), daemon=True).start()
        return {"port": listener.getsockname()[1]}
    raise NotFound(
        f"no port from {first} to {last} is free on {arguments.get('address')}",
        "Choose other ports (podferry_ports), or an address that the node has (podferry_address).",
    )


def _ports(found: t.Any) -> t.Tuple[int, int]:
    try:
        first, last = (int(port) for port in found)
    except (TypeError, ValueError):
        raise InvalidInput("ports is no pair of numbers") from None
    return first, last


def _serve(listener: socket.socket, keys: tls.Keys, spec: Spec, made: Manifest) -> None:
    with contextlib.suppress(PodferryError, OSError), listener:
        receiver = Receiver(_accept(listener, keys), open_store(spec), made)
        listener.close()
        receiver.run()


def _accept(listener: socket.socket, keys: tls.Keys) -> Link:
    deadline = time.monotonic() + CONNECT_SECONDS
    while time.monotonic() < deadline:
        if select.select([listener], [], [], 1.0)[0]:
            with contextlib.suppress(OSError):  # a port scanner, or somebody without this run's key
                return Link(tls.accept(keys, listener, 5.0), SILENCE_SECONDS, "store")
    raise DeadlineExceeded("the other node did not connect")


class Receiver:
    """The receiving end: does what it is asked for one checkpoint, until the connection ends."""

    def __init__(self, connection: Link, store: Store, made: Manifest) -> None:
        self._link = connection
        self._store = store
        self._made = made
        self._blobs = {blob.key: blob for blob in made.blobs}
        self._leases: t.Set[t.Tuple[str, str]] = set()

    def run(self) -> None:
        """Serve; what was leased is given back at the end, however it comes."""
        try:
            while True:
                message = self._link.message(SILENCE_SECONDS)
                if message is None:
                    continue
                try:
                    self._link.send("ok", **self._do(message))
                except LinkLost:
                    raise
                except (PodferryError, OSError) as error:
                    wrapped = (
                        error
                        if isinstance(error, PodferryError)
                        else PodferryError(f"the store cannot be used: {error.strerror}")
                    )
                    self._link.send("error", error=wrapped.to_dict())
                    if message["m"] == "put":
                        return  # its data may be on the way still
        except LinkLost:
            return
        finally:
            for identity, holder in self._leases:
                with contextlib.suppress(PodferryError, OSError):
                    self._store.release(self._made.place, identity, holder)
            self._link.close()

    def _do(self, message: Message) -> t.Dict[str, t.Any]:
        kind, place = message["m"], self._made.place
        if kind == "has":
            return {"there": self._store.has(place, self._blob(message), read=message.get("read") is True)}
        if kind == "put":
            blob = self._blob(message)
            with Spool(blob.size) as spool:
                self._take(spool, message.get("size"), blob.size)
                if spool.measure() != (blob.size, blob.sha256):
                    raise InvalidInput(f"{blob.key} did not arrive as it was sent")
                return {"stored": self._store.put(place, blob, spool)}
        if kind in ("lease", "release"):
            pair = (str(message.get("id")), str(message.get("holder")))
            if pair[0] not in {self._made.id, *self._made.origins}:
                raise InvalidInput("the other node speaks of another checkpoint")
            if kind == "lease":
                self._leases.add(pair)
                self._store.lease(place, *pair)
            else:
                self._leases.discard(pair)
                self._store.release(place, *pair)
            return {}
        if kind == "publish":
            self._store.publish(self._made, documents.canonical(self._made), str(message.get("signature") or ""))
            return {}
        raise InvalidInput(f"the other node asks for {str(kind)[:40]!r}")

    def _blob(self, message: Message) -> Blob:
        found = self._blobs.get(str(message.get("key")))
        if found is None:
            raise InvalidInput("the other node speaks of a blob that the manifest does not name")
        return found

    def _take(self, spool: Spool, size: t.Any, most: int) -> None:
        if not isinstance(size, int) or not 0 <= size <= most:
            raise InvalidInput("the other node announces more than the manifest names")
        while size > 0:
            frame = self._link.receive()
            if not isinstance(frame, memoryview) or len(frame) > size:
                raise InvalidInput("the other node sends something else than a blob")
            spool.write(frame)
            size -= len(frame)
