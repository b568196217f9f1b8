# SPDX-License-Identifier: Apache-2.0
"""The TOML subset against the standard library's parser, and what it refuses."""

import tomllib
from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common import toml

HERE = Path(__file__).parent
CAPTURES = [HERE / "captures" / "every-form.toml", *sorted((HERE.parent / "_runtime" / "captures").glob("*.toml"))]


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.name)
def test_agrees_with_the_standard_library(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert toml.loads(text) == tomllib.loads(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\na = 2\n", 2),
        ("a = 'x\n", 1),
        ("a = [1, 2\n", 2),
        ("a = {b = 1\n", 2),
        ("\n\n[a\n", 3),
        ("a = b\n", 1),
        ("a = 1 2\n", 1),
        ("a = 1\n[a]\n", 2),
        ('a = "\\q"\n', 1),
        ("= 1\n", 1),
        ("a =\n", 1),
    ],
)
def test_says_the_line_of_what_it_cannot_read(text: str, line: int) -> None:
    with pytest.raises(toml.TomlError, match=f"^line {line}: "):
        toml.loads(text)
