# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a controller asks of a node about stores, as JSON: the session passes these on."""

from __future__ import annotations

import typing as t

from .._common.errors import InvalidInput
from . import link, manifest, node
from .contract import Entry, Spec

Arguments = t.Mapping[str, t.Any]
_BATCH = 4 << 20
"""Bytes of manifests in one answer; a session's line may have 16 MiB."""


def _spec(arguments: Arguments, name: str = "store") -> Spec:
    found = arguments.get(name)
    if not isinstance(found, dict):
        raise InvalidInput(f"{name} is no specification of a store")
    return found


def _text(arguments: Arguments, name: str) -> str:
    return str(arguments.get(name) or "")


def _shown(entry: Entry) -> t.Dict[str, str]:
    return {"manifest": entry.data.decode("ascii"), "signature": entry.signature}


def _entries(arguments: Arguments) -> t.Any:
    """Batches: one answer of a session has a greatest length."""
    after = _text(arguments, "after")
    found: t.List[t.Dict[str, str]] = []
    size = 0
    for entry in node.entries(_spec(arguments), _text(arguments, "namespace"), _text(arguments, "pod")):
        key = "/".join((entry.manifest.id, *entry.manifest.place))
        if key <= after:
            continue
        size += len(entry.data)
        if found and size > _BATCH:
            return {"entries": found, "more": True}
        found.append(_shown(entry))
    return {"entries": found, "more": False}


def _leases(arguments: Arguments) -> t.Any:
    found = node.leases(_spec(arguments), _text(arguments, "namespace"), _text(arguments, "pod"))
    return {"leases": [[lease.place.namespace, lease.place.pod, lease.id, lease.holder] for lease in found]}


def _publish(arguments: Arguments) -> t.Any:
    node.publish(_spec(arguments), _text(arguments, "manifest").encode(), _text(arguments, "signature"))
    return {}


def _remove(arguments: Arguments) -> t.Any:
    ids = [str(identity) for identity in arguments.get("ids") or []]
    return {"freed": node.remove(_spec(arguments), _text(arguments, "namespace"), _text(arguments, "pod"), ids)}


def _sweep(arguments: Arguments) -> t.Any:
    dry = arguments.get("dry") is True
    return {
        "freed": node.sweep(_spec(arguments), _text(arguments, "namespace"), _text(arguments, "pod"), dry=dry),
    }


def _place(arguments: Arguments) -> t.Tuple[str, str, str]:
    return _text(arguments, "namespace"), _text(arguments, "pod"), _text(arguments, "id")


def _lease(arguments: Arguments) -> t.Any:
    node.lease(_spec(arguments), *_place(arguments), _text(arguments, "holder"))
    return {}


def _release(arguments: Arguments) -> t.Any:
    node.release(_spec(arguments), *_place(arguments), _text(arguments, "holder"))
    return {}


def _discard(arguments: Arguments) -> t.Any:
    node.discard(_spec(arguments), *_place(arguments), _text(arguments, "parent"))
    return {}


def _copy(arguments: Arguments) -> t.Any:
    made = manifest.parse(_text(arguments, "manifest").encode())
    return node.copy(
        _spec(arguments, "source"),
        _spec(arguments, "target"),
        made,
        _text(arguments, "signature"),
        run=_text(arguments, "run"),
        read=arguments.get("read") is True,
    )


OPERATIONS: t.Dict[str, t.Callable[[Arguments], t.Any]] = {
    "store_entries": _entries,
    "store_leases": _leases,
    "store_lease": _lease,
    "store_release": _release,
    "store_publish": _publish,
    "store_discard": _discard,
    "store_remove": _remove,
    "store_sweep": _sweep,
    "store_copy": _copy,
    "store_listen": link.listen,
}
"""By name; each takes and returns what JSON can say."""
