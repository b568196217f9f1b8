# SPDX-License-Identifier: Apache-2.0
"""How many examples a property test that costs more than others looks at."""

from __future__ import annotations

import os


def examples(few: int) -> int:
    """So few in a gate; as many as PODFERRY_EXAMPLES says in a search."""
    return int(os.environ.get("PODFERRY_EXAMPLES") or few)
