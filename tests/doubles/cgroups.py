# SPDX-License-Identifier: Apache-2.0
"""Cgroups in memory, for what decides about freezing, thawing and killing."""

from __future__ import annotations

from ansible_collections.podferry.live.plugins.module_utils._common.errors import FreezeFailed


class FakeCgroup:
    """Stands for the real ``Cgroup``: a group of one container, that counts how often it was let run."""

    def __init__(self, path: str, frozen: bool = False) -> None:
        self.path = path
        self.is_frozen = frozen
        self.alive = True
        self.thaws = 0
        self.kills = 0
        self.usage = 1
        self.refuses = 0
        """How many orders to thaw it refuses from now on."""

    @property
    def runs(self) -> bool:
        """Whether its processes make progress."""
        return self.alive and not self.is_frozen

    def exists(self) -> bool:
        return True

    def frozen(self) -> bool:
        return self.is_frozen

    def stands(self) -> bool:
        return self.is_frozen and self.alive

    def pids(self) -> list[int]:
        return [1] if self.alive else []

    def usage_ns(self) -> int:
        return self.usage

    def freeze(self, timeout: float) -> int:
        self.is_frozen = True
        return 1

    def thaw(self) -> None:
        if self.refuses:
            self.refuses -= 1
            raise FreezeFailed(f"{self.path} stays frozen after being thawed")
        if self.is_frozen and self.alive:
            self.thaws += 1
            self.usage += 1
        self.is_frozen = False

    def kill(self, timeout: float = 10.0) -> None:
        self.kills += 1
        self.alive = False
        self.is_frozen = False


class Cgroups:
    """Stands for the class ``Cgroup``: ``at`` finds what a test has put there."""

    def __init__(self, *groups: FakeCgroup) -> None:
        self.groups = {group.path: group for group in groups}

    def at(self, path: str) -> FakeCgroup:
        return self.groups[path]
