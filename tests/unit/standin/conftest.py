# SPDX-License-Identifier: Apache-2.0
"""The lab's stand-in for Kubernetes, importable."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "roles/lab/files/standin"))
sys.path.insert(0, str(Path(__file__).parents[2] / "conformance"))
