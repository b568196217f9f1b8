# SPDX-License-Identifier: Apache-2.0
"""The engine's fault points on a node, as a test sets them (see plugins/module_utils/_common/faults.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.support.cluster import until
from e2e.support.lab import Lab

FILE = "/run/podferry/faults.json"


@contextmanager
def faults(lab: Lab, node: str, wanted: dict[str, str]) -> Iterator[None]:
    """Ask for faults (point -> kill, hang, error, hold) of processes that start on ``node`` within the block."""
    lab.ssh(node, f"umask 077; mkdir -p /run/podferry; cat > {FILE}", stdin=json.dumps(wanted))
    try:
        yield
    finally:
        lab.ssh(node, f"rm -f {FILE} /run/podferry/hold.*")


class Held:
    """A process that waits at a point until it is let go."""

    def __init__(self, lab: Lab, node: str, point: str) -> None:
        self._lab = lab
        self._node = node
        self._file = f"/run/podferry/hold.{point.replace(':', '.')}"

    def wait(self, timeout: float = 90) -> None:
        """Wait until it has come to the point."""
        until(
            f"{self._file} on {self._node}",
            lambda: self._lab.ssh(self._node, f"test -e {self._file}", check=False).returncode == 0,
            timeout,
        )

    def release(self) -> None:
        """Let it go on."""
        self._lab.ssh(self._node, f"rm -f {self._file}")


@contextmanager
def held(lab: Lab, node: str, point: str) -> Iterator[Held]:
    """Hold the first process on ``node`` that comes to ``point``; it is let go at the end of the block at the latest."""
    with faults(lab, node, {point: "hold"}):
        yield Held(lab, node, point)
