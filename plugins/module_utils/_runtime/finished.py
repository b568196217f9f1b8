# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A container that has done its work already: it is created, started and ends with 0, and nothing of its image runs.

A finished init container must not run again where its pod arrives, but the kubelet wants to see it end. The image may hold
no program at all that only exits, so the container gets one: the smallest ELF file that asks the kernel for ``exit(0)``.
"""

from __future__ import annotations

import os
import secrets
import struct
import typing as t

from .._common.errors import InvalidInput
from .._common.files import write_json

_CODE = {
    # machine: (e_machine, instructions)
    "x86_64": (62, bytes.fromhex("31ff b83c000000 0f05")),  # xor edi,edi; mov eax,60; syscall
    "aarch64": (183, bytes.fromhex("000080d2 a80b80d2 010000d4")),  # mov x0,0; mov x8,93; svc 0
}
_ADDRESS = 0x400000
_HEADERS = 64 + 56


def program(machine: str) -> bytes:
    """An executable for ``machine`` that exits with 0.

    :raises InvalidInput: no such program is known for it.
    """
    if machine not in _CODE:
        raise InvalidInput(
            f"finished init containers cannot be skipped on {machine}", "Move pods without init containers."
        )
    kind, code = _CODE[machine]
    size = _HEADERS + len(code)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, kind, 1, _ADDRESS + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x1000)
    return ident + header + segment + code


def make(bundle: str, config: t.Mapping[str, t.Any]) -> None:
    """Let the container in ``bundle`` run nothing but that program. Its hooks and mounts stay as they are.

    :raises OSError: its root file system cannot be written.
    """
    root = os.path.join(bundle, str((config.get("root") or {}).get("path", "rootfs")))
    name = f".podferry-finished-{secrets.token_hex(8)}"
    # Nothing of that name is there: not even a link that the image could have put in the way.
    descriptor = os.open(os.path.join(root, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(program(os.uname().machine))
        os.fchmod(descriptor, 0o755)  # whatever our umask is: the container's user runs it
    process = {**(config.get("process") or {}), "args": [f"/{name}"], "cwd": "/"}
    write_json(os.path.join(bundle, "config.json"), {**config, "process": process}, 0o644)
