# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has a container checkpointed: by the API server, asked from here, or by the module of the same name, which asks on the node.

Credentials for the API stay on the controller; the node is only told where its archive lies.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput, PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.podferry.live.plugins.module_utils._kube.config import AuthOptions, context_namespace
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import (
    KubeError,
    KubeSetupError,
    KubeUnavailable,
)
from ansible_collections.podferry.live.plugins.module_utils._kube.rest import RestClient
from ansible_collections.podferry.live.plugins.module_utils._kubelet.errors import Forbidden
from ansible_collections.podferry.live.plugins.module_utils._kubelet.pods import container_of
from ansible_collections.podferry.live.plugins.module_utils._kubelet.proxy import NodeProxy, insist_on_verification
from ansible_collections.podferry.live.plugins.module_utils._kubelet.request import API, Request
from ansible_collections.podferry.live.plugins.module_utils._kubelet.take import take
from ansible_collections.podferry.live.plugins.modules.kubelet_checkpoint import ARGUMENTS, KUBE

_API_REMEDY = "Check kubeconfig, context and network."


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs on the pod's node."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        node = str(variables.get("podferry_node_name") or variables.get("inventory_hostname"))
        try:
            if arguments["archive"]:
                raise InvalidInput("archive cannot be given", "It is what the kubelet answers.")
            if arguments["retries"] < 0:
                raise InvalidInput("retries is less than 0", "0 asks once.")
            way = self._by_api if arguments["via"] == API else self._by_kubelet
            result.update(way(arguments, node, variables))
        except PodferryError as error:
            return failed(result, error.kind, error.message, error.remedy)
        except KubeSetupError as error:
            return failed(result, "invalid_input", str(error), error.remedy or "")
        except KubeUnavailable as error:
            return failed(result, "kubernetes", f"the Kubernetes API does not answer: {error}", _API_REMEDY)
        except KubeError as error:
            remedy = (
                "The credentials need `get` on pods, docs/rbac-checkpoint.yml." if error.status == 403 else _API_REMEDY
            )
            return failed(result, "kubernetes", f"the Kubernetes API refused: {error.message}", remedy)
        return result

    def _by_api(self, arguments: Mapping[str, Any], node: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Ask the API server from here, then look at the archive there."""
        options = AuthOptions.from_params(arguments, os.environ)
        rest = RestClient.from_options(options)
        insist_on_verification(rest)
        namespace = arguments["namespace"] or context_namespace(options)
        asked = Request(namespace, arguments["pod"], arguments["container"] or "unknown", arguments["timeout"])
        pod = Cluster(rest).get_pod(namespace, asked.pod)
        container = container_of(pod, namespace, asked.pod, arguments["container"] or "", node)
        request = Request(namespace, asked.pod, container, asked.timeout)
        proxy, known = NodeProxy(rest, node), {"changed": True, "node": node, "container": container}
        if self._task.check_mode:
            if not proxy.may():
                raise Forbidden(
                    f"these credentials may not use the proxy of node {node}",
                    "They need `create` on nodes/proxy: docs/rbac-checkpoint.yml, ClusterRole podferry-checkpoint-api.",
                )
            return known
        taken = take(proxy, request, API, retries=arguments["retries"], clock=time.monotonic, sleep=time.sleep)
        known.update(path=taken.path, duration=round(taken.duration_s, 3), attempts=taken.attempts)
        told = {"namespace": namespace, "pod": asked.pod, "container": container, "archive": taken.path}
        return {**self._on_node(told, variables), **known}

    def _by_kubelet(self, arguments: Mapping[str, Any], node: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Have the node ask its own kubelet."""
        if not arguments["container"]:
            raise InvalidInput("via=kubelet needs the name of a container", "The kubelet does not say which there are.")
        told = {name: value for name, value in arguments.items() if name not in KUBE and value is not None}
        told.setdefault("namespace", "default")
        told.setdefault("kubelet_name", node)
        Request(told["namespace"], told["pod"], told["container"], told["timeout"])  # before anything is sent there
        return {"node": node, "container": told["container"], **self._on_node(told, variables)}

    def _on_node(self, told: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = self._execute_module(module_args=told, task_vars=variables)
        made.pop("invocation", None)  # of the module; it would show more than the task has
        return made


def failed(result: dict[str, Any], kind: str, message: str, remedy: str) -> dict[str, Any]:
    """Return the result of a failure."""
    return {**result, "failed": True, "type": kind, "msg": f"{message}. {remedy}".strip(), "remedy": remedy}
