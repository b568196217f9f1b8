# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Images as files: a folder with an OCI layout, a tar of one (``oci-archive``), or what ``docker save`` and ``podman save`` write."""

from __future__ import annotations

import contextlib
import json
import os
import re
import typing as t

from . import tarstream
from .errors import COPY_AGAIN, NOT_TRUSTED, DamagedArchive, NoCheckpoint, UnsafeArchive
from .streams import Digested, Part, compressed, open_file
from .tarstream import FILE, SYMLINK, Bytes

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MOST_JSON = 4 << 20
_MOST_LAYERS = 128
_MOST_TEXT = 4096
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
REFERENCE = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"


class Blob(t.NamedTuple):
    """A file of an image: by its path in a folder, or by its place in a tar."""

    path: str
    start: int
    size: int
    digest: str
    """Without ``sha256:``; empty when nothing says what it should be."""

    @contextlib.contextmanager
    def open(self) -> t.Iterator[Bytes]:
        """Its bytes; that they are the right ones is known at their end."""
        with open_file(self.path, follow=False) as stream:
            part = Part(stream, self.start, self.size)
            yield Digested(part, self.digest, self.size) if self.digest else part

    def json(self) -> t.Any:
        """What it says.

        :raises DamagedArchive: it is no JSON, or not what its digest says.
        """
        if self.size > _MOST_JSON:
            raise UnsafeArchive("the image has a description of many megabytes", NOT_TRUSTED)
        with self.open() as stream:
            data = b""
            while True:
                more = stream.read(_MOST_JSON)
                if not more:
                    break
                data += more
        return _json(data)


class Image(t.NamedTuple):
    """One image."""

    form: str
    annotations: t.Mapping[str, str]
    config: t.Mapping[str, t.Any]
    blobs: t.Tuple[Blob, ...]
    """Its layers, the lowest first."""
    digest: str
    """Of its manifest; empty without one."""
    size: int

    def layers(self) -> t.Iterator[t.ContextManager[Bytes]]:
        """Each layer's bytes, as stored."""
        for blob in self.blobs:
            yield blob.open()


class _Files(t.Protocol):
    form: str

    def find(self, name: str) -> Blob | None:
        """A file by its name, nothing expected of its contents."""


class _Folder:
    form = "oci-dir"

    def __init__(self, path: str) -> None:
        self._path = path

    def find(self, name: str) -> Blob | None:
        path = os.path.join(self._path, name)
        if not os.path.lexists(path):
            return None
        with open_file(path, follow=False) as stream:
            return Blob(path, 0, os.fstat(stream.fileno()).st_size, "")


class _Tar:
    form = "oci-archive"

    def __init__(self, path: str, stream: t.BinaryIO) -> None:
        self._path = path
        self._places: dict[str, Blob] = {}
        links: dict[str, str] = {}
        part = Part(stream)
        for entry in tarstream.entries(part):
            name = tarstream.checked_name(entry.name)
            if name in self._places or name in links:
                raise UnsafeArchive(f"the archive has {name!r} twice", NOT_TRUSTED)
            if entry.type == FILE:
                self._places[name] = Blob(path, part.position, entry.size, "")
            elif entry.type == SYMLINK:  # docker and podman save a layer once and link to it
                links[name] = os.path.normpath(os.path.join(os.path.dirname(name), entry.link))
        for name, target in links.items():
            if target in self._places:
                self._places[name] = self._places[target]

    def find(self, name: str) -> Blob | None:
        return self._places.get(name)


def of_folder(path: str, reference: str) -> Image:
    """The image in a folder.

    :raises NoCheckpoint: there is none, or several.
    """
    if not os.path.exists(os.path.join(path, "index.json")):
        raise NoCheckpoint(f"{path} is no OCI layout: it has no index.json", "Give a checkpoint archive, or an image.")
    return _oci(_Folder(path), reference)


def of_tar(path: str, stream: t.BinaryIO, reference: str) -> Image | None:
    """The image in a tar, or None when it is something else."""
    first = next(tarstream.entries(Part(stream)), None)
    if first is None or not _may_be_image(tarstream.checked_name(first.name)):
        return None
    files = _Tar(path, stream)
    if files.find("index.json") is not None and files.find("oci-layout") is not None:
        return _oci(files, reference)
    if files.find("manifest.json") is not None:
        return _docker(files, reference)
    return None


def _may_be_image(name: str) -> bool:
    """By the first entry; a checkpoint has none of these, so that a large one need not be read twice."""
    if name in ("", "oci-layout", "index.json", "manifest.json", "repositories", "blobs") or name.startswith("blobs/"):
        return True
    return bool(re.fullmatch(r"[0-9a-f]{64}(\.tar|\.json|/.*)?", name))


def _oci(files: _Files, reference: str) -> Image:
    index = files.find("index.json")
    if index is None:
        raise NoCheckpoint("the image has no index.json", COPY_AGAIN)
    descriptor = _chosen(_list(index.json(), "manifests"), reference)
    for _depth in range(2):
        manifest_blob = _blob(files, descriptor)
        manifest = _mapping(manifest_blob.json())
        if descriptor.get("mediaType") not in _INDEXES and "manifests" not in manifest:
            break
        descriptor = _chosen(_list(manifest, "manifests"), "")
    else:
        raise NoCheckpoint("the image is an index of indexes", "Give an image of one checkpoint.")
    config_blob = _blob(files, _mapping(manifest.get("config")))
    layers = [_blob(files, _mapping(layer)) for layer in _list(manifest, "layers")]
    return _image(files.form, manifest.get("annotations"), config_blob.json(), layers, manifest_blob)


def _docker(files: _Files, reference: str) -> Image:
    found = files.find("manifest.json")
    saved = found.json() if found is not None else None
    images = [_mapping(item) for item in saved] if isinstance(saved, list) else []
    if reference:
        images = [item for item in images if reference in _list(item, "RepoTags")]
    if len(images) != 1:
        raise NoCheckpoint(f"the archive holds {len(images)} images instead of one", "Say which: `reference`.")
    config_blob = files.find(str(images[0].get("Config")))
    layers = [files.find(str(name)) for name in _list(images[0], "Layers")]
    if config_blob is None or None in layers:
        raise DamagedArchive("the image lacks one of its files", COPY_AGAIN)
    config = _mapping(config_blob.json())
    rootfs = config.get("rootfs")
    expected = _list(rootfs, "diff_ids") if isinstance(rootfs, dict) else []
    known = [_expected(blob, expected[index : index + 1]) for index, blob in enumerate(layers) if blob is not None]
    return _image("docker-archive", None, config, known, None)


def _expected(layer: Blob, digests: list[t.Any]) -> Blob:
    """A layer that was saved as it is unpacked, with its digest: such an archive names no other."""
    digest = _DIGEST.fullmatch(str(digests[0])) if digests else None
    with layer.open() as stream:
        plain = not compressed(stream.read(6))
    return layer._replace(digest=digest.group(1)) if digest is not None and plain else layer


def _image(form: str, annotations: t.Any, config: t.Any, layers: list[Blob], manifest: Blob | None) -> Image:
    if not 0 < len(layers) <= _MOST_LAYERS:
        raise NoCheckpoint(f"the image has {len(layers)} layers", "Give an image of one checkpoint.")
    notes = annotations if isinstance(annotations, dict) else {}
    return Image(
        form,
        {_clean(key): _clean(value) for key, value in notes.items()},
        _mapping(config),
        tuple(layers),
        manifest.digest if manifest is not None else "",
        sum(layer.size for layer in layers) + (manifest.size if manifest is not None else 0),
    )


def _chosen(descriptors: list[t.Any], reference: str) -> dict[str, t.Any]:
    items = [_mapping(item) for item in descriptors]
    if reference:
        items = [item for item in items if reference in _names(item)]
    if len(items) != 1:
        names = sorted(name for item in items for name in _names(item))
        raise NoCheckpoint(
            f"there are {len(items)} images instead of one" + (f": {', '.join(names[:10])}" if names else ""),
            "Say which: `reference`.",
        )
    return items[0]


def _names(descriptor: t.Mapping[str, t.Any]) -> list[str]:
    notes = descriptor.get("annotations")
    if not isinstance(notes, dict):
        return []
    return [str(notes[key]) for key in (REFERENCE, CONTAINERD_NAME) if key in notes]


def _blob(files: _Files, descriptor: t.Mapping[str, t.Any]) -> Blob:
    digest = _DIGEST.fullmatch(str(descriptor.get("digest")))
    size = descriptor.get("size")
    if digest is None or not isinstance(size, int) or isinstance(size, bool):
        raise DamagedArchive("the image's description names a file without digest or size", COPY_AGAIN)
    found = files.find(f"blobs/sha256/{digest.group(1)}")
    if found is None:
        raise DamagedArchive(f"the image lacks its file sha256:{digest.group(1)}", COPY_AGAIN)
    if found.size != size:
        raise DamagedArchive(f"the image's file sha256:{digest.group(1)} has another size than it says", COPY_AGAIN)
    return found._replace(digest=digest.group(1))


def diff_ids(image: Image) -> list[str]:
    """Digests of the layers as they are unpacked, as the image's configuration has them."""
    rootfs = image.config.get("rootfs")
    return [str(item) for item in _list(rootfs, "diff_ids")] if isinstance(rootfs, dict) else []


def _clean(value: t.Any) -> str:
    """Text that every encoding takes."""
    return str(value)[:_MOST_TEXT].encode("utf-8", "replace").decode("utf-8")


def _json(data: bytes) -> t.Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedArchive("the image's description is no JSON", COPY_AGAIN) from error


def _mapping(value: t.Any) -> dict[str, t.Any]:
    if not isinstance(value, dict):
        raise DamagedArchive("the image's description has another form than it should", COPY_AGAIN)
    return value


def _list(value: t.Any, key: str) -> list[t.Any]:
    found = _mapping(value).get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise DamagedArchive("the image's description has another form than it should", COPY_AGAIN)
    return found
