# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What the engine needs from outside, made from a task's arguments and variables."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._common.digest import engine_digest
from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kube.cluster import Cluster
from ansible_collections.podferry.live.plugins.module_utils._kube.config import AuthOptions
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeSetupError
from ansible_collections.podferry.live.plugins.module_utils._kube.rest import RestClient
from ansible_collections.podferry.live.plugins.module_utils._migrate.peer import Peer
from ansible_collections.podferry.live.plugins.module_utils._migrate.ports import Detour, Reporter, Sessions, Tools
from ansible_collections.podferry.live.plugins.module_utils._migrate.session import EventLog
from ansible_collections.podferry.live.plugins.plugin_utils._nodes import (
    InventoryError,
    inventory,
    own_host,
    session_opener,
)

MODULE_UTILS = Path(__file__).resolve().parent.parent / "module_utils"

EXPECTED = (KubeSetupError, InventoryError, PodferryError)
"""What ends a task before anything was touched, with a reason to tell."""


def make_cluster(arguments: Mapping[str, Any]) -> Cluster:
    """The API that a task's arguments name. Raises KubeSetupError."""
    return Cluster(RestClient.from_options(AuthOptions.from_params(dict(arguments), os.environ)))


def make_tools(
    arguments: Mapping[str, Any],
    task_vars: Mapping[str, Any],
    play_context: Any,
    reporter: Reporter,
    *,
    interrupt: threading.Event,
    ready_timeout_s: float = 300.0,
    detour: Detour | None = None,
) -> Tools:
    """Everything from outside. Raises KubeSetupError, InventoryError."""
    return Tools(
        cluster=make_cluster(arguments),
        open_session=session_opener(task_vars, play_context),
        inventory=inventory(task_vars),
        reporter=reporter,
        own_digest=engine_digest(str(MODULE_UTILS)),
        new_run=lambda: secrets.token_hex(6),
        who=who(task_vars),
        ready_timeout_s=ready_timeout_s,
        interrupt=interrupt,
        detour=detour,
    )


def node_peer(task_vars: Mapping[str, Any], play_context: Any) -> Peer:
    """The node that the task's own host stands for. Raises InventoryError."""
    node, host = own_host(task_vars)
    return Peer(node, host, Sessions(session_opener(task_vars, play_context)), EventLog())


def who(task_vars: Mapping[str, Any]) -> str:
    """Who runs this, for those who find it under way: the user of AWX and his job, or the user and his machine."""
    for prefix in ("awx", "tower"):
        if task_vars.get(f"{prefix}_user_name"):
            return f"{task_vars[f'{prefix}_user_name']} (job {task_vars.get(f'{prefix}_job_id', '?')})"
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def failed(result: dict[str, Any], exc: Exception) -> dict[str, Any]:
    """The task's result for one of EXPECTED."""
    message = exc.message if isinstance(exc, PodferryError) else str(exc)
    remedy = "Correct the variable in the inventory."
    if isinstance(exc, (KubeSetupError, PodferryError)):
        remedy = exc.remedy or ""
    return {**result, "failed": True, "msg": f"{message}. {remedy}".strip(), "remedy": remedy}
