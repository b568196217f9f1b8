# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""All pods of the cluster, listed once for all that a survey decides: each pod's plan wants them, and a cluster has thousands."""

from __future__ import annotations

from typing import Any

from .._kube import predicates
from .._migrate.ports import ClusterApi, JsonDict


class Listed:
    """A cluster whose pods are those of the last ``read_pods``. All else is asked of the API; errors as there."""

    def __init__(self, cluster: ClusterApi) -> None:
        self._cluster = cluster
        self.pods: list[JsonDict] = []

    def read_pods(self) -> None:
        """List them anew."""
        self.pods = list(self._cluster.list_pods(None))

    def list_pods(self, namespace: str | None, *, field_selector: str = "", label_selector: str = "") -> list[JsonDict]:
        if field_selector or label_selector:
            return self._cluster.list_pods(namespace, field_selector=field_selector, label_selector=label_selector)
        return [p for p in self.pods if namespace in (None, predicates.metadata(p).get("namespace"))]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cluster, name)
