# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as things: taken while the pod runs on, stored, and restored as often as one likes, on any node."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ansible_collections.podferry.live.plugins.module_utils._checkpoint import buckets
from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.faultpoints import faults
from e2e.support.lab import Lab, free_port
from e2e.support.plays import PlayResult, Plays
from e2e.support.servers import reachable, server
from e2e.test_containers import CLIENT, SERVER, numbers, python, wait_for_more, whole

SHARED = {"kind": "path", "path": "/srv/shared/checkpoints"}
KINDS = ("path", "registry", "s3")
Stores = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def stores(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """One store of each kind that both nodes and the controller reach: a shared mount, Debian's registry, an S3 server."""
    folder = tmp_path_factory.mktemp("stores")
    ports = free_port(), free_port()
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": f"127.0.0.1:{ports[0]}"},
    }
    (folder / "registry.yml").write_text(yaml.safe_dump(config))
    bucket = {
        "kind": "s3",
        "bucket": "checkpoints",
        "endpoint": f"http://localhost:{ports[1]}",
        "region": "us-east-1",
        "access_key": "tests",
        "secret_key": "tests",
    }
    moto = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(ports[1])]
    with (
        server(["docker-registry", "serve", str(folder / "registry.yml")], ports[0], folder / "registry.log"),
        server(moto, ports[1], folder / "s3.log"),
        reachable(lab, ports[0]),
        reachable(lab, ports[1]),
    ):
        buckets.connect(bucket).create_bucket(Bucket="checkpoints")
        registry = {"kind": "registry", "url": f"http://localhost:{ports[0]}", "repository": "podferry"}
        yield {"path": SHARED, "registry": registry, "s3": bucket}


def take(plays: Plays, stores: Stores, store: str, **more: Any) -> PlayResult:
    return plays.run("checkpoint", podferry_stores=stores, store=store, **more)


def restore(plays: Plays, stores: Stores, store: str, **more: Any) -> PlayResult:
    return plays.run("restore", podferry_stores=stores, store=store, **more)


def restored(cluster: Cluster, checkpoint: str = "") -> list[str]:
    """Pods that came back from a checkpoint, which are removed at the end like those that the test made."""
    found = []
    for pod in cluster.pods():
        origin = pod["metadata"].get("annotations", {}).get("podferry.live/restored-from", "")
        if origin and checkpoint in ("", origin):
            found.append(pod["metadata"]["name"])
            if found[-1] not in cluster.created:
                cluster.created.append(found[-1])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_comes_back_three_times_on_another_node(
    plays: Plays, cluster: Cluster, traces: Traces, stores: Stores, kind: str
) -> None:
    """With a folder of the node mounted, too: it keeps a pod from moving, and no checkpoint from being taken."""
    pod = workloads.counter(cluster.name("kept"), "node-a")
    pod["spec"]["volumes"] = [{"name": "host", "hostPath": {"path": "/opt"}}]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "host", "mountPath": "/host"}]
    source = cluster.create(pod)
    take(plays, stores, kind, pod=source).ok()
    at = len(ticks.parse(cluster.logs(source)))
    until("the source goes on", lambda: len(ticks.parse(cluster.logs(source))) > at + 20, 10)
    ticks.assert_unbroken(cluster.logs(source))
    restore(plays, stores, kind, pod=source, target="node-b", copies=3).ok()
    copies = restored(cluster)
    assert len(copies) == 3
    parted = set()
    mine = {tick.number: tick.realtime for tick in ticks.parse(cluster.logs(source))}
    for copy in copies:
        assert cluster.node(copy) == "node-b"
        annotations = (cluster.get(copy) or {})["metadata"].get("annotations", {})
        assert "podferry.live/arrival" not in annotations
        first = len(ticks.parse(cluster.logs(copy)))
        until(f"{copy} goes on", lambda name=copy, seen=first: len(ticks.parse(cluster.logs(name))) > seen + 20, 20)
        theirs = ticks.assert_unbroken(cluster.logs(copy))
        parted.add(min(tick.number for tick in theirs if mine.get(tick.number) != tick.realtime))
    assert len(parted) == 1, "all copies go on from the same instruction"
    for name in (*copies, source):
        cluster.delete(name)
    traces.assert_none()


@pytest.mark.parametrize(("kind", "name"), [("path", "new"), ("registry", "keep"), ("s3", "new")])
def test_a_pod_moves_through_a_store(
    plays: Plays, cluster: Cluster, traces: Traces, lab: Lab, stores: Stores, kind: str, name: str
) -> None:
    source = cluster.create(workloads.counter(cluster.name("detour"), "node-a"))
    result = plays.migrate(source, "node-b", name=name, podferry_stores=stores, transfer=kind).ok()
    assert result.report["bytes"]["store"] > 1 << 20
    moved = source if name == "keep" else cluster.moved(source)
    assert cluster.node(moved) == "node-b"
    first = len(ticks.parse(cluster.logs(moved)))
    until("it goes on", lambda: len(ticks.parse(cluster.logs(moved))) > first + 10, 20)
    ticks.assert_unbroken(cluster.logs(moved))
    left = lab.ssh("node-b", "find", SHARED["path"], "-path", f"*{source}*", "-type", "f", check=False).stdout
    assert left.strip() == ""
    cluster.delete(moved)
    traces.assert_none()


def test_a_store_that_is_full_leaves_the_source_running(
    plays: Plays, cluster: Cluster, traces: Traces, lab: Lab
) -> None:
    source = cluster.create(workloads.counter(cluster.name("detour"), "node-a"))
    full = "/run/full-store"
    lab.ssh("node-a", f"mkdir -p {full} && mount -t tmpfs -o size=256k,mode=0700 tmpfs {full}")
    try:
        result = plays.migrate(
            source, "node-b", podferry_stores={"full": {"kind": "path", "path": full}}, transfer="full"
        )
    finally:
        lab.ssh("node-a", f"umount {full} && rmdir {full}")
    assert result.report["outcome"] == "undone"
    assert "full" in result.report["error"]["message"].lower()
    first = len(ticks.parse(cluster.logs(source)))
    until("it goes on", lambda: len(ticks.parse(cluster.logs(source))) > first + 10, 20)
    ticks.assert_unbroken(cluster.logs(source))
    cluster.delete(source)
    traces.assert_none()


def pair(cluster: Cluster) -> str:
    """Two containers that talk over the pod's loopback; returns the pod's name."""
    pod = workloads.pod(cluster.name("pair"), "node-a", "counter")
    pod["spec"]["containers"] = [python("server", SERVER), python("client", CLIENT)]
    name = cluster.create(pod)
    until("they talk", lambda: len(numbers(cluster.logs(name, "client"), "asked")) > 5, 20)
    return name


def test_two_containers_come_back_from_an_encrypted_signed_incremental_one(
    plays: Plays, cluster: Cluster, traces: Traces, stores: Stores
) -> None:
    key = Ed25519PrivateKey.generate()
    keys = {
        "podferry_signing_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        "podferry_verify_key": public(key),
    }
    made = subprocess.run(["age-keygen"], capture_output=True, text=True, check=True)
    recipient = made.stderr.split()[-1]
    secret = {"podferry_identity": made.stdout}
    source = pair(cluster)
    for _round in range(2):
        take(plays, stores, "path", pod=source, recipient=recipient, **keys, **secret).ok()
    stranger = {"podferry_verify_key": public(Ed25519PrivateKey.generate())}
    restore(plays, stores, "path", pod=source, target="node-b", **stranger, **secret).refused("none of the keys")
    restore(plays, stores, "path", pod=source, target="node-b", **keys).refused("encrypted")
    restore(plays, stores, "path", pod=source, target="node-b", **keys, **secret).ok()
    (copy,) = restored(cluster)
    wait_for_more(cluster, copy, "client", "asked", 10)
    for container, word in (("client", "asked"), ("server", "served")):
        log = cluster.logs(copy, container)
        whole(log, word, 10)
        assert log.count("start") == 1
    for name in (copy, source):
        cluster.delete(name)
    traces.assert_none()


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_a_timer_comes_and_goes(plays: Plays, lab: Lab) -> None:
    def timer(schedule: str) -> PlayResult:
        return plays.run("checkpoint", pod="redis-0", namespace="prod", schedule=schedule, timer_host="node-a").ok()

    assert timer("hourly").changed > 0
    assert timer("hourly").changed == 0
    unit = "podferry-checkpoint-prod-redis-0"
    assert lab.ssh("node-a", "systemctl", "is-active", f"{unit}.timer").stdout.strip() == "active"
    variables = json.loads(lab.ssh("node-a", "cat", f"/etc/systemd/system/{unit}.json").stdout)
    assert variables.items() >= {"pod": "redis-0", "namespace": "prod"}.items()
    command = lab.ssh("node-a", "systemctl", "show", "-P", "ExecStart", f"{unit}.service").stdout
    assert "playbooks/checkpoint.yml" in command
    environment = lab.ssh("node-a", "systemctl", "show", "-P", "Environment", f"{unit}.service").stdout
    assert "ANSIBLE_COLLECTIONS_PATH=/" in environment, "root has no collections of its own"
    plays.run("checkpoint", pod="x", schedule="never ever").refused("never ever")
    assert plays.run("checkpoint", timer="prod-redis-0", schedule="absent", timer_host="node-a").ok().changed > 0
    assert timer("absent").changed == 0
    left = lab.ssh("node-a", "ls /etc/systemd/system").stdout
    assert "podferry-checkpoint" not in left


DISTINCT = """
import hashlib, shutil, sys, tempfile
sys.path.insert(0, "/usr/local/lib/podferry")
from podferry._store import node
spec = {spec!r}
pages, stored = set(), 0
for entry in node.entries(spec, "default", {pod!r}):
    stored += entry.manifest.bytes["stored"]
    folder = tempfile.mkdtemp(dir="/run")
    node.load(spec, entry.manifest, folder, limit=1 << 30)
    with open(folder + "/main/criu/pages-1.img", "rb") as file:
        while page := file.read(4096):
            pages.add(hashlib.sha256(page).digest())
    shutil.rmtree(folder)
print(stored, len(pages) * 4096)
"""


def test_five_incremental_ones_store_little_more_than_their_distinct_pages(
    plays: Plays, cluster: Cluster, traces: Traces, lab: Lab
) -> None:
    store = {"kind": "path", "path": "/srv/shared/chain"}
    source = cluster.create(workloads.counter(cluster.name("large"), "node-a", mib=256))
    for _round in range(5):
        take(plays, {"chain": store}, "chain", pod=source, compression="none").ok()
    stored, distinct = map(int, lab.python("node-a", DISTINCT.format(spec=store, pod=source)).split())
    assert distinct > 256 << 20
    assert stored < 1.2 * distinct, f"{stored / distinct:.2f}"
    lab.ssh("node-a", "rm", "-rf", store["path"])
    cluster.delete(source)
    traces.assert_none()


def test_a_restore_that_fails_leaves_nothing(
    plays: Plays, cluster: Cluster, traces: Traces, lab: Lab, stores: Stores
) -> None:
    source = cluster.create(workloads.counter(cluster.name("kept"), "node-a", mib=1))
    take(plays, stores, "path", pod=source).ok()
    with faults(lab, "node-b", {"target:phase:restore": "kill"}):
        restore(plays, stores, "path", pod=source, target="node-b", name="never").refused("died before the commit")
    assert cluster.get("never") is None
    cluster.delete(source)
    traces.assert_none()


def test_a_checkpoint_whose_ferry_dies_leaves_the_pod_running(
    plays: Plays, cluster: Cluster, traces: Traces, lab: Lab, stores: Stores
) -> None:
    source = cluster.create(workloads.counter(cluster.name("kept"), "node-a", mib=1))
    with faults(lab, "node-a", {"source:journal:frozen:after": "kill"}):
        take(plays, stores, "path", pod=source).refused("failed")
    first = len(ticks.parse(cluster.logs(source)))
    until("it goes on", lambda: len(ticks.parse(cluster.logs(source))) > first + 10, 20)
    ticks.assert_unbroken(cluster.logs(source))
    restore(plays, stores, "path", pod=source, target="node-b").refused("has no checkpoint")
    cluster.delete(source)
    traces.assert_none()


def test_a_checkpoint_of_a_node_s_own_store_is_brought_over_and_pruned(
    plays: Plays, cluster: Cluster, traces: Traces, lab: Lab
) -> None:
    source = cluster.create(workloads.counter(cluster.name("own"), "node-a", mib=4))
    for _round in range(3):
        plays.run("checkpoint", pod=source).ok()
    plays.run("restore", pod=source, target="node-b").refused("has no checkpoint")
    plays.run("restore", pod=source, target="node-b", holder="node-a").ok()
    (copy,) = restored(cluster)
    until("it goes on", lambda: len(ticks.parse(cluster.logs(copy))) > 30, 20)
    ticks.assert_unbroken(cluster.logs(copy))
    kept = f"find /var/lib/podferry/checkpoints/default/{source} -name manifest.json | wc -l"
    assert plays.run("prune", "--check", count=1, incremental=False).ok().changed > 0
    assert lab.ssh("node-a", kept).stdout.strip() == "3"
    plays.run("prune", count=1).ok()
    # What a later one refers to stays.
    assert 1 <= int(lab.ssh("node-a", kept).stdout) <= 3
    plays.run("restore", pod=source, target="node-b", holder="node-a").ok()
    assert plays.run("prune", count=1).ok().changed == 0
    lab.ssh("node-a", "rm -rf /var/lib/podferry/checkpoints")
    lab.ssh("node-b", "rm -rf /var/lib/podferry/checkpoints")
    for name in (*restored(cluster), source):
        cluster.delete(name)
    traces.assert_none()
