# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The environment in which a runtime starts CRIU."""

from __future__ import annotations

import os

from .._common.files import write_atomic

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(folder: str) -> dict[str, str]:
    """The environment for a dump or a restore: CRIU takes the options that runc has no flag for from a file in ``folder``.

    Without a network lock nothing is left in the pod's network namespace if CRIU is killed; no connection is carried, so
    nothing is lost by it. This option must come this way: CRIU 4.1 crashes when it stands in the file that runc names to
    it (annotation ``org.criu.config``), and runc 1.1 has no flag for it.
    """
    path = os.path.join(folder, "criu-defaults.conf")
    write_atomic(path, "network-lock skip\n")
    return {"PATH": PATH, "CRIU_CONFIG_FILE": path}
