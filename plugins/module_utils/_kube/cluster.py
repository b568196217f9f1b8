# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The few things podferry asks of the API: pods, their owners, nodes, a RuntimeClass, Events."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from . import predicates
from .errors import KubeError, KubeTimeout, KubeUnavailable
from .rest import MERGE_PATCH, STRATEGIC_MERGE_PATCH, JsonDict, RestClient


class PodCondition(Protocol):
    """What a wait waits for. It is given the pod, or None when there is no such pod."""

    def __call__(self, pod: Mapping[str, Any] | None, /) -> bool: ...


_WATCH_SLICE_S = 20.0  # a watch is opened anew at least this often: a connection that died without a word costs no more
_RETRY_S = 0.3
FIELD_MANAGER = "podferry"


class Cluster:
    """Thin functions, one request each, except ``wait_pod`` and ``persist``."""

    def __init__(
        self,
        rest: RestClient,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rest = rest
        self._clock = clock
        self._sleep = sleep

    # -- pods ---------------------------------------------------------------------------------------------------

    def get_pod(self, namespace: str, name: str) -> JsonDict | None:
        return self._get_or_none(_pod(namespace, name))

    def list_pods(self, namespace: str | None, *, field_selector: str = "", label_selector: str = "") -> list[JsonDict]:
        path = f"/api/v1/namespaces/{quote(namespace)}/pods" if namespace else "/api/v1/pods"
        query = {"fieldSelector": field_selector or None, "labelSelector": label_selector or None}
        return list(self._rest.request("GET", path, query=query).get("items") or [])

    def create_pod(self, namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> JsonDict:
        query = {"dryRun": "All" if dry_run else None, "fieldManager": "podferry"}
        return self._rest.request("POST", f"/api/v1/namespaces/{quote(namespace)}/pods", query=query, body=manifest)

    def delete_pod(self, namespace: str, name: str, *, uid: str, grace_s: int | None) -> bool:
        """Delete exactly this pod. False when it is not there any more (or another one has its name)."""
        body: JsonDict = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        try:
            self._rest.request("DELETE", _pod(namespace, name), body=body)
        except KubeError as exc:
            if exc.not_found or exc.conflict:
                return False
            raise
        return True

    def evict_pod(self, namespace: str, name: str, *, uid: str) -> bool:
        """Ask for the pod's eviction, which its disruption budgets may refuse (KubeError 429). False when it is gone.

        A conflict (KubeError 409) may be about the uid, or about a budget that somebody else counted at the same time.
        """
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"namespace": namespace, "name": name},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        try:
            self._rest.request("POST", f"{_pod(namespace, name)}/eviction", body=body)
        except KubeError as exc:
            if exc.not_found:
                return False
            raise
        return True

    def patch_pod(
        self,
        namespace: str,
        name: str,
        *,
        labels: Mapping[str, str | None] | None = None,
        annotations: Mapping[str, str | None] | None = None,
        finalizers: Sequence[str] | None = None,
    ) -> JsonDict:
        """Merge labels and annotations; a value of None removes the key. ``finalizers`` replaces the whole list."""
        change: JsonDict = {k: dict(v) for k, v in (("labels", labels), ("annotations", annotations)) if v}
        if finalizers is not None:
            change["finalizers"] = list(finalizers)
        return self._rest.request("PATCH", _pod(namespace, name), body={"metadata": change}, content_type=MERGE_PATCH)

    def mark_not_ready(self, namespace: str, name: str, *, uid: str, reason: str, message: str) -> None:
        """Let exactly this pod read not Ready, until its kubelet says something else. Nothing happens when it is gone.

        The control plane does the same to the pods of a node that it does not hear of any more.
        """
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        condition = {
            "type": "Ready",
            "status": "False",
            "lastTransitionTime": stamp,
            "reason": reason,
            "message": message,
        }
        body = {"metadata": {"uid": uid}, "status": {"conditions": [condition]}}
        try:
            path = f"{_pod(namespace, name)}/status"
            self._rest.request("PATCH", path, body=body, content_type=STRATEGIC_MERGE_PATCH)
        except KubeError as exc:
            if not (exc.not_found or exc.conflict):
                raise

    def wait_pod(self, namespace: str, name: str, condition: PodCondition, *, timeout_s: float) -> JsonDict | None:
        """Wait until ``condition`` holds for the pod (None: it is gone) and return what was seen then.

        Survives lost connections, restarts of the API, 410 (resourceVersion too old) and closed watches by reading
        the pod again. Raises KubeTimeout with the pod last seen, KubeError for answers that waiting cannot change.
        """
        deadline = self._clock() + timeout_s
        last: JsonDict | None = None
        trouble = ""
        while True:
            try:
                last = self.get_pod(namespace, name)
                if condition(last):
                    return last
                trouble = ""
                for seen in self._watch(namespace, name, last, deadline):
                    last = seen
                    if condition(last):
                        return last
            except KubeError as exc:
                if not (exc.passing or exc.status == 410):
                    raise
                trouble = f" (API: {exc})"
            except KubeUnavailable as exc:
                trouble = f" (API: {exc})"
            if self._clock() >= deadline:
                state = "no such pod" if last is None else predicates.why_not_ready(last)
                raise KubeTimeout(f"pod {namespace}/{name}: {state} after {timeout_s:.0f} s{trouble}", last)
            self._sleep(min(_RETRY_S, max(0.0, deadline - self._clock())))

    def _watch(self, namespace: str, name: str, last: JsonDict | None, deadline: float) -> Any:
        """Pods (or None for deleted) as a watch tells them, for at most one slice."""
        left = min(_WATCH_SLICE_S, deadline - self._clock())
        if left <= 0:
            return
        query: JsonDict = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "timeoutSeconds": max(1, int(left + 0.999)),
        }
        if last is not None:
            query["resourceVersion"] = predicates.metadata(last).get("resourceVersion")
        for event in self._rest.stream(f"/api/v1/namespaces/{quote(namespace)}/pods", query=query, timeout_s=left + 1):
            kind, obj = event.get("type"), event.get("object") or {}
            if kind == "ERROR":
                raise KubeError(
                    int(obj.get("code") or 410), str(obj.get("reason") or ""), str(obj.get("message") or "")
                )
            if kind == "BOOKMARK" or predicates.name_of(obj) != name:
                continue
            yield None if kind == "DELETED" else obj
            if self._clock() >= deadline:
                return

    # -- owners and nodes -----------------------------------------------------------------------------------------

    def get_replicaset(self, namespace: str, name: str) -> JsonDict | None:
        return self._get_or_none(f"/apis/apps/v1/namespaces/{quote(namespace)}/replicasets/{quote(name)}")

    def get_deployment(self, namespace: str, name: str) -> JsonDict | None:
        return self._get_or_none(f"/apis/apps/v1/namespaces/{quote(namespace)}/deployments/{quote(name)}")

    def get_claim(self, namespace: str, name: str) -> JsonDict | None:
        return self._get_or_none(f"/api/v1/namespaces/{quote(namespace)}/persistentvolumeclaims/{quote(name)}")

    def get_volume(self, name: str) -> JsonDict | None:
        return self._get_or_none(f"/api/v1/persistentvolumes/{quote(name)}")

    def get_statefulset(self, namespace: str, name: str) -> JsonDict | None:
        return self._get_or_none(_statefulset(namespace, name))

    def create_statefulset(self, namespace: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> JsonDict:
        query = {"dryRun": "All" if dry_run else None, "fieldManager": "podferry"}
        return self._rest.request("POST", _statefulset(namespace), query=query, body=manifest)

    def orphan_statefulset(self, namespace: str, name: str, *, uid: str, resource_version: str) -> None:
        """Delete exactly this version of this StatefulSet and leave its pods. Raises KubeError (409: it has changed)."""
        body: JsonDict = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "propagationPolicy": "Orphan",
            "preconditions": {"uid": uid, "resourceVersion": resource_version},
        }
        self._rest.request("DELETE", _statefulset(namespace, name), body=body)

    def list_budgets(self, namespace: str) -> list[JsonDict]:
        """PodDisruptionBudgets of a namespace."""
        return self._list(f"/apis/policy/v1/namespaces/{quote(namespace)}/poddisruptionbudgets")

    def list_autoscalers(self, namespace: str) -> list[JsonDict]:
        """HorizontalPodAutoscalers of a namespace."""
        return self._list(f"/apis/autoscaling/v2/namespaces/{quote(namespace)}/horizontalpodautoscalers")

    def list_nodes(self) -> list[JsonDict]:
        return self._list("/api/v1/nodes")

    def get_node(self, name: str) -> JsonDict | None:
        return self._get_or_none(f"/api/v1/nodes/{quote(name)}")

    def patch_node(
        self,
        name: str,
        *,
        annotations: Mapping[str, str | None],
        unschedulable: bool | None = None,
        seen: Mapping[str, Any] | None = None,
    ) -> JsonDict:
        """Merge annotations (None removes a key) and cordon or uncordon. ``seen``: only if the node is still as seen (409).

        The API keeps ``FIELD_MANAGER`` as the one who has cordoned, until somebody else uncordons or cordons.
        """
        metadata: JsonDict = {"annotations": dict(annotations)}
        if seen is not None:
            metadata["resourceVersion"] = predicates.metadata(seen).get("resourceVersion")
        body: JsonDict = {"metadata": metadata}
        if unschedulable is not None:
            body["spec"] = {"unschedulable": True if unschedulable else None}
        return self._rest.request(
            "PATCH",
            f"/api/v1/nodes/{quote(name)}",
            query={"fieldManager": FIELD_MANAGER},
            body=body,
            content_type=MERGE_PATCH,
        )

    def get_runtime_class(self, name: str) -> JsonDict | None:
        return self._get_or_none(f"/apis/node.k8s.io/v1/runtimeclasses/{quote(name)}")

    def pod_event(self, pod: Mapping[str, Any], *, reason: str, message: str, warning: bool = False) -> None:
        """Record a Kubernetes Event on the pod. A courtesy: nobody waits for it and its failure is swallowed."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        meta = predicates.metadata(pod)
        namespace = str(meta.get("namespace") or "default")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{meta.get('name')}.{int(now * 1e6):x}", "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": namespace,
                "name": meta.get("name"),
                "uid": meta.get("uid"),
            },
            "reason": reason,
            "message": message[:1000],
            "type": "Warning" if warning else "Normal",
            "source": {"component": "podferry"},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        with contextlib.suppress(KubeError, KubeUnavailable):
            self._rest.request("POST", f"/api/v1/namespaces/{quote(namespace)}/events", body=body, timeout_s=2.0)

    def _list(self, path: str) -> list[JsonDict]:
        """All objects of a kind; a kind that the API does not serve has none."""
        return list((self._get_or_none(path) or {}).get("items") or [])

    def _get_or_none(self, path: str) -> JsonDict | None:
        try:
            return self._rest.request("GET", path)
        except KubeError as exc:
            if exc.not_found:
                return None
            raise


def _statefulset(namespace: str, name: str = "") -> str:
    path = f"/apis/apps/v1/namespaces/{quote(namespace)}/statefulsets"
    return f"{path}/{quote(name)}" if name else path


def _pod(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(name)}"
