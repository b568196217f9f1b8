# SPDX-License-Identifier: Apache-2.0
"""An external witness: the workload tells it each number it reaches, and who it is; it sees no overlap and no gap.

The workload sends one datagram a step, with a number and a fencing number that it drew when it was started. A second copy,
or one that was started from its image, could not hide: its numbers would repeat, or its fencing number would differ.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from e2e.conftest import Traces
from e2e.support import workloads
from e2e.support.cluster import Cluster, until
from e2e.support.faultpoints import faults
from e2e.support.lab import Lab
from e2e.support.plays import Plays

MIGRATIONS = int(os.environ.get("PODFERRY_WITNESS", "30"))
PORT = 7999
ACCOUNT = "/tmp/witness-account"  # on the lab's control host
WITNESS = f"""
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
sock.bind(("0.0.0.0", {PORT}))
with open("{ACCOUNT}", "w", buffering=1) as account:
    while True:
        data, (address, _port) = sock.recvfrom(200)
        account.write("%s %s %d\\n" % (data.decode(), address, time.time_ns()))
"""
WORKLOAD = """
import os, socket, sys, time
memory = bytearray(os.urandom(4 << 20))
fence, number = os.urandom(8).hex(), 0
while True:
    number += 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"%s %d" % (fence.encode(), number), (sys.argv[1], int(sys.argv[2])))
    if number % 100 == 0:
        print("step", number, flush=True)
    time.sleep(0.01)
"""
FAULTS = {
    "source": (
        "source:phase:freeze", "source:journal:frozen:after", "source:send:manifest:before", "source:send:manifest:after",
        "source:phase:commit", "source:journal:go_given:before", "source:journal:go_given:after", "source:send:go:after",
        "source:journal:committed:before", "source:journal:data_ready:before", "source:journal:relinquished:before",
    ),
    "target": (
        "target:phase:receive", "target:phase:restore", "target:send:ready:before", "target:send:ready:after",
        "target:thaw:before", "target:thaw:after", "target:send:resumed:before", "handler:claim:before", "handler:claim:after",
        "handler:exec:before", "target:send:data_ok:before", "target:send:relinquished:before",
    ),
}  # fmt: skip


@pytest.fixture
def witness(lab: Lab) -> Iterator[None]:
    """A process on the control host that writes down who said what, when."""
    lab.ssh("control-host", "cat > /tmp/witness.py", stdin=WITNESS)
    lab.ssh("control-host", "systemd-run --quiet --unit=witness python3 /tmp/witness.py")
    yield
    lab.ssh("control-host", f"systemctl stop witness; rm -f /tmp/witness.py {ACCOUNT}", check=False)


def account(lab: Lab) -> list[tuple[str, int, str, int]]:
    """Fencing number, number, address, time in ns: in the order in which they came."""
    lines = lab.ssh("control-host", f"cat {ACCOUNT}").stdout.splitlines()
    return [(words[0], int(words[1]), words[2], int(words[3])) for words in map(str.split, lines) if len(words) == 4]


def judge(said: list[tuple[str, int, str, int]]) -> list[str]:
    """What is wrong with an account, in words."""
    wrong = [
        f"another copy was started: fencing numbers {fences}"
        for fences in [{entry[0] for entry in said}]
        if len(fences) > 1
    ]
    for old, new in pairwise(said):
        if new[1] != old[1] + 1:
            wrong.append(f"{old[1]} from {old[2]} is followed by {new[1]} from {new[2]}")
    seen: list[str] = []
    for _fence, number, address, _time in said:
        if not seen or seen[-1] != address:
            seen.append(address)
            if seen.count(address) > 1:
                wrong.append(f"{address} spoke again at {number} after another address had: two copies")
    return wrong


@pytest.mark.timeout(2400)
def test_many_migrations_with_a_failure_in_every_second(
    lab: Lab, plays: Plays, cluster: Cluster, traces: Traces, witness: None
) -> None:
    seed = int(os.environ.get("PODFERRY_SEED", str(time.time_ns() % 100_000)))
    print(f"PODFERRY_SEED={seed}")
    dice = random.Random(seed)
    address = lab.ssh("control-host", "hostname -I").stdout.split()[0]
    pod = workloads.pod(cluster.name("witnessed"), "node-a", "counter")
    pod["spec"]["containers"][0]["command"] = ["python3", "-I", "-c", WORKLOAD, address, str(PORT)]
    current = cluster.create(pod)
    until("the witness hears it", lambda: len(account(lab)) > 50, 30)
    outcomes: dict[str, int] = {}

    for number in range(MIGRATIONS):
        here = cluster.node(current)
        there = "node-b" if here == "node-a" else "node-a"
        name = dice.choice(["new", "keep"])
        if number % 2:
            role = dice.choice(["source", "target"])
            point = dice.choice(FAULTS[role])
            node = here if role == "source" else there
            with faults(lab, node, {point: dice.choice(["kill", "error"])}):
                result = plays.migrate(current, there, name=name)
        else:
            point = ""
            result = plays.migrate(current, there, name=name).ok()
        outcome = str((result.report or {}).get("outcome"))
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if outcome == "in_doubt":  # the same command again settles it
            plays.migrate(current, there, name=name)
        found = judge(account(lab))
        assert not found, f"migration {number} ({name}, {point or 'no fault'}, {outcome}): {found[:5]}"
        current = until("one pod is left", lambda: alive(cluster), 60)
        heard = len(account(lab))
        until("the witness hears it on", lambda since=heard: len(account(lab)) > since + 10, 30)

    print(f"{MIGRATIONS} migrations, {len(account(lab))} steps: {outcomes}")
    assert outcomes.get("finished", 0) >= MIGRATIONS // 2
    assert judge(account(lab)) == []
    traces.assert_none(60)


def alive(cluster: Cluster) -> str:
    """The name under which the pod lives now, when it is the only one."""
    names = [
        entry["metadata"]["name"] for entry in cluster.pods() if entry["metadata"]["name"].startswith("witnessed-")
    ]
    if len(names) == 1 and cluster.is_ready(names[0]):
        if names[0] not in cluster.created:
            cluster.created.append(names[0])
        return names[0]
    return ""
