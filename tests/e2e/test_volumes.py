# SPDX-License-Identifier: Apache-2.0
"""Files move with the pod: root file system, emptyDir on disk and in memory, mapped files, files open on ConfigMaps and tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.conftest import Traces
from e2e.support import workloads
from e2e.support.cluster import Cluster, until
from e2e.support.lab import Lab
from e2e.support.plays import Plays
from e2e.test_containers import numbers, python, wait_for_more, whole

# Makes a tree of every kind of entry in each place, then changes some of it for ever; SCAN says what is there.
KEEPER = """
import hashlib, json, mmap, os, sys, time
places = sys.argv[1:]
for place in places:
    os.makedirs(f"{place}/deep/er", exist_ok=True)
    with open(f"{place}/large", "wb") as file:
        for _ in range(24):
            file.write(os.urandom(1 << 20))
    with open(f"{place}/holes", "wb") as file:
        file.seek(50 << 20); file.write(b"end")
    for number in range(200):
        with open(f"{place}/deep/er/{number}", "w") as file:
            file.write(str(number))
    os.link(f"{place}/deep/er/7", f"{place}/seven")
    os.symlink("/etc/hostname", f"{place}/link")
    os.mkfifo(f"{place}/fifo")
    os.chown(f"{place}/deep", 1234, 4321)
    os.chmod(f"{place}/deep/er/8", 0o4751)
    os.setxattr(f"{place}/deep/er/9", "user.note", b"nine")
    with open(f"{place}/mapped", "wb") as file:
        file.truncate(1 << 16)
if places[0] == "/":
    os.unlink("/etc/issue"); open("/etc/motd", "a").write("changed")
maps = [mmap.mmap(os.open(f"{place}/mapped", os.O_RDWR), 1 << 16) for place in places]
opened = [open(f"{place}/journal", "a+") for place in places]
for number in range(1 << 40):
    for place, memory, file in zip(places, maps, opened):
        assert int.from_bytes(memory[4096:4104], "big") == number, (place, number)
        memory[4096:4104] = (number + 1).to_bytes(8, "big")
        file.write(f"{number}\\n"); file.flush()
        name = f"{place}/deep/er/new{number % 50}"
        if os.path.exists(name):
            os.unlink(name)
        else:
            open(name, "w").write(str(number))
    print("kept", number, flush=True)
    time.sleep(0.02)
"""
SCAN = """
import hashlib, json, os, sys
found = {}
for place in sys.argv[1:]:
    root = "/proc/%s/root%s" % (os.environ["PID"], place)
    for top in ("", "/deep"):
        for folder, folders, names in os.walk(root + top) if top else [(root, [], [n for n in os.listdir(root) if n in
                ("large", "holes", "seven", "link", "fifo", "journal", "deep")])]:
            for name in names + folders:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                entry = [oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink if not os.path.isdir(path) else 0]
                if os.path.isfile(path) and not os.path.islink(path):
                    entry += [status.st_size, hashlib.sha256(open(path, "rb").read()).hexdigest()]
                    entry += [status.st_blocks < status.st_size // 512]
                    entry += sorted(os.listxattr(path))
                if os.path.islink(path):
                    entry.append(os.readlink(path))
                found[path[len(root) - len(place):]] = entry
print(json.dumps(found))
"""


def scan(lab: Lab, node: str, places: list[str]) -> dict[str, Any]:
    """What lies in the places of a container, as its node sees it."""
    pid = "$(pgrep -o -f 'print..kept')"
    out = lab.ssh(node, f"PID={pid} python3 - {' '.join(places)}", stdin=SCAN).stdout
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("name", ["new", "keep"])
def test_files_of_every_kind(lab: Lab, cluster: Cluster, plays: Plays, traces: Traces, name: str) -> None:
    """The keeper checks its own mapping and file at every step; the trees are compared while it stands still."""
    places = ["/var/tree", "/data", "/fast"]
    pod = workloads.pod(cluster.name("files"), "node-a", "counter")
    container = python("main", KEEPER, volumeMounts=[
        {"name": "data", "mountPath": "/data"}, {"name": "fast", "mountPath": "/fast"},
        {"name": "part", "mountPath": "/part", "subPath": "inner"}])  # fmt: skip
    container["command"] += places
    pod["spec"]["containers"] = [container]
    pod["spec"]["volumes"] = [
        {"name": "data", "emptyDir": {}}, {"name": "fast", "emptyDir": {"medium": "Memory"}}, {"name": "part", "emptyDir": {}},
    ]  # fmt: skip
    current = cluster.create(pod)
    until("it keeps", lambda: len(numbers(cluster.logs(current), "kept")) > 20, 60)
    for there in ("node-b", "node-a"):
        result = plays.migrate(current, there, name=name).ok()
        phases = [phase["name"] for phase in result.report["phases"]]
        assert "copy files" in phases
        current = cluster.moved(current)
        wait_for_more(cluster, current, "main", "kept", 10)
    log = cluster.logs(current)
    whole(log, "kept", 1)
    lab.ssh("node-a", "kill -STOP $(pgrep -o -f 'print..kept')")
    found = scan(lab, "node-a", places)
    lab.ssh("node-a", "kill -CONT $(pgrep -o -f 'print..kept')")
    found = {
        path: entry for path, entry in found.items() if "/new" not in path
    }  # it stopped while it wrote one of them
    reference = {path[len("/data") :]: entry for path, entry in found.items() if path.startswith("/data/")}
    assert len(reference) > 200
    for place in places:
        mine = {path[len(place) :]: entry for path, entry in found.items() if path.startswith(place + "/")}
        assert mine.keys() == reference.keys()
        for path, entry in mine.items():
            if path not in ("/large",):  # random, and not the same in each place
                assert entry == reference[path], (place, path)
    assert reference["/seven"][3] == 2 and reference["/deep/er/7"][3] == 2
    assert reference["/deep/er/8"][0] == "0o104751" and reference["/deep/er/9"][-1] == "user.note"
    assert reference["/deep"][1:3] == [1234, 4321]
    assert reference["/holes"][6] is True
    cluster.delete(current)
    traces.assert_none()


HOLDER = """
import mmap, os, time
files = [open(path) for path in ("/config/words", "/var/run/secrets/kubernetes.io/serviceaccount/token")]
contents = [file.read() for file in files]
memory = mmap.mmap(os.open("/config/words", os.O_RDONLY), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
for number in range(1 << 40):
    for file, content in zip(files, contents):
        file.seek(0)
        assert file.read() == content
    assert memory[:].decode() == contents[0]
    print("kept", number, flush=True)
    time.sleep(0.02)
"""


def test_files_open_on_volumes_of_the_kubelet(cluster: Cluster, plays: Plays, traces: Traces) -> None:
    """What is open goes on being readable as it was; what is opened anew is the target's."""
    config = cluster.name("words")
    cluster.core.create_namespaced_config_map(
        "default", {"metadata": {"name": config}, "data": {"words": "to be kept"}}
    )
    account = {"metadata": {"name": config}}
    cluster.core.create_namespaced_service_account("default", account)
    try:
        pod = workloads.pod(cluster.name("holder"), "node-a", "counter", serviceAccountName=config)
        del pod["spec"]["automountServiceAccountToken"]
        pod["spec"]["containers"] = [python("main", HOLDER, volumeMounts=[{"name": "words", "mountPath": "/config"}])]
        pod["spec"]["volumes"] = [{"name": "words", "configMap": {"name": config}}]
        current = cluster.create(pod)
        until("it keeps", lambda: len(numbers(cluster.logs(current), "kept")) > 5, 30)
        for there, name in (("node-b", "new"), ("node-a", "keep")):
            plays.migrate(current, there, name=name).ok()
            current = cluster.moved(current)
            wait_for_more(cluster, current, "main", "kept", 10)
        whole(cluster.logs(current), "kept", 1)
        cluster.delete(current)
        traces.assert_none()
    finally:
        cluster.core.delete_namespaced_config_map(config, "default")
        cluster.core.delete_namespaced_service_account(config, "default")


WRITER = """
import os, sys, time
file = open("/shared/journal", "a+")
for number in range(1 << 40):
    file.write(f"{number}\\n")
    file.flush()
    print("kept", number, flush=True)
    time.sleep(0.02)
"""


@pytest.mark.standin("a volume that both nodes mount needs an NFS client in the kernel; the stand-in binds a folder")
@pytest.mark.parametrize("mode", ["ReadWriteMany", "ReadWriteOnce"])
def test_claims(lab: Lab, cluster: Cluster, plays: Plays, traces: Traces, mode: str) -> None:
    """A file on a volume that both nodes mount is written on without a gap; what one node mounts alone is refused."""
    claim = cluster.name("claim")
    cluster.core.create_namespaced_persistent_volume_claim(
        cluster.namespace,
        {"metadata": {"name": claim}, "spec": {"storageClassName": "lab-shared", "accessModes": [mode],
                                               "resources": {"requests": {"storage": "1Gi"}}}},
    )  # fmt: skip
    try:
        pod = workloads.pod(cluster.name("writer"), "node-a", "counter")
        pod["spec"]["containers"] = [python("main", WRITER, volumeMounts=[{"name": "s", "mountPath": "/shared"}])]
        pod["spec"]["volumes"] = [{"name": "s", "persistentVolumeClaim": {"claimName": claim}}]
        current = cluster.create(pod)
        until("it writes", lambda: len(numbers(cluster.logs(current), "kept")) > 5, 30)
        if mode == "ReadWriteOnce":
            refused = plays.migrate(current, "node-b")
            refused.refused("volume_access")
        else:
            for there, name in (("node-b", "new"), ("node-a", "keep")):
                plays.migrate(current, there, name=name).ok()
                current = cluster.moved(current)
                wait_for_more(cluster, current, "main", "kept", 10)
            whole(cluster.logs(current), "kept", 1)
            written = lab.ssh("node-a", "cat $(find /srv/shared -name journal)").stdout.split()
            assert [int(number) for number in written] == list(range(len(written)))
        cluster.delete(current)
        cluster.wait_gone(current)
        traces.assert_none()
    finally:
        cluster.core.delete_namespaced_persistent_volume_claim(claim, cluster.namespace)
