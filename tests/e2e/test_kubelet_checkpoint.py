# SPDX-License-Identifier: Apache-2.0
"""The kubelet's checkpoint call by both ways, on a runtime that has it and on one that has not, and every way to be refused."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, utils

from e2e.conftest import OtherLab
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.lab import Lab
from e2e.support.plays import ROOT, Plays

NODE, OTHER = "node-a", "node-b"
Args = dict[str, Any]


@dataclass
class Checkpointer:
    """Runs module kubelet_checkpoint against one lab."""

    lab: Lab
    scratch: Path

    def run(
        self, tasks: Sequence[Args], *flags: str, node: str = NODE, module: str = "kubelet_checkpoint"
    ) -> list[dict[str, Any]]:
        """Each task's result, in one run of ansible-playbook; a failure does not end it."""
        play: dict[str, Any] = {"hosts": node, "gather_facts": False, "tasks": []}
        names = [f"result_{number}" for number in range(len(tasks))]
        for name, arguments in zip(names, tasks, strict=True):
            play["tasks"].append({f"podferry.live.{module}": arguments, "register": name, "ignore_errors": True})
        out = self.scratch / "results.json"
        content = f"{{{{ [{', '.join(names)}] | to_json }}}}"
        play["tasks"].append(
            {"ansible.builtin.copy": {"content": content, "dest": str(out), "mode": "0600"}, "delegate_to": "localhost", "check_mode": False}
        )  # fmt: skip
        path = self.scratch / "play.yml"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
            yaml.safe_dump([play], stream)
        program = str(Path(sys.executable).parent / "ansible-playbook")
        plays = self.lab.plays
        command = [program, "-i", plays.inventory, "-e", json.dumps(plays.variables), *flags, str(path)]
        done = subprocess.run(
            command, cwd=ROOT, env=plays.env(), capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        self.said = done.stdout + done.stderr
        results: list[dict[str, Any]] = json.loads(out.read_text())
        return results


@dataclass
class Rights:
    """Tokens of the accounts of docs/rbac*.yml, and the administrator's certificate. As the arguments of a task."""

    least: Args
    proxy: Args
    none: Args
    admin: Args


def rights(cluster: Cluster, lab: Lab) -> Rights:
    """Apply the manifests, and make tokens."""
    for name in ("rbac.yml", "rbac-checkpoint.yml"):
        try:
            utils.create_from_yaml(cluster.core.api_client, str(ROOT / "docs" / name))
        except utils.FailToCreateError as error:
            assert all(one.status == 409 for one in error.api_exceptions), error

    def token(account: str) -> str:
        asked = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[]))
        made = cluster.core.create_namespaced_service_account_token(account, "podferry", asked)
        text: str = made.status.token
        return text

    def pem(name: str) -> str:
        return (lab.pki / name).read_text()

    server = f"https://127.0.0.1:{lab.api_port}"
    return Rights(
        {"kubelet_token": token("podferry-checkpoint")},
        {"host": server, "ca_cert": str(lab.pki / "ca.crt"), "api_key": token("podferry-checkpoint-api")},
        {"kubelet_token": token("podferry")},
        {"kubelet_client_cert": pem("admin.crt"), "kubelet_client_key": pem("admin.key")},
    )


@pytest.fixture(scope="module")
def checkpointer(other_lab: OtherLab, tmp_path_factory: pytest.TempPathFactory) -> Checkpointer:
    """For the lab whose containerd is 2.1."""
    return Checkpointer(other_lab.lab, tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def cluster21(other_lab: OtherLab) -> Iterator[Cluster]:
    """The API of that lab."""
    cluster = Cluster(other_lab.lab.kubeconfig)
    until("all nodes Ready", cluster.nodes_ready, 90)
    yield cluster
    cluster.clean()


@pytest.fixture(scope="module")
def accounts(cluster21: Cluster, other_lab: OtherLab) -> Rights:
    """Who may what there."""
    return rights(cluster21, other_lab.lab)


@pytest.fixture(scope="module")
def counter(cluster21: Cluster) -> str:
    """A counter, after an init container that has ended."""
    image = {"image": "localhost/podferry-counter:lab", "imagePullPolicy": "Never"}
    first = [{"name": "first", "command": ["/bin/true"], **image}]
    return cluster21.create(workloads.counter(cluster21.name("kept"), NODE, mib=8, initContainers=first))


def directly(pod: str, ca: str, **more: Any) -> Args:
    """Arguments of the way to the kubelet itself."""
    return {"pod": pod, "container": "main", "via": "kubelet", "kubelet_ca": ca, **more}


def test_a_counter_by_every_way(checkpointer: Checkpointer, cluster21: Cluster, accounts: Rights, counter: str) -> None:
    lab = checkpointer.lab
    ca, own = (lab.pki / "ca.crt").read_text(), (lab.pki / f"kubelet-{NODE}.crt").read_text()
    pinned = {"pod": counter, "namespace": "default", "container": "main", "via": "kubelet", "kubelet_certificate": own}
    results = checkpointer.run(
        [
            {"pod": counter, "kubeconfig": str(lab.kubeconfig)},
            {"pod": counter, "namespace": "default", "container": "main", "timeout": 150, **accounts.proxy},
            directly(counter, ca, timeout=20, **accounts.least),
            directly(counter, ca, kubelet_name="10.213.0.11", **accounts.admin),
            {**pinned, "kubelet_name": "any", **accounts.admin},
        ]
    )
    assert [one.get("msg") for one in results if one.get("failed")] == []
    assert len({one["path"] for one in results}) == len(results), "one overwrote the other"
    for one in results:
        assert one["changed"] and one["attempts"] == 1 and 0 < one["duration"] < 60
        assert (one["node"], one["container"], one["tightened"]) == (NODE, "main", False)
        path = one["path"]
        assert re.fullmatch(rf"/var/lib/kubelet/checkpoints/checkpoint-{counter}_default-main-[-0-9T:]+Z\.tar", path)
        stat, digest = lab.ssh(NODE, f"stat -c '%a %u %s' {path}; sha256sum <{path}").stdout.splitlines()
        assert stat == f"600 0 {one['size']}"
        assert digest.split()[0] == one["sha256"]
        names = set(lab.ssh(NODE, "tar", "tf", path).stdout.split())
        assert {
            "checkpoint/inventory.img",
            "checkpoint/pages-1.img",
            "config.dump",
            "spec.dump",
            "status.dump",
        } <= names
        config = json.loads(lab.ssh(NODE, "tar", "xOf", path, "config.dump").stdout)
        assert config["rootfsImageName"] == "localhost/podferry-counter:lab"
    assert lab.ssh(NODE, "stat -c %a /var/lib/kubelet/checkpoints").stdout.strip() == "700"
    # It ran on each time, with its memory as it was.
    seen = ticks.assert_unbroken(cluster21.logs(counter))[-1].number
    until("the counter to run on", lambda: ticks.parse(cluster21.logs(counter))[-1].number > seen + 50, 20)
    for secret in (accounts.least["kubelet_token"], accounts.admin["kubelet_client_key"].splitlines()[1]):
        assert secret not in checkpointer.said
    checkpointer.lab.ssh(NODE, "rm /var/lib/kubelet/checkpoints/*")


def test_every_refusal_says_which(
    checkpointer: Checkpointer, cluster21: Cluster, accounts: Rights, counter: str
) -> None:
    lab = checkpointer.lab
    ca, api = (lab.pki / "ca.crt").read_text(), {"kubeconfig": str(lab.kubeconfig)}
    stranger = lab.ssh(
        NODE, "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=node-a -keyout /dev/null 2>/dev/null"
    ).stdout  # fmt: skip
    me = accounts.least
    matrix: list[tuple[Args, str]] = [
        ({"pod": "absent", **api}, "pod_not_found"),
        ({"pod": counter, "container": "absent", **api}, "container_not_found"),
        ({"pod": counter, "container": "first", **api}, "container_not_running"),
        ({"pod": counter, "validate_certs": False, **api}, "invalid_input"),
        ({"pod": "../x", **api}, "invalid_input"),
        (directly("absent", ca, **me), "pod_not_found"),
        (directly(counter, ca, namespace="elsewhere", **me), "pod_not_found"),
        (directly(counter, ca, **me) | {"container": "absent"}, "container_not_found"),
        (directly(counter, ca, **me) | {"container": "first"}, "container_not_running"),
        (directly(counter, ca, kubelet_token="wrong"), "unauthorized"),
        (directly(counter, ca, **accounts.none), "forbidden"),
        (directly(counter, stranger, **me), "untrusted"),
        (directly(counter, ca, kubelet_name=OTHER, **me), "untrusted"),
        (directly(counter, "", **me), "invalid_input"),
        (directly(counter, "", kubelet_certificate=stranger, **me), "untrusted"),
        (directly(counter, ca, kubelet_port=10299, retries=1, **me), "unreachable"),
        (directly(counter, ca), "invalid_input"),
    ]
    results = checkpointer.run([arguments for arguments, _kind in matrix])
    assert [one.get("type", one) for one in results] == [kind for _arguments, kind in matrix]
    assert all(one["remedy"] and not one["changed"] for one in results)
    assert lab.ssh(NODE, "ls /var/lib/kubelet/checkpoints").stdout == ""
    assert checkpointer.run([{"pod": counter, **api}], node=OTHER)[0]["type"] == "pod_elsewhere"


def test_check_mode_asks_for_nothing(
    checkpointer: Checkpointer, cluster21: Cluster, accounts: Rights, counter: str
) -> None:
    lab = checkpointer.lab
    ca = (lab.pki / "ca.crt").read_text()
    good, also, bad = checkpointer.run(
        [
            {"pod": counter, "kubeconfig": str(lab.kubeconfig)},
            directly(counter, ca, **accounts.least),
            directly(counter, ca, kubelet_name=OTHER, **accounts.least),
        ],
        "--check",
    )
    assert good["changed"] and also["changed"] and "path" not in {**good, **also}
    assert bad["type"] == "untrusted"
    assert lab.ssh(NODE, "ls /var/lib/kubelet/checkpoints").stdout == ""


@dataclass
class Trouble:
    """A node on which something is not as it should be."""

    lab: Lab
    do: str
    undo: str

    def __enter__(self) -> None:
        self.lab.ssh(NODE, self.do)

    def __exit__(self, *_exception: object) -> None:
        self.lab.ssh(NODE, self.undo)


# What a debugger does: CRIU cannot seize a process that somebody else traces.
TRACER = """
import ctypes, subprocess, sys, time
pid = int(subprocess.check_output(["pgrep", "-of", "counter"]))
assert ctypes.CDLL(None, use_errno=True).ptrace(0x4206, pid, 0, 0) == 0, ctypes.get_errno()  # PTRACE_SEIZE
open("/run/tracer.ready", "w").close()
time.sleep(300)
"""
TRACE = (
    f"systemd-run --quiet --unit=tracer python3 -c {shlex.quote(TRACER)}; "
    "for i in $(seq 100); do [ -e /run/tracer.ready ] && exit 0; sleep 0.1; done; journalctl -u tracer >&2; exit 1"
)
TROUBLES = {
    "criu_unusable": ("mv /usr/sbin/criu /root/criu", "mv /root/criu /usr/sbin/criu"),
    "dump_failed": (TRACE, "systemctl stop tracer; rm /run/tracer.ready"),
    "runtime_unavailable": ("systemctl stop containerd", "systemctl start containerd"),
    "unreachable": (
        "systemctl stop podferry-standin-kubelet kubelet 2>&1 || :",
        "systemctl start podferry-standin-kubelet 2>/dev/null || systemctl start kubelet",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TROUBLES)
def test_a_node_in_trouble(
    checkpointer: Checkpointer, cluster21: Cluster, accounts: Rights, counter: str, kind: str
) -> None:
    lab = checkpointer.lab
    ca = (lab.pki / "ca.crt").read_text()
    ways: list[Args] = [
        {"pod": counter, "kubeconfig": str(lab.kubeconfig), "retries": 0},
        directly(counter, ca, retries=0, **accounts.least),
    ]
    with Trouble(lab, *TROUBLES[kind]):
        results = checkpointer.run(ways)
    assert [one.get("type", one) for one in results] == [kind, kind]
    until("the node to be Ready again", cluster21.nodes_ready, 60)
    until("its kubelet to answer", lambda: ":10250" in lab.ssh(NODE, "ss -Htln").stdout, 60)
    seen = ticks.parse(cluster21.logs(counter))[-1].number
    until("the counter to run on", lambda: ticks.parse(cluster21.logs(counter))[-1].number > seen, 20)
    assert lab.ssh(NODE, "find /var/lib/kubelet/checkpoints -type f").stdout == ""


def assert_went_on(log: str) -> None:
    """The log of a restored archive: containerd packs it after the dump, so it may hold ticks that the dump does not know."""
    seen = ticks.parse(log)
    back = [place for place, (one, two) in enumerate(pairwise(seen), 1) if two.number <= one.number]
    assert len(back) <= 1, f"{len(back)} times back"
    for part in (seen[: back[0]], seen[back[0] :]) if back else (seen,):
        assert ticks.problems(part) == []
    assert "CORRUPT" not in log
    assert log.count("start pid=") <= 1, "it was started anew"


def test_an_archive_restores_through_the_handler_in_another_cluster(
    checkpointer: Checkpointer,
    cluster21: Cluster,
    counter: str,
    lab: Lab,
    plays: Plays,
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    """Made by a kubelet of the other lab, imported on a node of this one, restored on its other node."""
    other = checkpointer.lab
    (made,) = checkpointer.run([{"pod": counter, "kubeconfig": str(other.kubeconfig)}])
    archive = "/root/archive.tar"
    packed = other.ssh(NODE, f"base64 {made['path']}").stdout
    other.ssh(NODE, f"rm {made['path']}")
    lab.ssh(NODE, f"umask 077; base64 -d >{archive}", stdin=packed)
    store = {"kind": "path", "path": "/srv/shared/imported"}
    definition = cluster21.get(counter)
    arguments = {"path": archive, "container": "main", "definition": definition, "store": store}
    (imported,) = Checkpointer(lab, tmp_path).run([arguments], module="checkpoint_import")
    assert not imported.get("failed"), imported
    plays.run("restore", pod=counter, target=OTHER, name="adopted", podferry_stores={"here": store}, store="here").ok()
    cluster.created.append("adopted")
    seen = len(ticks.parse(cluster.logs("adopted")))
    until("it goes on", lambda: len(ticks.parse(cluster.logs("adopted"))) > seen + 50, 20)
    assert_went_on(cluster.logs("adopted"))
    cluster.delete("adopted")
    lab.ssh(NODE, f"rm -rf {archive} {store['path']}")


@pytest.mark.skipif("PODFERRY_KUBERNETES_BIN_DIR" in os.environ, reason="real kubelets are not run on containerd 1.7")
def test_a_runtime_without_the_call(lab: Lab, tmp_path: Path) -> None:
    """containerd 1.7, on the lab of all other tests."""
    cluster = Cluster(lab.kubeconfig)
    until("all nodes Ready", cluster.nodes_ready, 90)
    try:
        pod = cluster.create(workloads.counter(cluster.name("old"), NODE, mib=1))
        ca = (lab.pki / "ca.crt").read_text()
        admin = {"kubelet_client_cert": (lab.pki / "admin.crt").read_text(), "kubelet_client_key": (lab.pki / "admin.key").read_text()}  # fmt: skip
        ways: list[Args] = [{"pod": pod, "kubeconfig": str(lab.kubeconfig)}, directly(pod, ca, **admin)]
        results = Checkpointer(lab, tmp_path).run(ways)
        assert [one.get("type", one) for one in results] == ["unimplemented", "unimplemented"]
        assert all("containerd 2.0" in one["remedy"] for one in results)
        ticks.assert_unbroken(cluster.logs(pod))
    finally:
        cluster.clean()
