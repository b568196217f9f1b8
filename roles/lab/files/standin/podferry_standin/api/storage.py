# SPDX-License-Identifier: Apache-2.0
"""Objects, one revision counter, and the changes that watches read.

Everything runs in one event loop and no method awaits, so each call is a transaction. With a file the objects
survive a restart; the history of changes does not, so a watch from before gets 410 and lists again, as after a
compaction of etcd.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import errors
from .resources import Resource

Obj = dict[str, Any]
Key = tuple[str, str, str]
HISTORY = 4096


def clone(value: Any) -> Any:
    """A copy of what JSON can say; several times faster than ``copy.deepcopy``, and most of what this process does."""
    if isinstance(value, dict):
        return {key: clone(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clone(item) for item in value]
    return value


@dataclass(frozen=True)
class Change:
    """One write: what the object is now and what it was."""

    revision: int
    type: str  # ADDED | MODIFIED | DELETED
    resource: Resource
    obj: Obj
    previous: Obj | None


class Store:
    """All objects. Objects are copied in and out."""

    def __init__(self, path: Path | None = None) -> None:
        self.revision = 1
        self._objects: dict[str, dict[Key, Obj]] = {}  # by plural
        self._history: deque[Change] = deque(maxlen=HISTORY)
        self._listeners: set[asyncio.Queue[Change]] = set()
        self._db: sqlite3.Connection | None = None
        if path is not None:
            self._open(path)
        self._first = self.revision  # changes up to here are not in the history

    def _open(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")  # the process may die, the machine need not survive
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS objects (plural, namespace, name, body, PRIMARY KEY (plural, namespace, name))"
        )
        self._db.execute("CREATE TABLE IF NOT EXISTS revision (id INTEGER PRIMARY KEY, value INTEGER)")
        for plural, namespace, name, body in self._db.execute("SELECT plural, namespace, name, body FROM objects"):
            self._of(plural)[(plural, namespace, name)] = json.loads(body)
        for (value,) in self._db.execute("SELECT value FROM revision"):
            self.revision = value

    def _of(self, plural: str) -> dict[Key, Obj]:
        return self._objects.setdefault(plural, {})

    def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        """A copy of one object; 404 if it is not there."""
        found = self.find(resource, namespace, name)
        if found is None:
            raise errors.not_found(resource, name)
        return found

    def find(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        """A copy of one object or None."""
        found = self._of(resource.plural).get((resource.plural, namespace, name))
        return None if found is None else clone(found)

    def list(self, resource: Resource, namespace: str = "") -> list[Obj]:
        """Copies of all objects of a resource, in one namespace or in all, by namespace and name."""
        found = self._of(resource.plural)
        return [clone(found[key]) for key in sorted(found) if not namespace or key[1] == namespace]

    def uids(self, resource: Resource) -> set[str]:
        """The UIDs of all objects of a resource."""
        return {obj["metadata"]["uid"] for obj in self._of(resource.plural).values()}

    def create(self, resource: Resource, obj: Obj) -> Obj:
        """Add an object; 409 if the name is taken."""
        key = _key(resource, obj)
        if key in self._of(resource.plural):
            raise errors.already_exists(resource, key[2])
        return self._write("ADDED", resource, key, obj, None)

    def replace(self, resource: Resource, obj: Obj) -> Obj:
        """Replace an object that is there. Nothing is written when nothing changed."""
        key = _key(resource, obj)
        previous = self._of(resource.plural)[key]
        if obj == previous:
            same: Obj = clone(previous)
            return same
        return self._write("MODIFIED", resource, key, obj, previous)

    def remove(self, resource: Resource, obj: Obj) -> Obj:
        """Remove an object; its last state carries the revision of the removal."""
        key = _key(resource, obj)
        return self._write("DELETED", resource, key, obj, self._of(resource.plural)[key])

    def _write(self, kind: str, resource: Resource, key: Key, obj: Obj, previous: Obj | None) -> Obj:
        self.revision += 1
        stored: Obj = clone(obj)
        stored["metadata"]["resourceVersion"] = str(self.revision)
        if kind == "DELETED":
            del self._of(resource.plural)[key]
        else:
            self._of(resource.plural)[key] = stored
        if self._db is not None:
            self._db.execute("BEGIN")
            if kind == "DELETED":
                self._db.execute("DELETE FROM objects WHERE plural=? AND namespace=? AND name=?", key)
            else:
                self._db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (*key, json.dumps(stored)))
            self._db.execute("INSERT OR REPLACE INTO revision VALUES (1, ?)", (self.revision,))
            self._db.execute("COMMIT")
        change = Change(self.revision, kind, resource, stored, previous)
        self._history.append(change)
        for queue in self._listeners:
            queue.put_nowait(change)
        answer: Obj = clone(stored)
        return answer

    def since(self, revision: int) -> Sequence[Change]:
        """The changes after a revision; 410 if the history does not reach back that far."""
        oldest = self._history[0].revision - 1 if len(self._history) == HISTORY else self._first
        if revision < oldest:
            raise errors.expired(f"too old resource version: {revision} ({oldest})")
        return [change for change in self._history if change.revision > revision]

    @contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[Change]]:
        """A queue that gets every change from now on."""
        queue: asyncio.Queue[Change] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)


def _key(resource: Resource, obj: Obj) -> Key:
    meta = obj["metadata"]
    return (resource.plural, meta.get("namespace", "") if resource.namespaced else "", meta["name"])
