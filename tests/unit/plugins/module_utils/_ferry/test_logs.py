# SPDX-License-Identifier: Apache-2.0
"""Restart counts on a node whose engine makes a sandbox without its runtime."""

import os
import pathlib
import time

from ansible_collections.podferry.live.plugins.module_utils._ferry import logs


def files(root: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.log"))


def test_the_count_is_there_as_soon_as_the_pods_folder_is(tmp_path: pathlib.Path) -> None:
    since = time.time() - 1
    logs.count_on_early("default", "web", {"main": 2, "side": 0}, since, str(tmp_path))
    assert files(tmp_path) == []
    (tmp_path / "default_web_uid-1").mkdir()
    for _time in range(2):
        logs.count_on_early("default", "web", {"main": 2, "side": 0}, since, str(tmp_path))
    assert files(tmp_path) == ["default_web_uid-1/main/1.log"]


def test_folders_of_others_and_of_an_earlier_pod_are_left_alone(tmp_path: pathlib.Path) -> None:
    for name in ("default_web2_u", "other_web_u", "default_web_old"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / "default_web_old", (1, 1))
    logs.count_on_early("default", "web", {"main": 2}, time.time() - 1, str(tmp_path))
    assert files(tmp_path) == []


def test_a_log_that_is_there_stays_the_only_one(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "default_web_u" / "main"
    folder.mkdir(parents=True)
    (folder / "0.log").write_text("x")
    logs.count_on_early("default", "web", {"main": 2}, time.time() - 1, str(tmp_path))
    assert files(tmp_path) == ["default_web_u/main/0.log"]
