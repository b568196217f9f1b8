# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Whether this node has a container's image under the name that its kubelet asks for: a tag may mean another here."""

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
_CONTAINERD = "/run/containerd/containerd.sock"
_CRIO_STORE = "/var/lib/containers/storage/overlay-images/images.json"
_CTR = ("ctr", "--namespace", "k8s.io")


def present(runner: Runner, arguments: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Answer op ``image``: ``id`` is the imageID of a container's status, ``ref`` the image as its pod names it.

    ``other`` is what the node has under that name instead, '' for nothing.
    """
    found = _DIGEST.search(str(arguments.get("id", "")))
    if found is None:
        raise InvalidInput(f"{arguments.get('id')!r} names no image digest")
    there = _under(runner, _name(str(arguments.get("ref", "")), str(arguments.get("id", ""))), found.group(1))
    return {"present": there is True, "id": found.group(1), "other": there if isinstance(there, str) else ""}


def _name(reference: str, identifier: str) -> str:
    """A status tells an image without a name by its id: then the digest is all that counts."""
    return identifier if _DIGEST.fullmatch(reference) else reference


def _under(runner: Runner, reference: str, digest: str) -> bool | str:
    """What the node has under a name: True for the image with this digest, False for none, else another's digest."""
    if os.path.exists(_CONTAINERD):
        return _under_containerd(runner, reference, digest)
    return _under_crio(reference, digest)


def _under_containerd(runner: Runner, reference: str, digest: str) -> bool | str:
    rows = _listed(runner)
    target = rows.get(full_name(reference))
    if target is None:
        return False
    if "@" in reference or digest == target:
        return True
    # The kubelet reports the digest of the image's configuration where no registry knows the image: a name beside it.
    if digest in {name.rpartition("@")[2] for name, other in rows.items() if other == target}:
        return True
    return digest in _parts(runner, target) or target


def _under_crio(reference: str, digest: str) -> bool | str:
    with open(_CRIO_STORE, encoding="utf-8") as stream:
        entries = json.load(stream)
    if "@" in reference or _DIGEST.fullmatch(reference):
        wanted = reference.rpartition("@")[2]
        return any(wanted in _digests(entry) for entry in entries)
    for entry in entries:
        if any(_same_name(reference, str(name)) for name in entry.get("names") or []):
            return digest in _digests(entry) or str(entry.get("digest") or entry.get("id"))
    return False


def _listed(runner: Runner) -> dict[str, str]:
    """Names of containerd's images, each with its digest."""
    lines = check(runner, [*_CTR, "images", "list"]).splitlines()[1:]
    return {row[0]: row[2] for row in (line.split() for line in lines) if len(row) > 2}


def _digests(entry: t.Mapping[str, t.Any]) -> set[str]:
    """Digests of an image in CRI-O's store: its configuration, its manifest, the index by which it was pulled."""
    named = {str(name).rpartition("@")[2] for name in entry.get("names") or [] if "@" in str(name)}
    return {
        f"sha256:{entry.get('id')}",
        str(entry.get("digest")),
        *named,
        *(entry.get("big-data-digests") or {}).values(),
    }


def full_name(reference: str) -> str:
    """A reference as containerd keeps it: with its registry, and a tag or a digest."""
    if _DIGEST.fullmatch(reference):
        return reference
    name, _at, digest = reference.partition("@")
    registry, slash, rest = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif registry == "docker.io" and "/" not in rest:
        name = f"docker.io/library/{rest}"
    elif not ("." in registry or ":" in registry or registry == "localhost"):
        name = f"docker.io/{name}"
    tagged = ":" in name.rpartition("/")[2]
    if digest:
        return f"{name.rpartition(':')[0] if tagged else name}@{digest}"
    return name if tagged else f"{name}:latest"


def _same_name(reference: str, name: str) -> bool:
    """Does a name in CRI-O's store answer to the reference? One without a registry may have come from any."""
    full = full_name(reference)
    short = (
        full[len("docker.io/") :] if full.startswith("docker.io/") and not reference.startswith("docker.io/") else ""
    )
    return name == full or bool(short and name.endswith("/" + short.rpartition("library/")[2]))


def _parts(runner: Runner, digest: str) -> set[str]:
    """Digests of what a manifest or an index is made of: manifests and configurations; empty when it is not there."""
    done = runner([*_CTR, "content", "get", digest])
    try:
        document = json.loads(done.stdout) if done.code == 0 else {}
    except ValueError:
        return set()
    found = {str((document.get("config") or {}).get("digest", ""))} - {""}
    for entry in document.get("manifests") or []:
        part = str(entry.get("digest", ""))
        found |= {part} | _parts(runner, part)
    return found


def pull(runner: Runner, arguments: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Answer op ``image_pull``: fetch ``ref`` while the source still runs, so that it names the same image here.

    :raises CommandFailed: it cannot be pulled. :raises NotFound: the name stands for another image.
    """
    reference, identifier = str(arguments.get("ref", "")), str(arguments.get("id", ""))
    found = _DIGEST.search(identifier)
    if not _REFERENCE.match(reference) or found is None:
        raise InvalidInput(f"{reference!r} is no image reference, or {identifier!r} no digest")
    reference = _name(reference, identifier)
    there = _under(runner, reference, found.group(1))
    if there is True:
        return {"ok": True}
    if there:
        raise _another(reference, there)
    containerd = os.path.exists(_CONTAINERD)
    if containerd:
        _pull_containerd(runner, reference, identifier if "@" in identifier else full_name(reference))
    else:
        _fetch(runner, ["crictl", "pull", reference], reference)
    there = _under(runner, reference, found.group(1))
    if isinstance(there, str) and not containerd:
        runner(["crictl", "rmi", reference])  # ours, and the tag has moved: others here shall not get it from us
    if there is not True:
        raise _another(reference, there or "unknown")
    return {"ok": True}


def _pull_containerd(runner: Runner, reference: str, by_digest: str) -> None:
    """By digest, because the tag may have moved; and under the name that the kubelet asks for, else it pulls that."""
    _fetch(runner, [*_CTR, "images", "pull", by_digest], by_digest)
    name = full_name(reference)
    if name not in _listed(runner):
        check(runner, [*_CTR, "images", "tag", by_digest, name])


def _fetch(runner: Runner, argv: t.Sequence[str], what: str) -> None:
    done = runner(argv, timeout=_PULL_SECONDS)
    if done.code != 0:
        raise CommandFailed(
            f"image {what} cannot be pulled: {done.stderr.strip()[-300:]}", "Bring the image to the node first."
        )


def _another(reference: str, digest: str) -> NotFound:
    return NotFound(
        f"{reference} stands for another image here ({digest[:19]}) than the pod runs",
        "Let the pod's owner name its image by digest, or remove the other image from this node ('crictl rmi') and "
        "import the one that the pod runs.",
    )
