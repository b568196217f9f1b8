# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A store in a bucket, as a node sees it: URLs that the controller has signed, one for each object that is needed.

``urls`` maps ``ID/NAME`` of a blob (and ``ID/manifest.json``, ``ID/manifest.sig``) to a ``put`` and a ``get`` URL. A node neither lists nor
removes anything: :mod:`.._checkpoint.buckets` does, with the library and the keys that only the controller has.
"""

from __future__ import annotations

import typing as t

from .._common.errors import InvalidInput, NotFound, StateConflict
from . import manifest as documents
from . import names
from .contract import MANIFEST, SIGNATURE, Entry, Lease, Spec, sound, text
from .manifest import Blob, Manifest
from .names import Place
from .spool import Pulse, Spool, no_pulse
from .web import Web, refused


class BucketStore:
    """See :class:`.contract.Store`."""

    def __init__(self, spec: Spec, pulse: Pulse = no_pulse) -> None:
        urls = spec.get("urls")
        if not isinstance(urls, dict) or not all(isinstance(pair, dict) for pair in urls.values()):
            raise InvalidInput("a store of the kind s3 needs urls")
        self._urls: t.Mapping[str, t.Mapping[str, t.Any]] = urls
        self._pulse = pulse
        self._web = Web(text(spec, "ca", ""), spec.get("insecure") is True, pulse)

    def _url(self, key: str, way: str) -> str:
        url = self._urls.get(key, {}).get(way)
        if not isinstance(url, str):
            raise InvalidInput(
                f"the controller gave no URL to {way} {key}", "The checkpoint is larger than was expected: try again."
            )
        return url

    def put(self, place: Place, blob: Blob, spool: Spool) -> bool:
        if self.has(place, blob):
            return False
        url = self._url(blob.key, "put")
        answer = self._web.request("PUT", url, {"Content-Type": "application/octet-stream"}, spool)
        if answer.status not in (200, 201, 204):
            raise refused(answer, url, "an upload")
        return True

    def has(self, place: Place, blob: Blob, *, read: bool = False) -> bool:
        """Its size tells: an upload is whole or nothing, and the name is that of one checkpoint."""
        url = self._urls.get(blob.key, {}).get("get")
        if not isinstance(url, str):
            return False
        answer = self._web.request("GET", url, {"Range": "bytes=0-0"})
        if answer.status in (403, 404):  # without the right to list, what is missing is forbidden
            return False
        total = answer.headers.get("content-range", "").rpartition("/")[2]
        if answer.status == 206:
            return total == str(blob.size) and (not read or sound(self, place, blob, self._pulse))
        if answer.status == 416:
            return blob.size == 0
        raise refused(answer, url, "looking for a blob")

    def get(self, place: Place, blob: Blob, spool: Spool) -> None:
        url = self._url(blob.key, "get")
        answer = self._web.request("GET", url, {}, sink=spool)
        if answer.status == 404:
            raise NotFound(f"{blob.key} is missing in the bucket")
        if answer.status != 200:
            raise refused(answer, url, "a download")

    def publish(self, manifest: Manifest, data: bytes, signature: str) -> None:
        for blob in manifest.blobs:
            if not self.has(manifest.place, blob):
                raise NotFound(f"{blob.key} is missing in the bucket")
        for name, content in ((SIGNATURE, signature.encode("ascii")), (MANIFEST, data)):
            if content:
                url = self._url(f"{manifest.id}/{name}", "put")
                answer = self._web.request("PUT", url, {"Content-Type": "application/octet-stream"}, content)
                if answer.status not in (200, 201, 204):
                    raise refused(answer, url, "writing a manifest")

    def entry(self, place: Place, identity: str) -> Entry:
        data = self._small(f"{names.valid_id(identity)}/{MANIFEST}")
        try:
            signature = self._small(f"{identity}/{SIGNATURE}").decode("ascii").strip()
        except NotFound:
            signature = ""
        except ValueError:
            raise InvalidInput(f"the signature of {identity} is no text") from None
        manifest = documents.parse(data)
        if (manifest.place, manifest.id) != (place, identity):
            raise InvalidInput(f"the manifest of {identity} is that of another checkpoint")
        return Entry(manifest, signature, data)

    def _small(self, key: str) -> bytes:
        if key not in self._urls:
            raise NotFound(f"{key} is missing in the bucket")
        url = self._url(key, "get")
        answer = self._web.request("GET", url, {})
        if answer.status in (403, 404):
            raise NotFound(f"{key} is missing in the bucket")
        if answer.status != 200:
            raise refused(answer, url, "reading a manifest")
        return answer.body

    def entries(self, namespace: str = "", pod: str = "") -> t.List[Entry]:
        raise _controller("lists")

    def remove(self, place: Place, ids: t.Sequence[str]) -> int:
        raise _controller("removes from")

    def sweep(self, namespace: str = "", pod: str = "", *, dry: bool = False) -> int:
        raise _controller("cleans")

    def leases(self, namespace: str = "", pod: str = "") -> t.List[Lease]:
        raise _controller("knows who uses")

    def discard(self, place: Place, identity: str, holder: str) -> None:
        """The controller removes what was not published."""

    def lease(self, place: Place, identity: str, holder: str) -> None:
        """The controller has done it."""

    def release(self, place: Place, identity: str, holder: str) -> None:
        """The controller does it."""


def _controller(what: str) -> StateConflict:
    return StateConflict(f"only the controller {what} a bucket")
