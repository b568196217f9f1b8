# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The environment in which a runtime starts CRIU."""

from __future__ import annotations

import os
import typing as t

from .._common.files import write_atomic

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def environment(folder: str, options: t.Sequence[str] = ()) -> dict[str, str]:
    """The environment for a dump or a restore: CRIU takes the options that runc has no flag for from a file in ``folder``.

    Always without a network lock: nothing is left in the pod's network namespace if CRIU is killed, and as no connection
    is carried, nothing is lost by it.

    The file is CRIU's default configuration for this one call, not the one that runc names to it (annotation
    ``org.criu.config``): there, CRIU 4.1 crashes on ``network-lock`` and runs each stage of an action script twice.

    :param options: more lines of CRIU's configuration.
    """
    path = os.path.join(folder, "criu.conf")
    write_atomic(path, "\n".join(["network-lock skip", *options]) + "\n")
    return {"PATH": PATH, "CRIU_CONFIG_FILE": path}


def restore_options(action: str) -> list[str]:
    """The options of a restore that ends frozen: ``action`` is called at each stage."""
    return [f"action-script {action}"]
