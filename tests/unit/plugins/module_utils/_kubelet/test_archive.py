# SPDX-License-Identifier: Apache-2.0
"""The archive on the node: what it must be, and that nobody else reads it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._kubelet import archive
from ansible_collections.podferry.live.plugins.module_utils._kubelet.errors import BadArchive
from ansible_collections.podferry.live.plugins.module_utils._kubelet.request import Request

ME = os.geteuid()
REQUEST = Request("n", "p", "c")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoint-p_n-c-2026-11-22T09:20:31Z.tar"
    made.write_bytes(b"memory" * 400_000)
    made.chmod(0o600)
    return made


def test_size_and_digest(path: Path) -> None:
    found = archive.examine(str(path), ME)
    assert (found.path, found.size, found.tightened) == (str(path), 2_400_000, False)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o610])
def test_others_lose_their_rights(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert archive.examine(str(path), ME).tightened
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_not_an_archive_of_root(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    for name in ("link", "folder", "pipe", "empty", "nothing"):
        with pytest.raises(BadArchive):
            archive.examine(str(tmp_path / name), ME)
    with pytest.raises(BadArchive, match="not a file of root's"):
        archive.examine(str(path), ME + 1)


@pytest.mark.parametrize(
    ("now", "slept"),
    [(0.0, [1.0]), (0.25, [0.75]), (0.999, [pytest.approx(0.001, abs=1e-5)]), (1.0, []), (5.0, []), (-10.0, [])],
)
def test_the_second_of_its_name_is_over_when_it_is_told(path: Path, now: float, slept: list[float]) -> None:
    """Else the next one, within the same second, would have the same name."""
    pauses: list[float] = []
    archive.outlast_name(str(path), REQUEST, lambda: 1795339231 + now, pauses.append)
    assert pauses == slept
    archive.outlast_name("/x/other.tar", REQUEST, lambda: 1795339231 + now, pauses.append)
    assert pauses == slept
