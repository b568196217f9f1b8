# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What processes may do once they are restored, held against what their container may.

CRIU gives them what their images say: capabilities, seccomp filters, "no new privileges". A runtime does not look. Images that did not come
straight from the container that they restore as could so make a process that may do anything in a pod that may not.
"""

from __future__ import annotations

import os
import typing as t

from .._common.errors import RestoreFailed
from . import image, tasks

_NAMES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
    "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
    "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
    "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""By the kernel's numbers."""

Config = t.Mapping[str, t.Any]


def check(images: str, container: str, config: Config) -> None:
    """Compare the dump at ``images`` with the container's configuration on this node.

    :raises RestoreFailed: a process of it may do something that the container may not.
    :raises InvalidInput: it does not say what its processes may do.
    """
    contents = {}
    for name in os.listdir(images):
        if name in ("pstree.img", "seccomp.img") or name.startswith(("core-", "creds-")):
            with open(os.path.join(images, name), "rb") as stream:
                contents[name] = stream.read(image.MOST_BYTES + 1)
    found = beyond(tasks.rights(contents), config)
    if found:
        raise RestoreFailed(
            f"processes in the checkpoint of container {container} may do what the pod may not: {', '.join(found)}",
            "Give the pod the securityContext that it had when the checkpoint was made; if it has that, do not use this checkpoint.",
        )


def beyond(rights: t.Iterable[tasks.Rights], config: Config) -> list[str]:
    """What some of these may do and a container of this configuration may not.

    Of a seccomp filter only that there is one: which system calls it lets through cannot be compared with a profile here.
    """
    process = config.get("process") or {}
    allowed = _bits(process.get("capabilities") or {})
    filtered = bool((config.get("linux") or {}).get("seccomp"))
    more = 0
    found = set()
    for each in rights:
        more |= each.capabilities & ~allowed
        if filtered and not each.filtered:
            found.add("run without a seccomp filter")
        if process.get("noNewPrivileges") and not each.no_new_privs:
            found.add("gain privileges")
    names = [_NAMES[bit] if bit < len(_NAMES) else str(bit) for bit in range(64) if more >> bit & 1]
    return [f"CAP_{name}" for name in names] + sorted(found)


def _bits(sets: t.Mapping[str, t.Any]) -> int:
    value = 0
    for words in sets.values():
        for word in words or []:
            name = str(word).upper()
            name = name[len("CAP_") :] if name.startswith("CAP_") else name
            if name in _NAMES:
                value |= 1 << _NAMES.index(name)
    return value
