# SPDX-License-Identifier: Apache-2.0
"""Answers as CRI-O does to what role crio asks: its version, its configuration out of drop-ins, and whether it serves.

The version is in the file /srv/podferry-fake-crio-version; from 1.37 on it knows the table crio.checkpoint_restore.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
from pathlib import Path

VERSION = Path("/srv/podferry-fake-crio-version").read_text(encoding="utf-8").strip()
TABLE = [int(part) for part in VERSION.split(".")[:2]] >= [1, 37]
DEFAULTS = {"enable_criu_support": "true", **({"container_level_enabled": '"checkpoint_restore"'} if TABLE else {})}


def configuration() -> str:
    """What `crio config` prints: every option that it knows, those at their default as comments."""
    values = dict(DEFAULTS)
    for path in sorted(Path("/etc/crio/crio.conf.d").glob("*.conf")):
        for name, value in re.findall(r"^(\w+) *= *(\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            if name in values:
                values[name] = value
    lines = ["[crio.runtime]"]
    for name, value in values.items():
        if name == "container_level_enabled":
            lines.append("[crio.checkpoint_restore]")
        lines.append(f"{'# ' if value == DEFAULTS[name] else ''}{name} = {value}")
    return "\n".join([*lines, "[crio.runtime.runtimes.runc]", ""])


def serve() -> None:
    """Tell systemd that it is up, with what was read at the start, and wait."""
    Path("/run/fake-crio").write_text(configuration(), encoding="utf-8")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
    signal.pause()


match sys.argv[1:]:
    case ["--version"]:
        print(f"crio version {VERSION}")
    case ["config"]:
        print(configuration())
    case ["status", "config"]:
        print(Path("/run/fake-crio").read_text(encoding="utf-8"))
    case ["status", "info"]:
        sys.exit(0 if Path("/run/fake-crio").exists() else 1)
    case []:
        serve()
    case other:
        sys.exit(f"fake crio does not know {other}")
