# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The RuntimeClass that pods name to get our handler, and who uses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import quote

from .errors import KubeError

JsonDict = dict[str, Any]

COLLECTION = "/apis/node.k8s.io/v1/runtimeclasses"
MANAGED_BY = "app.kubernetes.io/managed-by"
OWNER = "podferry.live"


class Rest(Protocol):
    """The part of RestClient that is used here."""

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> JsonDict:
        """One request; raises KubeError and KubeUnavailable."""


class InUse(Exception):
    """Pods name the RuntimeClass; ``pods`` lists them as ``namespace/name``."""

    def __init__(self, name: str, pods: list[str]) -> None:
        shown = ", ".join(pods[:10]) + (f" and {len(pods) - 10} more" if len(pods) > 10 else "")
        super().__init__(f"RuntimeClass {name} is used by {len(pods)} pods: {shown}")
        self.pods = pods


class Foreign(Exception):
    """There is a RuntimeClass of that name that is not ours."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was there and what shall be there (None: nothing)."""

    before: JsonDict | None
    after: JsonDict | None

    @property
    def changed(self) -> bool:
        """Whether the cluster differs from what is wanted."""
        return self.before != self.after


def desired(name: str) -> JsonDict:
    """The RuntimeClass: neither overhead nor scheduling, since both would change the pods that name it."""
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": name, "labels": {MANAGED_BY: OWNER}},
        "handler": name,
    }


def essence(found: Mapping[str, Any] | None) -> JsonDict | None:
    """What of a RuntimeClass in the cluster matters for the comparison; the server's own fields do not."""
    if found is None:
        return None
    kept: JsonDict = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": found["metadata"]["name"], "labels": dict(found["metadata"].get("labels") or {})},
        "handler": found.get("handler"),
    }
    kept.update({key: found[key] for key in ("overhead", "scheduling") if found.get(key)})
    return kept


def users(pods: list[Mapping[str, Any]], name: str) -> list[str]:
    """Pods that name the class and have not ended."""
    return sorted(
        f"{pod['metadata'].get('namespace', 'default')}/{pod['metadata']['name']}"
        for pod in pods
        if (pod.get("spec") or {}).get("runtimeClassName") == name
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    )


class RuntimeClass:
    """One RuntimeClass in a cluster."""

    def __init__(self, rest: Rest, name: str) -> None:
        self._rest = rest
        self._name = name
        self._path = f"{COLLECTION}/{quote(name)}"

    def _get(self) -> JsonDict | None:
        try:
            return self._rest.request("GET", self._path)
        except KubeError as error:
            if error.not_found:
                return None
            raise

    def users(self) -> list[str]:
        """Pods in the cluster that name the class and have not ended."""
        return users(list(self._rest.request("GET", "/api/v1/pods").get("items") or []), self._name)

    def ensure(self, *, dry_run: bool) -> Outcome:
        """Make it be there.

        The handler of a RuntimeClass cannot be changed, and replacing one would pull it from under its pods.

        :raises Foreign: there is one with another handler, with overhead or with scheduling.
        """
        wanted = desired(self._name)
        found = essence(self._get())
        if found is None:
            self._rest.request(
                "POST",
                COLLECTION,
                query={"dryRun": "All" if dry_run else None, "fieldManager": "podferry"},
                body=wanted,
            )
            return Outcome(None, wanted)
        different = [key for key in ("handler", "overhead", "scheduling") if found.get(key) != wanted.get(key)]
        if different:
            raise Foreign(
                f"RuntimeClass {self._name} is there with another {' and '.join(different)} than podferry needs"
            )
        return Outcome(found, found)

    def remove(self, *, dry_run: bool) -> Outcome:
        """Make it be gone.

        :raises InUse: pods name it.
        """
        found = essence(self._get())
        pods = self.users()
        if pods:
            raise InUse(self._name, pods)
        if found is not None and not dry_run:
            try:
                self._rest.request("DELETE", self._path)
            except KubeError as error:
                if not error.not_found:
                    raise
        return Outcome(found, None)
