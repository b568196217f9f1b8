# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Checkpoints of ours, told in the same words: a state folder on a node, or what a store keeps."""

from __future__ import annotations

import os
import typing as t

from .._common.errors import InvalidInput
from .._ferry.paths import VOLUMES, valid_name
from .._store import names, pack
from .._store.codec import Decoder
from .._store.contract import Spec, open_store
from .._store.manifest import Manifest
from .._store.spool import Spool
from . import info, reader
from .errors import NoCheckpoint
from .reader import IMAGES, LOGS, ROOTFS, SHM, Member
from .streams import Part, open_file

STATE, POD = "state.json", "pod.json"
_AS = {"rootfs.tar": ROOTFS, "shm.tar": SHM, "log": LOGS[0]}
_MOST_STATE = 1 << 30


class _Files(t.Protocol):
    """The files of a state, by their names."""

    def sizes(self) -> t.Mapping[str, int]:
        """All of them."""

    def read(self, name: str) -> t.ContextManager[t.BinaryIO] | None:
        """One of them; None when only its size is known here."""

    def small(self, name: str) -> bytes | None:
        """All of a small one, or None."""


class _Container:
    """A container's files, by the names that engines give them."""

    def __init__(self, files: _Files, name: str) -> None:
        self._files = files
        self._name = name

    def members(self) -> t.Iterator[Member]:
        for name, size in sorted(self._files.sizes().items()):
            owner, _slash, inner = name.partition("/")
            if owner != self._name:
                continue
            told = IMAGES + inner[len("criu/") :] if inner.startswith("criu/") else _AS.get(inner, inner)
            stream = self._files.read(name)
            if stream is None:
                yield Member(told, size, 0.0, _Elsewhere(name))
                continue
            with stream as opened:
                yield Member(told, size, 0.0, Part(opened))


class _Elsewhere:
    """A large file of a stored checkpoint: lists are small, so nothing here asks for it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def read(self, count: int) -> bytes:
        raise InvalidInput(f"{self._name} is too large to be looked at in the store", "Restore the checkpoint.")


class Folder:
    """A state folder."""

    def __init__(self, path: str) -> None:
        self._path = path

    def sizes(self) -> t.Mapping[str, int]:
        return pack.listing(self._path)

    def read(self, name: str) -> t.ContextManager[t.BinaryIO] | None:
        return open_file(os.path.join(self._path, name), follow=False)

    def small(self, name: str) -> bytes | None:
        if not os.path.exists(os.path.join(self._path, name)):
            return None
        with open_file(os.path.join(self._path, name), follow=False) as stream:
            return stream.read(16 << 20)


class _Stored:
    """The small files of a stored checkpoint; of the large ones only the sizes."""

    def __init__(self, listed: t.Mapping[str, pack.Listed], contents: t.Mapping[str, bytes]) -> None:
        self._listed = listed
        self._contents = contents

    def sizes(self) -> t.Mapping[str, int]:
        return {name: entry.size for name, entry in self._listed.items()}

    def read(self, name: str) -> t.ContextManager[t.BinaryIO] | None:
        content = self._contents.get(name)
        if content is None:
            return None
        spool = Spool()
        spool.write(content)
        return os.fdopen(spool.rewind(), "rb", buffering=0)

    def small(self, name: str) -> bytes | None:
        return self._contents.get(name)


def is_state(path: str) -> bool:
    """Whether a folder holds a state of ours."""
    return os.path.isfile(os.path.join(path, STATE))


def inspect_folder(path: str, values: bool = False) -> info.Info:
    """What a state folder holds.

    :raises InvalidInput: it is none, or damaged.
    """
    if not is_state(path):
        raise NoCheckpoint(f"{path} holds no state of a checkpoint", "Give a folder with a state.json.")
    files = Folder(path)
    return {"form": "state", **_tell(files, values), "stored_bytes": sum(files.sizes().values())}


def inspect_stored(
    spec: Spec, namespace: str, pod: str, identifier: str, *, identity: str = "", values: bool = False
) -> info.Info:
    """What a checkpoint in a store holds: its description and lists are fetched and verified, its memory is not.

    :param identifier: of the checkpoint, or ``latest``.
    :raises NotFound: there is no such checkpoint. :raises InvalidInput: it is damaged.
    """
    place = names.valid_place(namespace, pod)
    store = open_store(spec)
    if identifier == "latest":
        there = store.entries(namespace, pod)
        if not there:
            raise NoCheckpoint(f"the store has no checkpoint of {namespace}/{pod}", "Look at its list.")
        entry = there[-1]
    else:
        entry = store.entry(place, names.valid_id(identifier))
    made = entry.manifest
    blob = made.blob("state")
    with Spool(blob.size) as spool:
        pack.fetch(lambda wanted, into: store.get(place, wanted, into), blob, spool, lambda: None)
        with Decoder(spool, made.compression, made.encryption, identity) as decoder:
            listed, contents = _contents(decoder.all(_MOST_STATE))
    told = _tell(_Stored(listed, contents), values, memory=False)
    return {"form": "store", **told, **_manifest(made)}


def _contents(data: bytes) -> tuple[t.Mapping[str, pack.Listed], t.Mapping[str, bytes]]:
    entries = pack.read_tar(data)
    first, content = next(entries, ("", memoryview(b"")))
    if first != pack.FILES:
        raise InvalidInput("the state of a checkpoint does not begin with its list of files")
    return pack.read_files(bytes(content), 1 << 50), {name: bytes(part) for name, part in entries}


def _manifest(made: Manifest) -> info.Info:
    return {
        "id": made.id,
        "pod": {"name": made.pod, "namespace": made.namespace, "uid": made.uid},
        "node": made.node,
        "checkpointed": made.created,
        "parent": made.parent,
        "encryption": made.encryption,
        "stored_bytes": made.bytes["stored"],
    }


def _tell(files: _Files, values: bool, memory: bool = True) -> info.Info:
    state = _document(files, STATE)
    pod = _document(files, POD)
    spec, meta = _mapping(pod.get("spec")), _mapping(pod.get("metadata"))
    described = {str(item.get("name")): item for item in _items(spec, "initContainers") + _items(spec, "containers")}
    found = sorted({name.partition("/")[0] for name in files.sizes() if "/" in name} - {VOLUMES})
    containers = []
    for name in found:
        valid_name(name)
        source = _Container(files, name)
        of_pod = described.get(name, {})
        environment = {str(item.get("name")): str(item.get("value") or "") for item in _items(of_pod, "env")}
        mounts = [
            {
                "destination": str(item.get("mountPath")),
                "type": "volume",
                "source": str(item.get("name")),
                "options": [],
            }
            for item in _items(of_pod, "volumeMounts")
        ]
        containers.append(
            {
                "name": name,
                "id": "",
                "image": {
                    "name": str(of_pod.get("image") or ""),
                    "id": "",
                    "requested": str(of_pod.get("image") or ""),
                },
                "runtime": "",
                "mounts": mounts,
                **info.described(
                    info.collect(source, values and memory), environment, source if values and memory else None
                ),
                **({"values": environment} if values else {}),
            }
        )
    if not containers:
        raise NoCheckpoint("the state holds no container", "Make another checkpoint.")
    return {
        "engine": str(state.get("engine") or ""),
        "pod": {key: str(meta.get(key) or "") for key in ("name", "namespace", "uid")},
        "created": str(meta.get("creationTimestamp") or ""),
        "checkpointed": "",
        "asks_for": [],
        "annotations": {},
        "containers": containers,
    }


def _document(files: _Files, name: str) -> dict[str, t.Any]:
    data = files.small(name)
    return _mapping(reader.parse_json(data, name)) if data is not None else {}


def _mapping(value: t.Any) -> dict[str, t.Any]:
    return value if isinstance(value, dict) else {}


def _items(value: t.Any, key: str) -> list[dict[str, t.Any]]:
    found = _mapping(value).get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
