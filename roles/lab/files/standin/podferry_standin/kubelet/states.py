# SPDX-License-Identifier: Apache-2.0
"""States of the CRI by number."""

from __future__ import annotations

SANDBOX_READY = 0
CREATED, RUNNING, EXITED, UNKNOWN = 0, 1, 2, 3
