# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A checkpoint as an image that container engines restore from, and the archive of it back.

The image has one layer: the archive's files, written anew in one form, so that the same checkpoint is the same image whoever stored it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
import typing as t

from .._common.errors import CommandFailed, InvalidInput, StateConflict
from .._common.files import sync_directory
from . import info, layout, metadata, tarstream
from .errors import AsksForHost
from .metadata import PODMAN
from .reader import CONFIG, Checkpoint
from .streams import DEFAULT, Part, compressed, open_file, unpacked

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MAGIC = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}
_MOST_NOTE = 512
_CREATOR = "podferry checkpoint_image"
_LAYOUT = ("oci-layout", "index.json", "blobs")
_ENGINES = {"containerd": "containerd", "crio": "CRI-O", "podman": "Podman"}
"""As checkpointctl names them."""


class Wanted(t.NamedTuple):
    """What shall be there."""

    path: str
    form: str
    compression: str
    reference: str
    """Name of the image in its layout; nothing for an archive."""


class Result(t.NamedTuple):
    """What is there, or would be."""

    changed: bool
    digest: str
    """Of the image's manifest, or of the archive's files."""
    annotations: t.Mapping[str, str]
    size: int
    """Bytes of the checkpoint's files."""


def marks(found: metadata.Description, arch: str) -> dict[str, str]:
    """What tells an engine that an image is a checkpoint: the marks of CRI-O, of containerd 2.1 to 2.3, of podman, of checkpointctl."""
    common = "org.criu.checkpoint."
    notes = {
        f"{common}engine.name": _ENGINES.get(found.engine, ""),
        f"{common}container.name": found.container,
        f"{common}pod.name": found.pod,
        f"{common}pod.namespace": found.namespace,
        f"{common}pod.uid": found.uid,
        f"{common}rootfsImageName": found.image,
        f"{common}rootfsImageUserRequested": found.requested_image,
        f"{common}rootfsImageID": found.image_id,
        f"{common}runtime.name": found.runtime,
        f"{common}host.arch": arch,
    }
    engine = "io.podman" if found.engine == PODMAN else "io.kubernetes.cri-o"
    prefix = f"{engine}.annotations.checkpoint."
    notes[f"{prefix}name"] = found.container
    notes[f"{prefix}rawImageName"] = found.requested_image
    notes[f"{prefix}rootfsImageID"] = found.image_id
    notes[f"{prefix}rootfsImageName"] = found.image
    if found.engine == PODMAN:
        # podman restores an image only with the runtime that made it.
        notes[f"{prefix}runtime.name"] = found.runtime
    return {key: value[:_MOST_NOTE] for key, value in notes.items() if value and value.isprintable()}


def make(checkpoint: Checkpoint, wanted: Wanted, *, write: bool, allow_host_access: bool = False) -> Result:
    """Bring what is at ``wanted.path`` to be this checkpoint.

    :param write: False: only tell what would change.
    :param allow_host_access: also when its metadata asks engines for something of their host.
    :raises InvalidInput: the checkpoint is none, is damaged or unsafe. :raises StateConflict: something else is in the way.
    """
    told = info.inspect(checkpoint)
    if told["asks_for"] and wanted.form != "archive" and not allow_host_access:
        raise AsksForHost(
            f"an engine that restores it would give the container: {', '.join(told['asks_for'][:10])}",
            "If that is what the container had, and you know where the archive is from, allow it (`allow_host_access`).",
        )
    container = told["containers"][0]
    size = container["bytes"]["unpacked"]
    notes = marks(_description(told), container["arch"])
    if os.path.lexists(wanted.path):
        _replaceable(wanted)
        layer = _Layer(None, "none")
        layer.fill(checkpoint)
        current = _current(wanted, layer.diff_id, notes)
        if current is not None:
            return Result(False, current, notes, size)
        _check_same_form(wanted)
    if not write:
        return Result(True, "", notes, size)
    created = told["checkpointed"] or told["created"]
    digest = _write(checkpoint, wanted, notes, _architecture(container["arch"]), created)
    return Result(True, digest, notes, size)


def push(
    wanted: Wanted, digest: str, destination: str, *, write: bool, authfile: str = "", tls_verify: bool = True
) -> bool:
    """Copy the image at ``wanted.path`` to a registry by skopeo; True when it was not there.

    :raises CommandFailed: skopeo is missing, or does not succeed.
    """
    credentials = ["--authfile", authfile] if authfile else []
    verify = "true" if tls_verify else "false"
    there = _skopeo(["inspect", "--raw", *credentials, f"--tls-verify={verify}", destination])
    if digest and hashlib.sha256(there.stdout).hexdigest() == digest.partition(":")[2] and there.returncode == 0:
        return False
    if write:
        source = f"{'oci' if wanted.form == 'oci-dir' else 'oci-archive'}:{wanted.path}"
        words = [
            "copy",
            "--quiet",
            "--preserve-digests",
            *credentials,
            f"--dest-tls-verify={verify}",
            source,
            destination,
        ]
        done = _skopeo(words)
        if done.returncode != 0:
            reason = done.stderr.decode("utf-8", "replace").strip()[-500:]
            raise CommandFailed(
                f"skopeo could not copy the image to {destination}: {reason}",
                "Look at the registry, and at the credentials.",
            )
    return True


def _skopeo(words: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["skopeo", *words], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise CommandFailed("skopeo is not installed, which pushes images", "Install skopeo.") from error


def _description(told: info.Info) -> metadata.Description:
    container = told["containers"][0]
    image = container["image"]
    return metadata.Description(
        told["engine"], container["id"], container["name"], told["pod"]["name"], told["pod"]["namespace"], told["pod"]["uid"],
        image["name"], image["id"], image["requested"], container["runtime"], told["created"], told["checkpointed"],
    )  # fmt: skip


def _architecture(arch: str) -> str:
    machine = arch or platform.machine()
    return _ARCHITECTURES.get(machine, machine)


class _Sink:
    """Counts and digests what is written; and keeps it, if there is where."""

    def __init__(self, stream: t.IO[bytes] | None) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        self.size += len(data)
        if self._stream is not None:
            self._stream.write(data)
        return len(data)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        """As gzip wants it."""

    @property
    def digest(self) -> str:
        return f"sha256:{self._digest.hexdigest()}"


class _Layer:
    """The checkpoint's files as a tar, written once."""

    def __init__(self, stream: t.IO[bytes] | None, compression: str) -> None:
        self._stream = stream
        self._compression = compression
        self.diff_id = ""
        self.digest = ""
        self.size = 0

    def fill(self, checkpoint: Checkpoint) -> None:
        """Write all members."""
        if self._compression == "zstd" and self._stream is not None:
            with _zstd(self._stream) as target:
                plain = _Sink(target)
                _files(checkpoint, t.cast("t.IO[bytes]", plain))
            stored = _Sink(None)
            self._stream.seek(0)
            shutil.copyfileobj(self._stream, t.cast("t.IO[bytes]", stored), 1 << 20)
        else:
            stored = _Sink(self._stream)
            target = t.cast("t.IO[bytes]", stored)
            with contextlib.ExitStack() as opened:
                if self._compression == "gzip":
                    packer = opened.enter_context(gzip.GzipFile("", "wb", 1, target, mtime=0))
                    target = t.cast("t.IO[bytes]", packer)
                plain = _Sink(target)
                _files(checkpoint, t.cast("t.IO[bytes]", plain))
        self.diff_id, self.digest, self.size = plain.digest, stored.digest, stored.size

    @property
    def media_type(self) -> str:
        """What it is, for a manifest."""
        return _LAYER if self._compression == "none" else f"{_LAYER}+{self._compression}"


@contextlib.contextmanager
def _zstd(packed: t.IO[bytes]) -> t.Iterator[t.IO[bytes]]:
    """Compress into a file."""
    try:
        process = subprocess.Popen(["zstd", "-cq", "-T0"], stdin=subprocess.PIPE, stdout=packed, stderr=subprocess.PIPE)
    except FileNotFoundError as error:
        raise CommandFailed("zstd is not installed", "Install zstd, or choose another compression.") from error
    stdin, stderr = process.stdin, process.stderr
    if stdin is None or stderr is None:
        raise CommandFailed("zstd cannot be talked to")
    try:
        with contextlib.suppress(BrokenPipeError):  # its exit code says why
            yield stdin
            stdin.close()
    finally:
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        said = stderr.read(300).decode("utf-8", "replace").strip()
        code = process.wait()
        stderr.close()
    if code != 0:
        raise CommandFailed(f"zstd ended with {code}: {said}", "Look at the free space.")


def _files(checkpoint: Checkpoint, sink: t.IO[bytes]) -> None:
    folders: set[str] = set()
    with tarfile.TarFile(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT, copybufsize=1 << 20) as tar:
        for member in checkpoint.members():
            above = os.path.dirname(member.name)
            for folder in reversed([above, *_parents(above)] if above else []):
                if folder not in folders:
                    folders.add(folder)
                    entry = tarfile.TarInfo(folder)
                    entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o700, int(member.mtime)
                    tar.addfile(entry)
            entry = tarfile.TarInfo(member.name)
            entry.size, entry.mode, entry.mtime = member.size, 0o600, int(member.mtime)
            tar.addfile(entry, t.cast("t.IO[bytes]", member))


def _parents(path: str) -> list[str]:
    found = []
    while "/" in path:
        path = path.rpartition("/")[0]
        found.append(path)
    return found


def _replaceable(wanted: Wanted) -> None:
    """:raises StateConflict: what is there is of another kind."""
    folder = os.path.isdir(wanted.path)
    if (
        folder != (wanted.form == "oci-dir")
        or os.path.islink(wanted.path)
        or (folder and os.listdir(wanted.path) and not os.path.exists(os.path.join(wanted.path, "oci-layout")))
    ):
        raise StateConflict(
            f"{wanted.path} is there and is something else than {wanted.form}", "Remove it, or choose another path."
        )


def _check_same_form(wanted: Wanted) -> None:
    """What is replaced is gone: that may be a checkpoint or an image of one, as it was asked for, and nothing else.

    :raises StateConflict: it is something else, or more than that.
    """
    if _is_empty(wanted.path):
        return
    try:
        same = _is_archive(wanted.path) if wanted.form == "archive" else _is_own_image(wanted)
    except InvalidInput:  # also several images
        same = False
    if not same:
        what = (
            "a checkpoint archive"
            if wanted.form == "archive"
            else f"one image of checkpoint_image's in an {wanted.form}"
        )
        raise StateConflict(
            f"{wanted.path} is there and is something else than {what}",
            "Look at what it is. Remove it, or choose another path.",
        )


def _is_empty(path: str) -> bool:
    return not os.listdir(path) if os.path.isdir(path) else os.path.isfile(path) and not os.path.getsize(path)


def _is_archive(path: str) -> bool:
    found = Checkpoint(path)
    if found.form != "archive":
        return False
    with found.member(CONFIG) as member:
        return member is not None


def _is_own_image(wanted: Wanted) -> bool:
    found = Checkpoint(wanted.path)
    if found.image is None or found.form != wanted.form:
        return False
    if wanted.form == "oci-dir" and not set(os.listdir(wanted.path)) <= set(_LAYOUT):
        return False
    history = found.image.config.get("history")
    steps = history if isinstance(history, list) else []
    return any(isinstance(step, dict) and step.get("created_by") == _CREATOR for step in steps)


def _current(wanted: Wanted, diff_id: str, notes: t.Mapping[str, str]) -> str | None:
    """Digest of what is there when it is what is wanted."""
    try:
        if wanted.form == "archive":
            return diff_id if _archive_digest(wanted) == diff_id else None
        image = Checkpoint(wanted.path, DEFAULT, wanted.reference).image
        if image is None or image.form != wanted.form or dict(image.annotations) != dict(notes):
            return None
        with image.blobs[0].open() as stream:
            packed = _kind(stream.read(6))
        if layout.diff_ids(image) != [diff_id] or packed != wanted.compression:
            return None
        for opened in image.layers():
            with opened as stream:
                tarstream.drain(stream)
        return f"sha256:{image.digest}"
    except InvalidInput:
        return None


def _archive_digest(wanted: Wanted) -> str:
    """Of the files of the archive that is there; empty when it is compressed otherwise than is wanted."""
    sink = _Sink(None)
    with open_file(wanted.path) as stream:
        if _kind(os.pread(stream.fileno(), 6, 0)) != wanted.compression:
            return ""
        with unpacked(Part(stream), DEFAULT) as plain:
            while True:
                block = plain.read(1 << 20)
                if not block:
                    return sink.digest
                sink.write(block)


def _kind(beginning: bytes) -> str:
    if not compressed(beginning):
        return "none"
    return next((kind for kind, magic in _MAGIC.items() if beginning.startswith(magic)), "other")


def _write(checkpoint: Checkpoint, wanted: Wanted, notes: t.Mapping[str, str], architecture: str, created: str) -> str:
    """Write beside the path, then put it in its place: nobody sees half of it."""
    parent = os.path.dirname(os.path.abspath(wanted.path))
    work = tempfile.mkdtemp(prefix=f".{os.path.basename(wanted.path)}.", dir=parent)  # mode 0700: memory is secret
    try:
        if wanted.form == "archive":
            place = os.path.join(work, "archive")
            with _new_file(place) as stream:
                layer = _Layer(stream, wanted.compression)
                layer.fill(checkpoint)
            digest = layer.diff_id
        else:
            place = os.path.join(work, "image")
            digest = _write_layout(checkpoint, wanted, place, notes, architecture, created)
            if wanted.form == "oci-archive":
                place = _pack(place, os.path.join(work, "image.tar"))
        _put(place, wanted.path, work)
        sync_directory(parent)
        return digest
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put(made: str, path: str, work: str) -> None:
    if os.path.isdir(path):
        os.rename(path, os.path.join(work, "before"))
    os.rename(made, path)


@contextlib.contextmanager
def _new_file(path: str) -> t.Iterator[t.IO[bytes]]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w+b") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def _write_layout(
    checkpoint: Checkpoint, wanted: Wanted, place: str, notes: t.Mapping[str, str], architecture: str, created: str
) -> str:
    blobs = os.path.join(place, "blobs", "sha256")
    for folder in (place, os.path.dirname(blobs), blobs):
        os.mkdir(folder, 0o700)
    with _new_file(os.path.join(blobs, "layer")) as stream:
        layer = _Layer(stream, wanted.compression)
        layer.fill(checkpoint)
    os.rename(os.path.join(blobs, "layer"), os.path.join(blobs, layer.digest[7:]))
    config = {
        "architecture": architecture,
        "config": {},
        "history": [{"created_by": _CREATOR}],
        "os": "linux",
        "rootfs": {"diff_ids": [layer.diff_id], "type": "layers"},
        **({"created": created} if created else {}),
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _blob(blobs, config, _CONFIG),
        "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}],
        "annotations": dict(notes),
    }
    described = _blob(blobs, manifest, _MANIFEST)
    digest = str(described["digest"])
    if wanted.reference:
        described["annotations"] = {layout.REFERENCE: wanted.reference}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [described]}
    for name, value in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
        with _new_file(os.path.join(place, name)) as stream:
            stream.write(_encoded(value))
    return digest


def _blob(blobs: str, value: t.Any, media_type: str) -> dict[str, t.Any]:
    data = _encoded(value)
    digest = hashlib.sha256(data).hexdigest()
    with _new_file(os.path.join(blobs, digest)) as stream:
        stream.write(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _encoded(value: t.Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _pack(place: str, path: str) -> str:
    """A layout folder as one tar, its small files first; the blobs go as soon as they are in it."""
    with (
        _new_file(path) as sink,
        tarfile.TarFile(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT, copybufsize=1 << 20) as tar,
    ):
        names = ["oci-layout", "index.json", *sorted(os.listdir(os.path.join(place, "blobs", "sha256")))]
        for name in names:
            inner = name if name in ("oci-layout", "index.json") else f"blobs/sha256/{name}"
            full = os.path.join(place, inner)
            entry = tarfile.TarInfo(inner)
            entry.size, entry.mode = os.path.getsize(full), 0o600
            with open(full, "rb") as stream:
                tar.addfile(entry, stream)
            os.unlink(full)
    return path
