# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The report as a file that only its owner can read."""

from __future__ import annotations

import json
import os
from typing import Any, Protocol


class Writable(Protocol):
    """A record of any kind."""

    def to_dict(self) -> dict[str, Any]: ...


def write(path: str, report: Writable) -> None:
    """Write ``report`` as JSON, mode 0600, whole or not at all. Raises OSError."""
    path = os.path.abspath(os.path.expanduser(path))
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            json.dump(report.to_dict(), handle, indent=2, sort_keys=True)
            handle.write("\n")
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
