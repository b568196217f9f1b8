# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What the other ferry says, before anything is done with it: its node may be broken, or somebody else's by now."""

from __future__ import annotations

import math
import typing as t

from .._common.errors import InvalidInput

_MOST_PHASES = 200
_MOST_TEXT = 200
_MOST_NS = 1 << 63


class Sent(t.NamedTuple):
    """The source's last word on its data."""

    files: t.Dict[str, t.Dict[str, t.Any]]
    freeze_ns: int
    hold_loopback: bool


class Stored(t.NamedTuple):
    """The source's last word when its data went through a store."""

    manifest: str
    freeze_ns: int
    hold_loopback: bool


def destinations(hello: t.Mapping[str, t.Any]) -> dict[str, list[str]]:
    """The source's containers, with what is mounted into them.

    :raises InvalidInput: it does not say that.
    """
    containers = hello.get("containers")
    found: dict[str, list[str]] = {}
    for item in containers if isinstance(containers, list) else [None]:
        known = item if isinstance(item, dict) else {}
        name, mounts = known.get("name"), known.get("destinations")
        if (
            not isinstance(name, str)
            or not isinstance(mounts, list)
            or not all(isinstance(each, str) for each in mounts)
        ):
            raise InvalidInput("the source does not say what is mounted into its containers")
        found[name] = mounts
    return found


def manifest(message: t.Mapping[str, t.Any]) -> Sent:
    """The source's list of files and the moment of its freeze.

    :raises InvalidInput: it is not of that form.
    """
    files = message.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise InvalidInput("the source sent no list of its files")
    return Sent(files, _frozen(message), message.get("hold_loopback") is True)


def stored(message: t.Mapping[str, t.Any]) -> Stored:
    """The manifest of what the source put into a store, and the moment of its freeze.

    :raises InvalidInput: it is not of that form.
    """
    text = message.get("manifest")
    if not isinstance(text, str):
        raise InvalidInput("the source sent no manifest of what it stored")
    return Stored(text, _frozen(message), message.get("hold_loopback") is True)


def _frozen(message: t.Mapping[str, t.Any]) -> int:
    freeze_ns = message.get("freeze_ns")
    if not isinstance(freeze_ns, int) or not -_MOST_NS < freeze_ns < _MOST_NS:
        raise InvalidInput("the source does not say when it froze")
    return freeze_ns


def milliseconds(value: t.Any) -> float | None:
    """A duration; None when it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # an integer beyond all floats
        return None


def phases(value: t.Any) -> list[dict[str, t.Any]]:
    """Phases for the report; what is none is left out."""
    found = []
    for entry in value[:_MOST_PHASES] if isinstance(value, list) else []:
        name = entry.get("name") if isinstance(entry, dict) else None
        start = milliseconds(entry.get("start_ms")) if isinstance(name, str) else None
        if isinstance(name, str) and start is not None:
            found.append({"name": name[:_MOST_TEXT], "start_ms": start, "ms": milliseconds(entry.get("ms")) or 0.0})
    return found
