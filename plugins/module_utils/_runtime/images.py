# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Whether a container's image is on this node, by digest: a tag may mean something else here."""

from __future__ import annotations

import json
import os
import re
import typing as t

from .._common.errors import CommandFailed, InvalidInput, NotFound
from .process import Runner, check

_DIGEST = re.compile(r"(sha256:[0-9a-f]{64})$")
_REFERENCE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,400}$")
_PULL_SECONDS = 600.0


def present(runner: Runner, arguments: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Answer op ``image``: ``id`` is the imageID of the source's container status."""
    found = _DIGEST.search(str(arguments.get("id", "")))
    if found is None:
        raise InvalidInput(f"{arguments.get('id')!r} names no image digest")
    return {"present": _has(runner, found.group(1), str(arguments.get("ref", ""))), "id": found.group(1)}


def _has(runner: Runner, digest: str, reference: str) -> bool:
    if os.path.exists("/run/containerd/containerd.sock"):
        listed = check(runner, ["ctr", "--namespace", "k8s.io", "images", "list"])
        if any(digest in line for line in listed.splitlines()):
            return True
        # The kubelet reports the digest of the image's configuration; containerd may only list that of its manifest.
        rows = [line.split() for line in listed.splitlines()[1:]]
        manifests = [row[2] for row in rows if len(row) > 2 and reference and row[0] == reference]
        return any(digest in _configurations(runner, manifest) for manifest in manifests)
    store = "/var/lib/containers/storage/overlay-images/images.json"
    with open(store, encoding="utf-8") as stream:
        entries = json.load(stream)
    identifier = digest.partition(":")[2]
    return any(
        entry.get("id") == identifier or digest in (entry.get("digest"), *(entry.get("names") or []))
        for entry in entries
    )


def _configurations(runner: Runner, digest: str) -> set[str]:
    """Digests of the configurations that a manifest, or each manifest of an index, names; empty when it is not there."""
    done = runner(["ctr", "--namespace", "k8s.io", "content", "get", digest])
    try:
        document = json.loads(done.stdout) if done.code == 0 else {}
    except ValueError:
        return set()
    found = {str((document.get("config") or {}).get("digest", ""))} - {""}
    for entry in document.get("manifests") or []:
        found |= _configurations(runner, str(entry.get("digest", "")))
    return found


def pull(runner: Runner, arguments: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Answer op ``image_pull``: fetch ``ref`` while the source still runs, and check that it is the same image.

    :raises CommandFailed: it cannot be pulled. :raises NotFound: what was pulled is another image.
    """
    reference, identifier = str(arguments.get("ref", "")), str(arguments.get("id", ""))
    found = _DIGEST.search(identifier)
    if not _REFERENCE.match(reference) or found is None:
        raise InvalidInput(f"{reference!r} is no image reference, or {identifier!r} no digest")
    by_digest = identifier if "@" in identifier else reference
    if os.path.exists("/run/containerd/containerd.sock"):
        argv = ["ctr", "--namespace", "k8s.io", "images", "pull", by_digest]
    else:
        argv = ["crictl", "pull", by_digest]
    done = runner(argv, timeout=_PULL_SECONDS)
    if done.code != 0:
        raise CommandFailed(
            f"image {by_digest} cannot be pulled: {done.stderr.strip()[-300:]}", "Bring the image to the node first."
        )
    if not _has(runner, found.group(1), by_digest):
        raise NotFound(
            f"{by_digest} is another image than the pod runs ({found.group(1)[:19]})",
            "Import the image that the pod runs.",
        )
    return {"ok": True}
