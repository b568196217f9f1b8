# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Small files that must be whole or absent."""

from __future__ import annotations

import json
import os
import typing as t


def write_atomic(path: str, data: str, mode: int = 0o600) -> None:
    """Replace ``path`` by ``data``; a reader sees the old or the new content, never a part.

    :raises OSError: the directory is missing or full.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make renames in ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str, value: t.Any, mode: int = 0o600) -> None:
    """Write ``value`` as JSON, whole or not at all."""
    write_atomic(path, json.dumps(value, sort_keys=True) + "\n", mode)


def read_json(path: str) -> t.Any:
    """Read a JSON file.

    :raises OSError: it cannot be read.
    :raises ValueError: it is not JSON.
    """
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


def read_text(path: str) -> str:
    """Read a text file; bytes that are not UTF-8 survive as surrogates."""
    with open(path, encoding="utf-8", errors="surrogateescape") as stream:
        return stream.read()


def write_text(path: str, value: str) -> None:
    """Write to an existing kernel file (cgroup, proc)."""
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(value)
