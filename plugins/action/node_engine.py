# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hands the node's part of this collection, as it is on the controller, to the module of the same name."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.podferry.live.plugins.module_utils._common.digest import engine_digest
from ansible_collections.podferry.live.plugins.module_utils._node import engine

MODULE_UTILS = Path(__file__).resolve().parent.parent / "module_utils"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Fills in ``files`` and compares digests."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if "files" in arguments:
            raise AnsibleActionFail("files cannot be given: they are those of the collection on the controller")
        if arguments.get("state", "present") == "present":
            arguments["files"] = engine.sources(str(MODULE_UTILS))
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
        result.pop("invocation", None)  # the sources again
        expected = engine_digest(str(MODULE_UTILS))
        if arguments.get("state", "present") == "present" and not self._task.check_mode:
            installed = result.get("digest")
            if not result.get("failed") and installed != expected:
                raise AnsibleActionFail(
                    f"the node's code has digest {installed} after the installation, not {expected}"
                )
        return result
