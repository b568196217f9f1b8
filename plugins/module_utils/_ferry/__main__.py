# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Entry point of the node's code: ``podferry-node session | serve RUN ROLE | guard RUN ROLE | carry TASK | handler WORD…``."""

from __future__ import annotations

import os
import sys
import typing as t


def main(words: t.Sequence[str]) -> int:
    """Dispatch; each command imports only what it needs, because the handler's start is paid in the freeze."""
    os.umask(0o077)
    command = words[0] if words else ""
    if command == "handler":
        from . import handler

        return handler.main(words[1:])
    if command == "session":
        from . import session

        return session.main()
    if command == "carry" and len(words) == 2:
        from . import through

        return through.main(words[1])
    if command in ("serve", "guard") and len(words) == 3:
        if command == "serve":
            from . import serve

            return serve.main(words[1], words[2])
        from . import guard

        return guard.main(words[1], words[2])
    sys.stderr.write("usage: podferry-node session | serve RUN ROLE | guard RUN ROLE | carry TASK | handler WORD...\n")
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
