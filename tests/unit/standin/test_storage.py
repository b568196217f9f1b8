# SPDX-License-Identifier: Apache-2.0
"""Objects, revisions and history."""

from __future__ import annotations

from pathlib import Path

import pytest

from podferry_standin.api import errors, storage
from podferry_standin.api.resources import BY_NAME
from podferry_standin.api.storage import Store

MAPS = BY_NAME["configmaps"]


def cm(name: str, **data: str) -> storage.Obj:
    return {"metadata": {"name": name, "namespace": "default"}, "data": data}


def test_every_write_has_a_revision_of_its_own() -> None:
    store = Store()
    first = store.create(MAPS, cm("a"))
    second = store.replace(MAPS, cm("a", x="1"))
    gone = store.remove(MAPS, second)
    numbers = [int(obj["metadata"]["resourceVersion"]) for obj in (first, second, gone)]
    assert numbers == sorted(set(numbers)) and store.revision == numbers[-1]
    assert [change.type for change in store.since(numbers[0])] == ["MODIFIED", "DELETED"]


def test_writing_the_same_again_is_no_write() -> None:
    store = Store()
    first = store.create(MAPS, cm("a"))
    assert store.replace(MAPS, first) == first and store.revision == int(first["metadata"]["resourceVersion"])


def test_what_is_read_is_a_copy() -> None:
    store = Store()
    store.create(MAPS, cm("a", x="1"))
    store.get(MAPS, "default", "a")["data"]["x"] = "2"
    store.list(MAPS)[0]["data"]["x"] = "3"
    assert store.get(MAPS, "default", "a")["data"] == {"x": "1"}


def test_name_taken_and_missing() -> None:
    store = Store()
    store.create(MAPS, cm("a"))
    with pytest.raises(errors.ApiError) as taken:
        store.create(MAPS, cm("a"))
    assert (taken.value.code, taken.value.reason) == (409, "AlreadyExists")
    with pytest.raises(errors.ApiError) as missing:
        store.get(MAPS, "default", "b")
    assert missing.value.code == 404


def test_history_that_is_too_short_is_410(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "HISTORY", 4)
    store = Store()
    store._history = type(store._history)(maxlen=4)
    start = store.revision
    for number in range(4):
        store.create(MAPS, cm(f"a{number}"))
    assert len(store.since(start)) == 4
    store.create(MAPS, cm("one-more"))
    with pytest.raises(errors.ApiError) as expired:
        store.since(start)
    assert (expired.value.code, expired.value.reason) == (410, "Expired")


def test_a_restart_keeps_objects_and_revision_but_not_history(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    store.create(MAPS, cm("a", x="1"))
    store.create(MAPS, cm("b"))
    store.remove(MAPS, store.get(MAPS, "default", "b"))
    before = store.revision
    store.close()
    again = Store(tmp_path / "state.db")
    assert again.revision == before and [o["metadata"]["name"] for o in again.list(MAPS)] == ["a"]
    assert again.since(before) == []
    with pytest.raises(errors.ApiError):
        again.since(before - 1)
