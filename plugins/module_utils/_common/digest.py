# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""One number for the code that runs on a node, so that a controller notices a node of another version."""

from __future__ import annotations

import hashlib
import os

NODE_PACKAGES = ("_archive", "_common", "_criu", "_ferry", "_runtime", "_store")
"""What role ``node`` installs, below ``plugins/module_utils`` here and below ``podferry/`` there."""


def engine_digest(root: str) -> str:
    """Return the SHA-256 over names and contents of all Python files of the node packages below ``root``."""
    digest = hashlib.sha256()
    for package in NODE_PACKAGES:
        for folder, folders, names in os.walk(os.path.join(root, package)):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for name in sorted(names):
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    with open(path, "rb") as stream:
                        content = hashlib.sha256(stream.read()).hexdigest()
                    digest.update(f"{os.path.relpath(path, root)} {content}\n".encode())
    return digest.hexdigest()
