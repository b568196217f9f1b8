# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A store in an S3 bucket, as the controller sees it: lists and removes objects, and signs URLs so that nodes need no library and no key.

The objects are named as the files of :mod:`.._store.path` are, below a prefix.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._common.errors import InvalidInput, NotFound, PodferryError, StateConflict
from .._store import manifest as documents
from .._store import names, pages
from .._store.contract import MANIFEST, SIGNATURE, Denied, Entry, Full, Lease
from .._store.manifest import INDEX, MAX_BYTES, PAGES, STATE, Blob, Manifest
from .._store.names import Place

EXPIRES_SECONDS = 6 * 3600
"""How long a URL works, and a lease holds: a node cannot renew either."""
_LEASE = re.compile(r"lease\.([A-Za-z0-9-]{1,64})")
_PREFIX = re.compile(r"[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*")
_MISSING = ("404", "NoSuchKey", "NotFound")
_FORBIDDEN = ("401", "403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")
_NO_ROOM = ("QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage", "507")


@dataclass(frozen=True)
class _Object:
    size: int
    modified: datetime.datetime


def connect(options: Mapping[str, Any]) -> Any:
    """A client of boto3 for the options of a store. Raises PodferryError when the library is missing."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as exc:
        raise PodferryError(
            f"the Python package 'boto3' cannot be imported on the controller: {exc}",
            "pip install 'boto3>=1.36' for the Python that runs ansible-playbook",
        ) from exc
    settings = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if options.get("endpoint") else "auto"},
        # A signed URL must not ask for a checksum that only the library could make.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"mode": "standard"},
    )
    verify: str | bool | None = None
    if options.get("insecure"):
        verify = False
    elif options.get("ca"):
        # The library takes files only. This one is public, and goes with the process.
        with tempfile.NamedTemporaryFile("w", prefix="podferry-ca-", suffix=".pem", delete=False) as stream:
            stream.write(str(options["ca"]))
        verify = stream.name
        _forget_at_exit(stream.name)
    try:
        return boto3.client(
            "s3",
            endpoint_url=options.get("endpoint") or None,
            region_name=options.get("region") or None,
            aws_access_key_id=options.get("access_key") or None,
            aws_secret_access_key=options.get("secret_key") or None,
            config=settings,
            verify=verify,
        )
    except (BotoCoreError, ValueError) as exc:
        raise InvalidInput(
            f"the options of the S3 store do not fit: {type(exc).__name__}", "Give region, and endpoint as a URL."
        ) from None


def _forget_at_exit(path: str) -> None:
    import atexit
    import os

    def forget() -> None:
        with contextlib.suppress(OSError):
            os.unlink(path)

    atexit.register(forget)


class Bucket:
    """Checkpoints in one bucket."""

    def __init__(self, client: Any, bucket: str, prefix: str = "", *, ca: str = "", insecure: bool = False) -> None:
        prefix = prefix.strip("/")
        if not bucket or (prefix and not _PREFIX.fullmatch(prefix)):
            raise InvalidInput("a store of the kind s3 needs a bucket, and a prefix of plain characters")
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._for_nodes = {"ca": ca, "insecure": insecure}

    # What nodes get

    def for_saving(self, place: Place, checkpoint: str, size: int, parent: Manifest | None = None) -> dict[str, Any]:
        """URLs for :func:`.._store.node.save` of a state of at most ``size`` bytes."""
        parts = size // pages.PART + 2  # a part may be cut short at the end, and little more is stored again
        own = [f"{STATE}.0", f"{INDEX}.0", *(f"{PAGES}.{number}" for number in range(parts))]
        read: list[str] = []
        if parent is not None:
            read = [*(blob.key for blob in parent.blobs), f"{parent.id}/{MANIFEST}", f"{parent.id}/{SIGNATURE}"]
        return self._spec(place, [f"{names.valid_id(checkpoint)}/{name}" for name in (*own, MANIFEST, SIGNATURE)], read)

    def for_loading(self, manifest: Manifest) -> dict[str, Any]:
        """URLs for :func:`.._store.node.load`, and for being the source of a copy."""
        return self._spec(manifest.place, [], self._keys(manifest))

    def for_copying(self, manifest: Manifest) -> dict[str, Any]:
        """URLs for being the target of :func:`.._store.node.copy`."""
        return self._spec(manifest.place, self._keys(manifest), [])

    def _keys(self, manifest: Manifest) -> list[str]:
        return [*(blob.key for blob in manifest.blobs), f"{manifest.id}/{MANIFEST}", f"{manifest.id}/{SIGNATURE}"]

    def _spec(self, place: Place, write: Iterable[str], read: Iterable[str]) -> dict[str, Any]:
        names.valid_place(*place)
        urls = {key: {"get": self._url("get_object", place, key)} for key in read}
        urls |= {
            key: {"get": self._url("get_object", place, key), "put": self._url("put_object", place, key)}
            for key in write
        }
        return {"kind": "s3", "urls": urls, **self._for_nodes}

    def _url(self, operation: str, place: Place, key: str) -> str:
        with _told():
            url = self._client.generate_presigned_url(
                operation, Params={"Bucket": self._bucket, "Key": self._key(place, key)}, ExpiresIn=EXPIRES_SECONDS
            )
        return str(url)

    def _key(self, place: Place, key: str) -> str:
        return f"{self._prefix}{place.namespace}/{place.pod}/{key}"

    # What the contract says

    def entries(self, namespace: str = "", pod: str = "") -> list[Entry]:
        """Complete checkpoints, newest last."""
        objects, _now = self._list(namespace, pod)
        found = []
        for (place, identity), there in _by_checkpoint(objects).items():
            if MANIFEST in there:
                with contextlib.suppress(NotFound, InvalidInput):
                    entry = self._entry(place, identity)
                    if all(_holds(objects, place, blob) for blob in entry.manifest.blobs):
                        found.append(entry)
        return sorted(found, key=lambda entry: (entry.manifest.id, entry.manifest.place))

    def _entry(self, place: Place, identity: str) -> Entry:
        data = self._read(place, f"{identity}/{MANIFEST}")
        manifest = documents.parse(data)
        if (manifest.place, manifest.id) != (place, identity):
            raise InvalidInput(f"the manifest of {identity} is that of another checkpoint")
        try:
            signature = self._read(place, f"{identity}/{SIGNATURE}").decode("ascii").strip()
        except NotFound:
            signature = ""
        except ValueError:
            raise InvalidInput(f"the signature of {identity} is no text") from None
        return Entry(manifest, signature, data)

    def publish(self, manifest: Manifest, signature: str = "") -> None:
        """Make a checkpoint visible. Raises NotFound when a blob is missing."""
        objects, _now = self._list(*manifest.place)
        for blob in manifest.blobs:
            if not _holds(objects, manifest.place, blob):
                raise NotFound(f"{blob.key} is missing in the bucket")
        if signature:
            self._write(manifest.place, f"{manifest.id}/{SIGNATURE}", signature.encode("ascii"))
        self._write(manifest.place, f"{manifest.id}/{MANIFEST}", documents.canonical(manifest))

    def remove(self, place: Place, ids: Sequence[str]) -> int:
        """Take these checkpoints away; returns the bytes freed. Raises StateConflict for one in use."""
        for identity in ids:
            self._withdraw(place, names.valid_id(identity))
        return self._sweep(place)

    def _withdraw(self, place: Place, identity: str) -> None:
        """The manifest goes first, then leases are looked at again: who takes one looks for the manifest afterwards."""
        try:
            data = self._read(place, f"{identity}/{MANIFEST}")
        except NotFound:
            return
        self._free(place, identity)
        self._delete(place, [f"{identity}/{MANIFEST}"])
        try:
            self._free(place, identity)
        except StateConflict:
            self._write(place, f"{identity}/{MANIFEST}", data)
            raise
        self._delete(place, [f"{identity}/{SIGNATURE}"])

    def _free(self, place: Place, identity: str) -> None:
        holders = [lease.holder for lease in self.leases(*place) if lease.id == identity]
        if holders:
            raise StateConflict(
                f"the checkpoint {identity} is in use by {', '.join(holders)}",
                "Wait until that run has ended; what was left behind by a crash ends by itself after 6 hours.",
            )

    def sweep(self, namespace: str = "", pod: str = "", *, dry: bool = False) -> int:
        """Take away what no checkpoint needs and nobody is writing; returns its bytes. ``dry``: only say how many."""
        objects, _now = self._list(namespace, pod)
        return sum(self._sweep(place, dry=dry) for place in sorted({place for place, _key in objects}))

    def _sweep(self, place: Place, *, dry: bool = False, only: str = "") -> int:
        """``only``: of this checkpoint; then manifests that do not name it need not be readable."""
        objects, now = self._list(*place)
        grouped = _by_checkpoint(objects)
        kept = set()
        for (_place, identity), there in grouped.items():
            if MANIFEST in there:
                try:
                    data = self._read(place, f"{identity}/{MANIFEST}")
                    kept |= {blob.key for blob in documents.parse(data).blobs} if only.encode() in data else set()
                except NotFound:
                    continue
                except InvalidInput as error:
                    raise StateConflict(
                        f"the manifest of {'/'.join(place)}/{identity} cannot be read, so nobody knows what it needs: {error.message}",
                        "Remove those objects by hand if you do not want the checkpoint.",
                    ) from error
        gone: dict[str, int] = {}
        for (_place, identity), there in grouped.items():
            if MANIFEST not in there and only in ("", identity) and not _live(there, now):
                gone |= {
                    f"{identity}/{name}": entry.size
                    for name, entry in there.items()
                    if f"{identity}/{name}" not in kept
                }
        if not dry:
            self._delete(place, list(gone))
        return sum(gone.values())

    def leases(self, namespace: str = "", pod: str = "") -> list[Lease]:
        """All that hold still."""
        objects, now = self._list(namespace, pod)
        return [
            Lease(place, identity, holder)
            for (place, identity), there in _by_checkpoint(objects).items()
            for holder in _live(there, now)
        ]

    def lease(self, place: Place, identity: str, holder: str) -> None:
        """Say that ``holder`` uses a checkpoint."""
        self._write(place, f"{names.valid_id(identity)}/lease.{names.valid_holder(holder)}", b"")

    def release(self, place: Place, identity: str, holder: str) -> None:
        """It does not any more."""
        self._delete(place, [f"{names.valid_id(identity)}/lease.{names.valid_holder(holder)}"])

    def mark(self, place: Place, identity: str, holder: str) -> None:
        """A lease, for :meth:`leases` of another store to be looked at."""
        self.lease(place, identity, holder)

    def unmark(self, place: Place, identity: str, holder: str) -> None:
        """And given back."""
        self.release(place, identity, holder)

    def discard(self, place: Place, identity: str, holder: str, parent: str = "") -> None:
        """Take away what was stored of a checkpoint that will not be published."""
        self.release(place, identity, holder)
        objects, _now = self._list(*place)
        if (place, f"{identity}/{MANIFEST}") not in objects:
            self._sweep(place, only=identity)

    # Objects

    def _list(self, namespace: str, pod: str) -> tuple[dict[tuple[Place, str], _Object], datetime.datetime]:
        """All objects that may be ours, by pod and ``ID/NAME``; and the server's clock."""
        below = self._prefix
        if namespace:
            below += f"{names.valid_place(namespace, pod or 'any').namespace}/"
            below += f"{pod}/" if pod else ""
        found: dict[tuple[Place, str], _Object] = {}
        now = datetime.datetime.now(datetime.UTC)
        with _told():
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=below):
                now = _server_clock(page) or now
                for entry in page.get("Contents", ()):
                    parts = str(entry["Key"])[len(self._prefix) :].split("/")
                    if len(parts) == 4 and pod in ("", parts[1]):
                        with contextlib.suppress(InvalidInput):
                            place = names.valid_place(parts[0], parts[1])
                            found[place, f"{names.valid_id(parts[2])}/{parts[3]}"] = _Object(
                                int(entry["Size"]), entry["LastModified"]
                            )
        return found, now

    def _read(self, place: Place, key: str) -> bytes:
        with _told():
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(place, key))
            data: bytes = answer["Body"].read(MAX_BYTES + 1)
        return data

    def _write(self, place: Place, key: str, data: bytes) -> None:
        with _told():
            self._client.put_object(Bucket=self._bucket, Key=self._key(place, key), Body=data)

    def _delete(self, place: Place, keys: Sequence[str]) -> None:
        with _told():
            for key in keys:
                self._client.delete_object(Bucket=self._bucket, Key=self._key(place, key))


def _server_clock(page: Mapping[str, Any]) -> datetime.datetime | None:
    date = page.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return email.utils.parsedate_to_datetime(date) if date else None
    except ValueError:
        return None


def _by_checkpoint(objects: Mapping[tuple[Place, str], _Object]) -> dict[tuple[Place, str], dict[str, _Object]]:
    grouped: dict[tuple[Place, str], dict[str, _Object]] = {}
    for (place, key), entry in objects.items():
        identity, _slash, name = key.partition("/")
        grouped.setdefault((place, identity), {})[name] = entry
    return grouped


def _holds(objects: Mapping[tuple[Place, str], _Object], place: Place, blob: Blob) -> bool:
    entry = objects.get((place, blob.key))
    return entry is not None and entry.size == blob.size


def _live(there: Mapping[str, _Object], now: datetime.datetime) -> list[str]:
    found = []
    for name, entry in there.items():
        lease = _LEASE.fullmatch(name)
        if lease and (now - entry.modified).total_seconds() < EXPIRES_SECONDS:
            found.append(lease.group(1))
    return sorted(found)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn the library's errors into ours; they name a code, never a key."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as exc:
        code = str(exc.response.get("Error", {}).get("Code", "?"))
        if code in _MISSING:
            raise NotFound("that object is missing in the bucket") from None
        if code in _FORBIDDEN:
            raise Denied(
                f"the bucket does not let us do that ({code})",
                "Look at access_key, secret_key and the bucket's policy.",
            ) from None
        if code in _NO_ROOM:
            raise Full(f"the bucket is full ({code})") from None
        raise PodferryError(f"the S3 server answers {code}", "Look at endpoint, region and bucket.") from None
    except BotoCoreError as exc:
        raise PodferryError(
            f"the S3 server cannot be used: {type(exc).__name__}", "Look at endpoint, region and network."
        ) from None
