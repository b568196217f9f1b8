# SPDX-License-Identifier: Apache-2.0
"""`whole_seconds.py ROOT...`: Debian roots of the lab's cache, made to pass as verified where mke2fs put them.

mke2fs keeps modification times in whole seconds; the digest in a root's manifest is over nanoseconds.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from podferry_lab import roots


def settle(root: Path) -> None:
    """Cut the times of a tree and write the digest that it has then into the manifest beside it."""
    for folder, folders, names in os.walk(root):
        for path in (os.path.join(folder, name) for name in [*folders, *names]):
            seconds = int(os.lstat(path).st_mtime_ns // 10**9)
            os.utime(path, (seconds, seconds), follow_symlinks=False)
    manifest = root.parent / "manifest.json"
    described = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**described, "digest": roots.digest(str(root))}))


for argument in sys.argv[1:]:
    settle(Path(argument))
