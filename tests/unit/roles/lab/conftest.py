# SPDX-License-Identifier: Apache-2.0
"""Makes the lab's own tool importable; it is no part of the collection's Python."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[4] / "roles/lab/files"))
