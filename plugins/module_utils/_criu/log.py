# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Reading CRIU's logs: the first error is the cause, the later ones are its echo."""

from __future__ import annotations

import re

_ERROR = re.compile(r"^\(\d+\.\d+\)\s+(?:\s*\d+:\s*)?Error \(([^)]+)\): (.*)$")


_HARMLESS = ("rlimit: Can't setup RLIMIT_NOFILE",)
"""What CRIU calls an error and goes on after: where it may not raise its own limits, for one."""


def errors(text: str) -> list[str]:
    """All error messages in a log of CRIU's that may be a cause, in their order, without time stamps."""
    found = [match.group(2).strip() for match in map(_ERROR.match, text.splitlines()) if match]
    return [message for message in found if not message.startswith(_HARMLESS)]


def explain(path: str) -> str:
    """The first two errors of the log at ``path``, or an empty string."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return "; ".join(errors(stream.read())[:2])
    except OSError:
        return ""
