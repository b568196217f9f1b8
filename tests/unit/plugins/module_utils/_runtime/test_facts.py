# SPDX-License-Identifier: Apache-2.0
"""A node's facts, from what its programs print and its files hold."""

import fnmatch
import os
from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import CommandFailed
from ansible_collections.podferry.live.plugins.module_utils._node import containerd_handler
from ansible_collections.podferry.live.plugins.module_utils._runtime import facts
from ansible_collections.podferry.live.plugins.module_utils._runtime.process import Completed

CAPTURES = Path(__file__).parent / "captures"
DUMP = (CAPTURES / "containerd-1.7.24-config-dump.toml").read_text(encoding="utf-8")
PLUGINS = """TYPE                            ID        PLATFORMS      STATUS
io.containerd.snapshotter.v1    btrfs     linux/amd64    skip
io.containerd.grpc.v1           cri       linux/amd64    {}
"""


class Machine:
    """A node made of recordings."""

    def __init__(self) -> None:
        self.files = {
            "/proc/sys/kernel/hostname": "node-a\n",
            "/proc/sys/kernel/osrelease": "6.12.107+deb13-amd64\n",
            "/proc/cpuinfo": "processor : 0\nmodel name\t: AMD EPYC\nflags\t\t: sse2 avx fpu\n\nprocessor : 1\nflags : x\n",
            "/proc/meminfo": "MemTotal: 100 kB\nMemAvailable:   2048 kB\n",
            "/proc/9/cmdline": "/usr/bin/containerd\0",
            "/proc/9/environ": "PATH=/usr/sbin:/usr/bin\0",
            "/etc/containerd/config.toml": "version = 2\n",
            "/proc/self/timens_offsets": "monotonic 0 0\nboottime 0 0\n",
            "/sys/kernel/security/apparmor/profiles": "cri-containerd.apparmor.d (enforce)\n/usr/bin/man (complain)\n",
        }
        self.commands = {
            "uname -m": Completed(0, "x86_64\n", ""),
            "systemctl show --property=MainPID containerd": Completed(0, "MainPID=9\n", ""),
            "systemctl show --property=KillMode containerd": Completed(0, "KillMode=process\n", ""),
            "systemctl show --property=MainPID crio": Completed(0, "MainPID=0\n", ""),
            "systemctl show --property=MainPID kubelet": Completed(0, "MainPID=0\n", ""),
            "/usr/bin/containerd --version": Completed(
                0, "containerd github.com/containerd/containerd 1.7.24~ds1 x\n", ""
            ),
            "/usr/bin/containerd --config /etc/containerd/config.toml config dump": Completed(0, DUMP, ""),
            "/usr/bin/ctr --address /run/containerd/containerd.sock plugins ls": Completed(0, PLUGINS.format("ok"), ""),
            "/usr/sbin/runc --version": Completed(0, "runc version 1.1.15+ds1\n", ""),
            "/usr/sbin/criu --version": Completed(0, "Version: 4.1.1\n", ""),
            "/usr/sbin/criu check": Completed(0, "", "Looks good.\n"),
        }
        self.libraries: set[str] = set()
        self.ages: dict[str, float] = {}
        self.programs = {"/usr/sbin/runc", "/usr/sbin/criu", "/usr/bin/zstd", "/usr/bin/containerd"}

    def run(self, argv, **_options) -> Completed:
        try:
            return self.commands[" ".join(argv)]
        except KeyError:
            raise CommandFailed(f"cannot start {argv[0]}") from None

    def read(self, path: str) -> str:
        try:
            return self.files[path]
        except KeyError:
            raise FileNotFoundError(path) from None

    def find(self, pattern: str) -> list[str]:
        return sorted(path for path in {*self.libraries, *self.ages} if fnmatch.fnmatch(path, pattern))

    def facts(self) -> dict:
        probe = facts.Probe(self.run, self.read, self.programs.__contains__, self.find, self.ages.get)
        return facts.collect(self.run, self.read, probe)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_debian_13_node(machine: Machine) -> None:
    found = machine.facts()
    assert found["hostname"] == "node-a"
    assert found["arch"] == "x86_64"
    assert found["kernel"] == "6.12.107+deb13-amd64"
    assert found["cpu_model"] == "AMD EPYC"
    assert found["cpu_flags"] == ["avx", "fpu", "sse2"]
    assert found["mem_available"] == 2048 * 1024
    assert found["cgroup"] == "v1"
    assert found["criu"] == {"path": "/usr/sbin/criu", "version": [4, 1, 1], "check_ok": True, "check": ""}
    assert found["runtime"]["engine"] == "containerd"
    assert found["runtime"]["version"] == "1.7.24"
    assert found["runtime"]["oci"] == {
        "family": "runc", "path": "/usr/sbin/runc", "version": [1, 1, 15], "criu": True,
    }  # fmt: skip
    assert found["runtime"]["front"] is None
    assert found["runtime"]["handler"] is False
    assert found["runtime"]["cgroup_driver"] == "cgroupfs"
    assert found["runtime"]["answers"] is True
    assert found["runtime"]["restart_safe"] is True
    assert found["runtime"]["error"] is None
    assert found["zstd"] is True
    assert found["apparmor_profiles"] == ["/usr/bin/man", "cri-containerd.apparmor.d"]
    assert found["selinux"] == "disabled"
    assert found["time_namespaces"] is True
    assert found["kubelet"] == {"runtime_request_timeout_s": None}


def test_the_keys_of_the_contract(machine: Machine) -> None:
    assert set(machine.facts()) == {
        "hostname", "arch", "kernel", "cpu_model", "cpu_flags", "mem_available", "disk_available", "cgroup", "criu", "runtime", "engine",
        "python", "zstd", "age", "apparmor_profiles", "selinux", "time_namespaces", "kubelet", "clock",
    }  # fmt: skip


def test_cgroup_v2_and_selinux(machine: Machine) -> None:
    machine.files["/sys/fs/cgroup/cgroup.controllers"] = "cpu memory pids\n"
    machine.files["/sys/fs/selinux/enforce"] = "1"
    found = machine.facts()
    assert (found["cgroup"], found["selinux"]) == ("v2", "enforcing")


def test_criu_outside_the_runtimes_path_is_none(machine: Machine) -> None:
    machine.files["/proc/9/environ"] = "PATH=/opt/bin:/usr/bin\0"
    assert machine.facts()["criu"]["path"] is None


def test_a_kernel_that_criu_refuses(machine: Machine) -> None:
    machine.commands["/usr/sbin/criu check"] = Completed(1, "", "Error (criu/cr-check.c:1): no\n")
    found = machine.facts()["criu"]
    assert found["check_ok"] is False
    assert "cr-check.c" in found["check"]


def test_a_configuration_that_containerd_refuses(machine: Machine) -> None:
    command = "/usr/bin/containerd --config /etc/containerd/config.toml config dump"
    machine.commands[command] = Completed(1, "", "containerd: failed to load TOML: line 3\n")
    found = machine.facts()["runtime"]
    assert "line 3" in found["error"]
    assert found["oci"]["path"] is None


def test_a_cri_plugin_that_did_not_load(machine: Machine) -> None:
    command = "/usr/bin/ctr --address /run/containerd/containerd.sock plugins ls"
    machine.commands[command] = Completed(0, PLUGINS.format("error"), "")
    assert machine.facts()["runtime"]["answers"] is False


def test_a_missing_configuration_file_is_not_named(machine: Machine) -> None:
    del machine.files["/etc/containerd/config.toml"]
    machine.commands["/usr/bin/containerd config dump"] = Completed(0, DUMP, "")
    assert machine.facts()["runtime"]["error"] is None


def test_a_containerd_that_prints_nothing_without_a_file(machine: Machine) -> None:
    del machine.files["/etc/containerd/config.toml"]
    machine.commands["/usr/bin/containerd config dump"] = Completed(
        1, "", "open config.toml: no such file or directory"
    )
    machine.commands["/usr/bin/containerd config default"] = Completed(0, DUMP, "")
    found = machine.facts()["runtime"]
    assert found["error"] is None
    assert found["oci"]["path"] == "/usr/sbin/runc"


def test_a_service_that_takes_its_containers_with_it(machine: Machine) -> None:
    machine.commands["systemctl show --property=KillMode containerd"] = Completed(0, "KillMode=control-group\n", "")
    assert machine.facts()["runtime"]["restart_safe"] is False


def test_no_runtime(machine: Machine) -> None:
    machine.commands.clear()
    found = machine.facts()
    assert found["runtime"]["engine"] is None
    assert "neither containerd nor CRI-O" in found["runtime"]["error"]


def test_the_kubelet_says_which_of_two_runtimes(machine: Machine) -> None:
    machine.commands |= {
        "systemctl show --property=MainPID kubelet": Completed(0, "MainPID=5\n", ""),
        "systemctl show --property=MainPID crio": Completed(0, "MainPID=6\n", ""),
        "/usr/bin/crio --version": Completed(0, "crio version 1.33.2\n", ""),
        "/usr/bin/crio config": Completed(0, "[crio.runtime.runtimes.runc]\n[crio.runtime.runtimes.podferry]\n", ""),
        "/usr/bin/crio status info": Completed(0, "", ""),
    }
    machine.files |= {
        "/proc/5/cmdline": "/usr/bin/kubelet\0--container-runtime-endpoint=unix:///run/crio/crio.sock\0",
        "/proc/5/environ": "",
        "/proc/6/cmdline": "/usr/bin/crio\0",
        "/proc/6/environ": "PATH=/usr/sbin\0",
    }
    found = machine.facts()
    assert found["runtime"]["engine"] == "crio"
    assert found["runtime"]["handler"] is True
    assert found["runtime"]["cgroup_driver"] == "systemd"
    assert found["runtime"]["answers"] is True
    assert found["kubelet"] == {"runtime_request_timeout_s": 120.0}


def test_a_digest_only_of_installed_code(tmp_path: Path) -> None:
    assert facts.installed_engine(str(tmp_path / "missing")) is None
    assert len(facts.installed_engine(str(tmp_path)) or "") == 64


CRUN = """crun version 1.21
commit: 10269840aa07fb7e6b7e1acff6198692d8ff5c88
rundir: /run/crun
spec: 1.0.0
+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +CRIU +WASM:wasmedge +YAJL
"""
ABLE = {"family": "crun", "path": "/usr/bin/crun", "version": [1, 21], "criu": True}


@pytest.fixture
def with_crun(machine: Machine) -> Machine:
    """CRI-O whose default is crun, with runc beside it."""
    config = '[crio.runtime]\ndefault_runtime = "crun"\n' + "".join(
        f'[crio.runtime.runtimes.{name}]\nruntime_type = "oci"\nruntime_root = "/run/{name}"\n'
        for name in ("crun", "runc")
    )
    machine.commands |= {
        "systemctl show --property=MainPID containerd": Completed(0, "MainPID=0\n", ""),
        "systemctl show --property=MainPID crio": Completed(0, "MainPID=6\n", ""),
        "/usr/bin/crio --version": Completed(0, "crio version 1.36.3\n", ""),
        "/usr/bin/crio config": Completed(0, config, ""),
        "/usr/bin/crun --version": Completed(0, CRUN, ""),
    }
    machine.files |= {
        "/proc/6/cmdline": "/usr/bin/crio\0", "/proc/6/environ": "PATH=/usr/sbin:/usr/bin\0", "/usr/bin/crun": "ELF libcriu.so.2",
    }  # fmt: skip
    machine.programs |= {"/usr/bin/crun"}
    machine.libraries = {"/usr/lib/x86_64-linux-gnu/libcriu.so.2"}
    return machine


def test_a_crun_that_can_dump_is_taken_when_it_is_the_default(with_crun: Machine) -> None:
    found = with_crun.facts()["runtime"]
    assert found["oci"] == ABLE
    assert (found["default"]["name"], found["default"]["root"]) == ("crun", "/run/crun")


@pytest.mark.parametrize(
    ("version", "library"),
    [
        (CRUN.replace("1.21", "1.8.1"), True),
        (CRUN.replace("+CRIU ", ""), True),
        (CRUN, False),
    ],
    ids=["old", "built without", "no library"],
)
def test_else_runc_beside_it(with_crun: Machine, version: str, library: bool) -> None:
    with_crun.commands["/usr/bin/crun --version"] = Completed(0, version, "")
    if not library:
        with_crun.libraries = set()
    found = with_crun.facts()["runtime"]
    assert (found["oci"]["family"], found["default"]["name"]) == ("runc", "runc")
    with_crun.programs.remove("/usr/sbin/runc")
    found = with_crun.facts()["runtime"]
    assert (found["oci"]["family"], found["oci"]["criu"]) == ("crun", False)


def test_a_static_crun_needs_no_library(with_crun: Machine) -> None:
    with_crun.libraries = set()
    with_crun.files["/usr/bin/crun"] = "ELF"
    assert with_crun.facts()["runtime"]["oci"] == ABLE


def test_what_the_front_stands_before(machine: Machine) -> None:
    machine.files["/usr/local/libexec/podferry/podferry-runc"] = (
        "#!/bin/sh\nruntime=/usr/bin/crun\nstate=/run/podferry\n"
    )
    assert machine.facts()["runtime"]["front"] == "/usr/bin/crun"


MAIN = "/etc/containerd/config.toml"
DROP_IN = "/etc/containerd/conf.d/50-podferry.toml"


@pytest.fixture
def since_20_s(machine: Machine) -> Machine:
    """A containerd that was started 20 seconds ago."""
    machine.files["/proc/9/stat"] = f"9 (a) 1 (x) S {'0 ' * 18}{80 * os.sysconf('SC_CLK_TCK')} 0 0"
    machine.files["/proc/uptime"] = "100.00 1.0"
    return machine


@pytest.mark.parametrize(
    ("age", "due"), [(5.0, True), (25.0, False), (-5.0, False)], ids=["after its start", "before", "in the future"]
)
def test_a_restart_that_was_lost(since_20_s: Machine, age: float, due: bool) -> None:
    dump = DUMP.replace('imports = ["/etc/containerd/config.toml"]', 'imports = ["conf.d/*.toml"]')
    since_20_s.commands[f"/usr/bin/containerd --config {MAIN} config dump"] = Completed(0, dump, "")
    since_20_s.ages = {DROP_IN: age, "/etc/containerd/conf.d/99-theirs.toml": 1.0, MAIN: 1.0}
    assert since_20_s.facts()["runtime"]["restart_due"] is due


@pytest.mark.parametrize("ours", [True, False])
def test_a_lost_restart_for_our_block_in_the_main_file(since_20_s: Machine, ours: bool) -> None:
    since_20_s.ages = {MAIN: 5.0}
    since_20_s.files[MAIN] += f"\n{containerd_handler.BEGIN}\n" if ours else ""
    assert since_20_s.facts()["runtime"]["restart_due"] is ours


def test_without_proc_no_restart_is_due(machine: Machine) -> None:
    machine.ages = {MAIN: 0.0}
    machine.files[MAIN] += f"\n{containerd_handler.BEGIN}\n"
    assert machine.facts()["runtime"]["restart_due"] is False


def test_our_files_have_these_names() -> None:
    for name in (containerd_handler.DROP_IN, containerd_handler.CHECKPOINT_DROP_IN):
        assert fnmatch.fnmatch(name, f"{facts.OWN_FILES}.toml")


def test_the_age_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    age = facts.file_age(str(tmp_path / "new"))
    assert age is not None and -1 < age < 60
    assert facts.file_age(str(tmp_path / "none")) is None


def test_our_files_are_found_while_no_container_runtime_runs(machine: Machine) -> None:
    machine.commands["systemctl show --property=MainPID containerd"] = Completed(0, "MainPID=0\n", "")
    assert machine.facts()["runtime"]["files"] == []
    crio = "/etc/crio/crio.conf.d/50-podferry.conf"
    machine.libraries = {DROP_IN, crio, "/etc/containerd/conf.d/99-theirs.toml"}
    machine.files[MAIN] += f"\n{containerd_handler.BEGIN}\n"
    found = machine.facts()["runtime"]
    assert (found["engine"], found["files"]) == (None, [MAIN, DROP_IN, crio])
