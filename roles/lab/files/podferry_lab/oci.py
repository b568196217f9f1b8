# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""The lab's images: one OCI layout in a tar file, built without any container tool.

They share one layer, a stripped Debian root; an application is a layer of a file or two above it. The sandbox's
pause image is a static busybox that sleeps.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from . import roots

#: Part of the key: raise it when the way images are made changes.
RECIPE = 2

_SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "images")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_EPOCH = "1970-01-01T00:00:00Z"
_PYTHON_ENV = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"]


class _App(NamedTuple):
    """An image: files of its own layer (path -> content), and what it runs."""

    files: dict[str, bytes]
    entrypoint: list[str]
    command: list[str]
    ports: list[str]


class _Blob(NamedTuple):
    path: str
    digest: str
    size: int


def _source(name: str) -> bytes:
    with Path(os.path.join(_SOURCES, name)).open("rb") as handle:
        return handle.read()


def _apps() -> dict[str, _App]:
    def python(name: str, arguments: list[str], ports: list[str]) -> _App:
        return _App({f"app/{name}": _source(name)}, ["/usr/bin/python3", "-I", f"/app/{name}"], arguments, ports)

    http = python("static_http.py", [], ["8080/tcp"])
    http.files["srv/www/index.html"] = b"<!doctype html><title>podferry lab</title><p>Served from the lab.</p>\n"
    return {
        "localhost/podferry-counter:lab": python("counter.py", ["64"], []),
        "localhost/podferry-http:lab": http,
        "localhost/podferry-json:lab": python("json_service.py", [], ["8080/tcp"]),
        "localhost/podferry-redis:lab": _App(
            {
                "app/redis.conf": b'save ""\nappendonly no\nprotected-mode no\nbind * -::*\nport 6379\ndir /tmp\nenable-debug-command yes\n'
            },
            ["/usr/bin/redis-server", "/app/redis.conf"],
            [],
            ["6379/tcp"],
        ),
    }


def ensure(cache: str, suite: str, mirror: str, packages: list[str]) -> dict[str, Any]:
    """Build the archive unless the cache has it.

    Returns ``{"changed": bool, "path": archive, "root": Debian root it is made from, "digests": {reference: manifest digest}}``.
    Raises LabError.
    """
    root, built = roots.ensure(cache, "image", suite, mirror, [*packages, "busybox-static"], strip=True)
    apps = _apps()
    content = json.dumps(
        [
            RECIPE,
            root,
            {
                name: [app._replace(files={}), sorted((k, v.decode()) for k, v in app.files.items())]
                for name, app in apps.items()
            },
        ]
    )
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    place = os.path.join(cache, "images", key)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    with roots.lock(cache, f"images-{key}"):
        try:
            with Path(f"{place}/digests.json").open(encoding="ascii") as handle:
                known = json.load(handle)
            if not built and os.path.getsize(f"{place}/images.tar") == known["size"]:
                return {"changed": False, "path": f"{place}/images.tar", "root": root, "digests": known["digests"]}
        except (FileNotFoundError, ValueError, KeyError):
            pass
        os.makedirs(place, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place) as work:
            digests = _build(work, root, apps)
            os.replace(f"{work}/images.tar", f"{place}/images.tar")
        with Path(f"{place}/digests.json.new").open("w", encoding="ascii") as handle:
            json.dump({"size": os.path.getsize(f"{place}/images.tar"), "digests": digests}, handle)
        os.replace(f"{place}/digests.json.new", f"{place}/digests.json")
        return {"changed": True, "path": f"{place}/images.tar", "root": root, "digests": digests}


def _build(work: str, root: str, apps: dict[str, _App]) -> dict[str, str]:
    blobs: dict[str, _Blob] = {}

    def keep(path: str) -> _Blob:
        total = hashlib.sha256()
        with Path(path).open("rb") as handle:
            while block := handle.read(1 << 20):
                total.update(block)
        blob = _Blob(path, total.hexdigest(), os.path.getsize(path))
        blobs[blob.digest] = blob
        return blob

    def keep_json(document: dict[str, Any]) -> _Blob:
        handle, path = tempfile.mkstemp(dir=work)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(document, stream, sort_keys=True)
        return keep(path)

    def layer(name: str, fill: Callable[[tarfile.TarFile], None]) -> _Blob:
        path = os.path.join(work, name)
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            fill(archive)
        return keep(path)

    base = layer("base", lambda archive: _add_tree(archive, root))
    manifests = []

    def image(reference: str, layers: list[_Blob], config: dict[str, Any]) -> None:
        stored = keep_json(
            {
                "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os": "linux",
                "created": _EPOCH,
                "config": config,
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one.digest}" for one in layers]},
                "history": [{"created": _EPOCH, "created_by": "podferry lab"} for _one in layers],
            }
        )
        manifest = keep_json(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": _descriptor(stored, "application/vnd.oci.image.config.v1+json"),
                "layers": [_descriptor(one, "application/vnd.oci.image.layer.v1.tar") for one in layers],
            }
        )
        manifests.append(
            {
                **_descriptor(manifest, "application/vnd.oci.image.manifest.v1+json"),
                "annotations": {"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference},
            }
        )

    for reference, app in apps.items():
        own = layer(reference.replace("/", "-"), lambda archive, app=app: _add_files(archive, app.files))  # type: ignore[misc]
        config = {"Env": _PYTHON_ENV, "Entrypoint": app.entrypoint, "Cmd": app.command, "WorkingDir": "/"}
        image(reference, [base, own], {**config, "ExposedPorts": {port: {} for port in app.ports}})
    pause = layer("pause", lambda archive: archive.add(f"{root}/usr/bin/busybox", "busybox", filter=_root_owned))
    image("localhost/podferry-pause:lab", [pause], {"Entrypoint": ["/busybox", "sleep", "infinity"], "WorkingDir": "/"})

    with tarfile.open(f"{work}/images.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        _add_files(
            archive,
            {
                "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
                "index.json": json.dumps({"schemaVersion": 2, "manifests": manifests}).encode(),
            },
        )
        for blob in sorted(blobs.values(), key=lambda one: one.digest):
            archive.add(blob.path, f"blobs/sha256/{blob.digest}", filter=_root_owned)
    return {item["annotations"]["io.containerd.image.name"]: item["digest"] for item in manifests}


def _descriptor(blob: _Blob, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{blob.digest}", "size": blob.size}


def _root_owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def _add_tree(archive: tarfile.TarFile, root: str) -> None:
    """A Debian root as a layer: owners kept as numbers, no devices, in a stable order."""

    def keep(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uname = entry.gname = ""
        entry.mtime = int(entry.mtime)
        return None if entry.isdev() else entry

    for name in sorted(os.listdir(root)):
        archive.add(os.path.join(root, name), name, filter=keep)


def _add_files(archive: tarfile.TarFile, files: dict[str, bytes]) -> None:
    made: set[str] = set()
    for path, content in sorted(files.items()):
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            directory = "/".join(parts[:depth])
            # Directories of the base keep their own entry; naming them again would only repeat it.
            if directory not in made and directory not in ("srv",):
                made.add(directory)
                entry = tarfile.TarInfo(directory)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
        entry = tarfile.TarInfo(path)
        entry.size, entry.mode = len(content), 0o644
        archive.addfile(entry, io.BytesIO(content))
