# SPDX-License-Identifier: Apache-2.0
"""What containerd and CRI-O print about their configuration."""

from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import NotFound
from ansible_collections.podferry.live.plugins.module_utils._runtime import cri

CAPTURES = Path(__file__).parent / "captures"

CRIO_LIVE = """
[crio]
  runroot = "/run/containers/storage"
  [crio.runtime]
    cgroup_manager = "cgroupfs"
    default_runtime = "runc"
    [crio.runtime.runtimes]
      [crio.runtime.runtimes.podferry]
        runtime_path = "/usr/local/libexec/podferry/podferry-runc"
      [crio.runtime.runtimes.runc]
        runtime_path = "/usr/sbin/runc"
        runtime_type = ""
        runtime_root = "/run/runc"
        allowed_annotations = ["io.kubernetes.cri-o.Devices"]
"""


def containerd(name: str) -> cri.CriConfig:
    return cri.parse_containerd((CAPTURES / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "version"), [("containerd-1.7.24-config-dump.toml", 2), ("containerd-2.1.9-config-dump.toml", 3)]
)
def test_default_of_debian(name: str, version: int) -> None:
    config = containerd(name)
    assert config.config_version == version
    assert config.state_dir == "/run/containerd"
    assert config.default == config.handlers["runc"]
    assert (config.default.program, config.default.root, config.default.systemd_cgroup) == ("", "", False)
    assert cri.HANDLER not in config.handlers


def test_a_default_of_another_type_gives_way_to_runc() -> None:
    config = cri.parse_containerd(
        """
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "kata"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.kata]
runtime_type = "io.containerd.kata.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "/opt/bin/runc"
SystemdCgroup = true
"""
    )
    assert config.default.name == "runc"
    assert config.default.program == "/opt/bin/runc"
    assert config.default.systemd_cgroup


def test_no_runc_is_said() -> None:
    config = cri.parse_containerd('version = 3\n[plugins."io.containerd.cri.v1.runtime".containerd.runtimes]\n')
    with pytest.raises(NotFound, match="no handler that runs runc") as caught:
        assert config.default
    assert "named runc" in caught.value.remedy


def test_unknown_schema_is_said() -> None:
    with pytest.raises(NotFound, match="version 9"):
        cri.parse_containerd("version = 9\n")


def test_crio() -> None:
    config = cri.parse_crio("INFO[2026-11-22 10:00:00] Starting CRI-O\n" + CRIO_LIVE)
    assert config.default.program == "/usr/sbin/runc"
    assert config.default.root == "/run/runc"
    assert not config.default.systemd_cgroup


@pytest.mark.parametrize(("path", "kind"), [("/usr/libexec/crio/crun", "oci"), ("", "")])
def test_crio_whose_default_is_crun_has_runc_beside_it(path: str, kind: str) -> None:
    text = CRIO_LIVE.replace('default_runtime = "runc"', 'default_runtime = "crun"')
    text += f'[crio.runtime.runtimes.crun]\nruntime_path = "{path}"\nruntime_type = "{kind}"\n'
    assert [handler.name for handler in cri.parse_crio(text).candidates] == ["crun", "runc"]


def test_a_default_that_is_neither_is_passed_over() -> None:
    text = CRIO_LIVE.replace('default_runtime = "runc"', 'default_runtime = "kata"')
    text += '[crio.runtime.runtimes.kata]\nruntime_path = "/usr/bin/kata-runtime"\nruntime_type = "vm"\n'
    assert cri.parse_crio(text).default.name == "runc"


def test_crio_defaults_are_what_its_comments_say() -> None:
    config = cri.parse_crio('[crio.runtime]\n# cgroup_manager = "systemd"\n[crio.runtime.runtimes.runc]\n')
    assert config.default.systemd_cgroup
    assert config.default.root == "/run/runc"
    assert config.state_dir == "/run/containers/storage"


def test_what_is_on_disk_decides_about_our_handler() -> None:
    live = cri.parse_crio(CRIO_LIVE)
    assert cri.HANDLER in live.handlers
    assert cri.HANDLER not in live.updated(cri.parse_crio("[crio.runtime.runtimes.runc]\n")).handlers
    assert cri.HANDLER in live.updated(live).handlers
