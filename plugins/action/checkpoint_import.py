# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Puts an archive on the task's host into a store, as a checkpoint that restores like any other."""

from __future__ import annotations

import secrets
import time
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.podferry.live.plugins.module_utils._checkpoint.adopt import Archive, adopt
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.make import Wish
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput, NotFound, PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kube import predicates
from ansible_collections.podferry.live.plugins.module_utils._migrate.migration import api_errors
from ansible_collections.podferry.live.plugins.module_utils._store import names
from ansible_collections.podferry.live.plugins.plugin_utils._kube_arguments import KUBE_ARGUMENTS
from ansible_collections.podferry.live.plugins.plugin_utils._shelf import STORE_ARGUMENTS, vault_opener
from ansible_collections.podferry.live.plugins.plugin_utils._tools import EXPECTED, failed, make_cluster, node_peer

ARGUMENTS: dict[str, dict[str, Any]] = {
    "path": {"type": "path", "required": True},
    "container": {"type": "str", "required": True},
    "pod": {"type": "str"},
    "namespace": {"type": "str", "default": "default"},
    "definition": {"type": "dict"},
    "compression": {"type": "str", "choices": ["zstd", "none"], "default": "zstd"},
    "incremental": {"type": "bool", "default": True},
    "recipient": {"type": "str"},
    **STORE_ARGUMENTS,
    **KUBE_ARGUMENTS,
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Talks to the node that the task's host is, through a session of its own."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        _validation, arguments = self.validate_argument_spec(
            argument_spec=ARGUMENTS, required_one_of=[("pod", "definition")]
        )
        try:
            given = arguments["definition"]
            pod = self._pod(arguments) if given is None else pod_of(given, arguments["namespace"])
            check_single(pod, arguments["container"])
            archive = Archive(arguments["path"], self._size(arguments["path"], task_vars), arguments["container"], pod)
            if self._task.check_mode:
                return {**result, "changed": True, "msg": f"would import {archive.path}"}
            peer = node_peer(task_vars, self._play_context)
            try:
                wish = Wish(arguments["compression"], arguments["recipient"] or "", arguments["incremental"])
                vault = vault_opener(arguments)(peer)
                manifest, told = adopt(archive, secrets.token_hex(6), peer, vault, wish, time.time)
            finally:
                peer.close()
        except EXPECTED as exc:
            return failed(result, exc)
        return {
            **result,
            "changed": True,
            "checkpoint": manifest.id,
            "bytes": dict(manifest.bytes),
            "connections_closed": int(told.get("connections_closed") or 0),
            "warnings": vault.warnings,
            "msg": f"{archive.path} is checkpoint {manifest.id}",
        }

    def _pod(self, arguments: dict[str, Any]) -> dict[str, Any]:
        with api_errors("preflight"):
            pod = make_cluster(arguments).get_pod(arguments["namespace"], arguments["pod"])
        if pod is None:
            raise NotFound(
                f"there is no pod {arguments['namespace']}/{arguments['pod']}, and an archive does not hold one",
                "Give definition.",
            )
        return dict(pod)

    def _size(self, path: str, task_vars: dict[str, Any]) -> int:
        found = self._execute_module("ansible.builtin.stat", {"path": path, "get_checksum": False}, task_vars=task_vars)
        if not (found.get("stat") or {}).get("isreg"):
            raise NotFound(
                f"there is no file {path} on this node", "Give the path that kubelet_checkpoint has returned."
            )
        return int(found["stat"]["size"])


def pod_of(definition: dict[str, Any], namespace: str) -> dict[str, Any]:
    """The pod of a definition, of this namespace if it names none. Raises InvalidInput."""
    metadata, spec = definition.get("metadata"), definition.get("spec")
    if definition.get("kind") not in (None, "Pod") or not isinstance(metadata, dict) or not isinstance(spec, dict):
        raise InvalidInput("definition is no pod", "Give the pod as the API had it, with metadata and spec.")
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    if not all(isinstance(container, dict) for container in containers) or not spec.get("containers"):
        raise InvalidInput("definition is a pod without containers", "Give the pod as the API had it.")
    pod = {**definition, "metadata": {**metadata, "namespace": metadata.get("namespace") or namespace}}
    names.valid_place(pod["metadata"]["namespace"], metadata.get("name"))
    return pod


def check_single(pod: dict[str, Any], container: str) -> None:
    """Raises PodferryError when the pod has other containers than this one."""
    containers = [str(c.get("name")) for c in predicates.containers_of(pod)]
    if containers != [container]:
        raise PodferryError(
            f"the pod has the containers {', '.join(containers)}: an archive holds one, and the others' state would be another",
            "Take a checkpoint of the whole pod with pod_checkpoint.",
        )
