# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stops the migration of a pod, from whichever controller it was begun."""

from __future__ import annotations

import os
import threading
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.podferry.live.plugins.module_utils._kube.config import AuthOptions, context_namespace
from ansible_collections.podferry.live.plugins.module_utils._migrate.cancel import Cancel, Cancelled
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction
from ansible_collections.podferry.live.plugins.plugin_utils._kube_arguments import KUBE_ARGUMENTS
from ansible_collections.podferry.live.plugins.plugin_utils._screen import Screen
from ansible_collections.podferry.live.plugins.plugin_utils._tools import EXPECTED, failed, make_tools

ARGUMENTS: dict[str, dict[str, Any]] = {
    "pod": {"type": "str", "required": True},
    "namespace": {"type": "str"},
    **KUBE_ARGUMENTS,
}


class ActionModule(ControllerAction):
    """Runs on the controller; asks the nodes of the inventory."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        pod = arguments["pod"].strip()
        if not pod:
            raise AnsibleActionFail("pod is empty: -e pod=NAME")
        try:
            tools = make_tools(
                arguments, task_vars or {}, self._play_context, Screen(Display()), interrupt=threading.Event()
            )
            namespace = arguments["namespace"] or context_namespace(AuthOptions.from_params(arguments, os.environ))
            cancel = Cancel(namespace, pod, tools)
            return outcome(result, cancel.look() if self._task.check_mode else cancel.cancel())
        except EXPECTED as exc:
            return failed(result, exc)


def outcome(result: dict[str, Any], cancelled: Cancelled) -> dict[str, Any]:
    """The task's result. Too late is a failure: what was asked for did not happen."""
    result["migration"] = cancelled.to_dict()
    result["changed"] = cancelled.outcome == "cancelled"
    if cancelled.outcome != "too_late":
        return {**result, "msg": cancelled.message}
    return {**result, "failed": True, "msg": f"{cancelled.message}. {cancelled.remedy}", "remedy": cancelled.remedy}
