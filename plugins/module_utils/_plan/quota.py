# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a ResourceQuota says about a pod that takes another one's place."""

from __future__ import annotations

import re

from .nodes import quantity

_EXCEEDED = re.compile(
    r"exceeded quota: [^,]+, requested: (?P<requested>\S+), used: (?P<used>\S+), limited: (?P<limited>\S+)"
)


def short_by_itself(error: str) -> bool:
    """Is more used than the quota allows, so that a pod would not even get the place of one like it that goes?

    That is so when the quota was lowered. Words that are not understood say nothing.
    """
    match = _EXCEEDED.search(error)
    if match is None:
        return False
    used, limited = _amounts(match["used"]), _amounts(match["limited"])
    try:
        return any(quantity(used[name]) > quantity(limit) for name, limit in limited.items() if name in used)
    except ValueError:
        return False


def _amounts(text: str) -> dict[str, str]:
    """``pods=1,requests.cpu=500m``"""
    pairs = (part.partition("=") for part in text.split(","))
    return {name: amount for name, equals, amount in pairs if equals}
