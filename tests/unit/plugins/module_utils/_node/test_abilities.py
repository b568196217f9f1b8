# SPDX-License-Identifier: Apache-2.0
"""What a node could do beyond a migration, from what its programs print."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._node import abilities
from ansible_collections.podferry.live.plugins.module_utils._runtime import cri, facts
from ansible_collections.podferry.live.plugins.module_utils._runtime.process import Completed
from ansible_collections.podferry.live.plugins.module_utils._runtime.service import Service

CAPTURES = Path(__file__).parents[1] / "_runtime" / "captures"

CRIO_1_36 = """
[crio.runtime]
# Globally enable/disable CRIU support which is necessary to
# checkpoint and restore container or pods (even if CRIU is found in $PATH).
# enable_criu_support = true
"""
CRIO_1_37 = """
[crio.runtime]
# [crio.checkpoint_restore] table and its container_level_enabled option.
# When set to false it is translated to container_level_enabled = "none".
enable_criu_support = false

[crio.checkpoint_restore]
# "none": checkpoint and restore support is disabled.
# container_level_enabled = "checkpoint_only"
"""


@pytest.mark.parametrize(
    ("printed", "settings"),
    [
        (CRIO_1_36, {"enable_criu_support": True}),
        (
            CRIO_1_36.replace("# enable_criu_support = true", "enable_criu_support = false"),
            {"enable_criu_support": False},
        ),
        (CRIO_1_37, {"container_level_enabled": "checkpoint_only", "enable_criu_support": False}),
        ("[crio]\n", {}),
    ],
)
def test_the_options_that_a_crio_knows(printed: str, settings: dict[str, Any]) -> None:
    assert abilities.crio_settings(printed) == settings


@pytest.mark.parametrize(
    ("settings", "enabled"),
    [
        ({}, True),
        ({"enable_criu_support": True}, True),
        ({"enable_criu_support": False}, False),
        ({"container_level_enabled": "checkpoint_only", "enable_criu_support": True}, True),
        ({"container_level_enabled": "none", "enable_criu_support": True}, False),
        ({"container_level_enabled": "checkpoint_restore", "enable_criu_support": False}, False),
        ({"enable_criu": False}, False),
        ({"enable_criu": True, "enable_experimental_restore_via_create": False}, True),
    ],
)
def test_whether_these_allow_a_checkpoint(settings: dict[str, Any], enabled: bool) -> None:
    assert abilities.checkpoint_enabled(settings) is enabled


def dump(extra: str = "") -> str:
    text = (CAPTURES / "containerd-2.1.9-config-dump.toml").read_text(encoding="utf-8")
    return text.replace(
        "[plugins.'io.containerd.cri.v1.runtime']", f"[plugins.'io.containerd.cri.v1.runtime']\n{extra}", 1
    )


def test_the_options_that_a_containerd_knows() -> None:
    assert abilities.containerd_settings(cri.parse_containerd(dump())) == {}
    extra = "enable_criu = false\nenable_experimental_restore_via_create = false\n"
    assert abilities.containerd_settings(cri.parse_containerd(dump(extra))) == {
        "enable_criu": False,
        "enable_experimental_restore_via_create": False,
    }


FILES = {
    "/k.yaml": "kind: KubeletConfiguration\nfeatureGates:\n  Other: true\n  ContainerCheckpoint: false\n",
    "/k.json": '{"featureGates": {"Other": false, "ContainerCheckpoint": true}}',
    "/comment.yaml": "featureGates:\n  # ContainerCheckpoint: false\n  Other: true\n",
    "/d/10-user.conf": "featureGates: {ContainerCheckpoint: false}\n",
    "/d/90-podferry.conf": "featureGates:\n  ContainerCheckpoint: true\n",
}


def read(path: str) -> str:
    try:
        return FILES[path]
    except KeyError:
        raise FileNotFoundError(path) from None


def find(pattern: str) -> list[str]:
    return sorted(path for path in FILES if path.startswith(pattern.rstrip("*.conf")))


@pytest.mark.parametrize(
    ("argv", "version", "on"),
    [
        ([], [1, 36, 2], True),
        ([], [1, 30, 0], True),
        ([], [1, 29, 9], False),
        ([], [1, 24, 0], False),
        ([], None, None),
        (["--config=/missing"], [1, 36], True),
        (["--config", "/k.yaml"], [1, 36], False),
        (["--config", "/k.json"], [1, 29], True),
        (["--config", "/comment.yaml"], [1, 36], True),
        (["--config", "/k.yaml", "--config-dir=/d"], [1, 36], True),
        (["--config", "/k.json", "--feature-gates=Other=true,ContainerCheckpoint=false"], [1, 29], False),
        (["--feature-gates", "MyContainerCheckpoint=false"], [1, 36], True),
    ],
)
def test_the_gate(argv: list[str], version: list[int] | None, on: bool | None) -> None:
    kubelet = Service("kubelet", 1, ["/usr/bin/kubelet", *argv], "/usr/bin")
    assert abilities.gate(kubelet, version, read, find) is on


class Node:
    """A node with CRI-O 1.36 beside an idle containerd, and a kubelet."""

    def __init__(self) -> None:
        self.commands = {
            "systemctl show --property=MainPID crio": "MainPID=6\n",
            "systemctl show --property=MainPID containerd": "MainPID=9\n",
            "systemctl show --property=MainPID kubelet": "MainPID=5\n",
            "systemctl show --property=KillMode crio": "KillMode=process\n",
            "/usr/bin/crio --version": "crio version 1.36.3\n",
            "/usr/bin/crio config": CRIO_1_36,
            "/usr/bin/crio status info": "",
            "/usr/bin/kubelet --version": "Kubernetes v1.29.4\n",
            "/usr/sbin/criu check --feature mem_dirty_track": "",
            "/usr/sbin/criu check --feature uffd": "",
        }
        self.files = {
            **FILES,
            "/proc/5/cmdline": "/usr/bin/kubelet\0--container-runtime-endpoint=unix:///run/crio/crio.sock\0--config-dir\0/d\0",
            "/proc/5/environ": "",
            "/proc/6/cmdline": "/usr/bin/crio\0",
            "/proc/6/environ": "",
            "/proc/9/cmdline": "/usr/bin/containerd\0",
            "/proc/9/environ": "",
        }

    def run(self, argv: Any, **_options: Any) -> Completed:
        text = self.commands.get(" ".join(argv))
        return Completed(1, "", "no") if text is None else Completed(0, text, "")

    def read(self, path: str) -> str:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def started_20_s_ago(self, name: str) -> None:
        pid = self.commands[f"systemctl show --property=MainPID {name}"].strip().partition("=")[2]
        self.files[f"/proc/{pid}/stat"] = f"{pid} ({name}) S {'0 ' * 18}{(100 - 20) * os.sysconf('SC_CLK_TCK')} 0 0"
        self.files["/proc/uptime"] = "100.00 1.0"

    def collect(self, engine: str = "") -> dict[str, Any]:
        programs = {"/usr/bin/crio", "/usr/bin/kubelet", "/usr/sbin/runc"}
        probe = facts.Probe(self.run, self.read, programs.__contains__, find)
        return abilities.collect(probe, engine, "/usr/sbin/criu")


def test_a_node_with_crio() -> None:
    found = Node().collect()
    assert found["installed"] == {
        "containerd": None, "crio": "/usr/bin/crio", "runc": "/usr/sbin/runc", "crun": None, "kubelet": "/usr/bin/kubelet",
    }  # fmt: skip
    assert found["runtime"] == {
        "engine": "crio",
        "version": "1.36.3",
        "answers": True,
        "restart_safe": True,
        "restart_due": False,
        "files": [],
        "checkpoint_call": True,
        "checkpoint": True,
        "settings": {"enable_criu_support": True},
    }
    assert found["kubelet"] == {
        "version": "1.29.4",
        "config_dir": "/d",
        "restart_due": False,
        "checkpoint": True,
        "checkpoint_elsewhere": False,
    }
    assert found["criu"] == {"mem_dirty_track": True, "pagemap_scan": False, "uffd": True, "uffd-noncoop": False}


@pytest.mark.parametrize(("written", "due"), [(5.0, True), (50.0, False)], ids=["after its start", "before"])
def test_a_crio_that_has_not_read_our_files(written: float, due: bool) -> None:
    node = Node()
    node.started_20_s_ago("crio")
    path = "/etc/crio/crio.conf.d/50-podferry-checkpoint.conf"
    probe = facts.Probe(
        node.run,
        node.read,
        {"/usr/bin/crio"}.__contains__,
        lambda pattern: [path] if fnmatch.fnmatch(path, pattern) else [],
        {path: written}.get,
    )
    assert abilities.collect(probe)["runtime"]["restart_due"] is due


@pytest.mark.parametrize(("written", "due"), [(5.0, True), (50.0, False)], ids=["after its start", "before"])
def test_a_kubelet_that_has_not_read_our_drop_in(written: float, due: bool) -> None:
    node = Node()
    node.started_20_s_ago("kubelet")
    ages = {f"/d/{abilities.KUBELET_DROP_IN}": written}
    probe = facts.Probe(node.run, node.read, {"/usr/bin/kubelet"}.__contains__, find, ages.get)
    assert abilities.collect(probe)["kubelet"]["restart_due"] is due


def test_another_engine_than_the_kubelets() -> None:
    node = Node()
    assert node.collect("containerd")["runtime"]["engine"] == "containerd"
    del node.commands["systemctl show --property=MainPID containerd"]
    assert node.collect("containerd")["runtime"]["engine"] is None


def test_a_plain_host() -> None:
    node = Node()
    node.commands.clear()
    found = node.collect()
    assert found["runtime"] == abilities._NO_RUNTIME
    assert set(found["kubelet"].values()) == {None}
    assert not any(found["criu"].values())
