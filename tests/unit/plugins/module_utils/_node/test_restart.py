# SPDX-License-Identifier: Apache-2.0
"""A restart of the container runtime: waited for, and judged by what still runs."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import CommandFailed, DeadlineExceeded
from ansible_collections.podferry.live.plugins.module_utils._node import restart
from ansible_collections.podferry.live.plugins.module_utils._runtime import facts
from ansible_collections.podferry.live.plugins.module_utils._runtime.process import Completed
from ansible_collections.podferry.live.plugins.module_utils._runtime.running import Running


class Node:
    """A CRI-O that answers some time after its restart."""

    def __init__(self, answers_after: float, kept: bool = True) -> None:
        self.now = 0.0
        self.restarted: float | None = None
        self._answers_after = answers_after
        self._kept = kept
        self.fails = False
        self.kill_mode = "process"
        self.runs = True

    def run(self, argv: Any, **_options: Any) -> Completed:
        words = " ".join(argv)
        if words == "systemctl restart crio":
            self.restarted = self.now
            return Completed(1, "", "Job for crio.service failed.") if self.fails else Completed(0, "", "")
        if words.endswith("status info"):
            up = self.restarted is None or self.now - self.restarted >= self._answers_after
            return Completed(0 if up else 1, "", "")
        if words == "systemctl show --property=MainPID crio":
            return Completed(0, f"MainPID={6 if self.runs or self.restarted is not None else 0}\n", "")
        if words == "systemctl show --property=KillMode crio":
            return Completed(0, f"KillMode={self.kill_mode}\n", "")
        return Completed(0, "[crio.runtime]\n", "")

    def read(self, path: str) -> str:
        return {"/proc/6/cmdline": "/usr/bin/crio\0", "/proc/6/environ": ""}[path]

    def listing(self, _engine: str, _state: str) -> list[Running]:
        same = self.restarted is None or self._kept
        return [Running("a", 10, ""), Running("b", 11, "")] if same else [Running("a", 99, "")]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def restart(self, seconds: float = 60) -> dict[str, Any]:
        probe = facts.Probe(self.run, self.read)
        return restart.restart(probe, self.run, "crio", seconds, self.listing, self.sleep, lambda: self.now)


def test_it_is_waited_for() -> None:
    assert Node(3).restart() == {"seconds": 3.0, "before": 2, "after": 2}


def test_a_runtime_that_does_not_come_back() -> None:
    with pytest.raises(DeadlineExceeded, match="CRI of crio does not answer 5 s"):
        Node(30).restart(5)


def test_a_restart_that_systemd_refuses() -> None:
    node = Node(0)
    node.fails = True
    with pytest.raises(CommandFailed, match=r"Job for crio\.service failed"):
        node.restart()


def test_containers_that_did_not_live_through_it() -> None:
    with pytest.raises(restart.ContainersLost, match="none of 2 containers"):
        Node(0, kept=False).restart()


def test_a_restart_that_would_end_the_containers_is_refused() -> None:
    node = Node(0)
    node.kill_mode = "control-group"
    with pytest.raises(restart.RestartUnsafe, match="would end every container") as raised:
        node.restart()
    assert node.restarted is None
    assert "KillMode=process" in raised.value.remedy


def test_a_service_that_does_not_run_is_started_whatever_its_unit_says() -> None:
    node = Node(0)
    node.kill_mode, node.runs = "control-group", False
    node.restart()
    assert node.restarted is not None
