# SPDX-License-Identifier: Apache-2.0
"""A role in its Molecule scenario: run its plays once more, in check mode or to be refused, and see what they touched."""

from __future__ import annotations

import subprocess
import time
from typing import Any

from e2e.support.lab import Lab
from e2e.support.plays import ROOT, PlayResult


class Scenario:
    """The plays of `molecule/NAME` on a lab."""

    def __init__(self, name: str, lab: Lab) -> None:
        self.lab = lab
        self._name = name

    def play(self, name: str, *flags: str, **variables: Any) -> PlayResult:
        """Run one of them."""
        plays, began = self.lab.plays, time.monotonic()
        done = subprocess.run(
            plays.command(f"../molecule/{self._name}/{name}", variables, flags),
            cwd=ROOT,
            env=plays.env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return PlayResult(done.returncode, done.stdout, done.stderr, time.monotonic() - began, None)

    def content(self, node: str, *places: str) -> str:
        """Names, modes, owners and contents of what is in these places of a node."""
        find = f"find {' '.join(places)} -printf '%p %m %u %l\\n' -type f -exec sha256sum {{}} + 2>/dev/null | sort"
        return self.lab.ssh(node, find).stdout
