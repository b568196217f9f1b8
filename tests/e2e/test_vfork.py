# SPDX-License-Identifier: Apache-2.0
"""A pod that starts programs is between vfork and exec at times, and CRIU cannot dump it then: the freeze has to find another moment."""

from __future__ import annotations

import time

from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster
from e2e.support.plays import Plays

# Each program that it starts is kept from its exec for 0.3 s by a pipe that its other process opens then; 10 ms are left for the rest.
SPAWNER = """
import os, time
os.mkfifo("/tmp/gate")
if os.fork() == 0:
    while True:
        time.sleep(0.3)
        os.close(os.open("/tmp/gate", os.O_WRONLY))
number = 0
while True:
    number += 1
    print(f"tick {number} {time.monotonic_ns()} {time.time_ns()}", flush=True)
    held = [(os.POSIX_SPAWN_OPEN, 0, "/tmp/gate", os.O_RDONLY, 0)]
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}, file_actions=held), 0)
    time.sleep(0.01)
"""


def test_a_pod_that_starts_programs_all_the_time_moves(cluster: Cluster, plays: Plays, traces: Traces) -> None:
    command = ["/usr/bin/python3", "-c", SPAWNER]
    name = cluster.create(workloads.pod(cluster.name("spawner"), "node-a", "counter", container={"command": command}))
    for target in ("node-b", "node-a"):  # once might be a lucky moment
        plays.migrate(name, target, name="new").ok()
        name = cluster.moved(name)
        assert cluster.node(name) == target
    time.sleep(1)
    seen = ticks.assert_unbroken(cluster.logs(name))
    # CRIU's time-out is 10 s; what was thawed in between is no downtime.
    assert ticks.switchover(seen).ms < 5000
    cluster.delete(name)
    traces.assert_none()
