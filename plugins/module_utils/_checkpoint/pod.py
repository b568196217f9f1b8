# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The pod that a checkpoint is restored into, in the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .._kube import predicates
from .._kube.errors import KubeTimeout
from .._migrate.errors import PodferryError
from .._plan.manifest import RUN_LABEL, for_dry_run
from .._plan.options import ARRIVAL

Obj = Mapping[str, Any]
JsonDict = dict[str, Any]


class PodsApi(Protocol):
    """The part of ``_kube.cluster.Cluster`` that is used here. Errors as there."""

    def get_pod(self, namespace: str, name: str) -> JsonDict | None: ...
    def create_pod(self, namespace: str, manifest: Obj, *, dry_run: bool = False) -> JsonDict: ...
    def delete_pod(self, namespace: str, name: str, *, uid: str, grace_s: int | None) -> bool: ...

    def patch_pod(
        self,
        namespace: str,
        name: str,
        *,
        labels: Mapping[str, str | None] | None = None,
        annotations: Mapping[str, str | None] | None = None,
    ) -> JsonDict: ...
    def wait_pod(self, namespace: str, name: str, condition: Any, *, timeout_s: float) -> JsonDict | None: ...


class RestoredPod:
    """One pod, known by its manifest's name and the run that it carries."""

    def __init__(self, cluster: PodsApi, manifest: Obj) -> None:
        meta = manifest.get("metadata") or {}
        self.name, self.namespace = str(meta.get("name") or ""), str(meta.get("namespace") or "")
        self.run = str((meta.get("annotations") or {}).get(ARRIVAL) or "")
        if not self.name or not self.namespace or not self.run:
            raise PodferryError("this is not a manifest that criu_restore has made", "Give its result's manifest.")
        self._cluster = cluster
        self._manifest = manifest

    def create(self, *, dry: bool, timeout_s: float) -> tuple[bool, JsonDict | None]:
        """Create it unless it is there. Raises KubeError (a conflict: another pod has the name)."""
        there = self._cluster.get_pod(self.namespace, self.name)
        if there is not None and self._ours(there):
            return False, there
        if dry:
            self._cluster.create_pod(self.namespace, for_dry_run(self._manifest, self.run), dry_run=True)
            return True, None
        return True, self._cluster.create_pod(self.namespace, self._manifest)

    def settle(self, *, dry: bool, timeout_s: float) -> tuple[bool, JsonDict | None]:
        """Wait until it is Ready (running, for one without readiness), then take our marks from it.

        Raises PodferryError when it does not come to that.
        """
        if dry:
            return False, self._cluster.get_pod(self.namespace, self.name)

        def decided(pod: Obj | None) -> bool:
            return pod is None or predicates.ready(pod) or predicates.failed(pod) or predicates.ended(pod)

        try:
            pod = self._cluster.wait_pod(self.namespace, self.name, decided, timeout_s=timeout_s)
        except KubeTimeout as exc:
            raise PodferryError(
                f"the restored pod is not Ready: {exc}", f"kubectl -n {self.namespace} describe pod {self.name}"
            ) from exc
        if pod is None or not predicates.ready(pod):
            why = predicates.why_not_ready(pod) if pod else "it was deleted"
            raise PodferryError(f"the restored pod {self.namespace}/{self.name} ended: {why}", "Look at its log.")
        marked = ARRIVAL in predicates.annotations_of(pod) or RUN_LABEL in predicates.labels_of(pod)
        if marked:
            pod = self._cluster.patch_pod(
                self.namespace, self.name, labels={RUN_LABEL: None}, annotations={ARRIVAL: None}
            )
        return marked, pod

    def remove(self, *, dry: bool, timeout_s: float) -> tuple[bool, JsonDict | None]:
        """Delete it, if it is still the one that waits for this run, and see it go."""
        there = self._cluster.get_pod(self.namespace, self.name)
        if there is None or not self._ours(there):
            return False, None
        if not dry:
            uid = predicates.uid_of(there)
            self._cluster.delete_pod(self.namespace, self.name, uid=uid, grace_s=0)
            try:
                self._cluster.wait_pod(
                    self.namespace, self.name, lambda p: p is None or predicates.uid_of(p) != uid, timeout_s=timeout_s
                )
            except KubeTimeout as exc:
                raise PodferryError(f"the pod does not go: {exc}", "Look at the kubelet of its node.") from exc
        return True, None

    def _ours(self, pod: Obj) -> bool:
        return predicates.annotations_of(pod).get(ARRIVAL) == self.run
