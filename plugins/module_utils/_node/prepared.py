# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Whether a node has what a dump and a restore on it need, by its facts."""

from __future__ import annotations

import os
import typing as t

from .._common.errors import PodferryError

ACTION = "/usr/local/libexec/podferry/podferry-action"
_BOOTSTRAP = "Run playbooks/bootstrap.yml for this node."


def check(found: t.Mapping[str, t.Any]) -> None:
    """Check what the proof and the benchmark themselves need.

    :raises PodferryError: something is missing.
    """
    criu, runtime = found["criu"], found["runtime"]
    if not criu["path"] or not criu["check_ok"]:
        raise PodferryError(criu["check"] or "criu check fails", _BOOTSTRAP, "facts")
    if not runtime["oci"]["path"]:
        raise PodferryError(runtime["error"] or "the container runtime has neither runc nor crun", _BOOTSTRAP, "facts")
    if not runtime["handler"]:
        raise PodferryError(f"{runtime['engine']} has no handler podferry", _BOOTSTRAP, "facts")
    if not runtime["answers"]:
        raise PodferryError(f"the CRI of {runtime['engine']} does not answer", "Look at its journal.", "facts")
    if not os.access(ACTION, os.X_OK) or found["engine"] is None:
        raise PodferryError("podferry's code is not installed", _BOOTSTRAP, "facts")
