# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The store of checkpoints that a task's arguments name, as doc fragment ``_store`` documents them."""

from __future__ import annotations

from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._checkpoint.stores import Fixed, Keys, Shelf
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput

DEFAULT_PATH = "/var/lib/podferry/checkpoints"
STORE_ARGUMENTS: dict[str, dict[str, Any]] = {
    "store": {"type": "dict", "default": {"kind": "path"}},
    "identity": {"type": "str", "no_log": True},
    "signing_key": {"type": "str", "no_log": True},
    "verify_key": {"type": "str", "no_log": False},
}


def make_shelf(arguments: dict[str, Any]) -> Shelf:
    """Raises InvalidInput."""
    keys = Keys(arguments["signing_key"] or "", arguments["verify_key"] or "", arguments["identity"] or "")
    store = dict(arguments["store"])
    kind = store.get("kind")
    if kind == "path":
        spec = {"kind": "path", "path": str(store.get("path") or DEFAULT_PATH)}
        return Shelf(f"the store {spec['path']}", Fixed(spec), keys)
    raise InvalidInput(f"there is no store of the kind {kind!r}", "Choose path, registry or s3.")
