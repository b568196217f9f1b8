# SPDX-License-Identifier: Apache-2.0
"""Every file says its licence, and the right one: plugins GPL-3.0-or-later (as Ansible requires), everything else Apache-2.0."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMENTED = {".py", ".yml", ".yaml", ".sh", ".toml", ".cfg", ".conf", ".service", ".c", ".txt"}
SPDX = re.compile(r"SPDX-License-Identifier: ([A-Za-z0-9.-]+)")


def files() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for path in listed.split("\0") if path and (ROOT / path).is_file() and not (ROOT / path).is_symlink()]


def expected(path: str) -> str:
    return "GPL-3.0-or-later" if path.startswith("plugins/") else "Apache-2.0"


def test_every_file_that_can_carry_a_comment_names_its_licence() -> None:
    wrong = []
    for path in files():
        if (
            path.startswith(("LICENSES/", "tests/fixtures/")) or "/captures/" in path
        ):  # recordings stay as they were heard
            continue
        file = ROOT / path
        head = file.read_bytes()[:1000].decode("utf-8", "replace")
        if file.suffix not in COMMENTED and not head.startswith("#!"):
            continue
        if not head.strip():  # ansible-test wants __init__.py of plugins empty
            continue
        found = SPDX.search(head)
        if not found or found[1] != expected(path):
            wrong.append(f"{path}: {found[1] if found else 'no licence line'}, expected {expected(path)}")
    assert wrong == []
