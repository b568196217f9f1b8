# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A checkpoint of the kubelet's, CRI-O's, containerd's or podman's as a state of ours: it restores like any other then.

CRIU's images stay as they are, but for connections that leave the container. What the archive says of mounts, devices, hooks and
annotations is left behind: the new pod says those.
"""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from .._common.files import write_json
from .._criu import tcp
from .._ferry import paths
from .._store.spool import Pulse, no_pulse
from . import changes, info, metadata, reader
from .errors import EXPORT, DamagedArchive, NoCheckpoint, TooLarge
from .reader import DELETED, IMAGES, LOGS, ROOTFS, SHM, SPEC, Checkpoint, Member
from .streams import DEFAULT, Limits, unpacked

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_NEEDED = ("inventory.img", "pstree.img", "files.img", "descriptors.json")
_NO_IMAGES = ("dump.log", "restore.log", "stats-dump", "stats-restore")
_STATE, _POD = "state.json", "pod.json"
_WHEN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?")

Fields = t.Dict[str, t.Any]


def convert(
    archive_path: str,
    folder: str,
    *,
    container: str,
    limit: int,
    namespace: str = "",
    pod: str = "",
    reference: str = "",
    pod_object: t.Mapping[str, t.Any] | None = None,
    ratio: int = DEFAULT.ratio,
    pulse: Pulse = no_pulse,
) -> Fields:
    """Lay out the state in ``folder``, which is empty and for root only, and say what a manifest needs to know.

    :param container: whose checkpoint it has to be; so for ``namespace`` and ``pod``, when given.
    :param limit: bytes that the state may have.
    :param pod_object: the pod as the API has it; an archive does not hold it.
    :raises InvalidInput: it is none, is damaged or unsafe, or of another container. Nothing of what is in the folder then is of use.
    """
    paths.valid_name(container)
    checkpoint = Checkpoint(archive_path, Limits(limit, ratio), reference)
    told = info.inspect(checkpoint)
    found, spec = _read(checkpoint)
    metadata.check_owner(found, container, namespace, pod)
    survey = _survey(checkpoint, checkpoint.limits)
    place = os.path.join(folder, container)
    images = os.path.join(place, "criu")
    os.makedirs(place, mode=0o700)
    os.mkdir(images, 0o700)
    files = _lay(checkpoint, survey, place, _Budget(limit, pulse))
    missing = [name for name in _NEEDED if not os.path.exists(os.path.join(images, name))]
    if missing:
        raise NoCheckpoint(
            f"the checkpoint has no {', '.join(missing)}",
            "It was not made by runc or crun with CRIU: make another one.",
        )
    closed = _close(images)
    destinations = sorted(mount["destination"] for mount in spec.mounts())
    state = {
        "freeze_ns": 0,
        "hold_loopback": False,
        "connections_closed": closed,
        "containers": [container],
        "destinations": {container: destinations},
        "engine": found.engine,
        "roster": {"finished": [], "post_start": {}, "restarts": {}},
    }
    write_json(os.path.join(folder, _STATE), state)
    if pod_object is not None:
        write_json(os.path.join(folder, _POD), dict(pod_object))
    return {
        "kind": "container",
        "namespace": found.namespace,
        "pod": found.pod,
        "uid": found.uid,
        "created": moment(found.checkpointed or found.created),
        "containers": [{"name": container, "image": found.image, "image_id": found.image_id}],
        "facts": {"arch": told["containers"][0]["arch"], "runtime": {"engine": found.engine}},
        "bytes": {"memory": told["containers"][0]["bytes"]["memory"], "files": files},
        "connections_closed": closed,
        "asks_for": told["asks_for"],
    }


def weigh(archive_path: str) -> int:
    """The bytes that :func:`convert` writes, more or less; an archive may be compressed, and what changed in it once more.

    :raises InvalidInput: it is none, is damaged or unsafe.
    """
    checkpoint = Checkpoint(archive_path)
    size = int(info.inspect(checkpoint)["containers"][0]["bytes"]["unpacked"])
    survey = _survey(checkpoint, checkpoint.limits)
    nothing = changes.Survey(frozenset(), frozenset())
    deletions = survey.deleted
    for member in checkpoint.members():
        if member.name in (ROOTFS, SHM):
            with unpacked(member, checkpoint.limits) as stream:
                size += changes.measure(stream, survey if member.name == ROOTFS else nothing) - member.size
            if member.name == ROOTFS:
                deletions = frozenset()
    return size + (changes.measure(None, survey) if deletions else 0)


def moment(text: str) -> str:
    """A time as manifests have it; empty when it is none."""
    matched = _WHEN.fullmatch(text)
    if matched is None:
        return ""
    # Engines write UTC, podman sometimes the node's zone: what counts here is which of two is later, on one node.
    return f"{matched.group(1)}Z"


def _read(checkpoint: Checkpoint) -> tuple[metadata.Description, metadata.Spec]:
    documents = {m.name: m.json() for m in checkpoint.members() if m.name in (reader.CONFIG, SPEC)}
    spec = metadata.Spec(documents[SPEC])
    return metadata.describe(documents[reader.CONFIG], spec), spec


def _survey(checkpoint: Checkpoint, limits: Limits) -> changes.Survey:
    """Deletions, of either kind."""
    found = changes.Survey(frozenset(), frozenset())
    listed: frozenset[str] = frozenset()
    for member in checkpoint.members():
        if member.name == ROOTFS:
            with unpacked(member, limits) as stream:
                found = changes.survey(stream)
        elif member.name == DELETED:
            listed = changes.deleted_files(member.json())
    return found._replace(deleted=found.deleted | listed)


def _lay(checkpoint: Checkpoint, survey: changes.Survey, place: str, budget: _Budget) -> int:
    """Write the files; returns the bytes of those that are not memory."""
    nothing = changes.Survey(frozenset(), frozenset())
    files = 0
    rootfs = os.path.join(place, "rootfs.tar")
    for member in checkpoint.members():
        base = member.name[len(IMAGES) :]
        if member.name.startswith(IMAGES):
            if base in _NO_IMAGES:
                continue
            if not _IMAGE.fullmatch(base):
                raise DamagedArchive(f"CRIU writes no image of the name {base!r}", EXPORT)
            _copy(member, os.path.join(place, "criu", base), budget)
        elif member.name in (ROOTFS, SHM):
            path, what = (rootfs, survey) if member.name == ROOTFS else (os.path.join(place, "shm.tar"), nothing)
            with unpacked(member, checkpoint.limits) as stream:
                files += budget.take(changes.rewrite(stream, what, path, budget.left))
        elif member.name in LOGS:
            files += member.size
            with contextlib.suppress(FileExistsError):  # one engine writes one of them
                _copy(member, os.path.join(place, "log"), budget)
    if survey.deleted and not os.path.exists(rootfs):
        files += budget.take(changes.rewrite(None, survey, rootfs, budget.left))
    return files


class _Budget:
    """Bytes that may still be written, and whether to go on at all."""

    def __init__(self, limit: int, pulse: Pulse) -> None:
        self.left = limit
        self._pulse = pulse

    def take(self, count: int) -> int:
        self._pulse()
        if count > self.left:
            raise TooLarge("the checkpoint is more than was reserved for it", "Reserve more memory.")
        self.left -= count
        return count


def _copy(member: Member, path: str, budget: _Budget) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0) as sink:
        while True:
            block = member.read(1 << 20)
            if not block:
                return
            budget.take(len(block))
            view = memoryview(block)
            while view:
                view = view[sink.write(view) :]


def _close(images: str) -> int:
    """Close connections whose other end is not in this dump."""
    ends = set(tcp.connections(images))
    return tcp.close(images, lambda end: not (end.inner and end.other_end in ends))
