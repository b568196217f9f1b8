# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Takes checkpoints of pods: the controller's side, shown as it happens."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display

from ansible_collections.podferry.live.plugins.module_utils._checkpoint.choose import select
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.make import Checkpoints, Taken, Wish
from ansible_collections.podferry.live.plugins.module_utils._kube.config import AuthOptions, context_namespace
from ansible_collections.podferry.live.plugins.module_utils._migrate.migration import api_errors
from ansible_collections.podferry.live.plugins.module_utils._plan.options import Options
from ansible_collections.podferry.live.plugins.module_utils._report.summary import human_bytes
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction
from ansible_collections.podferry.live.plugins.plugin_utils._kube_arguments import KUBE_ARGUMENTS
from ansible_collections.podferry.live.plugins.plugin_utils._screen import Screen, interruptible
from ansible_collections.podferry.live.plugins.plugin_utils._shelf import STORE_ARGUMENTS, vault_opener
from ansible_collections.podferry.live.plugins.plugin_utils._tools import EXPECTED, failed, make_tools

ARGUMENTS: dict[str, dict[str, Any]] = {
    "pod": {"type": "str"},
    "selector": {"type": "str"},
    "all": {"type": "bool", "default": False},
    "namespace": {"type": "str"},
    "tcp": {"type": "str", "choices": ["close", "refuse"], "default": "close"},
    "compression": {"type": "str", "choices": ["zstd", "none"], "default": "zstd"},
    "incremental": {"type": "bool", "default": True},
    "recipient": {"type": "str"},
    **STORE_ARGUMENTS,
    **KUBE_ARGUMENTS,
}


class ActionModule(ControllerAction):
    """Runs on the controller; the host of the task does not matter, those of the pods' nodes do."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec=ARGUMENTS,
            mutually_exclusive=[("pod", "selector", "all")],
        )
        screen = Screen(Display())
        try:
            tools = make_tools(
                arguments, task_vars or {}, self._play_context, screen, interrupt=screen.interrupted
            )  # fmt: skip
            namespace = arguments["namespace"] or context_namespace(AuthOptions.from_params(arguments, os.environ))
            options = Options(arguments["pod"] or "", "", namespace, tcp=arguments["tcp"])
            with api_errors("preflight"):
                pods = select(tools, options, selector=arguments["selector"] or "", everything=arguments["all"])
            wish = Wish(arguments["compression"], arguments["recipient"] or "", arguments["incremental"])
            work = Checkpoints(tools, vault_opener(arguments), options, wish)
            try:
                with interruptible(screen.interrupted):
                    taken = [work.take(pod, dry=bool(self._task.check_mode)) for pod in pods]
            finally:
                work.close()
        except EXPECTED as exc:
            return failed(result, exc)
        screen.lines([line(each) for each in taken])
        return outcome(result, taken)


def line(taken: Taken) -> str:
    """One checkpoint for a person."""
    what = f"{taken.namespace}/{taken.pod}"
    if taken.outcome == "stored":
        stored = human_bytes(taken.bytes.get("stored", 0))
        return f"{what}: {taken.id}, {stored} stored, stood {taken.frozen_ms:.0f} ms"
    reasons = [r["reason"] for r in taken.refusals] or [(taken.error or {}).get("message", "")]
    return f"{what}: {taken.outcome} {' '.join(r for r in reasons if r)}".rstrip()


def outcome(result: dict[str, Any], taken: list[Taken]) -> dict[str, Any]:
    """The task's result. Every pod must have come to its checkpoint."""
    result["checkpoints"] = [each.to_dict() for each in taken]
    result["changed"] = any(each.outcome in ("stored", "planned") for each in taken)
    bad = [each for each in taken if each.outcome in ("refused", "cancelled", "failed")]
    if not bad:
        return {**result, "msg": f"{len(taken)} checkpoint{'s' * (len(taken) != 1)}"}
    return {
        **result,
        "failed": True,
        "msg": "\n".join(line(each) for each in bad),
        "remedy": "\n".join(dict.fromkeys(r for each in bad for r in remedies(each))),
    }


def remedies(taken: Taken) -> list[str]:
    """What can be done about it."""
    found: list[Mapping[str, str]] = [*taken.refusals, *([taken.error] if taken.error else [])]
    return [str(each["remedy"]) for each in found if each.get("remedy")]
