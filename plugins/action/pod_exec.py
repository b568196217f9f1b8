# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command in a container of a pod through the Kubernetes API, from the controller."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.podferry.live.plugins.module_utils._kube.config import AuthOptions, context_namespace
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import (
    KubeError,
    KubeSetupError,
    KubeUnavailable,
)
from ansible_collections.podferry.live.plugins.module_utils._kube.pod_exec import (
    Executed,
    NoSuchContainer,
    choose_container,
    execute,
)
from ansible_collections.podferry.live.plugins.module_utils._kube.rest import RestClient
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction
from ansible_collections.podferry.live.plugins.plugin_utils._kube_arguments import KUBE_ARGUMENTS

ARGUMENTS: dict[str, dict[str, Any]] = {
    "pod": {"type": "str", "required": True},
    "namespace": {"type": "str"},
    "container": {"type": "str"},
    "command": {"type": "list", "elements": "str", "required": True},
    "timeout": {"type": "int", "default": 60},
    **KUBE_ARGUMENTS,
}
_SHOWN = 2000


class ActionModule(ControllerAction):
    """Runs on the controller only; the host of the task does not matter."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        if not arguments["command"]:
            return failed(result, "command is empty", "Give the program and its arguments as a list.")
        try:
            options = AuthOptions.from_params(arguments, os.environ)
            namespace = arguments["namespace"] or context_namespace(options)
            pod = Cluster(RestClient.from_options(options)).get_pod(namespace, arguments["pod"])
            if pod is None:
                return failed(result, f"there is no pod {namespace}/{arguments['pod']}", "Check name and namespace.")
            container = choose_container(pod, arguments["container"] or "")
            result.update(container=container, cmd=arguments["command"])
            if self._task.check_mode:
                return {**result, "changed": True, "msg": f"would run in container {container}"}
            done = execute(
                options, namespace, arguments["pod"], container, arguments["command"], timeout_s=arguments["timeout"]
            )
        except NoSuchContainer as error:
            return failed(result, str(error), "Give the name of a container of the pod that runs.")
        except KubeSetupError as error:
            return failed(result, str(error), error.remedy or "")
        except KubeUnavailable as error:
            return failed(
                result, f"the Kubernetes API does not answer: {error}", "Check kubeconfig, context and network."
            )
        except KubeError as error:
            remedy = "The credentials need get and create on pods/exec, and get on pods (docs/rbac.yml)."
            return failed(
                result, f"the Kubernetes API refused: {error.message}", remedy if error.status in (401, 403) else ""
            )
        # ansible-core 2.19 shows a failure's message even where no_log hides its result.
        return outcome(result, done, container, quiet=bool(self._task.no_log))


def outcome(result: dict[str, Any], done: Executed, container: str, *, quiet: bool) -> dict[str, Any]:
    """The task's result once the command was asked for."""
    result.update(
        changed=True,
        rc=done.rc,
        stdout=done.stdout,
        stdout_lines=done.stdout.splitlines(),
        stderr=done.stderr,
        stderr_lines=done.stderr.splitlines(),
        truncated=done.truncated,
    )
    if done.rc == 0:
        return result
    what = f"exit status {done.rc}" if done.rc is not None else f"no exit status: {done.message}"
    said = "\n".join(text.rstrip()[-_SHOWN:] for text in (done.stdout, done.stderr) if text.strip())
    remedy = (
        f"It goes on in container {container}: the API cannot end it. While it does, the pod is not moved."
        * done.timed_out
    )
    made = failed(result, f"{what} in container {container}", remedy)
    made["msg"] += f"\n{said}" if said and not quiet else ""
    return made


def failed(result: dict[str, Any], message: str, remedy: str) -> dict[str, Any]:
    """Return the result of a failure."""
    return {**result, "failed": True, "msg": f"{message}. {remedy}".strip(), "remedy": remedy}
