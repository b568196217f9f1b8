# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a checkpoint is made of: a small document without secrets, written last and signed.

There is one way to write it (:func:`canonical`), and :func:`parse` takes no other: what is signed is what is read.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from .._common.errors import InvalidInput
from . import names
from .names import Place

FORMAT = 1
MAX_BYTES = 8 << 20
MAX_BLOBS = 20000
COMPRESSIONS = ("zstd", "none")
ENCRYPTIONS = ("age", "none")
KINDS = ("pod", "container")
STATE, INDEX, PAGES = "state", "index", "pages"
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_SIZE = 1 << 50
_MAX_BLOB = 1 << 30
"""A blob is held in memory while it is checked."""


@dataclasses.dataclass(frozen=True)
class Blob:
    """One stored file. ``origin`` is the checkpoint that owns it: an earlier one of the same pod for pages that did not change."""

    name: str
    kind: str
    size: int
    sha256: str
    origin: str

    @property
    def key(self) -> str:
        """Where it lies below its pod."""
        return f"{self.origin}/{self.name}"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One checkpoint."""

    id: str
    namespace: str
    pod: str
    uid: str
    node: str
    created: str
    kind: str
    containers: t.Tuple[t.Mapping[str, str], ...]
    """``name``, ``image`` and ``image_id`` of each."""
    parent: str
    """The checkpoint that it was made against; empty when it stands alone."""
    compression: str
    encryption: str
    facts: t.Mapping[str, t.Any]
    """What a node must have in common with the one that it was made on."""
    bytes: t.Mapping[str, int]
    """``memory`` and ``files`` of the pod, and ``stored``: what this checkpoint added to the store."""
    blobs: t.Tuple[Blob, ...]
    format: int = FORMAT

    @property
    def place(self) -> Place:
        """Whose checkpoint it is."""
        return Place(self.namespace, self.pod)

    @property
    def own(self) -> t.Tuple[Blob, ...]:
        """Blobs that were stored with it."""
        return tuple(blob for blob in self.blobs if blob.origin == self.id)

    @property
    def origins(self) -> t.FrozenSet[str]:
        """Other checkpoints that own pages of this one."""
        return frozenset(blob.origin for blob in self.blobs) - {self.id}

    def blob(self, kind: str) -> Blob:
        """The only blob of that kind (state or index)."""
        return next(blob for blob in self.blobs if blob.kind == kind)


_FIELDS = tuple(field.name for field in dataclasses.fields(Manifest))
_BLOB_FIELDS = tuple(field.name for field in dataclasses.fields(Blob))


def canonical(manifest: Manifest) -> bytes:
    """The bytes that are stored and signed."""
    return _dump(dataclasses.asdict(manifest))


def parse(data: bytes) -> Manifest:
    """Read a manifest that anybody may have written.

    :raises InvalidInput: it is not one, or not written as :func:`canonical` writes it.
    """
    if len(data) > MAX_BYTES:
        raise InvalidInput("the manifest of a checkpoint is too large")
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_refuse)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InvalidInput(
                "this is no manifest of a checkpoint, or one of another version",
                "Update podferry.live on the controller and the nodes.",
            )
        manifest = make(found)
        same = canonical(manifest) == data
    except (ValueError, RecursionError) as error:
        raise InvalidInput("the manifest of a checkpoint cannot be read") from error
    if not same:
        raise InvalidInput("the manifest of a checkpoint is not written in its only form")
    return manifest


def make(fields: t.Mapping[str, t.Any]) -> Manifest:
    """Build a manifest of untrusted fields.

    :raises InvalidInput: one is missing, unknown or wrong.
    """
    _exactly(fields, _FIELDS, "the manifest")
    identity = names.valid_id(fields["id"])
    names.valid_place(fields["namespace"], fields["pod"])
    for name in ("uid", "node"):
        _text(fields[name], name)
    if not isinstance(fields["created"], str) or not _CREATED.fullmatch(fields["created"]):
        raise InvalidInput("the time of a checkpoint is not of the form 2026-01-31T12:00:00Z")
    for name, choices in (("kind", KINDS), ("compression", COMPRESSIONS), ("encryption", ENCRYPTIONS)):
        if fields[name] not in choices or not isinstance(fields[name], str):
            raise InvalidInput(f"a checkpoint's {name} is one of {', '.join(choices)}")
    if fields["parent"] != "":
        names.valid_id(fields["parent"])
    if not _whole(fields["format"], FORMAT) or fields["format"] != FORMAT:
        raise InvalidInput("a manifest of another version")
    if not isinstance(fields["facts"], dict):
        raise InvalidInput("the facts of a checkpoint are no object")
    _plain(fields["facts"])
    sizes = fields["bytes"]
    _exactly(sizes, ("memory", "files", "stored"), "bytes")
    if not all(_whole(size, _MAX_SIZE) for size in sizes.values()):
        raise InvalidInput("the sizes of a checkpoint are no numbers")
    values = {name: fields[name] for name in _FIELDS}
    values["containers"] = _containers(fields["containers"])
    values["blobs"] = _blobs(fields["blobs"], identity)
    return Manifest(**values)


def _containers(found: t.Any) -> t.Tuple[t.Mapping[str, str], ...]:
    if not isinstance(found, (list, tuple)) or not 0 < len(found) <= 1000:
        raise InvalidInput("a checkpoint has no containers")
    for container in found:
        _exactly(container, ("name", "image", "image_id"), "a container")
        for name, value in container.items():
            _text(value, name)
    if len({container["name"] for container in found}) != len(found):
        raise InvalidInput("two containers of a checkpoint have one name")
    return tuple(found)


def _blobs(found: t.Any, identity: str) -> t.Tuple[Blob, ...]:
    if not isinstance(found, (list, tuple)) or len(found) > MAX_BLOBS:
        raise InvalidInput("the stored files of a checkpoint are no list")
    blobs = []
    for entry in found:
        _exactly(entry, _BLOB_FIELDS, "a stored file")
        name = names.valid_blob(entry["name"])
        names.valid_id(entry["origin"])
        if not _whole(entry["size"], _MAX_BLOB):
            raise InvalidInput(f"the size of {name} is no number, or too large")
        if not isinstance(entry["sha256"], str) or not _SHA256.fullmatch(entry["sha256"]):
            raise InvalidInput(f"the sum of {name} is no SHA-256")
        if entry["kind"] != name.partition(".")[0]:
            raise InvalidInput(f"{name} is of another kind than its name says")
        if entry["kind"] != PAGES and entry["origin"] != identity:
            raise InvalidInput(f"{name} belongs to another checkpoint")
        blobs.append(Blob(**entry))
    if len({blob.key for blob in blobs}) != len(blobs):
        raise InvalidInput("a stored file of a checkpoint is there twice")
    if sorted(blob.kind for blob in blobs if blob.kind != PAGES) != [INDEX, STATE]:
        raise InvalidInput("a checkpoint has one state and one index")
    return tuple(blobs)


def _exactly(found: t.Any, wanted: t.Sequence[str], what: str) -> None:
    if not isinstance(found, dict) or set(found) != set(wanted):
        raise InvalidInput(f"{what} of a checkpoint has not exactly these parts: {', '.join(wanted)}")


def _text(value: t.Any, name: str) -> None:
    if not isinstance(value, str) or len(value) > 4096:
        raise InvalidInput(f"{name} of a checkpoint is no text")


def _whole(value: t.Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _plain(value: t.Any, depth: int = 0) -> None:
    """:raises InvalidInput: it is nothing that JSON gives back as it was."""
    if depth > 20:
        raise InvalidInput("the facts of a checkpoint are nested too deeply")
    if isinstance(value, dict):
        for name, entry in value.items():
            if not isinstance(name, str):
                raise InvalidInput("a fact of a checkpoint has no name")
            _plain(entry, depth + 1)
    elif isinstance(value, (list, tuple)):
        for entry in value:
            _plain(entry, depth + 1)
    elif value is not None and not isinstance(value, (str, int, float)):
        raise InvalidInput("a fact of a checkpoint is nothing that JSON knows")


def _dump(value: t.Any) -> bytes:
    """:raises InvalidInput: a text in it is no text, or a number no number."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError as error:
        raise InvalidInput("the manifest of a checkpoint holds what JSON does not know") from error


def _refuse(text: str) -> t.NoReturn:
    raise ValueError(text)
