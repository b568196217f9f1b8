# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Nodes as the inventory knows them, and sessions to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._migrate.errors import NodeError, SessionLost
from ansible_collections.podferry.live.plugins.module_utils._migrate.ports import DEFAULT_PORTS, InventoryHost
from ansible_collections.podferry.live.plugins.module_utils._migrate.session import Event, Session
from ansible_collections.podferry.live.plugins.plugin_utils._stream import Stream, StreamError, open_stream

COMMAND = "/usr/local/libexec/podferry/podferry-node session"
_NOT_FOUND = 127
_HELLO_TIMEOUT_S = 45.0


class InventoryError(Exception):
    """A variable of a host is not of its form."""


def inventory(task_vars: Mapping[str, Any]) -> dict[str, list[InventoryHost]]:
    """Node name to inventory hosts: ``podferry_node_name``, else the host's own name.

    Raises InventoryError.
    """
    found: dict[str, list[InventoryHost]] = {}
    for name in task_vars["groups"]["all"]:
        variables = task_vars["hostvars"][name]
        node = str(variables.get("podferry_node_name") or name)
        address = variables.get("podferry_address")
        found.setdefault(node, []).append(
            InventoryHost(
                str(name), str(address) if address else None, ports(variables.get("podferry_ports"), str(name))
            )
        )
    return found


def own_host(task_vars: Mapping[str, Any]) -> tuple[str, InventoryHost]:
    """The node that the task's own host stands for, and that host. Raises InventoryError."""
    name = str(task_vars["inventory_hostname"])
    for node, hosts in inventory(task_vars).items():
        for host in hosts:
            if host.name == name:
                return node, host
    raise InventoryError(f"host {name} is not in the inventory: run this task on a node")


def ports(value: Any, host: str) -> tuple[int, int]:
    """``17900-17999``, ``17900`` or a list of two numbers."""
    if value is None:
        return DEFAULT_PORTS
    parts = str(value).split("-") if not isinstance(value, (list, tuple)) else list(value)
    try:
        first, last = int(parts[0]), int(parts[-1])
    except (ValueError, IndexError, TypeError):
        first, last = 0, -1
    if len(parts) > 2 or not 0 < first <= last < 65536:
        raise InventoryError(f"podferry_ports={value!r} of host {host} is not a range of ports such as 17900-17999")
    return first, last


def session_opener(
    task_vars: Mapping[str, Any], play_context: Any
) -> Callable[[InventoryHost, str, Callable[[Event], None]], Session]:
    """A function that opens a session to a host's node; it raises SessionLost or NodeError."""

    def open_session(host: InventoryHost, node: str, sink: Callable[[Event], None]) -> Session:
        try:
            stream = open_stream(host.name, task_vars["hostvars"][host.name], play_context, COMMAND)
        except StreamError as exc:
            raise SessionLost(node, str(exc), exc.remedy) from exc
        session = Session(
            node, stream.reader, stream.writer, on_event=sink, on_close=stream.close, explain=stream.last_words
        )
        try:
            session.call("hello", timeout_s=_HELLO_TIMEOUT_S)
            stream.established()
        except SessionLost as exc:
            session.close()
            raise _explained(exc, stream, node, host.name) from exc
        return session

    return open_session


def _explained(exc: SessionLost, stream: Stream, node: str, host: str) -> SessionLost | NodeError:
    if stream.returncode() == _NOT_FOUND:
        return NodeError(node, "engine_missing", f"{COMMAND.split()[0]} is not there", "Run playbooks/bootstrap.yml.")
    words = stream.last_words()
    return SessionLost(node, f"host {host}: {words or exc.message}")
