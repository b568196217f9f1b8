# SPDX-License-Identifier: Apache-2.0
"""Pack podferry_standin into one file that Python can import from: the same sources give the same bytes.

usage: build.py TARGET    prints "changed" or "ok"
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)


def main() -> None:
    """Entry point."""
    target, here = Path(sys.argv[1]), Path(__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((here / "podferry_standin").rglob("*.py")):
            entry = zipfile.ZipInfo(str(path.relative_to(here)), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    if target.exists() and target.read_bytes() == buffer.getvalue():
        print("ok")
        return
    target.write_bytes(buffer.getvalue())
    print("changed")


if __name__ == "__main__":
    main()
