# SPDX-License-Identifier: Apache-2.0
"""The three kinds of store with real processes behind them, and states of pods to keep in them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from ansible_collections.podferry.live.plugins.module_utils._checkpoint.stores import Shelf, open_shelf
from ansible_collections.podferry.live.plugins.module_utils._store import contract, node, operations
from ansible_collections.podferry.live.plugins.module_utils._store.manifest import Blob, Manifest
from ansible_collections.podferry.live.plugins.module_utils._store.names import Place
from services import s3 as s3_service
from services.registry import registry
from services.s3 import BUCKET, s3

KINDS = ("path", "registry", "s3")
RUN = "0123456789ab"
LIMIT = 64 << 20


def ask(operation: str, **arguments: Any) -> Mapping[str, Any]:
    """A session without its pipes: what goes through it is JSON."""
    answer = operations.OPERATIONS[operation](json.loads(json.dumps(arguments)))
    back: Mapping[str, Any] = json.loads(json.dumps(answer))
    return back


class Shop(Protocol):
    """A store in a test, with what only its owner can do to it."""

    kind: str
    options: dict[str, Any]

    @property
    def shelf(self) -> Shelf: ...
    def contents(self) -> dict[str, bytes]: ...
    def damage(self, place: Place, blob: Blob) -> None: ...
    def lose(self, place: Place, blob: Blob) -> None: ...
    def age(self, monkeypatch: pytest.MonkeyPatch) -> None: ...


@dataclasses.dataclass
class FolderShop:
    options: dict[str, Any]
    kind: str = "path"

    @property
    def shelf(self) -> Shelf:
        return open_shelf(self.options, ask)

    def contents(self) -> dict[str, bytes]:
        return files(Path(self.options["path"]))

    def _path(self, place: Place, blob: Blob) -> Path:
        return Path(self.options["path"], *place, blob.key)

    def damage(self, place: Place, blob: Blob) -> None:
        flip(self._path(place, blob))

    def lose(self, place: Place, blob: Blob) -> None:
        self._path(place, blob).unlink()

    def age(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for lease in Path(self.options["path"]).rglob("lease.*"):
            os.utime(lease, (1, 1))


@dataclasses.dataclass
class RegistryShop:
    options: dict[str, Any]
    data: Path
    kind: str = "registry"

    @property
    def shelf(self) -> Shelf:
        return open_shelf(self.options, ask)

    def contents(self) -> dict[str, bytes]:
        """Blobs that were ever stored in one of our repositories."""
        repositories = self.data / "docker/registry/v2/repositories" / self.options["repository"]
        digests = {link.parent.name for link in repositories.rglob("_layers/sha256/*/link")}
        return {digest: self._data(digest).read_bytes() for digest in digests}

    def _data(self, digest: str) -> Path:
        return self.data / "docker/registry/v2/blobs/sha256" / digest[:2] / digest / "data"

    def _path(self, blob: Blob) -> Path:
        return self._data(blob.sha256)

    def damage(self, place: Place, blob: Blob) -> None:
        flip(self._path(blob))

    def lose(self, place: Place, blob: Blob) -> None:
        self._path(blob).unlink()

    def age(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = __import__("time").time()
        monkeypatch.setattr("time.time", lambda: now + contract.LEASE_SECONDS + 1)


@dataclasses.dataclass
class BucketShop:
    options: dict[str, Any]
    kind: str = "s3"

    def __post_init__(self) -> None:
        self._client = s3_service.client(self.options)

    @property
    def shelf(self) -> Shelf:
        return open_shelf(self.options, ask)

    def contents(self) -> dict[str, bytes]:
        there = self._client.list_objects_v2(Bucket=BUCKET, Prefix=self.options["prefix"]).get("Contents", [])
        return {item["Key"]: self._client.get_object(Bucket=BUCKET, Key=item["Key"])["Body"].read() for item in there}

    def _key(self, place: Place, blob: Blob) -> str:
        return "/".join((self.options["prefix"], *place, blob.key))

    def damage(self, place: Place, blob: Blob) -> None:
        key = self._key(place, blob)
        content = bytearray(self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        content[len(content) // 2] ^= 1
        self._client.put_object(Bucket=BUCKET, Key=key, Body=bytes(content))

    def lose(self, place: Place, blob: Blob) -> None:
        self._client.delete_object(Bucket=BUCKET, Key=self._key(place, blob))

    def age(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from ansible_collections.podferry.live.plugins.module_utils._checkpoint import buckets

        monkeypatch.setattr(buckets, "EXPIRES_SECONDS", -10)


def flip(path: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def registry_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Path]]:
    folder = tmp_path_factory.mktemp("registry")
    with registry(folder) as spec:
        yield spec, folder / "data"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with s3(tmp_path_factory.mktemp("s3")) as options:
        yield options


@pytest.fixture
def make_shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], Shop]]:
    """Empty stores, however many a test wants."""
    count = 0

    def make(kind: str) -> Shop:
        nonlocal count
        count += 1
        name = f"{abs(hash(request.node.nodeid)):x}-{count}"
        if kind == "path":
            return FolderShop({"kind": "path", "path": str(tmp_path / f"store-{count}")})
        if kind == "registry":
            spec, data = request.getfixturevalue("registry_server")
            return RegistryShop({**spec, "repository": f"tests/{name}"}, data)
        return BucketShop({**request.getfixturevalue("s3_server"), "prefix": f"tests/{name}"})

    yield make
    for left in tmp_path.iterdir():
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, make_shop: Callable[[str], Shop]) -> Shop:
    """One of each kind."""
    return make_shop(request.param)


@dataclasses.dataclass
class Pod:
    """A pod whose memory changes, and what a ferry would dump of it."""

    folder: Path
    namespace: str = "default"
    name: str = "counter"

    def __post_init__(self) -> None:
        self._rng = random.Random(os.urandom(8))  # a registry keeps equal blobs once, also those of other tests
        self.memory = bytearray(self._rng.randbytes(3 << 19)) + bytes(1 << 19)
        self._count = 0

    @property
    def place(self) -> Place:
        return Place(self.namespace, self.name)

    def dump(self) -> Path:
        """Write a state, another one each time."""
        self._count += 1
        state = self.folder / f"state-{self._count}"
        (state / "web/criu").mkdir(parents=True)
        (state / "pod.volumes").mkdir()
        at = self._rng.randrange(350) * 4096
        self.memory[at : at + 4096] = self._rng.randbytes(4096)
        (state / "web/criu/pages-1.img").write_bytes(self.memory)
        (state / "web/criu/core-1.img").write_bytes(self._rng.randbytes(700))
        (state / "web/criu/inventory.img").write_bytes(b"")
        (state / "web/rootfs.tar").write_bytes(b"a few files" * 1000)
        (state / "web/log").write_bytes(f"tick {self._count}\n".encode())
        (state / "pod.volumes/cache.tar").write_bytes(bytes((1 << 20) + 17))
        (state / "pod.json").write_text(json.dumps({"spec": {"env": "the password is swordfish"}}))
        (state / "state.json").write_text("{}")
        return state

    def fields(self) -> dict[str, Any]:
        return {
            "id": f"20261125T1700{self._count:02}Z-{RUN}", "namespace": self.namespace, "pod": self.name, "uid": "u-1", "node": "node-a",
            "created": f"2026-11-25T17:00:{self._count:02}Z", "kind": "pod",
            "containers": [{"name": "web", "image": "web:1", "image_id": "sha256:00"}], "facts": {"arch": "x86_64", "cpu": ["avx"]},
        }  # fmt: skip


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path / "pod")


def save(
    shop: Shop,
    pod: Pod,
    state: Path,
    parent: Manifest | None = None,
    publish: bool = True,
    signature: str = "",
    **options: Any,
) -> Manifest:
    """What the controller and a node do together to store a checkpoint."""
    fields, shelf = pod.fields(), shop.shelf
    ids = [fields["id"], *([parent.id] if parent else [])]
    for identity in ids:
        shelf.lease(pod.place, identity, RUN)
    spec = json.loads(json.dumps(shelf.for_saving(pod.place, fields["id"], LIMIT, parent)))
    made = node.save(spec, str(state), fields, parent=parent.id if parent else "", **options)
    if publish:
        shelf.publish(made, signature)
    for identity in ids:
        shelf.release(pod.place, identity, RUN)
    return made


def load(shop: Shop, made: Manifest, folder: Path, **options: Any) -> dict[str, bytes]:
    """And to read one."""
    spec = json.loads(json.dumps(shop.shelf.for_loading(made)))
    node.load(spec, made, str(folder), **{"limit": LIMIT, **options})
    return files(folder)


@contextlib.contextmanager
def emptied(folder: Path) -> Iterator[None]:
    """What fails leaves nothing of the state."""
    yield
    assert not folder.exists() or not list(folder.iterdir())
