# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A pod of the node as a drain holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._plan.refusals import Refusal
from .._report.drain import PodRecord


@dataclass
class Item:
    """One pod and what is to become of it."""

    record: PodRecord
    pod: Mapping[str, Any] | None = None
    """None for a pod that is between two nodes: an earlier run has to be gone on with."""
    owner_uid: str = ""
    size: int = 0
    refusals: tuple[Refusal, ...] = field(default=(), repr=False)
    starting: bool = False
    """It was left only because it did not run yet: it can be decided about when it does."""
