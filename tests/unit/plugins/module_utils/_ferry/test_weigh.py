# SPDX-License-Identifier: Apache-2.0
"""An archive is weighed before it is imported."""

from __future__ import annotations

import pathlib

from ansible_collections.podferry.live.plugins.module_utils._ferry import stored
from doubles import archives


def test_what_an_archive_holds(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "archive.tar"
    path.write_bytes(archives.archive())
    weight = stored.weigh({"path": str(path)})["unpacked"]
    assert 0 < weight <= path.stat().st_size
