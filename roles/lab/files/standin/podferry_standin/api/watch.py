# SPDX-License-Identifier: Apache-2.0
"""Watch streams: JSON lines from a revision on, filtered by selectors."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from typing import Any

from aiohttp import web

from . import errors, selectors, tables
from .resources import Resource
from .storage import Change, Store

Obj = dict[str, Any]

_DEFAULT_SECONDS = 1800.0
_BOOKMARK_SECONDS = 60.0
_TRUE = ("1", "true", "True")


async def watch(
    store: Store, request: web.Request, resource: Resource, namespace: str, name: str = ""
) -> web.StreamResponse:
    """Stream changes until the client's timeout or its end.

    Without a resourceVersion (or with 0) what is there comes first, as ADDED. A revision that the history does not
    reach gets one ERROR event with 410 Expired.
    """
    by_label, by_field = (
        selectors.labels(request.query.get("labelSelector")),
        selectors.fields(request.query.get("fieldSelector")),
    )

    def match(obj: Obj | None) -> bool:
        if obj is None or (namespace and obj["metadata"].get("namespace") != namespace):
            return False
        return (not name or obj["metadata"]["name"] == name) and by_label(obj) and by_field(obj)

    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    version = request.query.get("resourceVersion") or "0"
    initial = request.query.get("sendInitialEvents") in _TRUE
    encode = _Encoder(request, resource)
    with store.subscribe() as queue:
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError, ConnectionError):
            try:
                start = int(version)
                pending = store.since(start) if start and not initial else []
            except errors.ApiError as error:
                await response.write(encode.raw("ERROR", error.status()))
                return response
            except ValueError as error:
                await response.write(
                    encode.raw("ERROR", errors.bad_request(f"invalid resource version: {error}").status())
                )
                return response
            if not start or initial:
                for obj in store.list(resource, namespace):
                    if match(obj):
                        await response.write(encode("ADDED", obj))
                start = store.revision
                if initial:
                    await response.write(encode.bookmark(start, initial_end=True))
            for change in pending:
                await _send(response, encode, match, resource, change)
                start = change.revision
            await _follow(response, encode, match, resource, queue, start, request)
    return response


async def _follow(
    response: web.StreamResponse,
    encode: _Encoder,
    match: Any,
    resource: Resource,
    queue: asyncio.Queue[Change],
    start: int,
    request: web.Request,
) -> None:
    end = time.monotonic() + float(request.query.get("timeoutSeconds") or _DEFAULT_SECONDS)
    bookmarks = request.query.get("allowWatchBookmarks") in _TRUE
    while (left := end - time.monotonic()) > 0:
        try:
            change = await asyncio.wait_for(queue.get(), min(left, _BOOKMARK_SECONDS))
        except TimeoutError:
            if bookmarks:
                await response.write(encode.bookmark(start))
            continue
        if change.revision > start:  # the rest was sent from the history
            await _send(response, encode, match, resource, change)
            start = change.revision


async def _send(response: web.StreamResponse, encode: _Encoder, match: Any, resource: Resource, change: Change) -> None:
    """What the change means to this watcher: an object may come into its view or leave it."""
    if change.resource is not resource:
        return
    before, after = match(change.previous), change.type != "DELETED" and match(change.obj)
    if after:
        await response.write(encode("MODIFIED" if before else "ADDED", change.obj))
    elif before:
        gone = change.obj
        if change.type != "DELETED" and change.previous is not None:
            gone = {
                **change.previous,
                "metadata": {**change.previous["metadata"], "resourceVersion": str(change.revision)},
            }
        await response.write(encode("DELETED", gone))


class _Encoder:
    """Objects to lines; as one-row tables if the client asked for tables."""

    def __init__(self, request: web.Request, resource: Resource) -> None:
        self._table = tables.wanted(request)
        self._include = request.query.get("includeObject", "Metadata")
        self._resource = resource
        self._headers = True

    def __call__(self, kind: str, obj: Obj) -> bytes:
        if not self._table:
            return self.raw(kind, obj)
        row = tables.table(
            self._resource, [obj], obj["metadata"]["resourceVersion"], headers=self._headers, include=self._include
        )
        self._headers = False
        return self.raw(kind, row)

    def bookmark(self, revision: int, *, initial_end: bool = False) -> bytes:
        """A BOOKMARK of the revision reached."""
        meta: Obj = {"resourceVersion": str(revision), "creationTimestamp": None}
        if initial_end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        return self.raw(
            "BOOKMARK", {"kind": self._resource.kind, "apiVersion": self._resource.api_version, "metadata": meta}
        )

    @staticmethod
    def raw(kind: str, obj: Obj) -> bytes:
        """One line."""
        return json.dumps({"type": kind, "object": obj}, separators=(",", ":")).encode() + b"\n"
