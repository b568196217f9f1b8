# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the pod whose migration a benchmark measures, reads its own account of it, and removes it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.podferry.live.plugins.module_utils._kube.config import AuthOptions, configuration
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import (
    KubeError,
    KubeSetupError,
    KubeTimeout,
    KubeUnavailable,
)
from ansible_collections.podferry.live.plugins.module_utils._kube.predicates import node_of, running, uid_of
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
        except (KubeSetupError, KubeUnavailable, KubeTimeout, KubeError, PodferryError) as error:
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

        :raises PodferryError: it is there, and is another one; or it does not come to count.
        :raises KubeTimeout: it does not come to run.
        """
        namespace, name = self._arguments["namespace"], self._arguments["name"]
        pod = self._cluster.get_pod(namespace, name)
        if pod is None:
            self._cluster.create_pod(namespace, manifest(self._arguments))
        elif differences(pod, self._arguments):
            raise PodferryError(
                f"pod {namespace}/{name} is there already, with another {' and '.join(differences(pod, self._arguments))}",
                "What is measured would be something else than what was asked for. Remove it first (state: absent).",
            )
        deadline = time.monotonic() + self._arguments["timeout"]
        self._cluster.wait_pod(
            namespace, name, lambda pod: pod is not None and running(pod), timeout_s=self._arguments["timeout"]
        )
        while self._log().count("tick ") < _TICKS_BEFORE:
            if time.monotonic() > deadline:
                raise PodferryError(f"pod {name} does not count", "Look at its events and its log.")
            time.sleep(0.2)
        return {"changed": pod is None, "gap": None}

    def remove(self) -> dict[str, Any]:
        """Read what the pod wrote, and remove it; one that never started has no log, and goes nevertheless."""
        namespace, name = self._arguments["namespace"], self._arguments["name"]
        pod = self._cluster.get_pod(namespace, name)
        if pod is None:
            return {"changed": False, "gap": None}
        gap: Gap | None = None
        warnings = []
        try:
            gap = widest_gap(self._log().splitlines())
        except (KubeError, KubeUnavailable) as error:
            warnings.append(f"the log of pod {namespace}/{name} could not be read: {error}")
        self._cluster.delete_pod(namespace, name, uid=uid_of(pod), grace_s=0)
        return {"changed": True, "gap": gap._asdict() if gap else None, "warnings": warnings}

    def _log(self) -> str:
        import kubernetes
        import urllib3

        api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(configuration(self._options)))
        try:
            # The client would decode a log that looks like JSON.
            answer = api.read_namespaced_pod_log(
                self._arguments["name"], self._arguments["namespace"], _preload_content=False, _request_timeout=30
            )
        except kubernetes.client.ApiException as error:
            raise KubeError(error.status or 0, error.reason or "", str(error.body)) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise KubeUnavailable(str(error)) from error
        return bytes(answer.data).decode("utf-8", "replace")


def differences(pod: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    """What a pod that is there has otherwise than it would be made."""
    (wanted,) = manifest(arguments)["spec"]["containers"]
    there: Mapping[str, Any] = next(
        (found for found in pod["spec"]["containers"] if found["name"] == wanted["name"]), {}
    )
    compared = {
        "node": (node_of(pod), arguments["node"]),
        "image": (there.get("image"), wanted["image"]),
        "program or memory": (there.get("command"), wanted["command"]),
    }
    return [name for name, (found, asked) in compared.items() if found != asked]


def manifest(arguments: Mapping[str, Any]) -> dict[str, Any]:
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
