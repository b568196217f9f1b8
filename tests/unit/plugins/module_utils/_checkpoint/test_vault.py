# SPDX-License-Identifier: Apache-2.0
"""What is built upon, and what is left of a save that failed, with a store in a folder."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ansible_collections.podferry.live.plugins.module_utils._checkpoint import signing
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.stores import NodeShelf, Shelf
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.vault import Keys, Vault
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._migrate.errors import NodeError, PodferryError, SessionLost
from ansible_collections.podferry.live.plugins.module_utils._store import node, operations
from ansible_collections.podferry.live.plugins.module_utils._store.contract import Denied, Full, open_store
from ansible_collections.podferry.live.plugins.module_utils._store.manifest import Manifest, canonical
from ansible_collections.podferry.live.plugins.module_utils._store.names import Place

RUN = "0123456789ab"
PLACE = Place("default", "web-0")
KEY = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
KEYS = Keys(signing_key=KEY, verify_key=signing.public_key(KEY))


class Here:
    """A node that is this process. ``fails`` names operations and what they raise."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        (self.state / "web/criu").mkdir(parents=True)
        (self.state / "web/criu/pages-1.img").write_bytes(os.urandom(2 << 20))
        (self.state / "pod.json").write_text("{}")
        self.asked: list[str] = []
        self.fails: dict[str, Exception] = {}

    def call(self, op: str, *, timeout_s: float = 30.0, **arguments: Any) -> Any:
        self.asked.append(op)
        if op in self.fails:
            raise self.fails[op]
        if op == "restore_load":
            return {}
        if op == "checkpoint_save":
            made = node.save(
                arguments["store"], str(self.state), arguments["fields"], parent=arguments["parent"], compression="none"
            )
            return {"manifest": canonical(made).decode()}
        return operations.OPERATIONS[op](arguments)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, str]:
    return {"kind": "path", "path": str(tmp_path / "store")}


def vault(here: Here, spec: dict[str, str], keys: Keys = KEYS, shelf: Shelf | None = None) -> Vault:
    return Vault("the store", here, shelf or NodeShelf(spec, here.call), keys)  # type: ignore[arg-type]


def save(opened: Vault, day: int) -> Manifest:
    fields = {
        "id": f"202601{day:02}T000000Z-{RUN}", "namespace": PLACE.namespace, "pod": PLACE.pod, "uid": "u", "node": "n",
        "created": "2026-01-01T00:00:00Z", "kind": "pod", "facts": {},
        "containers": [{"name": "web", "image": "i", "image_id": "j"}],
    }  # fmt: skip
    return opened.save(RUN, fields, need_bytes=1, incremental=True, compression="none", recipient="", timeout_s=1)


def forge(spec: dict[str, str], made: Manifest) -> Manifest:
    """Other pages under the old index, by somebody who may write to the store and has no key."""
    folder = Path(spec["path"], *PLACE, made.id)
    pages = bytearray((folder / "pages.0").read_bytes())
    pages[:4096] = b"x" * 4096
    (folder / "pages.0").write_bytes(pages)
    sums = {"pages": hashlib.sha256(pages).hexdigest()}
    blobs = tuple(dataclasses.replace(blob, sha256=sums.get(blob.kind, blob.sha256)) for blob in made.blobs)
    forged = dataclasses.replace(made, blobs=blobs)
    (folder / "manifest.json").write_bytes(canonical(forged))
    (folder / "manifest.sig").unlink()
    return forged


def test_a_parent_that_nobody_signed_is_not_built_upon(here: Here, spec: dict[str, str], tmp_path: Path) -> None:
    opened = vault(here, spec)
    first = save(opened, 1)
    second = save(opened, 2)
    assert (second.parent, opened.warnings) == (first.id, [])
    forge(spec, first)
    Path(spec["path"], *PLACE, second.id, "manifest.sig").unlink()
    third = save(opened, 3)
    assert third.parent == "" and third.bytes["stored"] > 2 << 20
    assert len(opened.warnings) == 1 and second.id in opened.warnings[0]
    node.load(spec, opened.find(*PLACE, "latest").manifest, str(tmp_path / "back"), limit=1 << 30)
    trusting = vault(here, spec, Keys())
    assert save(trusting, 4).parent == third.id, "without a key to verify with all are believed"


def test_a_parent_that_is_replaced_after_it_was_verified(
    here: Here, spec: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = vault(here, spec)
    first = save(opened, 1)
    real = node.save

    def late(*arguments: Any, **options: Any) -> Manifest:
        forge(spec, first)
        return real(*arguments, **options)

    monkeypatch.setattr(node, "save", late)
    with pytest.raises(PodferryError, match="another checkpoint as"):
        save(opened, 2)
    assert not Path(spec["path"], *PLACE, f"20260102T000000Z-{RUN}").exists()


@pytest.mark.parametrize("fails", ["signing", "store_publish"])
def test_what_fails_after_it_was_stored_leaves_nothing(here: Here, spec: dict[str, str], fails: str) -> None:
    first = save(vault(here, spec), 1)
    keys = KEYS
    if fails == "signing":
        keys = dataclasses.replace(KEYS, signing_key="no key")
    else:
        here.fails[fails] = NodeError("node-a", "error", "it does not work")
    with pytest.raises(PodferryError, match=r"no .* key|does not work"):
        save(vault(here, spec, keys), 2)
    assert os.listdir(Path(spec["path"], *PLACE)) == [first.id]
    assert node.leases(spec) == [], "neither of what was begun nor of its parent"


def test_the_first_reason_is_told(here: Here, spec: dict[str, str]) -> None:
    here.fails = {name: NodeError("node-a", "error", name) for name in ("checkpoint_save", "store_discard")}
    with pytest.raises(NodeError, match="checkpoint_save"):
        save(vault(here, spec), 1)
    assert here.asked[-1] == "store_discard"


def test_nothing_is_taken_away_from_a_node_that_may_be_publishing(here: Here, spec: dict[str, str]) -> None:
    here.fails = {"store_publish": SessionLost("node-a", "no answer")}
    with pytest.raises(SessionLost):
        save(vault(here, spec), 1)
    assert "store_discard" not in here.asked


class NoLease(NodeShelf):
    """A bucket that takes no object any more."""

    error: PodferryError

    def lease(self, place: Place, identity: str, holder: str) -> None:
        raise self.error


@pytest.mark.parametrize("error", [Full(), Denied("read only")])
def test_who_only_reads_needs_no_lease(here: Here, spec: dict[str, str], error: PodferryError) -> None:
    made = save(vault(here, spec), 1)
    shelf = NoLease(spec, here.call)
    shelf.error = error
    opened = vault(here, spec, shelf=shelf)
    opened.load(RUN, open_store(spec).entry(PLACE, made.id), need_bytes=1, timeout_s=1)
    with pytest.raises(type(error)):
        save(opened, 2)


def test_a_key_that_is_none_is_no_reason_to_build_upon_nothing(here: Here, spec: dict[str, str]) -> None:
    save(vault(here, spec), 1)
    with pytest.raises(InvalidInput, match="verify_key"):
        save(vault(here, spec, dataclasses.replace(KEYS, verify_key="no key")), 2)
