# SPDX-License-Identifier: Apache-2.0
"""A role in its Molecule scenario: run its plays once more, in check mode or to be refused, and see what they touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from e2e.support.lab import Lab
from e2e.support.plays import PlayResult


class Scenario:
    """The plays of `molecule/NAME` on a lab."""

    def __init__(self, name: str, lab: Lab) -> None:
        self.lab = lab
        self._folder = Path("../molecule") / name  # from playbooks/, where plays are looked for

    def play(self, name: str, *flags: str, **variables: Any) -> PlayResult:
        """Run one of them."""
        return self.lab.plays.run(str(self._folder / name), *flags, **variables)

    def content(self, node: str, *places: str) -> str:
        """Names, modes, owners and contents of what is in these places of a node."""
        find = f"find {' '.join(places)} -printf '%p %m %u %l\\n' -type f -exec sha256sum {{}} + 2>/dev/null | sort"
        return self.lab.ssh(node, find).stdout
