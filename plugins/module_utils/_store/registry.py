# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A store in a registry that speaks the OCI distribution API.

``REPOSITORY/NAMESPACE/POD`` has a tag for each checkpoint. Its image manifest has our manifest as configuration and a layer for every blob,
inherited ones too, so that the registry's own garbage collection keeps what is needed. A blob that is there is not sent again. A lease is
a tag as well, ``lease.ID.HOLDER``, which says in an annotation how long it holds, and has a digest of its own.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import secrets
import time
import typing as t
import urllib.parse

from .._common.errors import InvalidInput, NotFound, PodferryError, StateConflict
from . import manifest as documents
from . import names
from .contract import LEASE_SECONDS, Denied, Entry, Lease, Spec, sound, text
from .manifest import Blob, Manifest
from .names import Place
from .spool import Pulse, Spool, no_pulse
from .web import Answer, Body, Web, address, refused, shown

_MEDIA = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.podferry.checkpoint.v1+json"
_LEASE_CONFIG = "application/vnd.podferry.lease.v1+json"
_LAYER = "application/vnd.podferry.blob.v1"
_SIGNATURE = "live.podferry.signature"
_UNTIL = "live.podferry.until"
_LEASE = "live.podferry.lease"
_TOKEN = "live.podferry.token"
_REPOSITORY = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG_LEASE = re.compile(r"lease\.(\d{8}T\d{6}Z-[0-9a-f]{12})\.([A-Za-z0-9-]{1,64})")
_CHALLENGE = re.compile(r'([a-z]+)="([^"]*)"')
_MAX_PAGES = 1000
_NO_DELETE = "Allow it in the registry (REGISTRY_STORAGE_DELETE_ENABLED=true)."


class RegistryStore:
    """See :class:`.contract.Store`."""

    def __init__(self, spec: Spec, pulse: Pulse = no_pulse) -> None:
        self._url = text(spec, "url").rstrip("/")
        self._base = text(spec, "repository", "podferry").strip("/")
        if not _REPOSITORY.fullmatch(self._base) or len(self._base) > 150:
            raise InvalidInput(f"{self._base[:60]!r} is no name of a repository")
        self._web = Web(text(spec, "ca", ""), spec.get("insecure") is True, pulse)
        where = self._web.allowed(self._url)
        if urllib.parse.urlsplit(self._url).path:
            raise InvalidInput("the URL of a registry has no path", "The path belongs to repository.")
        self._host = where
        self._login = _Login(self._web, self._url, text(spec, "username", ""), text(spec, "password", ""))
        self._pulse = pulse

    # Blobs

    def put(self, place: Place, blob: Blob, spool: Spool) -> bool:
        repository = self._repository(place)
        if self._there(repository, f"sha256:{blob.sha256}", blob.size):
            return False
        self._upload(repository, f"sha256:{blob.sha256}", spool)
        return True

    def has(self, place: Place, blob: Blob, *, read: bool = False) -> bool:
        there = self._there(self._repository(place), f"sha256:{blob.sha256}", blob.size)
        return there and (not read or sound(self, place, blob, self._pulse))

    def _there(self, repository: str, digest: str, size: int) -> bool:
        answer = self._ask("HEAD", f"/v2/{repository}/blobs/{digest}")
        if answer.status == 200:
            return answer.headers.get("content-length") == str(size)
        if answer.status == 404:
            return False
        raise self._refused(answer, "looking for a blob")

    def _upload(self, repository: str, digest: str, body: Body) -> None:
        answer = self._ask("POST", f"/v2/{repository}/blobs/uploads/")
        if answer.status != 202:
            raise self._refused(answer, "an upload")
        target = urllib.parse.urljoin(f"{self._url}/v2/", answer.headers.get("location", ""))
        found = address(target)
        if (found.host, found.port) != (self._host.host, self._host.port):
            raise InvalidInput(f"{shown(self._url)} wants uploads to go to another host, {found.host}")
        parts = urllib.parse.urlsplit(target)
        query = f"{parts.query}&" if parts.query else ""
        path = f"{parts.path}?{query}digest={urllib.parse.quote(digest, safe='')}"
        answer = self._ask("PUT", path, {"Content-Type": "application/octet-stream"}, body)
        if answer.status != 201:
            raise self._refused(answer, "an upload")

    def get(self, place: Place, blob: Blob, spool: Spool) -> None:
        repository = self._repository(place)
        answer = self._ask("GET", f"/v2/{repository}/blobs/sha256:{blob.sha256}", sink=spool)
        if answer.status == 404:
            raise NotFound(f"{blob.key} is missing in the registry")
        if answer.status != 200:
            raise self._refused(answer, "a download")

    # Checkpoints

    def publish(self, manifest: Manifest, data: bytes, signature: str) -> None:
        repository = self._repository(manifest.place)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if not self._there(repository, digest, len(data)):
            self._upload(repository, digest, data)
        layers = [
            {
                "mediaType": _LAYER,
                "digest": f"sha256:{blob.sha256}",
                "size": blob.size,
                "annotations": {"live.podferry.blob": blob.key},
            }
            for blob in manifest.blobs
        ]
        image = _image(_CONFIG, digest, len(data), layers, {_SIGNATURE: signature} if signature else {})
        self._tag(repository, manifest.id, image)

    def _tag(self, repository: str, tag: str, image: bytes) -> None:
        answer = self._ask("PUT", f"/v2/{repository}/manifests/{tag}", {"Content-Type": _MEDIA}, image)
        if answer.status in (400, 404) and b"BLOB_UNKNOWN" in answer.body:
            raise NotFound(f"a blob of {tag} is missing in the registry")
        if answer.status not in (200, 201):
            raise self._refused(answer, "writing a manifest")

    def entries(self, namespace: str = "", pod: str = "") -> t.List[Entry]:
        found = []
        for place in self._places(namespace, pod):
            for tag in self._tags(place):
                with contextlib.suppress(NotFound, InvalidInput):
                    found.append(self.entry(place, names.valid_id(tag)))
        return sorted(found, key=lambda entry: (entry.manifest.id, entry.manifest.place))

    def entry(self, place: Place, identity: str) -> Entry:
        repository = self._repository(place)
        _digest, image = self._image(repository, names.valid_id(identity))
        config = image["config"]
        answer = self._ask("GET", f"/v2/{repository}/blobs/{config['digest']}")
        if answer.status == 404:
            raise NotFound(f"the manifest of {identity} is missing in the registry")
        if answer.status != 200:
            raise self._refused(answer, "reading a manifest")
        if f"sha256:{hashlib.sha256(answer.body).hexdigest()}" != config["digest"]:
            raise InvalidInput(f"the manifest of {identity} is not what was stored")
        manifest = documents.parse(answer.body)
        if (manifest.place, manifest.id) != (place, identity):
            raise InvalidInput(f"the tag {identity} of {repository} is that of another checkpoint")
        if not {f"sha256:{blob.sha256}" for blob in manifest.blobs} <= set(image["layers"]):
            raise InvalidInput(f"the image of {identity} does not hold all that it needs")
        return Entry(manifest, image["annotations"].get(_SIGNATURE, ""), answer.body)

    def _image(self, repository: str, tag: str) -> t.Tuple[str, t.Dict[str, t.Any]]:
        """Digest and parts of an image manifest."""
        answer = self._ask("GET", f"/v2/{repository}/manifests/{tag}", {"Accept": _MEDIA})
        if answer.status == 404:
            raise NotFound(f"the registry has no {repository}:{tag}")
        if answer.status != 200:
            raise self._refused(answer, "reading a manifest")
        return f"sha256:{hashlib.sha256(answer.body).hexdigest()}", parse_image(answer.body)

    def remove(self, place: Place, ids: t.Sequence[str]) -> int:
        repository = self._repository(place)
        removed: t.Dict[str, int] = {}
        for identity in ids:
            removed.update(self._withdraw(place, repository, identity))
        if not removed:
            return 0
        kept = {blob.sha256 for entry in self.entries(*place) for blob in entry.manifest.blobs}
        return sum(size for sha256, size in removed.items() if sha256 not in kept)

    def _withdraw(self, place: Place, repository: str, identity: str) -> t.Dict[str, int]:
        """Take the tag away, unless somebody uses the checkpoint; returns digest and size of its blobs."""
        try:
            entry = self.entry(place, identity)
            digest, _image_parts = self._image(repository, identity)
        except NotFound:
            return {}
        self._free(place, identity)
        self._delete(repository, digest)
        try:
            self._free(place, identity)
        except StateConflict:
            self.publish(entry.manifest, entry.data, entry.signature)
            raise
        return {blob.sha256: blob.size for blob in entry.manifest.blobs}

    def _free(self, place: Place, identity: str) -> None:
        holders = [lease.holder for lease in self.leases(*place) if lease.id == identity]
        if holders:
            raise StateConflict(
                f"the checkpoint {identity} is in use by {', '.join(holders)}",
                "Wait until that run has ended; what was left behind by a crash ends by itself after 15 minutes.",
            )

    def _delete(self, repository: str, digest: str) -> None:
        answer = self._ask("DELETE", f"/v2/{repository}/manifests/{digest}")
        if answer.status == 405:
            raise Denied(f"{shown(self._url)} does not delete anything", _NO_DELETE)
        if answer.status not in (200, 202, 404):
            raise self._refused(answer, "deleting a manifest")

    def sweep(self, namespace: str = "", pod: str = "", *, dry: bool = False) -> int:
        """The registry collects its garbage by itself."""
        return 0

    def discard(self, place: Place, identity: str, holder: str) -> None:
        """Blobs without a manifest are the registry's to collect."""
        self.release(place, identity, holder)

    # Leases

    def lease(self, place: Place, identity: str, holder: str) -> None:
        repository = self._repository(place)
        digest = f"sha256:{hashlib.sha256(b'{}').hexdigest()}"
        if not self._there(repository, digest, 2):
            self._upload(repository, digest, b"{}")
        tag = _lease_tag(identity, holder)
        # Deleting goes by digest and takes all tags of it away: no two leases may have one.
        marks = {_UNTIL: str(int(time.time() + LEASE_SECONDS)), _LEASE: tag, _TOKEN: secrets.token_hex(8)}
        self._tag(repository, tag, _image(_LEASE_CONFIG, digest, 2, [], marks))

    def release(self, place: Place, identity: str, holder: str) -> None:
        repository = self._repository(place)
        with contextlib.suppress(NotFound, Denied):  # a registry that deletes nothing lets it go stale
            digest, _parts = self._image(repository, _lease_tag(identity, holder))
            self._delete(repository, digest)

    def leases(self, namespace: str = "", pod: str = "") -> t.List[Lease]:
        found = []
        for place in self._places(namespace, pod):
            for tag in self._tags(place):
                named = _TAG_LEASE.fullmatch(tag)
                with contextlib.suppress(NotFound, InvalidInput, ValueError):
                    if named:
                        _digest, image = self._image(self._repository(place), tag)
                        if int(image["annotations"].get(_UNTIL, "0")) > time.time():
                            found.append(Lease(place, named.group(1), named.group(2)))
        return found

    # Lists

    def _places(self, namespace: str, pod: str) -> t.List[Place]:
        if namespace and pod:
            return [names.valid_place(namespace, pod)]
        found = []
        for repository in self._listed("/v2/_catalog", "repositories"):
            head, _slash, rest = repository.rpartition("/")
            base, _slash, space = head.rpartition("/")
            with contextlib.suppress(InvalidInput):
                place = names.valid_place(space, rest)
                if base == self._base and namespace in ("", space) and pod in ("", rest):
                    found.append(place)
        return found

    def _tags(self, place: Place) -> t.List[str]:
        return self._listed(f"/v2/{self._repository(place)}/tags/list", "tags")

    def _listed(self, path: str, part: str) -> t.List[str]:
        """All pages of a list; nothing where there is none."""
        found: t.List[str] = []
        following = f"{path}?n=1000"
        for _page in range(_MAX_PAGES):
            answer = self._ask("GET", following)
            if answer.status == 404:
                break
            if answer.status != 200:
                raise self._refused(answer, "listing")
            found += parse_list(answer.body, part)
            link = re.fullmatch(r'<([^>]*)>; *rel="?next"?', answer.headers.get("link", ""))
            query = urllib.parse.urlsplit(link.group(1)).query if link else ""
            if not query:
                break
            following = f"{path}?{query}"
        return sorted(set(found))

    # Requests

    def _repository(self, place: Place) -> str:
        names.valid_place(*place)
        name = f"{self._base}/{place.namespace}/{place.pod}"
        if not _REPOSITORY.fullmatch(name) or len(name) > 255:
            raise InvalidInput(
                f"no repository can be called {name[:60]}…", "Use a shorter repository, or another kind of store."
            )
        return name

    def _ask(
        self,
        method: str,
        path: str,
        headers: t.Mapping[str, str] | None = None,
        body: Body = b"",
        sink: Spool | None = None,
    ) -> Answer:
        """Ask, and log in when the registry wants that."""
        url = self._url + path
        answer = self._web.request(method, url, {**(headers or {}), **self._login.header()}, body, sink)
        if answer.status == 401 and self._login.answer(answer):
            answer = self._web.request(method, url, {**(headers or {}), **self._login.header()}, body, sink)
        return answer

    def _refused(self, answer: Answer, what: str) -> PodferryError:
        return refused(answer, self._url, what)


class _Login:
    """Answers a registry's challenge: basic, or a token from whom it names."""

    def __init__(self, web: Web, url: str, username: str, password: str) -> None:
        self._web = web
        self._url = url
        pair = f"{username}:{password}".encode()
        self._basic = f"Basic {base64.b64encode(pair).decode('ascii')}" if username else ""
        self._header = ""

    def header(self) -> t.Dict[str, str]:
        """What to send along."""
        return {"Authorization": self._header} if self._header else {}

    def answer(self, refusal: Answer) -> bool:
        """Whether there is something new to try.

        :raises Denied: the token service refuses.
        """
        scheme, _space, rest = refusal.headers.get("www-authenticate", "").partition(" ")
        if scheme.lower() == "basic":
            if not self._basic or self._header == self._basic:
                return False
            self._header = self._basic
            return True
        if scheme.lower() != "bearer":
            return False
        asked = dict(_CHALLENGE.findall(rest))
        realm = asked.get("realm", "")
        if address(self._url).scheme == "https" and address(realm).scheme != "https":
            raise InvalidInput(f"{shown(self._url)} sends us to a token service without encryption")
        query = urllib.parse.urlencode({name: asked[name] for name in ("service", "scope") if name in asked})
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"
        given = self._web.request("GET", url, {"Authorization": self._basic} if self._basic else {})
        if given.status != 200:
            raise refused(given, url, "getting a token")
        token = parse_token(given.body)
        self._header = f"Bearer {token}"
        return True


def _lease_tag(identity: str, holder: str) -> str:
    return f"lease.{names.valid_id(identity)}.{names.valid_holder(holder)}"


def _image(
    config: str, digest: str, size: int, layers: t.Sequence[t.Mapping[str, t.Any]], annotations: t.Mapping[str, str]
) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MEDIA,
            "config": {"mediaType": config, "digest": digest, "size": size},
            "layers": list(layers),
            "annotations": dict(annotations),
        },
        sort_keys=True,
    ).encode()


def _object(data: bytes, what: str) -> t.Dict[str, t.Any]:
    try:
        found = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(f"the registry's {what} cannot be read")
    return found


def parse_image(data: bytes) -> t.Dict[str, t.Any]:
    """``config`` (with its digest), ``layers`` (digests) and ``annotations`` of an image manifest, whoever wrote it.

    :raises InvalidInput: it is none of ours.
    """
    found = _object(data, "image manifest")
    config, layers, annotations = found.get("config"), found.get("layers"), found.get("annotations") or {}
    if not isinstance(config, dict) or config.get("mediaType") not in (_CONFIG, _LEASE_CONFIG):
        raise InvalidInput("an image in the registry is no checkpoint")
    if not isinstance(layers, list) or not isinstance(annotations, dict):
        raise InvalidInput("an image manifest in the registry has a wrong form")
    digests = [entry.get("digest") if isinstance(entry, dict) else None for entry in [config, *layers]]
    if any(not isinstance(digest, str) or not _DIGEST.fullmatch(digest) for digest in digests):
        raise InvalidInput("an image manifest in the registry has no digests")
    if any(not isinstance(word, str) for pair in annotations.items() for word in pair):
        raise InvalidInput("an image manifest in the registry has annotations that are no text")
    return {"config": {"digest": digests[0]}, "layers": digests[1:], "annotations": annotations}


def parse_list(data: bytes, part: str) -> t.List[str]:
    """A list of names, whoever wrote it.

    :raises InvalidInput: it is none.
    """
    found = _object(data, "list").get(part)
    if found is None:
        return []
    if not isinstance(found, list) or any(not isinstance(name, str) for name in found):
        raise InvalidInput("the registry's list has a wrong form")
    return found


def parse_token(data: bytes) -> str:
    """The token in the answer of a token service.

    :raises InvalidInput: there is none that could be sent.
    """
    found = _object(data, "token")
    token = found.get("token") or found.get("access_token")
    if not isinstance(token, str) or not re.fullmatch(r"[A-Za-z0-9._~+/=-]{1,65536}", token):
        raise InvalidInput("the registry's token service gave no token")
    return token
