# SPDX-License-Identifier: Apache-2.0
"""The program that a finished init container runs, and the bundle that runs it."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._runtime import finished


def test_it_ends_with_0_here(tmp_path: pathlib.Path) -> None:
    (tmp_path / "rootfs").mkdir()
    config = {
        "root": {"path": "rootfs"},
        "process": {"args": ["/setup", "--once"], "cwd": "/nowhere", "user": {"uid": 7}},
    }
    finished.make(str(tmp_path), config)
    written = json.loads((tmp_path / "config.json").read_text())
    (argument,) = written["process"]["args"]
    assert written["process"]["user"] == {"uid": 7}
    assert written["process"]["cwd"] == "/"
    program = tmp_path / "rootfs" / argument.lstrip("/")
    assert program.stat().st_mode & 0o777 == 0o755
    assert subprocess.run([str(program)], check=False).returncode == 0


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_whole_program_for_each_machine(machine: str) -> None:
    made = finished.program(machine)
    assert made[:4] == b"\x7fELF"
    assert int.from_bytes(made[18:20], "little") == {"x86_64": 62, "aarch64": 183}[machine]
    entry, size = int.from_bytes(made[24:32], "little"), int.from_bytes(made[96:104], "little")
    assert size == len(made)
    assert entry == 0x400000 + 120


def test_a_machine_that_we_know_no_program_for() -> None:
    with pytest.raises(InvalidInput, match="cannot be skipped on riscv64"):
        finished.program("riscv64")


def test_its_root_must_be_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        finished.make(str(tmp_path), {})
    assert os.listdir(tmp_path) == []
