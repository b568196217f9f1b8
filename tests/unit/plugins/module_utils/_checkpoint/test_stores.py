# SPDX-License-Identifier: Apache-2.0
"""Options of a task to a store: what belongs to a kind, what a node gets to know, and answers that come in parts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._checkpoint import buckets, stores
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._store import contract, node, operations
from ansible_collections.podferry.live.plugins.module_utils._store.manifest import Blob, Manifest, canonical
from ansible_collections.podferry.live.plugins.module_utils._store.names import Place

PLACE = Place("default", "web")
S3 = {
    "kind": "s3",
    "bucket": "checkpoints",
    "prefix": "p",
    "endpoint": "http://127.0.0.1:1",
    "region": "x",
    "access_key": "AKIA",
    "secret_key": "hush",
}


def made(number: int) -> Manifest:
    me = f"20261125T1700{number:02}Z-0123456789ab"
    blobs = tuple(Blob(name, name.partition(".")[0], 1, "0" * 64, me) for name in ("pages.0", "index.0", "state.0"))
    return Manifest(
        me, *PLACE, "u", "n", "2026-11-25T17:00:00Z", "pod", ({"name": "a", "image": "b", "image_id": ""},), "", "zstd", "none",
        {}, {"memory": 1, "files": 1, "stored": 3}, blobs,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "one of path"),
        ({"kind": "tape"}, "one of path"),
        ({"kind": "path"}, "needs path"),
        ({"kind": "path", "path": "/x", "url": "https://x"}, "does not take url"),
        ({"kind": "registry", "path": "/x", "url": "https://x"}, "does not take path"),
        ({"kind": "registry", "repository": "x"}, "needs url"),
        ({"kind": "s3", "region": "x"}, "needs bucket"),
        ({"kind": "s3", "bucket": "../x"}, "no name of a bucket"),
        ({"kind": "s3", "bucket": "abc", "prefix": "a/../b?"}, "plain characters"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        stores.open_shelf(options, lambda *_words, **_more: {}, connect=lambda _options: None)


def test_what_was_not_given_is_not_there() -> None:
    given = {"kind": "path", "path": "/x", "url": None, "password": "", "insecure": False}
    assert stores.checked(given) == {"kind": "path", "path": "/x"}


def test_a_node_gets_urls_and_no_key() -> None:
    shelf = stores.open_shelf(S3, lambda *_words, **_more: {})
    parent, child = made(1), made(2)
    saving = shelf.for_saving(PLACE, child.id, 300 << 20, parent)
    assert "hush" not in json.dumps(saving)
    urls = saving["urls"]
    assert {key for key, ways in urls.items() if "put" in ways} == {
        f"{child.id}/{name}"
        for name in ("state.0", "index.0", "pages.0", "pages.1", "pages.2", "manifest.json", "manifest.sig")
    }
    assert {key for key, ways in urls.items() if "put" not in ways} == {
        f"{parent.id}/{name}" for name in ("state.0", "index.0", "pages.0", "manifest.json", "manifest.sig")
    }
    assert all("put" not in ways for ways in shelf.for_loading(child)["urls"].values())
    assert all("put" in ways for ways in shelf.for_copying(child)["urls"].values())
    assert f"/checkpoints/p/default/web/{child.id}/state.0?" in urls[f"{child.id}/state.0"]["put"]
    assert (
        "X-Amz-Signature=" in urls[f"{child.id}/state.0"]["put"]
        and "checksum" not in urls[f"{child.id}/state.0"]["put"].lower()
    )


def test_a_long_list_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [contract.Entry(one, "s", canonical(one)) for one in map(made, range(50))]
    monkeypatch.setattr(node, "entries", lambda *_words: entries)
    monkeypatch.setattr(operations, "_BATCH", 2000)
    asked = []

    def ask(operation: str, **arguments: Any) -> Any:
        asked.append(operation)
        answer = operations.OPERATIONS[operation](arguments)
        assert len(answer["entries"]) < 10
        return answer

    assert stores.NodeShelf({"kind": "path", "path": "/x"}, ask).entries() == entries
    assert len(asked) > 10


def test_an_answer_that_is_hostile() -> None:
    shelf = stores.NodeShelf({}, lambda *_words, **_more: {"entries": [{"manifest": "{}", "signature": ""}]})
    with pytest.raises(InvalidInput):
        shelf.entries()
    assert list(stores.NodeShelf({}, lambda *_words, **_more: {"entries": [], "more": True}).entries()) == [], (
        "and it does not go on for ever"
    )


def test_urls_outlive_a_slow_transfer() -> None:
    assert buckets.EXPIRES_SECONDS >= 3600
