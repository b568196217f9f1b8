# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Holding up a pod's loopback while its containers are restored one after the other.

A connection between two containers comes back with its first end; until the second is there too, the kernel would answer
its packets with a reset. They are dropped meanwhile; TCP sends again what counts.
"""

from __future__ import annotations

import shutil
import typing as t

from .._common.errors import CommandFailed
from .process import Runner

_TABLE = "podferry"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RULES = (
    f"add table inet {_TABLE}; add chain inet {_TABLE} hold {{ type filter hook input priority -300; }}; "
    f"add rule inet {_TABLE} hold iif lo meta l4proto tcp drop"
)


def possible() -> bool:
    """Whether this node has the tool for it."""
    return shutil.which("nft", path=_PATH) is not None


def hold(netns: str, runner: Runner) -> None:
    """Drop TCP on the loopback of the network namespace at ``netns``.

    :raises CommandFailed: nftables refuses.
    """
    _nft(netns, _RULES, runner)


def let_go(netns: str, runner: Runner) -> None:
    """Take that back.

    :raises CommandFailed: nftables refuses.
    """
    _nft(netns, f"delete table inet {_TABLE}", runner)


def _nft(netns: str, command: str, runner: Runner) -> None:
    argv: t.Sequence[str] = ["nsenter", f"--net={netns}", "nft", command]
    done = runner(argv, timeout=10.0, env={"PATH": _PATH})
    if done.code != 0:
        raise CommandFailed(
            f"nftables in the pod's network: {done.stderr.strip()[:300]}", "See 'nft list ruleset' there."
        )
