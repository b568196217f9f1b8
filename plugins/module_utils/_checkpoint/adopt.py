# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Make a checkpoint of ours of an archive that the kubelet, CRI-O, containerd or podman has made."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .._archive.errors import WrongCheckpoint
from .._kube import predicates
from .._migrate.errors import PodferryError
from .._migrate.peer import Peer
from .._plan import containers as roster
from .._plan.facts import NodeFacts
from .._store import names
from .._store.manifest import Manifest
from .make import Wish, kept_facts, kept_object
from .vault import Vault

Obj = Mapping[str, Any]

_MARGIN_BYTES = 64 * 1024 * 1024
_SLOWEST_BYTES_S = 2 * 1024 * 1024
_MIRROR = "kubernetes.io/config.mirror"
_DIGEST = re.compile(r"(?:(.*@)?sha256:)?([0-9a-f]{64})")


@dataclass(frozen=True)
class Archive:
    """An archive on a node, and whose it has to be."""

    path: str
    size: int
    container: str
    pod: Obj
    """The pod as the API has it; an archive does not hold it."""


def adopt(
    archive: Archive, run: str, peer: Peer, vault: Vault, wish: Wish, wall: Callable[[], float]
) -> tuple[Manifest, Mapping[str, Any]]:
    """Store it. Returns its manifest, and what the archive tells. The archive stays where it is. Raises PodferryError."""
    pod = archive.pod
    namespace, name = str(predicates.metadata(pod).get("namespace")), predicates.name_of(pod)
    node = peer.call("facts")
    weighed = peer.call("archive_weigh", timeout_s=60.0 + archive.size / _SLOWEST_BYTES_S, path=archive.path)
    need = int(weighed["unpacked"]) + _MARGIN_BYTES
    facts = NodeFacts.parse(node)
    if facts.mem_available < need:
        raise PodferryError(
            f"node {peer.node} has too little memory for an archive that holds {weighed['unpacked']} bytes",
            "Import it on a node with more free memory.",
        )
    timeout_s = 120.0 + need / _SLOWEST_BYTES_S
    try:  # also when the node does not answer in time: it may have the whole state in its memory
        told = peer.call(
            "archive_adopt",
            timeout_s=timeout_s,
            run=run,
            path=archive.path,
            namespace=namespace,
            pod=name,
            container=archive.container,
            object=kept_object(pod),
            need_bytes=need,
            roster=roster.settings(pod),
        )
        _check_incarnation(archive, told)
        now = datetime.datetime.fromtimestamp(wall(), datetime.UTC)
        fields = {
            "id": names.new_id(now, run),
            "namespace": namespace,
            "pod": name,
            "uid": predicates.uid_of(pod),
            "node": peer.node,
            "created": str(told.get("created") or names.written(now)),
            "kind": "container",
            "containers": [_container(archive, told)],
            "facts": kept_facts(node),
        }
        manifest = vault.save(
            run,
            fields,
            need_bytes=need,
            incremental=wish.incremental,
            compression=wish.compression,
            recipient=wish.recipient,
            timeout_s=timeout_s,
        )
    finally:
        with contextlib.suppress(PodferryError):
            peer.call("finish", run=run, timeout_s=60.0)
    return manifest, told


def _check_incarnation(archive: Archive, told: Mapping[str, Any]) -> None:
    """A pod of the same name may be another one, of another image, in which the processes would not find their files.

    :raises WrongCheckpoint: the archive says that it is of another incarnation of the pod, or of another image.
    """
    pod = archive.pod
    # The engines know a static pod by another UID than the API.
    own = [uid for uid in (predicates.uid_of(pod), predicates.annotations_of(pod).get(_MIRROR)) if uid]
    uid = str(told.get("uid") or "")
    if uid and own and uid not in own:
        raise WrongCheckpoint(
            f"it is a checkpoint of an earlier or another pod of that name, with the UID {uid}, not of the one with {own[0]}",
            "Make a new one, or give that pod as `definition`.",
        )
    image_id = str(predicates.status_of(pod, archive.container).get("imageID") or "").rpartition("://")[2]
    stated = str(_told_container(told).get("image_id") or "")
    one, other = _DIGEST.fullmatch(image_id), _DIGEST.fullmatch(stated)
    # A digest of a manifest (after @) and one of a configuration say nothing of each other.
    if one and other and bool(one[1]) == bool(other[1]) and one[2] != other[2]:
        raise WrongCheckpoint(
            f"it is a checkpoint of a container of the image {stated}, not of {image_id}, which the pod has",
            "Make a new one, or give the pod as it was as `definition`.",
        )


def _told_container(told: Mapping[str, Any]) -> Mapping[str, Any]:
    return (told.get("containers") or [{}])[0] or {}


def _container(archive: Archive, told: Mapping[str, Any]) -> dict[str, str]:
    """What the pod says of its image, else the archive: both name the very image that ran."""
    status = predicates.status_of(archive.pod, archive.container)
    found = {str(key): str(value or "") for key, value in _told_container(told).items()}
    image_id = str(status.get("imageID") or "").rpartition("://")[2] or found.get("image_id", "")
    if "sha256:" not in image_id:
        raise PodferryError(
            "neither the pod nor the archive says by digest which image the container ran",
            "Import it while the pod runs, or give a definition with a status.",
        )
    return {
        "name": archive.container,
        "image": roster.image_of(archive.pod, archive.container) or found.get("image") or "",
        "image_id": image_id,
    }
