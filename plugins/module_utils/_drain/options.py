# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a person asked of a drain, and what it needs from outside beyond a migration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from .._migrate.ports import ClusterApi, JsonDict
from .._plan.options import NameMode, TcpMode
from .._plan.triage import Rest

Uncordon = Literal["on_failure", "always", "never"]


class NodesApi(ClusterApi, Protocol):
    """The part of ``_kube.cluster.Cluster`` that is used here. Errors as there."""

    def list_nodes(self) -> list[JsonDict]: ...

    def patch_node(
        self,
        name: str,
        *,
        annotations: Mapping[str, str | None],
        unschedulable: bool | None = None,
        seen: Mapping[str, Any] | None = None,
    ) -> JsonDict: ...

    def evict_pod(self, namespace: str, name: str, *, uid: str) -> bool: ...


@dataclass(frozen=True)
class DrainOptions:
    """One request to empty a node."""

    node: str
    target: str = ""
    """'' lets each pod's node be chosen."""
    namespace: str = ""
    """'' means all."""
    selector: str = ""
    name: NameMode = "auto"
    tcp: TcpMode = "close"
    parallel: int = 2
    """Pods under way at the same time, from the first look to the end of the clean-up. All leave the one node."""
    per_node: int = 2
    """How many of them may go to one target node."""
    freezes: int = 1
    """How many may be between connected ferries and the thaw."""
    bandwidth: int = 0
    """Bytes a second that the drain may send on average; 0: no cap."""
    rest: Rest = "leave"
    uncordon: Uncordon = "on_failure"
    deadline_s: float | None = None
    """None: by the size of the pods."""

    def limits(self) -> dict[str, Any]:
        """For the report."""
        return {
            "parallel": self.parallel,
            "per_node": self.per_node,
            "freezes": self.freezes,
            "bandwidth": self.bandwidth,
        }
