# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Creates the pod that a checkpoint is restored into, and takes our marks from it once it runs."""

from __future__ import annotations

from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._checkpoint.pod import RestoredPod
from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeError, KubeUnavailable
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction
from ansible_collections.podferry.live.plugins.plugin_utils._kube_arguments import KUBE_ARGUMENTS
from ansible_collections.podferry.live.plugins.plugin_utils._tools import EXPECTED, failed, make_cluster

ARGUMENTS: dict[str, dict[str, Any]] = {
    "manifest": {"type": "dict", "required": True},
    "state": {"type": "str", "choices": ["present", "ready", "absent"], "default": "present"},
    "timeout": {"type": "int", "default": 300},
    **KUBE_ARGUMENTS,
}


class ActionModule(ControllerAction):
    """Runs on the controller only; the host of the task does not matter."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        try:
            pod = RestoredPod(make_cluster(arguments), arguments["manifest"])
            act = {"present": pod.create, "ready": pod.settle, "absent": pod.remove}[arguments["state"]]
            changed, found = act(dry=bool(self._task.check_mode), timeout_s=float(arguments["timeout"]))
        except EXPECTED as exc:
            return failed(result, exc)
        except KubeUnavailable as exc:
            return failed(result, PodferryError(f"the Kubernetes API does not answer: {exc}", "Run the play again."))
        except KubeError as exc:
            return failed(result, PodferryError(f"the Kubernetes API says: {exc.message}", remedy_for(exc)))
        return {**result, "changed": changed, "pod": found, "name": pod.name, "namespace": pod.namespace}


def remedy_for(error: KubeError) -> str:
    """What to do about an answer of the API."""
    if error.status in (401, 403):
        return "The credentials need get, create, patch and delete on pods (docs/rbac.yml)."
    if error.conflict:
        return "Restore under another name (name=), or remove the pod of that name first."
    return ""
