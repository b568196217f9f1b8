# SPDX-License-Identifier: Apache-2.0
"""Real checkpoints of podman's and of containerd's CRI: what we say of them is what checkpointctl says, and engines take our images."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from e2e.support.plays import ROOT
from e2e.support.workbench import Workbench

COUNTER = "localhost/podferry-counter:lab"
REGISTRY = "localhost:5000"
# Two processes, two threads, a file that is appended to, sockets of three kinds, pipes, and changes, links and deletions in the image's files.
PROGRAM = """
import os, socket, threading, time
kept = bytearray(b"\\xa5" * (4 << 20))
os.makedirs("/data/inner")
open("/data/inner/new", "w").write("new")
os.symlink("new", "/data/inner/soft"); os.link("/data/inner/new", "/data/inner/hard")
os.unlink("/etc/debian_version")
log = open("/data/log", "a")
tcp = socket.create_server(("127.0.0.1", 7000))
udp = socket.socket(type=socket.SOCK_DGRAM); udp.bind(("127.0.0.1", 7001))
unix = socket.socket(socket.AF_UNIX); unix.bind("/data/sock"); unix.listen()
pair, pipe = socket.socketpair(), os.pipe()
if os.fork() == 0:
    while True: time.sleep(1)
threading.Thread(target=time.sleep, args=(1e6,), daemon=True).start()
for number in range(1, 1 << 30):
    print("tick", number, flush=True)
    log.write(f"{number}\\n"); log.flush()
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def bench() -> Iterator[Workbench]:
    """The workbench, with the lab's images in podman and in its registry. Kept beside a lab that is kept."""
    given = os.environ.get("PODFERRY_LAB")
    if not given:
        Workbench.remove("e2e-bench")  # what an interrupted run left
    made = Workbench.up(f"{given[:17]}-bench" if given else "e2e-bench")
    made.run("rm -rf /srv/shared/*")  # of an earlier run, when it is kept
    made.run(f"skopeo copy -q oci-archive:{made.images}:{COUNTER} containers-storage:{COUNTER}")
    for name in ("counter", "pause"):
        source = f"oci-archive:{made.images}:localhost/podferry-{name}:lab"
        made.run(f"skopeo copy -q --dest-tls-verify=false {source} docker://{REGISTRY}/{name}:lab")
    (made.shared / "cri_client.py").write_bytes((ROOT / "tests/e2e/support/cri_client.py").read_bytes())
    yield made
    if not given:
        made.down()


def podman(bench: Workbench, words: str) -> str:
    return bench.run(f"PODMAN_IGNORE_CGROUPSV1_WARNING=1 podman {words}")


@pytest.fixture(scope="module")
def archives(bench: Workbench) -> dict[str, str]:
    """Names of archives in the shared folder: podman's in each compression, containerd's."""
    (bench.shared / "program.py").write_text(PROGRAM)
    podman(bench, "rm -f -t 0 work")
    run = "run -d --name work --env SECRET=hunter2 --env EMPTY= --entrypoint /usr/bin/python3"
    podman(bench, f'{run} {COUNTER} -I -c "$(cat /srv/shared/program.py)"; sleep 1')
    made = {}
    for kind in ("none", "gzip", "zstd"):
        made[f"podman-{kind}"] = f"podman-{kind}.tar"
        podman(
            bench, f"container checkpoint --compress {kind} --leave-running --export /srv/shared/podman-{kind}.tar work"
        )
    podman(bench, "rm -f -t 0 work")
    made["containerd"] = "containerd.tar"
    bench.run(
        f'python3 /srv/shared/cri_client.py checkpoint {REGISTRY}/counter:lab /srv/shared/containerd.tar "$(cat /srv/shared/program.py)"'
    )
    return made


@dataclass
class Module:
    """What a module returned, called as a user does it."""

    failed: bool
    result: dict[str, Any]


def module(name: str, check: bool = False, **arguments: Any) -> Module:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible")), "localhost", "-o", "-m", f"podferry.live.{name}", "-a", json.dumps(arguments),
         *(["--check"] if check else [])],
        capture_output=True, text=True, check=False, env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections")},
    )  # fmt: skip
    assert " => " in done.stdout, done.stdout + done.stderr
    return Module(done.returncode != 0, json.loads(done.stdout.partition(" => ")[2]))


def image(**arguments: Any) -> dict[str, Any]:
    made = module("checkpoint_image", **arguments)
    assert not made.failed, made.result
    return made.result


@pytest.mark.parametrize("kind", ["podman-none", "podman-gzip", "podman-zstd", "containerd"])
def test_it_agrees_with_checkpointctl(bench: Workbench, archives: dict[str, str], kind: str) -> None:
    ours = module("checkpoint_info", path=str(bench.shared / archives[kind])).result["checkpoint"]
    (theirs,) = json.loads(bench.run(f"checkpointctl inspect --all --format json /srv/shared/{archives[kind]}"))
    (container,) = ours["containers"]
    assert (container["name"], container["image"]["name"], container["id"], container["runtime"], ours["engine"]) == (
        theirs["container_name"], theirs["image"], theirs["id"], theirs["runtime"], theirs["engine"].lower(),
    )  # fmt: skip
    assert ours["created"][:19] == theirs["created"][:19]
    assert ours["checkpointed"][:19] == theirs.get("checkpointed", "")[:19]
    sizes = theirs["checkpoint_size"]
    assert (container["bytes"]["checkpoint"], container["bytes"]["memory"], container["bytes"]["rootfs_diff"]) == (
        sizes["total_size"], sizes["memory_pages_size"], sizes["root_fs_diff_size"],
    )  # fmt: skip
    measured = {name.removesuffix("_us"): value for name, value in container["statistics"].items()}
    for name, value in theirs["statistics"].items():
        assert measured[name.removesuffix("_time")] == value
    assert container["mounts"] == [
        {**mount, "options": mine["options"]} for mount, mine in zip(theirs["mounts"], container["mounts"], strict=True)
    ]

    def tree(node: dict[str, Any], parent: int) -> list[tuple[int, int, str]]:
        return [
            (node["pid"], parent, node["command"]),
            *(line for child in node.get("children", []) for line in tree(child, node["pid"])),
        ]

    processes = container["processes"]
    assert [(each["pid"], each["parent"], each["command"]) for each in processes] == tree(theirs["process_tree"], 0)
    for process, opened, sockets in zip(processes, theirs["file_descriptors"], theirs["sockets"], strict=True):
        assert process["pid"] == opened["pid"] == sockets["pid"]
        named = {item["fd"]: item["path"] for item in opened["open_files"]}
        assert (process["directory"], process["root"]) == (named.pop("cwd"), named.pop("root"))
        assert [f"{item['type']} {item['fd']}" for item in process["files"]] == list(named)
        for item in process["files"]:
            if item["type"] != "UNIXSK":
                assert named[f"{item['type']} {item['fd']}"] == item["path"]
        for mine, other in zip(process["sockets"], (item["data"] for item in sockets["open_sockets"]), strict=True):
            if mine["family"] == "UNIX":
                assert mine["local"] == other.get("address", "").rstrip("\0")
            else:
                assert (mine["protocol"], mine["local"], mine["local_port"], mine["state"]) == (
                    other["type"], other["src"], other["src_port"], other["state"],
                )  # fmt: skip
    assert {"SECRET", "EMPTY"} <= set(container["environment"]) and "hunter2" not in json.dumps(ours)


@pytest.mark.parametrize("kind", ["podman-zstd", "containerd"])
def test_secrets_when_they_are_asked_for(bench: Workbench, archives: dict[str, str], kind: str) -> None:
    found = module("checkpoint_info", path=str(bench.shared / archives[kind]), values=True).result["checkpoint"]
    (container,) = found["containers"]
    assert container["values"]["SECRET"] == "hunter2"
    for process in container["processes"]:
        assert process["arguments"][:3] == ["/usr/bin/python3", "-I", "-c"]
        assert "SECRET=hunter2" in process["environment"]


def test_podman_restores_from_our_image(bench: Workbench, archives: dict[str, str]) -> None:
    wanted = {
        "src": str(bench.shared / archives["podman-zstd"]),
        "dest": str(bench.shared / "web.oci"),
        "reference": "localhost/work:1",
        "compression": "gzip",
    }
    assert (
        module("checkpoint_image", check=True, **wanted).result["changed"] and not (bench.shared / "web.oci").exists()
    )
    assert image(**wanted)["changed"] and not image(**wanted)["changed"]
    inspected = json.loads(bench.run("skopeo inspect oci-archive:/srv/shared/web.oci:localhost/work:1"))
    assert inspected["Architecture"] == "amd64"
    bench.run("skopeo copy -q oci-archive:/srv/shared/web.oci:localhost/work:1 containers-storage:localhost/work:1")
    podman(bench, "container restore --name again localhost/work:1")
    try:
        ticks = podman(bench, "logs again").splitlines()
        assert int(ticks[0].split()[1]) > 5, "it began anew"
        changes = podman(bench, "exec again ls /data/inner /etc/debian_version 2>&1; true")
        assert "hard\nnew\nsoft" in changes and "No such file" in changes
    finally:
        podman(bench, "rm -f -t 0 again")


@pytest.fixture
def skopeo(bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workbench's skopeo, here. It finds our files under the same names."""
    bench.run(f"mkdir -p {bench.state} && ln -sfn /srv/shared {bench.shared}")
    tool = tmp_path / "skopeo"
    tool.write_text(f'#!/bin/sh\nexec nsenter --target {bench.init} --all skopeo "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.usefixtures("skopeo")
def test_containerd_restores_from_our_image_in_a_registry(bench: Workbench, archives: dict[str, str]) -> None:
    wanted = {
        "src": str(bench.shared / archives["containerd"]), "dest": str(bench.shared / "pod"), "form": "oci-dir", "reference": "pod:1",
        "push": f"docker://{REGISTRY}/pod:1", "tls_verify": False,
    }  # fmt: skip
    assert image(**wanted)["pushed"] and not image(**wanted)["changed"]
    lines = bench.run(f"python3 /srv/shared/cri_client.py restore {REGISTRY}/pod:1").splitlines()
    number = [int(line.split()[-1]) for line in lines]
    assert number[0] == 1 and number[1] > 25, "it began anew"


@pytest.mark.parametrize("kind", ["podman-gzip"])
def test_the_archive_comes_back(bench: Workbench, archives: dict[str, str], kind: str) -> None:
    source, packed, back = (str(bench.shared / name) for name in (archives[kind], f"{kind}.oci", f"{kind}-back.tar"))
    image(src=source, dest=packed, compression="zstd")
    bench.run(f"skopeo copy -q oci-archive:/srv/shared/{kind}.oci docker-archive:/srv/shared/{kind}.docker")
    image(src=packed, dest=back, form="archive")
    docker = module("checkpoint_info", path=str(bench.shared / f"{kind}.docker")).result["checkpoint"]
    original, returned = (module("checkpoint_info", path=path).result["checkpoint"] for path in (source, back))
    for other in (returned, docker):
        assert other["containers"] == original["containers"] and other["pod"] == original["pod"]
    (theirs,) = json.loads(bench.run(f"checkpointctl inspect --all --format json /srv/shared/{kind}-back.tar"))
    assert theirs["id"] == original["containers"][0]["id"]
