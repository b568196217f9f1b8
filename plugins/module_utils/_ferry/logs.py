# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The container's log, so that ``kubectl logs`` on the target begins with the source's lines."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import typing as t

from .._runtime.oci import Identity
from .paths import valid_name

PODS = "/var/log/pods"


def current(owner: Identity, root: str = PODS) -> str | None:
    """The log file that the runtime writes for this container now, or None."""
    folder = os.path.join(root, f"{owner.namespace}_{owner.pod}_{owner.uid}", owner.container)
    files = [
        path for path in glob.glob(os.path.join(folder, "*.log")) if re.match(r"^\d+\.log$", os.path.basename(path))
    ]
    return max(files, key=lambda path: int(os.path.basename(path)[:-4]), default=None)


def count_on(owner: Identity, restarts: t.Mapping[str, int], root: str = PODS) -> None:
    """Let the kubelet count restarts on from the source's number: it takes it from the names of the log files."""
    for container, count in restarts.items():
        folder = os.path.join(root, f"{owner.namespace}_{owner.pod}_{owner.uid}", valid_name(container))
        if count > 0 and not glob.glob(os.path.join(folder, "*.log")):
            os.makedirs(folder, mode=0o755, exist_ok=True)
            with open(os.path.join(folder, f"{int(count) - 1}.log"), "x", encoding="utf-8"):
                pass


def count_on_early(namespace: str, pod: str, restarts: t.Mapping[str, int], since: float, root: str = PODS) -> None:
    """The same as soon as the kubelet has made the pod's folder, which it does before it asks for a sandbox.

    CRI-O makes a sandbox without the runtime, so our handler comes only with the first container, and that is too late.

    :param since: wall clock; older folders are those of an earlier pod of that name.
    """
    if not any(count > 0 for count in restarts.values()):
        return
    for folder in glob.glob(os.path.join(root, glob.escape(f"{namespace}_{pod}_") + "*")):
        with contextlib.suppress(OSError):  # the pod may be deleted meanwhile
            if os.stat(folder).st_mtime >= since:
                uid = os.path.basename(folder)[len(f"{namespace}_{pod}_") :]
                count_on(Identity(namespace, pod, uid, "", False), restarts, root)


def copy(owner: Identity, destination: str, root: str = PODS) -> bool:
    """Copy the log to ``destination``; False when there is none."""
    path = current(owner, root)
    if path is None:
        return False
    shutil.copyfile(path, destination)
    os.chmod(destination, 0o600)
    return True


def prepend(owner: Identity, received: str, root: str = PODS) -> None:
    """Put the source's lines into the target's log. The container stands frozen, so they come first.

    The runtime has the file open for appending: it is written to, never replaced.
    """
    path = current(owner, root)
    if path is None or not os.path.exists(received):
        return
    with open(received, "rb") as source, open(path, "ab") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)
