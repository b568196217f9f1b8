# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Empties a node: the controller's side of many migrations, shown as they happen."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.podferry.live.plugins.module_utils._drain.drain import Drain
from ansible_collections.podferry.live.plugins.module_utils._drain.options import DrainOptions
from ansible_collections.podferry.live.plugins.module_utils._plan.estimate import MIB
from ansible_collections.podferry.live.plugins.module_utils._report import file as report_file
from ansible_collections.podferry.live.plugins.module_utils._report.drain import (
    DrainReport,
    PodRecord,
    summary,
    table,
)
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction
from ansible_collections.podferry.live.plugins.plugin_utils._kube_arguments import KUBE_ARGUMENTS
from ansible_collections.podferry.live.plugins.plugin_utils._screen import OfPod, Screen, interruptible
from ansible_collections.podferry.live.plugins.plugin_utils._tools import EXPECTED, failed, make_cluster, make_tools

ARGUMENTS: dict[str, dict[str, Any]] = {
    "node": {"type": "str", "required": True},
    "target": {"type": "str"},
    "namespace": {"type": "str"},
    "selector": {"type": "str"},
    "tcp": {"type": "str", "choices": ["close", "refuse"], "default": "close"},
    "parallel": {"type": "int", "default": 2},
    "per_node": {"type": "int", "default": 2},
    "freezes": {"type": "int", "default": 1},
    "bandwidth": {"type": "int"},
    "rest": {"type": "str", "choices": ["leave", "evict"], "default": "leave"},
    "uncordon": {"type": "str", "choices": ["on_failure", "always", "never"], "default": "on_failure"},
    "deadline": {"type": "int"},
    "report": {"type": "path"},
    "ready_timeout": {"type": "int", "default": 300},
    **KUBE_ARGUMENTS,
}


class ActionModule(ControllerAction):
    """Runs on the controller; the host of the task does not matter, those of the nodes do."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        display = Display()
        screen = Screen(display)
        chosen = options(arguments)
        try:
            tools = make_tools(
                arguments,
                task_vars or {},
                self._play_context,
                screen,
                interrupt=screen.interrupted,
                ready_timeout_s=float(arguments["ready_timeout"]),
            )
            drain = Drain(
                chosen,
                tools,
                make_cluster(arguments),
                reporter_of=lambda record: OfPod(screen, record.title, every_phase=display.verbosity > 0),
            )
            if self._task.check_mode:
                report = drain.preview()
            else:
                with interruptible(screen.interrupted):
                    report = drain.run()
        except EXPECTED as exc:
            return failed(result, exc)
        lines = table(report) if report.outcome == "planned" else summary(report)
        made = outcome(result, report, lines)
        if not made.get("failed") or screen.interrupted.is_set():  # a failure's lines are in its message
            screen.lines(lines)
        if arguments["report"] and not self._task.check_mode:
            try:
                report_file.write(arguments["report"], report)
            except OSError as exc:
                screen.warning(f"the report cannot be written to {arguments['report']}: {exc}")
        return made


def options(arguments: dict[str, Any]) -> DrainOptions:
    """The arguments as the engine takes them. Raises AnsibleActionFail."""
    node = arguments["node"].strip()
    if not node:
        raise AnsibleActionFail("node is empty: -e node=NAME")
    for name in ("parallel", "per_node", "freezes", "bandwidth", "deadline"):
        if arguments[name] is not None and arguments[name] < 1:
            raise AnsibleActionFail(f"{name}={arguments[name]}: at least 1")
    target = (arguments["target"] or "").strip()
    if target == node:
        raise AnsibleActionFail(f"target={target} is the node that is to be emptied")
    return DrainOptions(
        node=node,
        target=target,
        namespace=(arguments["namespace"] or "").strip(),
        selector=(arguments["selector"] or "").strip(),
        tcp=arguments["tcp"],
        parallel=arguments["parallel"],
        per_node=arguments["per_node"],
        freezes=arguments["freezes"],
        bandwidth=(arguments["bandwidth"] or 0) * MIB,
        rest=arguments["rest"],
        uncordon=arguments["uncordon"],
        deadline_s=float(arguments["deadline"]) if arguments["deadline"] else None,
    )


def outcome(result: dict[str, Any], report: DrainReport, lines: list[str]) -> dict[str, Any]:
    """The task's result, the same form for every outcome."""
    result["report"] = report.to_dict()
    result["changed"] = changed(report)
    if report.outcome == "drained" or (report.outcome == "planned" and not any(pod.failed for pod in report.pods)):
        return {**result, "msg": lines[0]}
    remedies = [report.remedy] + [pod.remedy for pod in report.pods if pod.failed]
    return {
        **result,
        "failed": True,
        "msg": "\n".join(lines),
        "remedy": "\n".join(dict.fromkeys(r for r in remedies if r)),
    }


def changed(report: DrainReport) -> bool:
    """Was (or would be) anything changed: a pod, or the node."""

    def touched(pod: PodRecord) -> bool:
        return (
            pod.outcome in ("finished", "in_doubt", "evicted", "evicting")
            or pod.restored_at_home
            or (pod.outcome == "planned" and pod.decision != "leave")
        )

    return report.changed_node or any(touched(pod) for pod in report.pods)
