# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The store of checkpoints that a task's arguments name, as doc fragment ``_store`` documents them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._checkpoint.buckets import Bucket
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.stores import KINDS, open_shelf
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.vault import Keys, Vault
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._migrate.peer import Peer
from ansible_collections.podferry.live.plugins.module_utils._migrate.ports import Detour
from ansible_collections.podferry.live.plugins.module_utils._store.names import Place

_STORE_TIMEOUT_S = 300.0
DEFAULT_PATH = "/var/lib/podferry/checkpoints"
STORE_OPTIONS: dict[str, dict[str, Any]] = {
    "kind": {"type": "str", "required": True, "choices": list(KINDS)},
    "path": {"type": "path"},
    "url": {"type": "str"},
    "repository": {"type": "str"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "ca": {"type": "str"},
    "insecure": {"type": "bool", "default": False},
    "bucket": {"type": "str"},
    "prefix": {"type": "str"},
    "endpoint": {"type": "str"},
    "region": {"type": "str"},
    "access_key": {"type": "str", "no_log": False},
    "secret_key": {"type": "str", "no_log": True},
}
STORE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "store": {"type": "dict", "options": STORE_OPTIONS},
    "identity": {"type": "str", "no_log": True},
    "signing_key": {"type": "str", "no_log": True},
    "verify_key": {"type": "str", "no_log": False},
}


def vault_opener(arguments: dict[str, Any]) -> Callable[[Peer], Vault]:
    """The store and the keys that a task's arguments name, for any node. Raises InvalidInput."""
    store = store_of(arguments["store"])
    keys = Keys(arguments["signing_key"] or "", arguments["verify_key"] or "", arguments["identity"] or "")
    name = f"the store {store.get('path') or store.get('url') or store.get('bucket')}"

    def open_vault(peer: Peer) -> Vault:
        def ask(operation: str, **more: Any) -> Mapping[str, Any]:
            return peer.call(operation, timeout_s=_STORE_TIMEOUT_S, **more)

        return Vault(name, peer, open_shelf(store, ask), keys)

    return open_vault


def store_of(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The store's options; by default a folder of the node's own."""
    store = dict(given or {"kind": "path"})
    if store.get("kind") == "path":
        store["path"] = store.get("path") or DEFAULT_PATH
    return store


def make_detour(given: Mapping[str, Any]) -> Detour:
    """The store that a migration's state goes through. Raises InvalidInput, PodferryError."""
    store = store_of(given)
    shelf = open_shelf(store, _nobody)

    def spec(fields: Mapping[str, Any], size: int) -> dict[str, Any]:
        place, identity = Place(str(fields["namespace"]), str(fields["pod"])), str(fields["id"])
        shelf.lease(place, identity, identity[-12:])  # else a prune takes it for a leftover
        return shelf.for_saving(place, identity, size)

    def drop(fields: Mapping[str, Any]) -> None:
        if isinstance(shelf, Bucket):  # of all others the nodes themselves take it
            shelf.discard(
                Place(str(fields["namespace"]), str(fields["pod"])), str(fields["id"]), str(fields["id"])[-12:]
            )

    return Detour(str(store.get("path") or store.get("url") or store.get("bucket")), spec, drop)


def _nobody(operation: str, **_arguments: Any) -> Mapping[str, Any]:
    raise InvalidInput(f"no node is asked for {operation} here")
