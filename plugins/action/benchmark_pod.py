# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the pod whose migration a benchmark measures, reads its own account of it, and removes it."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.podferry.live.plugins.module_utils._kube.config import AuthOptions, configuration
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import (
    KubeError,
    KubeSetupError,
    KubeUnavailable,
)
from ansible_collections.podferry.live.plugins.module_utils._kube.predicates import running, uid_of
from ansible_collections.podferry.live.plugins.module_utils._kube.rest import RestClient
from ansible_collections.podferry.live.plugins.module_utils._node.benchmark import PROGRAM
from ansible_collections.podferry.live.plugins.module_utils._report.ticks import Gap, widest_gap
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction
from ansible_collections.podferry.live.plugins.plugin_utils._kube_arguments import KUBE_ARGUMENTS

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "default"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "node": {"type": "str"},
    "image": {"type": "str", "default": "localhost/podferry-counter:lab"},
    "mib": {"type": "int", "default": 64},
    "timeout": {"type": "int", "default": 120},
    **KUBE_ARGUMENTS,
}
_TICKS_BEFORE = 50


class ActionModule(ControllerAction):
    """Runs on the controller only; the host of the task does not matter."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if self._task.check_mode:
            return {**result, "changed": True, "gap": None}
        try:
            options = AuthOptions.from_params(arguments, os.environ)
            pod = BenchmarkPod(Cluster(RestClient.from_options(options)), options, arguments)
            return {**result, **(pod.make() if arguments["state"] == "present" else pod.remove())}
        except (KubeSetupError, KubeUnavailable, KubeError, PodferryError) as error:
            remedy = getattr(error, "remedy", None) or ""
            return {**result, "failed": True, "msg": f"{error}. {remedy}".strip()}


class BenchmarkPod:
    """The pod of one measurement."""

    def __init__(self, cluster: Cluster, options: AuthOptions, arguments: dict[str, Any]) -> None:
        self._cluster = cluster
        self._options = options
        self._arguments = arguments

    def make(self) -> dict[str, Any]:
        """Create the pod and wait until it has counted for a while.

        :raises PodferryError: it does not come to run.
        """
        namespace, name = self._arguments["namespace"], self._arguments["name"]
        if self._cluster.get_pod(namespace, name) is not None:
            return {"changed": False, "gap": None}
        self._cluster.create_pod(namespace, manifest(self._arguments))
        deadline = time.monotonic() + self._arguments["timeout"]
        self._cluster.wait_pod(
            namespace, name, lambda pod: pod is not None and running(pod), timeout_s=self._arguments["timeout"]
        )
        while self._log().count("tick ") < _TICKS_BEFORE:
            if time.monotonic() > deadline:
                raise PodferryError(f"pod {name} does not count", "Look at its events and its log.")
            time.sleep(0.2)
        return {"changed": True, "gap": None}

    def remove(self) -> dict[str, Any]:
        """Read what the pod wrote, and remove it."""
        namespace, name = self._arguments["namespace"], self._arguments["name"]
        pod = self._cluster.get_pod(namespace, name)
        if pod is None:
            return {"changed": False, "gap": None}
        gap: Gap | None = widest_gap(self._log().splitlines())
        self._cluster.delete_pod(namespace, name, uid=uid_of(pod), grace_s=0)
        return {"changed": True, "gap": gap._asdict() if gap else None}

    def _log(self) -> str:
        import kubernetes

        api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(configuration(self._options)))
        try:
            # The client would decode a log that looks like JSON.
            answer = api.read_namespaced_pod_log(
                self._arguments["name"], self._arguments["namespace"], _preload_content=False, _request_timeout=30
            )
        except kubernetes.client.ApiException as error:
            raise KubeError(error.status or 0, error.reason or "", str(error.body)) from error
        return bytes(answer.data).decode("utf-8", "replace")


def manifest(arguments: dict[str, Any]) -> dict[str, Any]:
    """The pod to create."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": arguments["name"], "namespace": arguments["namespace"]},
        "spec": {
            "nodeName": arguments["node"],
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [
                {
                    "name": "counter",
                    "image": arguments["image"],
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python3", "-I", "-S", "-c", PROGRAM, str(arguments["mib"])],
                }
            ],
        },
    }
