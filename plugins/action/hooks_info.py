# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the hooks of a migration, on the controller."""

from __future__ import annotations

import copy
import os
from typing import Any

from ansible.errors import AnsibleError, AnsibleParserError
from ansible.playbook.play import Play

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._hooks.spec import Surroundings, parse
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction

ARGUMENTS: dict[str, dict[str, Any]] = {
    "pre_migration": {"type": "raw"},
    "post_migration": {"type": "raw"},
    "values": {"type": "dict", "default": {}},
}
PHASES = ("pre_migration", "post_migration")


class ActionModule(ControllerAction):
    """Runs on the controller only; the host of the task does not matter."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        around = Surroundings(
            load_tasks=self._load,
            absolute=lambda path: os.path.abspath(os.path.expanduser(path)),
            hosts=((task_vars or {}).get("groups") or {}).get("all") or [],
            values=arguments["values"],
        )
        parsed = {phase: parse(phase, arguments[phase], around) for phase in PHASES}
        errors = [error for _hooks, found in parsed.values() for error in found]
        if errors:
            return {**result, "failed": True, "errors": errors, "msg": "\n".join(errors)}
        hooks = {phase: [hook.to_dict() for hook in found] for phase, (found, _errors) in parsed.items()}
        titles = [
            f"{phase} {number}: {hook['title']}" for phase in PHASES for number, hook in enumerate(hooks[phase], 1)
        ]
        return {**result, "changed": False, **hooks, "titles": titles}

    def _load(self, path: str) -> Any:
        """A task file as Ansible reads it (vaulted ones too). Raises InvalidInput."""
        if not os.path.isfile(path):
            raise InvalidInput(f"there is no task file {path} on the controller")
        try:
            content = self._loader.load_from_file(path)
        except AnsibleError as exc:
            raise InvalidInput(f"task file {path} cannot be read: {exc}") from exc
        if isinstance(content, list) and not any("hosts" in task for task in content if isinstance(task, dict)):
            self._compile(path, content)
        return content

    def _compile(self, path: str, content: list[Any]) -> None:
        """Let Ansible parse the tasks: a module that it does not know would end the whole play when they are included."""
        play = {"hosts": "localhost", "gather_facts": False, "tasks": without_imports(copy.deepcopy(content))}
        try:
            Play.load(play, loader=self._loader)
        except AnsibleParserError as exc:
            raise InvalidInput(f"task file {path}: {exc}") from exc


def without_imports(tasks: Any) -> Any:
    """The tasks without static imports: those are looked for beside a file, and here there is none."""
    if not isinstance(tasks, list):
        return tasks
    kept = []
    for task in tasks:
        if isinstance(task, dict):
            if any(str(key).rpartition(".")[2] in ("import_tasks", "import_role") for key in task):
                continue
            for part in ("block", "rescue", "always"):
                if part in task:
                    task[part] = without_imports(task[part])
        kept.append(task)
    return kept
