# SPDX-License-Identifier: Apache-2.0
"""The counter's own account of its life: numbered lines, each with the clocks the process saw."""

from __future__ import annotations
