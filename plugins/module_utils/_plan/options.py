# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What the user asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NameMode = Literal["auto", "keep", "new"]
TcpMode = Literal["close", "refuse"]
SourcePolicy = Literal["freeze", "keep_running"]

HANDLER = "podferry"
"""Name of the RuntimeClass and of its handler."""

ARRIVAL = "podferry.live/arrival"
MOVED_FROM = "podferry.live/moved-from"
COPIED_FROM = "podferry.live/copied-from"
RESTORED_FROM = "podferry.live/restored-from"
"""Id of the checkpoint that a pod came back from."""
OWNER_AWAY = "podferry.live/owner-away"
"""On the pod of a StatefulSet while that is away: which run has taken it, and all that is needed to make it again."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
LOWEST_COST = "-2147483647"
"""What a source gets when its ReplicaSet is to give it up."""


@dataclass(frozen=True)
class Options:
    """One request to move a pod. ``pod`` is a name, ``deployment/NAME``, ``replicaset/NAME``,
    ``statefulset/NAME`` or a label selector."""

    pod: str
    target: str
    namespace: str
    name: NameMode = "auto"
    tcp: TcpMode = "close"
    source_policy: SourcePolicy = "freeze"
    """``keep_running``: the source runs on, and a copy of it runs on the target under a name of its own."""
    memory_margin: float = 0.10
    """Free memory that must stay on each node beyond the dump, as a share of the dump (64 MiB at least)."""
    bandwidth: int = 0
    """Bytes a second that may be sent while the pod still runs; 0: as fast as it goes. What is sent in the freeze is never slowed down."""
    through: bool = False
    """The state of the freeze goes through a store: then all files go with it, and none before."""
