# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What can stop a migration, as the controller sees it."""

from __future__ import annotations

from .._common.errors import Cancelled, DeadlineExceeded, LinkLost, PodferryError

__all__ = ["Cancelled", "DeadlineExceeded", "LinkLost", "NodeError", "PodferryError", "SessionLost", "Unfinished"]


class NodeError(PodferryError):
    """A node answered a request with an error. ``type`` is the node's word for it."""

    kind = "node"

    def __init__(self, node: str, type_: str, message: str, remedy: str = "", phase: str = "") -> None:
        super().__init__(message, remedy, phase)
        self.node = node
        self.type = type_


class SessionLost(PodferryError):
    """The session to a node has ended or does not answer; what the node does is not known by this."""

    kind = "session_lost"

    def __init__(self, node: str, message: str, remedy: str = "") -> None:
        super().__init__(
            message,
            remedy or f"Check the connection to {node} and run the play again: it goes on where this run ended.",
        )
        self.node = node


class Unfinished(PodferryError):
    """After the commit point something did not come about in time. Nothing may be taken back; a later run goes on."""

    kind = "unfinished"
