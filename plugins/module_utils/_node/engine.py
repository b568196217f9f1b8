# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The node's copy of the engine: exactly the files of this collection, compiled, and nothing else below its root."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import py_compile
import shutil
import typing as t
from pathlib import Path

from .._common.digest import NODE_PACKAGES
from .._common.errors import InvalidInput


@dataclasses.dataclass(frozen=True)
class Changes:
    """What differs between the node's copy and the collection's."""

    write: t.Mapping[str, str]
    """Relative path to the text that it shall have."""
    remove: t.Sequence[str]
    """Relative paths that do not belong there."""
    compile: t.Sequence[str]
    """Sources without compiled code for this Python, among those that stay."""
    mode: int = 0o644
    """Permissions of files that are written."""

    @property
    def any(self) -> bool:
        """Whether there is something to do."""
        return bool(self.write or self.remove or self.compile)


def sources(module_utils: str) -> dict[str, str]:
    """Read the engine out of a collection: relative path to text."""
    root = Path(module_utils)
    return {
        str(path.relative_to(root)): path.read_text(encoding="utf-8")
        for package in NODE_PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }


def valid(files: t.Mapping[str, str]) -> None:
    """Check that every path stays below the root and inside a package of the engine.

    :raises InvalidInput: one does not.
    """
    for name in files:
        parts = Path(name).parts
        if len(parts) < 2 or parts[0] not in NODE_PACKAGES or ".." in parts or not name.endswith(".py"):
            raise InvalidInput(f"{name!r} is not a file of the engine")


def compare(root: str, files: t.Mapping[str, str]) -> Changes:
    """Compare the copy below ``root`` with ``files``. An empty ``files`` wants everything gone."""
    base = Path(root)
    present = {str(path.relative_to(base)): path for path in base.rglob("*") if path.is_file()} if base.is_dir() else {}
    write = {
        name: text
        for name, text in files.items()
        if name not in present or present[name].read_bytes() != text.encode("utf-8")
    }
    remove = [name for name in sorted(present) if name not in files and _source(name) not in files]
    stale = [name for name in sorted(files) if name not in write and not os.path.exists(_compiled(base / name))]
    return Changes(write, remove, stale)


def compare_programs(folder: str, programs: t.Mapping[str, str]) -> Changes:
    """Compare the folder of entry points with ``programs``, name to text: executable, and nothing else beside them."""
    base = Path(folder)
    write = {}
    for name, text in programs.items():
        path = base / name
        current = path.is_file() and path.read_bytes() == text.encode("utf-8") and path.stat().st_mode & 0o777 == 0o755
        if not current:
            write[name] = text
    remove = [path.name for path in sorted(base.iterdir()) if path.name not in programs] if base.is_dir() else []
    return Changes(write, remove, (), 0o755)


def apply(root: str, changes: Changes) -> None:
    """Carry out ``changes``. Each file is whole or absent at any time.

    :raises OSError: the disk.
    :raises py_compile.PyCompileError: this Python cannot compile the code.
    """
    base = Path(root)
    for name, text in changes.write.items():
        path = base / name
        make_folders(path.parent)
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(text, encoding="utf-8")
        temporary.chmod(changes.mode)
        temporary.replace(path)
    for name in changes.remove:
        (base / name).unlink()
    for name in (*changes.write, *changes.compile):
        if name.endswith(".py"):
            py_compile.compile(str(base / name), doraise=True)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it, readable by all whatever the umask is."""
    if not folder.is_dir():
        make_folders(folder.parent)
        folder.mkdir()
        folder.chmod(0o755)


def remove(root: str) -> None:
    """Remove the whole copy."""
    shutil.rmtree(root, ignore_errors=True)


def _source(name: str) -> str:
    """The source that compiled code was made from: ``a/__pycache__/b.cpython-313.pyc`` is of ``a/b.py``."""
    path = Path(name)
    return str(path.parent.parent / f"{path.name.partition('.')[0]}.py") if path.parent.name == "__pycache__" else name


def _compiled(path: Path) -> str:
    return importlib.util.cache_from_source(str(path))
