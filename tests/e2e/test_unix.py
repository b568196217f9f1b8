# SPDX-License-Identifier: Apache-2.0
"""Unix sockets between the containers of a pod go on: connections, with what is on their way, and who had called whom."""

from __future__ import annotations

import json
from typing import Any

from e2e.conftest import Traces
from e2e.support import workloads
from e2e.support.cluster import Cluster, until
from e2e.support.faultpoints import FILE as FAULTS
from e2e.support.lab import Lab
from e2e.support.plays import Plays
from e2e.test_containers import numbers, python, whole

#: Both sides write all the time until the queue is full and read slowly: whenever they are frozen, much is on its way.
COMMON = """
import os, socket, struct, time

PATH, ABSTRACT, MAIL, LATE = "/talk/s", "\\0podferry-test", "/talk/mail", "/talk/late"
os.umask(0)

class Channel:
    def __init__(self, name, end, framed):
        self.name, self.end, self.framed, self.out, self.due = name, end, framed, 0, 0
        end.setblocking(False)
        self.names = (end.getsockname(), end.getpeername(), self.peer())
        print(self.names, flush=True)

    def peer(self):
        return struct.unpack("3i", self.end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))

    def message(self, number):
        return struct.pack(">Q", number) + (b"x" * (number % 50) if self.framed else b"")

    def pump(self):
        try:
            while True:
                sent = self.end.send(self.message(self.out))
                assert sent == len(self.message(self.out)), sent
                self.out += 1
        except BlockingIOError:
            pass
        for _ in range(3):
            try:
                data = self.end.recv(4096 if self.framed else 8)
            except BlockingIOError:
                break
            assert data == self.message(self.due), (self.name, self.due, data)
            self.due += 1
            if self.due % 50 == 0:
                print(self.name, self.due, flush=True)
        assert self.names == (self.end.getsockname(), self.end.getpeername(), self.peer()), (self.names, self.peer())

def as_user(user, work, *args):
    os.seteuid(user)  # what the other side will see; back at once: not every machine may dump others' processes
    try:
        return work(*args)
    finally:
        os.seteuid(0)

def call(kind, name):
    while True:
        end = socket.socket(socket.AF_UNIX, kind)
        try:
            as_user(1001 if name != LATE else 0, end.connect, name)
            return end
        except OSError:
            end.close()
            time.sleep(0.05)
"""
SERVER = """
def listen(kind, name):
    end = socket.socket(socket.AF_UNIX, kind)
    end.bind(name)
    if kind != socket.SOCK_DGRAM:
        as_user(1000, end.listen)
    return end

mail, late = listen(socket.SOCK_DGRAM, MAIL), listen(socket.SOCK_STREAM, LATE)
mail.setblocking(False)
channels = [Channel(word, listen(kind, name).accept()[0], kind != socket.SOCK_STREAM)
            for word, kind, name in (("stream", socket.SOCK_STREAM, PATH), ("packet", socket.SOCK_SEQPACKET, ABSTRACT))]
print("start", flush=True)
letters = 0
while True:
    for channel in channels:
        channel.pump()
    try:
        letter = int(mail.recv(100))
        assert letter == letters, (letter, letters)
        letters += 1
        if letters % 50 == 0:
            print("mail", letters, flush=True)
    except BlockingIOError:
        pass
    if late is not None and os.path.exists("/talk/accept"):
        end, _ = late.accept()
        user = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        socket.send_fds(end, [b"uid %d" % user], [end.fileno()])
        late = None
    time.sleep(0.004)
"""
CLIENT = """
channels = [Channel("stream", call(socket.SOCK_STREAM, PATH), False), Channel("packet", call(socket.SOCK_SEQPACKET, ABSTRACT), True)]
mail, late = call(socket.SOCK_DGRAM, MAIL), call(socket.SOCK_STREAM, LATE)
for end in (mail, late):
    end.setblocking(False)
print("start", flush=True)
letters = 0
while True:
    for channel in channels:
        channel.pump()
    try:
        mail.send(b"%d" % letters)
        letters += 1
    except BlockingIOError:
        pass
    try:
        if late is not None:
            words, handed, _flags, _address = socket.recv_fds(late, 100, 1)
            print("accepted as", words.decode(), flush=True)
            late = None
    except BlockingIOError:
        pass
    time.sleep(0.004)
"""
MOUNT = {"volumeMounts": [{"name": "talk", "mountPath": "/talk"}]}


def talkers(name: str) -> dict[str, Any]:
    """Two containers with a folder between them, who know each other as different users."""
    pod = workloads.pod(name, "node-a", "counter")
    pod["spec"]["volumes"] = [{"name": "talk", "emptyDir": {}}]
    pod["spec"]["containers"] = [
        python("server", COMMON + SERVER, **MOUNT),
        python("client", COMMON + CLIENT, **MOUNT),
    ]
    return pod


WORDS = (("server", "stream"), ("server", "packet"), ("server", "mail"), ("client", "stream"), ("client", "packet"))


def go_on(cluster: Cluster, pod: str) -> None:
    """Every channel has moved on by more than what was on its way."""

    def counts() -> dict[tuple[str, str], int]:
        logs = {container: cluster.logs(pod, container) for container in ("server", "client")}
        assert not any("Traceback" in log for log in logs.values()), logs
        return {(container, word): len(numbers(logs[container], word)) for container, word in WORDS}

    before = counts()
    until("all go on", lambda: all(count > before[each] + 12 for each, count in counts().items()), 30)


def test_sockets_between_containers(lab: Lab, cluster: Cluster, plays: Plays, traces: Traces) -> None:
    """Nothing lost, doubled or out of order with a twin, a successor that is taken back, and one that comes.

    The same process still has the same peer, under the same name and user.
    """
    current = cluster.create(talkers(cluster.name("talk")))
    go_on(cluster, current)
    plays.migrate(current, "node-b", name="new").ok()
    current = cluster.moved(current)
    go_on(cluster, current)
    before = (cluster.get(current) or {})["metadata"]["uid"]
    lab.ssh("node-a", f"echo '{json.dumps({'target:phase:restore': 'error'})}' >{FAULTS}")
    try:
        assert plays.migrate(current, "node-a", name="keep").report["outcome"] == "undone"
    finally:
        lab.ssh("node-a", f"rm {FAULTS}")
    assert cluster.node(current) == "node-b"
    assert (cluster.get(current) or {})["metadata"]["uid"] != before, "it was not brought back from its dump"
    go_on(cluster, current)
    plays.migrate(current, "node-a", name="keep").ok()
    assert cluster.node(current) == "node-a"
    go_on(cluster, current)
    lab.ssh("node-a", "touch /proc/$(pgrep -o -f 'letters = [0]')/root/talk/accept")
    until("it is accepted", lambda: "accepted as uid 0" in cluster.logs(current, "client"), 10)
    plays.migrate(current, "node-b", name="keep").refused("unix_socket", "open in containers client and server at once")
    for container, word in WORDS:
        log = cluster.logs(current, container)
        whole(log, word, 50)
        assert log.count("start") == 1
    cluster.delete(current)
    traces.assert_none()
