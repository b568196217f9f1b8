# SPDX-License-Identifier: Apache-2.0
"""A move removes the source: never the only copy, and never on the word of a target that nobody has read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._checkpoint import transfer
from ansible_collections.podferry.live.plugins.module_utils._common.errors import StateConflict
from ansible_collections.podferry.live.plugins.module_utils._store import node
from ansible_collections.podferry.live.plugins.module_utils._store.path import PathStore

from .conftest import KINDS, RUN, Pod, Shop, files, load, save
from .test_link import Here, receiver


def move(entry: Any, here: Shop, there: Shop, **more: Any) -> transfer.Transferred:
    return transfer.transfer(entry, here.shelf, there.shelf, Here(), "cccccccccccc", move=True, **more)


def copied(here: Shop, there: Shop, pod: Pod) -> tuple[Any, Path]:
    """The newest checkpoint in both."""
    first = save(here, pod, pod.dump())
    state = pod.dump()
    save(here, pod, state, first)
    entry = transfer.find(here.shelf, pod.place, "latest", "")
    transfer.transfer(entry, here.shelf, there.shelf, Here(), RUN)
    return entry, state


def again(shop: Shop, tmp_path: Path) -> Shop:
    """The same store under another name."""
    options = dict(shop.options)
    if shop.kind == "path":
        (tmp_path / "link").symlink_to(options["path"])
        options["path"] = str(tmp_path / "link")
    elif shop.kind == "registry":
        options["url"] = options["url"].replace("127.0.0.1", "localhost")
    else:
        options["endpoint"] = options["endpoint"].replace("127.0.0.1", "localhost")
    return dataclasses.replace(shop, options=options)  # type: ignore[type-var]


@pytest.mark.parametrize(("kind", "linked"), [*((kind, False) for kind in KINDS), ("path", True)])
def test_one_store_under_two_names_loses_nothing(
    make_shop: Callable[[str], Shop], pod: Pod, tmp_path: Path, kind: str, linked: bool
) -> None:
    shop, state = make_shop(kind), pod.dump()
    made = save(shop, pod, state)
    entry = transfer.find(shop.shelf, pod.place, "latest", "")
    with pytest.raises(StateConflict, match="one store") as caught:
        move(entry, shop, again(shop, tmp_path), receiver=receiver() if linked else None)
    assert "Nothing was changed" in caught.value.remedy
    assert load(shop, made, tmp_path / "back") == files(state)
    assert shop.shelf.leases() == []


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_and_whole_does_not_travel_again(
    make_shop: Callable[[str], Shop], pod: Pod, tmp_path: Path, kind: str
) -> None:
    here, there = make_shop("path"), make_shop(kind)
    entry, state = copied(here, there, pod)
    done = move(entry, here, there)
    assert (done.changed, done.blobs, done.present) == (True, 0, len(entry.manifest.blobs))
    assert entry.manifest not in [left.manifest for left in here.shelf.entries()]
    assert load(there, entry.manifest, tmp_path / "back") == files(state)


@pytest.mark.parametrize("linked", [False, True])
def test_what_is_damaged_there_travels_again(
    make_shop: Callable[[str], Shop], pod: Pod, tmp_path: Path, linked: bool
) -> None:
    here, there = make_shop("path"), make_shop("path")
    entry, state = copied(here, there, pod)
    there.damage(pod.place, entry.manifest.blobs[0])
    done = move(entry, here, there, receiver=receiver() if linked else None)
    assert (done.blobs, done.present) == (1, len(entry.manifest.blobs) - 1)
    assert load(there, entry.manifest, tmp_path / "back") == files(state)


@pytest.mark.parametrize("kind", ["registry", "s3"])
def test_the_source_stays_when_what_is_damaged_there_cannot_be_replaced(
    make_shop: Callable[[str], Shop], pod: Pod, tmp_path: Path, kind: str
) -> None:
    """These two take no blob of a name and size that they have already."""
    here, there = make_shop("path"), make_shop(kind)
    entry, state = copied(here, there, pod)
    there.damage(pod.place, entry.manifest.blob("state"))
    with pytest.raises(StateConflict, match="damaged in the other store"):
        move(entry, here, there)
    assert load(here, entry.manifest, tmp_path / "back") == files(state)


def test_a_signature_that_only_the_target_has_stays(make_shop: Callable[[str], Shop], pod: Pod) -> None:
    here, there = make_shop("path"), make_shop("registry")
    entry, _state = copied(here, there, pod)
    there.shelf.publish(entry.manifest, "signed")
    move(entry, here, there)
    assert [(left.manifest, left.signature) for left in there.shelf.entries()] == [(entry.manifest, "signed")]


def test_leases_of_both_are_renewed_while_parts_that_are_there_are_read(
    make_shop: Callable[[str], Shop], pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_shop("path"), make_shop("path")
    made = save(here, pod, pod.dump())
    node.copy(here.options, there.options, made, "")
    renewed: list[str] = []
    real = PathStore.lease

    def lease(store: PathStore, *arguments: Any) -> None:
        renewed.append(store._root)
        real(store, *arguments)

    monkeypatch.setattr(PathStore, "lease", lease)
    monkeypatch.setattr(node, "_RENEW_SECONDS", -1.0)
    assert node.copy(here.options, there.options, made, "")["present"] == 3
    assert renewed.count(there.options["path"]) > 3 and renewed.count(here.options["path"]) > 3
