# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ensures the RuntimeClass through the Kubernetes API, from the controller."""

from __future__ import annotations

import json
import os
import typing as t

from ansible_collections.podferry.live.plugins.module_utils._kube.config import AuthOptions
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import (
    KubeError,
    KubeSetupError,
    KubeUnavailable,
)
from ansible_collections.podferry.live.plugins.module_utils._kube.rest import RestClient
from ansible_collections.podferry.live.plugins.module_utils._kube.runtime_class import (
    Foreign,
    InUse,
    Outcome,
    Rest,
    RuntimeClass,
    users,
)
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction
from ansible_collections.podferry.live.plugins.plugin_utils._kube_arguments import KUBE_ARGUMENTS

ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "name": {"type": "str", "default": "podferry"},
    "state": {"type": "str", "choices": ["present", "absent", "unused"], "default": "present"},
    "nodes": {"type": "list", "elements": "str", "default": []},
    **KUBE_ARGUMENTS,
}


class ActionModule(ControllerAction):
    """Runs on the controller only; the host of the task does not matter."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        name, state = arguments["name"], arguments["state"]
        try:
            rest = RestClient.from_options(AuthOptions.from_params(arguments, os.environ))
            if state == "unused":
                refuse_users(rest, name, arguments["nodes"])
                return {**result, "changed": False}
            runtime_class = RuntimeClass(rest, name)
            check = bool(self._task.check_mode)
            outcome = runtime_class.ensure(dry_run=check) if state == "present" else runtime_class.remove(dry_run=check)
        except KubeSetupError as error:
            return failed(result, str(error), error.remedy or "")
        except KubeUnavailable as error:
            return failed(
                result, f"the Kubernetes API does not answer: {error}", "Check kubeconfig, context and the network."
            )
        except KubeError as error:
            return failed(
                result,
                f"the Kubernetes API refused: {error.message}",
                "The credentials need get, create and delete on runtimeclasses.node.k8s.io, and list on pods.",
            )
        except InUse as error:
            result["pods"] = error.pods
            return failed(
                result, str(error), "Delete these pods, or recreate them without runtimeClassName, and try again."
            )
        except Foreign as error:
            return failed(result, str(error), f"Delete it when no pod uses it: kubectl delete runtimeclass {name}")
        return {**result, **report(outcome, name)}


def refuse_users(rest: Rest, name: str, nodes: t.Collection[str]) -> None:
    """Refuse when pods on these nodes name the class.

    :raises InUse: they do.
    """
    pods = rest.request("GET", "/api/v1/pods").get("items") or []
    found = users([pod for pod in pods if (pod.get("spec") or {}).get("nodeName") in nodes], name)
    if found:
        raise InUse(name, found)


def report(outcome: Outcome, name: str) -> dict[str, t.Any]:
    """Return the result of a success."""
    header = f"RuntimeClass/{name}"
    return {
        "changed": outcome.changed,
        "runtime_class": outcome.after,
        "diff": {
            "before_header": header,
            "after_header": header,
            "before": _text(outcome.before),
            "after": _text(outcome.after),
        },
    }


def failed(result: dict[str, t.Any], message: str, remedy: str) -> dict[str, t.Any]:
    """Return the result of a failure."""
    return {**result, "failed": True, "msg": f"{message}. {remedy}".strip(), "remedy": remedy}


def _text(value: dict[str, t.Any] | None) -> str:
    return "" if value is None else json.dumps(value, indent=2, sort_keys=True) + "\n"
