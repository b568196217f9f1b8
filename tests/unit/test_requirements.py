# SPDX-License-Identifier: Apache-2.0
"""The versions that are tested and installed (requirements.txt) are those that users are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kubernetes", "cryptography", "boto3")
_DOCUMENTED = re.compile(rf"^  - ({'|'.join(PACKAGES)}) (.*?) \(Python, on the controller\)", re.M)
_REMEDY = re.compile(rf"pip install '?({'|'.join(PACKAGES)})\b([^' ]*)")


def wanted() -> dict[str, str]:
    """Package to versions, as requirements.txt has them."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = (re.fullmatch(r"([\w-]+)([<>=].*)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def test_the_execution_environment_has_the_same() -> None:
    lines = (ROOT / "meta/ee-requirements.txt").read_text().splitlines()
    assert [f"{name}{wanted()[name]}" in lines for name in PACKAGES] == [True] * len(PACKAGES)


@pytest.mark.parametrize("pattern", [_DOCUMENTED, _REMEDY], ids=["documentation", "remedies"])
def test_what_users_are_told(pattern: re.Pattern[str]) -> None:
    told = [
        (path.name, name, versions.replace(" ", ""))
        for path in sorted((ROOT / "plugins").rglob("*.py"))
        for name, versions in pattern.findall(path.read_text())
    ]
    assert {name for _path, name, _versions in told} == set(PACKAGES)
    assert [entry for entry in told if entry[2] != wanted()[entry[1]]] == []


def test_modules_that_reach_the_cluster_name_its_client() -> None:
    for path in sorted((ROOT / "plugins/modules").glob("*.py")):
        if "podferry.live._kubernetes_auth" in path.read_text():
            assert "kubernetes" in dict(_DOCUMENTED.findall(path.read_text())), path.name
