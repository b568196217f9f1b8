# SPDX-License-Identifier: Apache-2.0
"""Files that were open on volumes of the kubelet's: they are put back, and no list of them does more than that."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    InvalidInput,
    PodferryError,
    RestoreFailed,
)
from ansible_collections.podferry.live.plugins.module_utils._ferry import held

GOOD: dict[str, Any] = {
    "mount": "/etc/config", "path": "..2026/app.conf", "mode": 0o640, "uid": os.getuid(), "gid": os.getgid(), "mtime_ns": 1_700_000_000_000_000_001,
    "data": base64.b64encode(b"key=value\n").decode(),
}  # fmt: skip


def unpack(folder: Path, entries: Any) -> Path:
    volume = folder / "volume"
    volume.mkdir(exist_ok=True)
    (folder / held.NAME).write_text(entries if isinstance(entries, str) else json.dumps(entries))
    held.unpack(str(folder / held.NAME), {"/etc/config": str(volume)})
    return volume


def test_there_and_back(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "..2026").mkdir(parents=True)
    path = source / "..2026/app.conf"
    path.write_bytes(b"key=value\n")
    path.chmod(0o640)
    with path.open("rb"):
        assert held.pack([os.getpid()], {"/etc/config": str(source)}, str(tmp_path / held.NAME))
    volume = tmp_path / "volume"
    volume.mkdir()
    held.unpack(str(tmp_path / held.NAME), {"/etc/config": str(volume)})
    found = (volume / "..2026/app.conf").stat()
    assert (volume / "..2026/app.conf").read_bytes() == b"key=value\n"
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o640, path.stat().st_mtime_ns)


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "volume/..2026").mkdir(parents=True)
    (tmp_path / "volume/..2026/app.conf").write_text("the target's")
    assert (unpack(tmp_path, [GOOD]) / "..2026/app.conf").read_text() == "the target's"


def test_a_volume_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RestoreFailed, match="no such volume"):
        unpack(tmp_path, [{**GOOD, "mount": "/etc"}])


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a\0b", "a" * 300, "\ud800"])
def test_names_that_lead_elsewhere(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidInput):
        unpack(tmp_path, [{**GOOD, "path": path}])


def test_a_link_in_the_volume_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/..2026").symlink_to(outside)
    with pytest.raises(OSError, match="directory"):
        unpack(tmp_path, [GOOD])
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    "entries",
    [
        5, {}, "[", "[" * 100_000, [5], [[]], [{}],
        *([{**GOOD, key: value}] for key, value in [
            ("data", "???"), ("data", None), ("mount", 5), ("path", ["a"]), ("mode", "0644"), ("mode", 1 << 40), ("mode", True), ("uid", -1),
            ("gid", 1 << 33), ("mtime_ns", 1 << 80), ("mtime_ns", 1.5),
        ]),
        *([{k: v for k, v in GOOD.items() if k != missing}] for missing in GOOD),
    ],
    ids=repr,
)  # fmt: skip
def test_malformed_lists(tmp_path: Path, entries: Any) -> None:
    with pytest.raises(InvalidInput):
        unpack(tmp_path, entries)
    assert not list((tmp_path / "volume").iterdir())


def test_a_list_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "_MOST_ARCHIVE", 100)
    with pytest.raises(InvalidInput, match="more open files"):
        unpack(tmp_path, [GOOD])


values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just("/etc/config")
    | st.just("YQ==")
)
entries = st.dictionaries(st.sampled_from(sorted(GOOD)), values | st.lists(values, max_size=2))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(values, entries, entries.map(lambda entry: {**GOOD, **entry})), max_size=3))
def test_any_list(tmp_path: Path, found: Any) -> None:
    try:
        unpack(tmp_path, found)
    except (PodferryError, FileExistsError, NotADirectoryError):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [held.NAME, "volume"]
