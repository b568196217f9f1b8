# SPDX-License-Identifier: Apache-2.0
"""A store whose server went away is told so by one error, and asked nothing more."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._store import node
from ansible_collections.podferry.live.plugins.module_utils._store.silence import silent

FIELDS = {
    "id": "20260101T000000Z-0123456789ab",
    "namespace": "default",
    "pod": "web-0",
    "uid": "u",
    "node": "node-a",
    "created": "2026-01-01T00:00:00Z",
    "kind": "pod",
    "containers": [{"name": "web", "image": "i", "image_id": "j"}],
    "facts": {},
}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with something in it."""
    folder = tmp_path / "state"
    (folder / "web/criu").mkdir(parents=True)
    (folder / "web/criu/core-1.img").write_bytes(b"x" * 100)
    return folder


def failing_sync(error: int, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The first file that is flushed fails, and from then on every call to the file system is noted."""
    real: dict[str, Callable[..., Any]] = {
        name: getattr(os, name) for name in ("fsync", "open", "unlink", "rename", "listdir")
    }

    def noting(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if asked:
                asked.append(name)
            if name == "fsync" and os.path.isfile(f"/proc/self/fd/{arguments[0]}") and os.fstat(arguments[0]).st_size:
                asked.append("failed")
                raise OSError(error, os.strerror(error))
            return real[name](*arguments, **options)

        return call

    for name in real:
        monkeypatch.setattr(os, name, noting(name))


def test_after_a_timeout_nothing_more_is_asked(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    with monkeypatch.context() as patch:
        failing_sync(errno.ETIMEDOUT, asked, patch)
        with pytest.raises(PodferryError, match="Connection timed out"):
            node.save({"kind": "path", "path": str(tmp_path / "store")}, str(state), FIELDS, compression="none")
    assert asked == ["failed"]
    assert node.entries({"kind": "path", "path": str(tmp_path / "store")}) == []


def test_any_other_error_leaves_nothing_behind(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    with monkeypatch.context() as patch:
        failing_sync(errno.ENOSPC, asked, patch)
        with pytest.raises(PodferryError):
            node.save({"kind": "path", "path": str(tmp_path / "store")}, str(state), FIELDS, compression="none")
    assert "unlink" in asked
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []


def test_an_error_speaks_for_what_it_came_from() -> None:
    try:
        try:
            raise OSError(errno.ESTALE, "stale")
        except OSError as error:
            raise PodferryError("the store cannot be used") from error
    except PodferryError as error:
        assert silent(error)
    assert not silent(PodferryError("the store is full"))
    assert not silent(None)
