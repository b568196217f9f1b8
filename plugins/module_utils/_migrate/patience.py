# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Asking the API when it may be away for a while: what must be done after the commit is tried until a deadline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from .._kube.errors import KubeError, KubeTimeout, KubeUnavailable
from .._kube.predicates import annotations_of, node_of, uid_of
from .._plan.options import ARRIVAL
from .errors import Unfinished
from .ports import JsonDict, Tools

T = TypeVar("T")
_PAUSE_S = 0.5
_QUOTA_PAUSE_S = 0.1
_QUOTA_S = 15.0
"""How long a quota is given to notice that a pod is gone; the node that waits for its successor gives it 30 s."""


def persist(tools: Tools, what: str, action: Callable[[], T], *, patience_s: float | None = None) -> T:
    """Repeat ``action`` until the API answers it. Raises Unfinished at the deadline, KubeError for a plain no."""
    deadline = tools.clock() + (tools.api_patience_s if patience_s is None else patience_s)
    warned = False
    while True:
        try:
            return action()
        except KubeUnavailable as exc:
            trouble: Exception = exc
        except KubeError as exc:
            if not exc.passing:
                raise
            trouble = exc
        if tools.clock() >= deadline:
            raise Unfinished(
                f"the Kubernetes API cannot be reached to {what}: {trouble}",
                "Bring the API back and run the play again.",
            )
        if not warned:
            warned = True
            tools.reporter.warning(f"the Kubernetes API does not answer ({trouble}); trying on to {what}")
        tools.sleep(_PAUSE_S)


def delete_and_wait(tools: Tools, namespace: str, name: str, uid: str, *, timeout_s: float = 60.0) -> None:
    """Delete a pod with grace 0 and wait until it is gone from the API. Raises Unfinished."""
    persist(tools, f"delete pod {name}", lambda: tools.cluster.delete_pod(namespace, name, uid=uid, grace_s=0))
    wait_gone(tools, namespace, name, uid, timeout_s=timeout_s)


def wait_gone(tools: Tools, namespace: str, name: str, uid: str, *, timeout_s: float = 60.0) -> None:
    """Wait until the pod with this uid is gone. Raises Unfinished."""

    def gone(pod: Mapping[str, Any] | None) -> bool:
        return pod is None or uid_of(pod) != uid

    try:
        persist(
            tools,
            f"see the end of pod {name}",
            lambda: tools.cluster.wait_pod(namespace, name, gone, timeout_s=timeout_s),
        )
    except KubeTimeout as exc:
        raise Unfinished(
            str(exc), f"Look at the kubelet of its node: 'kubectl -n {namespace} describe pod {name}'."
        ) from exc


def post(
    tools: Tools, namespace: str, manifest: Mapping[str, Any], *, patience_s: float, replaces: str = ""
) -> JsonDict:
    """Create a pod even if answers get lost: a pod of this name and run that is there already is the one we wanted.

    ``replaces``: uid of the pod that may still have the name, and its place in a quota, for a moment. Raises KubeError,
    Unfinished.
    """
    name = str(manifest["metadata"]["name"])
    mark = manifest["metadata"]["annotations"][ARRIVAL]

    quota_deadline = tools.clock() + _QUOTA_S

    def create() -> JsonDict:
        deadline = tools.clock() + patience_s
        while True:
            try:
                return tools.cluster.create_pod(namespace, manifest)
            except KubeError as exc:
                if replaces and exc.over_quota and tools.clock() < quota_deadline:
                    tools.sleep(_QUOTA_PAUSE_S)
                    continue
                if not exc.conflict:
                    raise
                there = tools.cluster.get_pod(namespace, name)
                if (
                    there is not None
                    and annotations_of(there).get(ARRIVAL) == mark
                    and node_of(there) == manifest["spec"]["nodeName"]
                ):
                    return there
                still_old = there is None or uid_of(there) == replaces
                if not still_old or tools.clock() >= deadline:
                    raise
            tools.sleep(0.02)

    return persist(tools, f"create pod {name}", create, patience_s=patience_s)
