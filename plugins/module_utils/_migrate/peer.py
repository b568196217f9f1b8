# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A node during a run: its session, opened anew when it is lost and the request may be repeated."""

from __future__ import annotations

from typing import Any

from .errors import SessionLost
from .ports import InventoryHost, JsonDict, Reach, Tools
from .session import EventLog, NodeSession

#: Requests that may be sent again when it is not known whether they arrived.
_REPEATABLE = frozenset(
    (
        "hello",
        "facts",
        "inspect",
        "image",
        "image_pull",
        "runs",
        "store_entries",
        "store_leases",
        "store_lease",
        "store_release",
        "store_publish",
        "store_discard",
        "store_remove",
        "store_sweep",
        "record",
        "kill",
        "surrender",
        "thaw",
        "settle",
        "finish",
        "cancel",
    )
)
_REOPEN_PATIENCE_S = 60.0
_PAUSE_S = 1.0


class Peer:
    """One node. Before ``go`` the end of a session means: give up; so it is opened anew only for what is repeatable."""

    def __init__(self, node: str, host: InventoryHost, reach: Reach, events: EventLog) -> None:
        self.node = node
        self.host = host
        self._reach = reach
        self._events = events
        self._session: NodeSession | None = None

    def open(self) -> None:
        """Open the session if there is none. Raises SessionLost."""
        if self._session is None or not self._session.alive:
            self.close()
            self._session = self._reach.open_session(self.host, self.node, self._events.put)

    def call(self, op: str, *, timeout_s: float = 30.0, patience_s: float | None = None, **args: Any) -> JsonDict:
        """Ask the node; a lost session is opened anew for what may be repeated, for ``patience_s`` at most.

        Raises NodeError, SessionLost.
        """
        if patience_s is None:
            patience_s = _REOPEN_PATIENCE_S
        deadline = self._reach.clock() + patience_s
        while True:
            try:
                if op in _REPEATABLE:
                    self.open()
                if self._session is None:
                    raise SessionLost(self.node, f"there is no session to {self.node}")
                return self._session.call(op, timeout_s=timeout_s, **args)
            except SessionLost:
                if op not in _REPEATABLE or self._reach.clock() >= deadline:
                    raise
                self.close()
                self._reach.sleep(_PAUSE_S)

    @property
    def alive(self) -> bool:
        return self._session is not None and self._session.alive

    def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()


class Peers:
    """The nodes of one run by name; each is opened once."""

    def __init__(self, tools: Tools, events: EventLog) -> None:
        self._tools = tools
        self._events = events
        self._peers: dict[str, Peer] = {}

    def known(self, node: str) -> bool:
        """Does exactly one inventory host stand for the node?"""
        return len(self._tools.inventory.get(node, ())) == 1

    def get(self, node: str) -> Peer:
        """Raises SessionLost when the inventory does not say who the node is."""
        if node not in self._peers:
            hosts = self._tools.inventory.get(node, ())
            if len(hosts) != 1:
                raise SessionLost(
                    node,
                    f"{len(hosts)} inventory hosts stand for node {node}",
                    "Set podferry_node_name for exactly one host.",
                )
            self._peers[node] = Peer(node, hosts[0], self._tools, self._events)
        return self._peers[node]

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()
