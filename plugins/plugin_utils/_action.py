# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What the action plugins have in common."""

from __future__ import annotations

from ansible.plugins.action import ActionBase


class ControllerAction(ActionBase):  # type: ignore[misc]
    """Runs on the controller: through the Kubernetes API, and through sessions of its own to the nodes that are concerned.

    A run must see its end, so it is not left to itself (``async``).
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False
