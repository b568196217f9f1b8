# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Restores a checkpoint on the host of the task: leaves the arrival, waits for the restore, or takes it all away."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.podferry.live.plugins.module_utils._checkpoint.restore import RestoreFailed, Restores, Wanted
from ansible_collections.podferry.live.plugins.module_utils._common.digest import engine_digest
from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._migrate.peer import Peer
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction
from ansible_collections.podferry.live.plugins.plugin_utils._nodes import InventoryError
from ansible_collections.podferry.live.plugins.plugin_utils._shelf import STORE_ARGUMENTS, vault_opener
from ansible_collections.podferry.live.plugins.plugin_utils._tools import failed, node_peer, who

MODULE_UTILS = Path(__file__).resolve().parent.parent / "module_utils"
ARGUMENTS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["armed", "restored", "absent"], "default": "armed"},
    "run": {"type": "str"},
    "namespace": {"type": "str"},
    "pod": {"type": "str"},
    "checkpoint": {"type": "str", "default": "latest"},
    "name": {"type": "str"},
    "to_namespace": {"type": "str"},
    "same_name": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 180},
    **STORE_ARGUMENTS,
}


class ActionModule(ControllerAction):
    """Talks to the node that the task's host is, through a session of its own."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            argument_spec=ARGUMENTS,
            required_if=[
                ("state", "armed", ("namespace", "pod")),
                ("state", "restored", ("run",)),
                ("state", "absent", ("run",)),
            ],
        )
        if arguments["same_name"] and arguments["name"]:
            raise AnsibleActionFail("name and same_name exclude each other")
        run = arguments["run"] or secrets.token_hex(6)
        if not re.fullmatch(r"[0-9a-f]{12}", run):
            raise AnsibleActionFail(f"run={run!r} is not the id that state=armed has returned")
        try:
            peer = node_peer(task_vars, self._play_context)
        except InventoryError as exc:
            return {**failed(result, exc), "run": run}
        try:
            restores = Restores(peer, vault_opener(arguments)(peer), engine_digest(str(MODULE_UTILS)))
            return {**result, "run": run, **self._carry_out(restores, peer, run, arguments, who(task_vars))}
        except RestoreFailed as exc:
            return {**failed(result, exc), "run": run, "criu_log": exc.log}
        except PodferryError as exc:
            return {**failed(result, exc), "run": run}
        finally:
            peer.close()

    def _carry_out(
        self, restores: Restores, peer: Peer, run: str, arguments: dict[str, Any], by: str
    ) -> dict[str, Any]:
        if arguments["state"] == "armed":
            wanted = Wanted(
                arguments["namespace"],
                arguments["pod"],
                arguments["checkpoint"],
                arguments["to_namespace"] or "",
                arguments["name"] or "",
                arguments["same_name"],
            )
            if self._task.check_mode:
                entry = restores.look(wanted)
                return {"changed": True, "checkpoint": entry.manifest.id, "msg": f"would restore {entry.manifest.id}"}
            armed = restores.arm(wanted, run, context={"by": by})
            return {
                "changed": True,
                "checkpoint": armed.checkpoint,
                "node": armed.node,
                "manifest": armed.manifest,
                "warnings": armed.warnings,
                "msg": f"{armed.checkpoint} waits on {armed.node} for pod {armed.namespace}/{armed.pod}",
            }
        if arguments["state"] == "absent":
            dry = bool(self._task.check_mode)
            changed = restores.known(run) if dry else restores.end(run)
            did = f"{'would take' if dry else 'took'} run {run} from {peer.node}"
            return {"changed": changed, "msg": did if changed else f"{peer.node} has nothing of run {run}"}
        if self._task.check_mode:
            return {"changed": False, "msg": f"would wait for the restore of run {run}"}
        containers = restores.wait(run, float(arguments["timeout"]))
        return {"changed": False, "containers": containers, "msg": f"restored on {peer.node}"}
