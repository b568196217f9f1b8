# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A dead man's switch: a ferry that hangs while something stands frozen is killed by systemd, and its guard takes over.

A ferry that dies is noticed at once; one that is stopped, or hangs in the kernel, keeps no deadline of its own. systemd's
watchdog does (sd_notify(3), ``WATCHDOG_USEC=``): it is set once for a whole step, never fed.
"""

from __future__ import annotations

import os
import socket

MARGIN = 5.0
"""Seconds that a step gets beyond its own deadline, so that the ferry itself ends it when it can."""


def within(seconds: float) -> None:
    """From now on this process has ``seconds`` until it must have ended, or called this again."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return  # not started by systemd: a test
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.sendto(f"WATCHDOG_USEC={int(seconds * 1e6)}\nWATCHDOG=1".encode(), address)
    except OSError:
        pass  # without it the ferry keeps its own deadlines
