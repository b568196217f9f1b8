# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves a pod: the controller's side of a migration, shown as it happens."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.podferry.live.plugins.module_utils._kube.config import AuthOptions, context_namespace
from ansible_collections.podferry.live.plugins.module_utils._migrate.migration import Migration
from ansible_collections.podferry.live.plugins.module_utils._plan.diff import diff
from ansible_collections.podferry.live.plugins.module_utils._plan.options import Options
from ansible_collections.podferry.live.plugins.module_utils._plan.plan import Plan
from ansible_collections.podferry.live.plugins.module_utils._report import file as report_file
from ansible_collections.podferry.live.plugins.module_utils._report.record import Report
from ansible_collections.podferry.live.plugins.module_utils._report.summary import summary
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction
from ansible_collections.podferry.live.plugins.plugin_utils._kube_arguments import KUBE_ARGUMENTS
from ansible_collections.podferry.live.plugins.plugin_utils._screen import Screen, interruptible
from ansible_collections.podferry.live.plugins.plugin_utils._shelf import STORE_OPTIONS, make_detour
from ansible_collections.podferry.live.plugins.plugin_utils._tools import EXPECTED, failed, make_tools

ARGUMENTS: dict[str, dict[str, Any]] = {
    "pod": {"type": "str", "required": True},
    "target": {"type": "str", "required": True},
    "namespace": {"type": "str"},
    "name": {"type": "str", "choices": ["auto", "keep", "new"], "default": "auto"},
    "tcp": {"type": "str", "choices": ["close", "refuse"], "default": "close"},
    "source_policy": {"type": "str", "choices": ["freeze", "keep_running"], "default": "freeze"},
    "transfer": {"type": "dict", "options": STORE_OPTIONS},
    "report": {"type": "path"},
    "stop_after": {"type": "str", "choices": ["preflight", "end"], "default": "end"},
    "ready_timeout": {"type": "int", "default": 300},
    **KUBE_ARGUMENTS,
}
_GOOD = ("finished", "already_there", "planned")


class ActionModule(ControllerAction):
    """Runs on the controller; the host of the task does not matter, those of the two nodes do."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        screen = Screen(Display())
        try:
            tools = make_tools(
                arguments,
                task_vars,
                self._play_context,
                screen,
                interrupt=screen.interrupted,
                ready_timeout_s=float(arguments["ready_timeout"]),
                detour=make_detour(arguments["transfer"]) if arguments["transfer"] else None,
            )
            migration = Migration(self._options(arguments), tools)
            plan: Plan | None
            if self._task.check_mode:
                plan, report = migration.preview()
            else:
                with interruptible(tools.interrupt):
                    plan, report = migration.move() if arguments["stop_after"] == "end" else migration.prepare()
        except EXPECTED as exc:
            return failed(result, exc)
        lines = summary(report)
        if report.outcome in _GOOD or screen.interrupted.is_set():  # a failure's lines are in its message
            screen.lines(lines)
        self._write(arguments["report"], report, screen)
        return outcome(result, plan, report, lines, check=bool(self._task.check_mode))

    def _options(self, arguments: dict[str, Any]) -> Options:
        for option in ("pod", "target"):
            if not arguments[option].strip():
                raise AnsibleActionFail(f"{option} is empty: -e {option}=NAME")
        return Options(
            pod=arguments["pod"].strip(),
            target=arguments["target"].strip(),
            namespace=arguments["namespace"] or context_namespace(AuthOptions.from_params(arguments, os.environ)),
            name=arguments["name"],
            tcp=arguments["tcp"],
            source_policy=arguments["source_policy"],
            through=bool(arguments["transfer"]),
        )

    def _write(self, path: str | None, report: Report, screen: Screen) -> None:
        if not path or self._task.check_mode or report.outcome == "planned":
            return
        try:
            report_file.write(path, report)
        except OSError as exc:
            screen.warning(f"the report cannot be written to {path}: {exc}")


def outcome(
    result: dict[str, Any], plan: Plan | None, report: Report, lines: list[str], *, check: bool
) -> dict[str, Any]:
    """The task's result, the same form for every outcome."""
    result["report"] = report.to_dict()
    result["plan"] = plan.to_dict() if plan is not None else None
    result["changed"] = (
        report.outcome in ("finished", "in_doubt")
        or report.restored_at_home
        or (check and plan is not None and plan.changed)
    )
    if plan is not None and (check or report.outcome == "finished"):
        result["diff"] = diff(plan)
    if report.outcome in _GOOD:
        result["msg"] = lines[0]
        return result
    remedies = [r["remedy"] for r in report.refusals] if report.outcome == "refused" else []
    if report.error is not None and report.error.remedy:
        remedies.append(report.error.remedy)
    return {**result, "failed": True, "msg": "\n".join(lines), "remedy": "\n".join(remedies)}
