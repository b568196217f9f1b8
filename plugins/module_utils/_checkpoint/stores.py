# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A store as the controller uses it: by asking a node that reaches it (``path``, ``registry``), or itself (``s3``)."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from .._common.errors import InvalidInput
from .._store import manifest as documents
from .._store.contract import Entry, Lease
from .._store.manifest import Manifest
from .._store.names import Place
from .._store.web import address
from . import buckets

Spec = dict[str, Any]
Ask = Callable[..., Mapping[str, Any]]
"""``ask(operation, **arguments)``: a request to a node, see :mod:`.._store.operations`."""

KINDS = ("path", "registry", "s3")
_NEEDS = {"path": ("path",), "registry": ("url",), "s3": ("bucket",)}
_TAKES = {
    "path": ("path",),
    "registry": ("url", "repository", "username", "password", "ca", "insecure"),
    "s3": ("bucket", "prefix", "endpoint", "region", "access_key", "secret_key", "ca", "insecure"),
}
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class Shelf(Protocol):
    """What a controller does with a store. The three ``for_`` give what a node's functions take as ``spec``."""

    def for_saving(self, place: Place, checkpoint: str, size: int, parent: Manifest | None = None) -> Spec: ...
    def for_loading(self, manifest: Manifest) -> Spec: ...
    def for_copying(self, manifest: Manifest) -> Spec: ...
    def publish(self, manifest: Manifest, signature: str = "") -> None: ...
    def entries(self, namespace: str = "", pod: str = "") -> list[Entry]: ...
    def leases(self, namespace: str = "", pod: str = "") -> list[Lease]: ...

    def lease(self, place: Place, identity: str, holder: str) -> None:
        """Before a save (the checkpoint and its parent) or a load. Nothing where the node does it."""

    def release(self, place: Place, identity: str, holder: str) -> None:
        """After it."""

    def mark(self, place: Place, identity: str, holder: str) -> None:
        """A lease that is taken in any kind of store, for :meth:`leases` of another one to be looked at."""

    def unmark(self, place: Place, identity: str, holder: str) -> None:
        """And given back."""

    def discard(self, place: Place, identity: str, holder: str, parent: str = "") -> None:
        """Take away what a save has stored, when it is not going to be published."""

    def remove(self, place: Place, ids: Sequence[str]) -> int: ...
    def sweep(self, namespace: str = "", pod: str = "", *, dry: bool = False) -> int: ...


class NodeShelf:
    """A store that nodes reach by themselves."""

    def __init__(self, spec: Spec, ask: Ask) -> None:
        self._spec = spec
        self._ask = ask

    def for_saving(self, place: Place, checkpoint: str, size: int, parent: Manifest | None = None) -> Spec:
        return self._spec

    def for_loading(self, manifest: Manifest) -> Spec:
        return self._spec

    def for_copying(self, manifest: Manifest) -> Spec:
        return self._spec

    def publish(self, manifest: Manifest, signature: str = "") -> None:
        document = documents.canonical(manifest).decode("ascii")
        self._ask("store_publish", store=self._spec, manifest=document, signature=signature)

    def entries(self, namespace: str = "", pod: str = "") -> list[Entry]:
        found: list[Entry] = []
        after, more = "", True
        while more:
            answer = self._ask("store_entries", store=self._spec, namespace=namespace, pod=pod, after=after)
            batch = [_entry(item) for item in answer.get("entries") or ()]
            found += batch
            more = bool(answer.get("more")) and bool(batch)
            if batch:
                after = "/".join((batch[-1].manifest.id, *batch[-1].manifest.place))
        return found

    def leases(self, namespace: str = "", pod: str = "") -> list[Lease]:
        answer = self._ask("store_leases", store=self._spec, namespace=namespace, pod=pod)
        return [
            Lease(Place(str(space), str(name)), str(identity), str(holder))
            for space, name, identity, holder in answer["leases"]
        ]

    def lease(self, place: Place, identity: str, holder: str) -> None:
        return

    def release(self, place: Place, identity: str, holder: str) -> None:
        return

    def mark(self, place: Place, identity: str, holder: str) -> None:
        self._ask("store_lease", store=self._spec, **place._asdict(), id=identity, holder=holder)

    def unmark(self, place: Place, identity: str, holder: str) -> None:
        self._ask("store_release", store=self._spec, **place._asdict(), id=identity, holder=holder)

    def discard(self, place: Place, identity: str, holder: str, parent: str = "") -> None:
        self._ask("store_discard", store=self._spec, **place._asdict(), id=identity, parent=parent)

    def remove(self, place: Place, ids: Sequence[str]) -> int:
        answer = self._ask("store_remove", store=self._spec, namespace=place.namespace, pod=place.pod, ids=list(ids))
        return int(answer["freed"])

    def sweep(self, namespace: str = "", pod: str = "", *, dry: bool = False) -> int:
        return int(self._ask("store_sweep", store=self._spec, namespace=namespace, pod=pod, dry=dry)["freed"])


def _entry(item: Mapping[str, Any]) -> Entry:
    data = str(item["manifest"]).encode()
    return Entry(documents.parse(data), str(item.get("signature") or ""), data)


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a task that its kind of store has, without those that were not given.

    Raises InvalidInput for one that is missing, or belongs to another kind.
    """
    kind = options.get("kind")
    if kind not in KINDS:
        raise InvalidInput(f"store.kind is one of {', '.join(KINDS)}")
    given = {name: value for name, value in options.items() if name != "kind" and value not in (None, "", False)}
    missing = [name for name in _NEEDS[kind] if name not in given]
    foreign = sorted(set(given) - set(_TAKES[kind]))
    if missing:
        raise InvalidInput(f"a store of the kind {kind} needs {', '.join(missing)}", f"Give store.{missing[0]}.")
    if foreign:
        raise InvalidInput(f"a store of the kind {kind} does not take {', '.join(foreign)}")
    if kind == "s3" and not _BUCKET.fullmatch(str(given["bucket"])):
        raise InvalidInput("store.bucket is no name of a bucket")
    return {"kind": kind, **given}


def location(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Where a store is, however it is spelled: equal for options that name one store. Raises InvalidInput."""
    given = checked(options)
    kind = str(given["kind"])
    if kind == "path":
        return kind, posixpath.normpath(f"/{str(given['path']).lstrip('/')}")
    if kind == "registry":
        return kind, *_server(str(given["url"])), str(given.get("repository") or "podferry").strip("/")
    endpoint = _server(str(given["endpoint"])) if given.get("endpoint") else ("", "")
    return kind, *endpoint, str(given["bucket"]), str(given.get("prefix") or "").strip("/")


def _server(url: str) -> tuple[str, str]:
    where = address(url)
    return where.host.lower().rstrip("."), str(where.port)


def open_shelf(
    options: Mapping[str, Any], ask: Ask, connect: Callable[[Mapping[str, Any]], Any] = buckets.connect
) -> Shelf:
    """The store that a task's options name. ``ask`` is not used for buckets. Raises InvalidInput, PodferryError."""
    given = checked(options)
    if given["kind"] != "s3":
        return NodeShelf(given, ask)
    return buckets.Bucket(
        connect(given),
        given["bucket"],
        given.get("prefix", ""),
        ca=given.get("ca", ""),
        insecure=bool(given.get("insecure")),
    )
