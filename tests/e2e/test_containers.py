# SPDX-License-Identifier: Apache-2.0
"""Pods of several containers move as one: all frozen before the first dump, all restored frozen before the one commit."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.lab import Lab
from e2e.support.plays import Plays

SERVER = """
import socket, struct, sys, mmap, os
with open("/dev/shm/board", "w+b") as file:
    file.truncate(8)
    board = mmap.mmap(file.fileno(), 8)
server = socket.create_server(("127.0.0.1", 7000))
peer, _ = server.accept()
print("start", flush=True)
while data := peer.recv(8, socket.MSG_WAITALL):
    number, = struct.unpack(">Q", data)
    board[:] = data
    peer.sendall(struct.pack(">Q", number + 1))
    if number % 10 == 0:
        print("served", number, flush=True)
print("END OF FILE", flush=True)
"""
CLIENT = """
import socket, struct, time, mmap, sys
while True:
    try:
        peer = socket.create_connection(("127.0.0.1", 7000))
        break
    except OSError:
        time.sleep(0.05)
with open("/dev/shm/board", "r+b") as file:
    board = mmap.mmap(file.fileno(), 8)
print("start", flush=True)
for number in range(1 << 40):
    peer.sendall(struct.pack(">Q", number))
    answer, = struct.unpack(">Q", peer.recv(8, socket.MSG_WAITALL))
    assert answer == number + 1, (answer, number)
    assert struct.unpack(">Q", board[:])[0] == number
    if number % 10 == 0:
        print("asked", number, flush=True)
    time.sleep(0.005)
"""
SEMAPHORE = """
import ctypes, os, time
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
sem = libc.semget(4711, 1, 0o1600)
libc.semctl(sem, 0, 16, 3)
shm = libc.shmget(4712, 65536, 0o1600)
queue = libc.msgget(4713, 0o1600)
place = libc.shmat(shm, None, 0)
memory = (ctypes.c_uint64 * 8192).from_address(place)
libc.msgsnd(queue, ctypes.create_string_buffer(b"\\1\\0\\0\\0\\0\\0\\0\\0hello"), 5, 0)
for number in range(1 << 40):
    assert libc.semctl(sem, 0, 12, 0) == 3, ctypes.get_errno()
    for index in (0, 5000, 8191):
        assert memory[index] == number, (index, memory[index], number)
        memory[index] = number + 1
    print("held", number, flush=True)
    time.sleep(0.02)
"""


def python(name: str, program: str, **more: Any) -> dict[str, Any]:
    """A container of the counter's image that runs another program."""
    return {"name": name, "image": "localhost/podferry-counter:lab", "imagePullPolicy": "Never",
            "command": ["python3", "-I", "-c", program], **more}  # fmt: skip


def numbers(log: str, word: str) -> list[int]:
    return [int(line.split()[1]) for line in log.splitlines() if line.startswith(f"{word} ")]


def whole(log: str, word: str, step: int) -> list[int]:
    """The numbers in a log, none lost, none doubled, of one start."""
    found = numbers(log, word)
    assert [b - a for a, b in itertools.pairwise(found)] == [step] * (len(found) - 1), found
    assert "Traceback" not in log and "END OF FILE" not in log, log[-500:]
    return found


def wait_for_more(cluster: Cluster, pod: str, container: str, word: str, count: int) -> None:
    """Until the container has written that many more lines."""
    before = len(numbers(cluster.logs(pod, container), word))
    until(f"{pod} goes on", lambda: len(numbers(cluster.logs(pod, container), word)) > before + count, 20)


@pytest.mark.parametrize("name", ["new", "keep"])
def test_two_containers_and_what_is_between_them(cluster: Cluster, plays: Plays, traces: Traces, name: str) -> None:
    """A connection over loopback and a shared mapping go on between two containers, and both at one commit."""
    pod = workloads.pod(cluster.name("pair"), "node-a", "counter")
    pod["spec"]["containers"] = [python("server", SERVER), python("client", CLIENT)]
    current = cluster.create(pod)
    until("they talk", lambda: len(numbers(cluster.logs(current, "client"), "asked")) > 5, 20)
    for there in ("node-b", "node-a"):
        result = plays.migrate(current, there, name=name).ok()
        assert result.report["connections_closed"] == 0
        current = cluster.moved(current)
        assert cluster.node(current) == there
        wait_for_more(cluster, current, "client", "asked", 10)
    for container, word in (("client", "asked"), ("server", "served")):
        log = cluster.logs(current, container)
        whole(log, word, 10)
        assert log.count("start") == 1
    cluster.delete(current)
    traces.assert_none()


def test_sidecar_finished_init_hook_and_restart_counts(
    lab: Lab, cluster: Cluster, plays: Plays, traces: Traces
) -> None:
    """What has run does not run again on the target, and what counts goes on counting."""
    pod = workloads.counter(cluster.name("crew"), "node-a")
    main = pod["spec"]["containers"][0]
    main["lifecycle"] = {
        "postStart": {"exec": {"command": ["python3", "-c", "open('/dev/shm/hooked', 'a').write('hook\\n')"]}}
    }
    pod["spec"]["containers"].append(
        python(
            "clumsy",
            "import os, time\nif not os.path.exists('/dev/shm/fell'):\n open('/dev/shm/fell', 'w'); raise SystemExit(3)\n"
            "for n in range(1 << 40): print('walk', n, flush=True); time.sleep(0.05)",
        )
    )
    pod["spec"]["initContainers"] = [
        python("once", "open('/dev/shm/inited', 'a').write('init\\n')"),
        python("beside", "import time\nfor n in range(1 << 40): print('side', n, flush=True); time.sleep(0.02)",
               restartPolicy="Always"),
    ]  # fmt: skip
    current = cluster.create(pod)

    def restarts(name: str) -> dict[str, int]:
        status = (cluster.get(name) or {})["status"]
        return {c["name"]: c["restartCount"] for c in status["containerStatuses"]}

    until("the clumsy one walks", lambda: restarts(current)["clumsy"] == 1 and cluster.is_ready(current), 30)
    for there in ("node-b", "node-a"):
        plays.migrate(current, there, name="new").ok()
        current = cluster.moved(current)
        cluster.wait_ready(current, 20)
        assert restarts(current)["clumsy"] == 1
    ticks.assert_unbroken(cluster.logs(current, "main"))
    whole(cluster.logs(current, "beside"), "side", 1)
    whole(cluster.logs(current, "clumsy"), "walk", 1)
    inside = "/proc/$(pgrep -o -f 'print..side')/root/dev/shm"
    assert lab.ssh("node-a", f"cat {inside}/inited {inside}/hooked").stdout == "init\nhook\n"
    cluster.delete(current)
    traces.assert_none()


def test_system_v_objects(cluster: Cluster, plays: Plays, traces: Traces) -> None:
    """Semaphores, queues and memory come back once, with two containers in their namespace."""
    pod = workloads.counter(cluster.name("sysv"), "node-a")
    pod["spec"]["containers"].append(python("holder", SEMAPHORE))
    current = cluster.create(pod)
    until("it holds", lambda: len(numbers(cluster.logs(current, "holder"), "held")) > 5, 20)
    plays.migrate(current, "node-b", name="new").ok()
    current = cluster.moved(current)
    wait_for_more(cluster, current, "holder", "held", 5)
    whole(cluster.logs(current, "holder"), "held", 1)
    ticks.assert_unbroken(cluster.logs(current, "main"))
    cluster.delete(current)
    traces.assert_none()
