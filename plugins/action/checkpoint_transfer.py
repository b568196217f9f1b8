# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Copies a checkpoint between stores: the controller's side."""

from __future__ import annotations

import secrets
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._checkpoint import transfer
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.stores import Shelf, location
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._report.summary import human_bytes
from ansible_collections.podferry.live.plugins.module_utils._store import names
from ansible_collections.podferry.live.plugins.plugin_utils._action import ControllerAction
from ansible_collections.podferry.live.plugins.plugin_utils._shelf import STORE_OPTIONS, store_of
from ansible_collections.podferry.live.plugins.plugin_utils._stores import Desk, desk
from ansible_collections.podferry.live.plugins.plugin_utils._tools import EXPECTED, failed

ARGUMENTS: dict[str, dict[str, Any]] = {
    "pod": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "default"},
    "checkpoint": {"type": "str", "default": "latest"},
    "store": {"type": "dict", "options": STORE_OPTIONS},
    "to": {"type": "dict", "options": STORE_OPTIONS},
    "target": {"type": "str"},
    "move": {"type": "bool", "default": False},
    "verify_key": {"type": "str", "no_log": False},
}


class ActionModule(ControllerAction):
    """The task's host is the node that reaches both stores, or the source's."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec=ARGUMENTS, required_one_of=[("to", "target")]
        )
        try:
            with desk(task_vars or {}, self._play_context) as opened:
                done = work(opened, arguments, dry=bool(self._task.check_mode))
        except EXPECTED as exc:
            return failed(result, exc)
        return {**result, **outcome(done, dry=bool(self._task.check_mode))}


def work(opened: Desk, arguments: dict[str, Any], *, dry: bool) -> transfer.Transferred:
    """Find the checkpoint and bring it over. Raises PodferryError, InventoryError."""
    place = names.valid_place(arguments["namespace"], arguments["pod"])
    if arguments["checkpoint"] != "latest":
        names.valid_id(arguments["checkpoint"])
    source, target, receiver = ends(opened, arguments)
    entry = transfer.find(source, place, arguments["checkpoint"], arguments["verify_key"] or "")
    if dry:
        there = transfer.present(target, entry)
        return transfer.Transferred(entry, not there or arguments["move"])
    return transfer.transfer(
        entry, source, target, opened.own(), secrets.token_hex(6), receiver=receiver, move=arguments["move"]
    )


def ends(opened: Desk, arguments: dict[str, Any]) -> tuple[Shelf, Shelf, transfer.Receiver | None]:
    """Both stores, and the node that the second belongs to. Raises InvalidInput, InventoryError."""
    store, to = store_of(arguments["store"]), store_of(arguments["to"])
    source = opened.shelf(store)
    if not arguments["target"]:
        if location(store) == location(to):
            raise InvalidInput(
                "the checkpoint would be copied to where it is", "Give another store as to, or a target."
            )
        return source, opened.shelf(to), None
    if to["kind"] != "path":
        raise InvalidInput(
            f"target is a node, and a store of the kind {to['kind']} is none's own", "Leave target out, or to."
        )
    receiver = opened.receiver(arguments["target"])
    if receiver.node is opened.own():
        raise InvalidInput("target is the node that sends", "Run the task on the node that has the checkpoint.")
    return source, opened.shelf(to, receiver.node), receiver


def outcome(done: transfer.Transferred, *, dry: bool) -> dict[str, Any]:
    """The task's result."""
    made = done.entry.manifest
    what = f"{made.namespace}/{made.pod} {made.id}"
    if not done.changed:
        said = f"{what} is there already"
    elif dry:
        said = f"{what} would be copied"
    else:
        said = f"{what}: {human_bytes(done.bytes)} in {done.blobs} parts sent, {done.present} were there"
    return {
        "changed": done.changed,
        "checkpoint": made.id,
        "bytes": done.bytes,
        "blobs": done.blobs,
        "present": done.present,
        "freed": done.freed,
        "msg": said,
    }
