# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Stores of checkpoints as a task's own host reaches them, and other nodes'."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._checkpoint.stores import Shelf, open_shelf
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.transfer import Node, Receiver
from ansible_collections.podferry.live.plugins.module_utils._migrate.peer import Peer
from ansible_collections.podferry.live.plugins.module_utils._migrate.ports import InventoryHost, Sessions
from ansible_collections.podferry.live.plugins.module_utils._migrate.session import EventLog
from ansible_collections.podferry.live.plugins.plugin_utils._nodes import (
    InventoryError,
    inventory,
    own_host,
    session_opener,
)
from ansible_collections.podferry.live.plugins.plugin_utils._shelf import store_of

_ASK_TIMEOUT_S = 600.0


class Desk:
    """Opens stores for one task. Sessions to nodes are opened when they are needed, and closed at the end.

    :param task_vars: the task's variables; its host is the node that reaches stores.
    """

    def __init__(self, task_vars: Mapping[str, Any], play_context: Any) -> None:
        self._task_vars = task_vars
        self._play_context = play_context
        self._peers: dict[str, Peer] = {}

    def own(self) -> Peer:
        """The node that the task's host is. Raises InventoryError."""
        node, host = own_host(self._task_vars)
        return self._peer(node, host)

    def receiver(self, node: str) -> Receiver:
        """Another node, to be sent to. Raises InventoryError."""
        hosts = inventory(self._task_vars).get(node, [])
        if len(hosts) != 1:
            raise InventoryError(f"{len(hosts)} inventory hosts stand for node {node}: set podferry_node_name for one")
        (host,) = hosts
        variables = self._task_vars["hostvars"][host.name]
        address = host.address or str(variables.get("ansible_host") or host.name)
        return Receiver(self._peer(node, host), address, host.ports)

    def shelf(self, store: Mapping[str, Any] | None, node: Node | None = None) -> Shelf:
        """The store of a task's arguments. Raises InvalidInput, PodferryError."""

        def ask(operation: str, **more: Any) -> Mapping[str, Any]:
            return (node or self.own()).call(operation, timeout_s=_ASK_TIMEOUT_S, **more)

        return open_shelf(store_of(store), ask)

    def _peer(self, node: str, host: InventoryHost) -> Peer:
        if node not in self._peers:
            reach = Sessions(session_opener(self._task_vars, self._play_context))
            self._peers[node] = Peer(node, host, reach, EventLog())
            self._peers[node].open()
        return self._peers[node]

    def close(self) -> None:
        """End all sessions."""
        for peer in self._peers.values():
            peer.close()


@contextlib.contextmanager
def desk(task_vars: Mapping[str, Any], play_context: Any) -> Iterator[Desk]:
    """A desk for the length of a block."""
    made = Desk(task_vars, play_context)
    try:
        yield made
    finally:
        made.close()
