# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Takes checkpoints away that are too many, too old or too large: the controller's side."""

from __future__ import annotations

import datetime
from typing import Any

from ansible.utils.display import Display

from ansible_collections.podferry.live.plugins.module_utils._checkpoint import prune
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.retention import Policy
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._report.summary import human_bytes
from ansible_collections.podferry.live.plugins.module_utils._store import names
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction
from ansible_collections.podferry.live.plugins.plugin_utils._screen import Screen
from ansible_collections.podferry.live.plugins.plugin_utils._shelf import STORE_OPTIONS
from ansible_collections.podferry.live.plugins.plugin_utils._stores import desk
from ansible_collections.podferry.live.plugins.plugin_utils._tools import EXPECTED, failed

ARGUMENTS: dict[str, dict[str, Any]] = {
    "store": {"type": "dict", "options": STORE_OPTIONS},
    "namespace": {"type": "str"},
    "pod": {"type": "str"},
    "count": {"type": "int"},
    "age": {"type": "str"},
    "bytes": {"type": "bytes"},
    "at_least": {"type": "int", "default": 1},
}


class ActionModule(ControllerAction):
    """The task's host is the node that reaches the store; for a bucket no node is asked."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec=ARGUMENTS,
            required_one_of=[("count", "age", "bytes")],
            required_by={"pod": ("namespace",)},
        )
        dry = bool(self._task.check_mode)
        try:
            limits = policy(arguments)
            with desk(task_vars or {}, self._play_context) as opened:
                done = prune.prune(
                    opened.shelf(arguments["store"]),
                    limits,
                    datetime.datetime.now(datetime.UTC),
                    namespace=arguments["namespace"] or "",
                    pod=arguments["pod"] or "",
                    dry=dry,
                )
        except EXPECTED as exc:
            return failed(result, exc)
        made = outcome(done, dry=dry)
        Screen(Display()).lines(made.pop("lines"))
        return {**result, **made}


def policy(arguments: dict[str, Any]) -> Policy:
    """The limits. Raises InvalidInput."""
    for name, least in (("count", 1), ("bytes", 1), ("at_least", 0)):
        if arguments[name] is not None and arguments[name] < least:
            raise InvalidInput(f"{name}={arguments[name]}: at least {least}")
    if arguments["pod"] and not arguments["namespace"]:  # it would be that pod's name in every namespace
        raise InvalidInput("pod is given, and namespace is empty", "Give the pod's namespace.")
    if arguments["namespace"]:
        names.valid_place(arguments["namespace"], arguments["pod"] or "any")
    return Policy(
        count=arguments["count"],
        age=prune.parse_age(arguments["age"]) if arguments["age"] else None,
        bytes=arguments["bytes"],
        at_least=arguments["at_least"],
    )


def outcome(done: prune.Pruned, *, dry: bool) -> dict[str, Any]:
    """The task's result, and the lines for a person."""
    removed: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    lines = []
    for verdict in done.verdicts:
        made = verdict.manifest
        shown = {
            "namespace": made.namespace,
            "pod": made.pod,
            "checkpoint": made.id,
            "stored": made.bytes["stored"],
            "reason": verdict.reason,
        }
        gone = verdict.remove and made.id not in done.busy
        if verdict.remove and not gone:
            shown["reason"] = "in use just now"
        (removed if gone else kept).append(shown)
        word = ("would go" if dry else "gone") if gone else "stays"
        lines.append(
            f"{made.namespace}/{made.pod} {made.id} {human_bytes(made.bytes['stored'])}: {word}, {shown['reason']}"
        )
    said = f"{len(removed)} of {len(done.verdicts)} checkpoints {'would go' if dry else 'are gone'}, {human_bytes(done.freed + done.leftovers)}"
    return {
        "changed": done.changed,
        "removed": removed,
        "kept": kept,
        "freed": done.freed,
        "leftovers": done.leftovers,
        "msg": said,
        "lines": lines,
    }
