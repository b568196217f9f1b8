# SPDX-License-Identifier: Apache-2.0
"""A checkpoint cannot make a process that may do more than its container."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput, RestoreFailed
from ansible_collections.podferry.live.plugins.module_utils._criu import rights
from doubles.archives import core, criu_images, image, message

KILL, SYS_ADMIN, CHECKPOINT_RESTORE = 1 << 5, 1 << 21, 1 << 40
CAPABILITIES = {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"]}


def put(folder: Path, **cores: bytes) -> str:
    images = {**criu_images(), **{f"core-{name[1:]}.img": data for name, data in cores.items()}}
    for name, data in images.items():
        (folder / name).write_bytes(data)
    return str(folder)


def config(**process: Any) -> dict[str, Any]:
    return {
        "process": {"capabilities": CAPABILITIES, **process},
        "linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO"}},
    }


def test_what_the_container_may(tmp_path: Path) -> None:
    rights.check(put(tmp_path, _1=core("app", caps=KILL)), "app", config())


@pytest.mark.parametrize("thread", ["_1", "_2", "_7"])
@pytest.mark.parametrize(
    ("bit", "name"), [(SYS_ADMIN, "CAP_SYS_ADMIN"), (CHECKPOINT_RESTORE, "CAP_CHECKPOINT_RESTORE"), (1 << 63, "CAP_63")]
)
def test_a_capability_too_many(tmp_path: Path, thread: str, bit: int, name: str) -> None:
    with pytest.raises(RestoreFailed, match=name):
        rights.check(put(tmp_path, **{thread: core("app", caps=KILL | bit)}), "app", config())


def test_without_a_filter(tmp_path: Path) -> None:
    images = put(tmp_path, _2=core("app", seccomp=0))
    with pytest.raises(RestoreFailed, match="seccomp"):
        rights.check(images, "app", config())
    rights.check(images, "app", {**config(), "linux": {}})


def test_a_filter_that_is_set_for_all_threads(tmp_path: Path) -> None:
    """CRIU notes it with the leader only."""
    images = put(tmp_path, _2=core("app", seccomp=0))
    (tmp_path / "seccomp.img").write_bytes(image(message(f1=[message(f1=b"bpf", f3=1)])))
    rights.check(images, "app", config())
    (tmp_path / "seccomp.img").write_bytes(image(message(f1=[message(f1=b"bpf", f3=0)])))
    with pytest.raises(RestoreFailed, match="seccomp"):
        rights.check(images, "app", config())


def test_new_privileges(tmp_path: Path) -> None:
    with pytest.raises(RestoreFailed, match="gain privileges"):
        rights.check(put(tmp_path), "app", config(noNewPrivileges=True))
    every = {f"_{pid}": core("app", no_new_privs=1) for pid in (1, 2, 7)}
    rights.check(put(tmp_path, **every), "app", config(noNewPrivileges=True))


def test_a_zombie_may_nothing(tmp_path: Path) -> None:
    rights.check(put(tmp_path, _9=core("gone", 6, caps=SYS_ADMIN)), "app", config())


def test_rights_that_are_not_told(tmp_path: Path) -> None:
    images = put(tmp_path)
    (tmp_path / "core-2.img").unlink()
    with pytest.raises(InvalidInput):
        rights.check(images, "app", config())


def test_every_set_of_a_process_counts(tmp_path: Path) -> None:
    assert rights.beyond([], {}) == []
    with pytest.raises(RestoreFailed, match="CAP_KILL"):
        rights.check(put(tmp_path, _1=core("app", caps=KILL)), "app", {"process": {}})
