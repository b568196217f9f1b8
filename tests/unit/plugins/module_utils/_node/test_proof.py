# SPDX-License-Identifier: Apache-2.0
"""The pure parts of the proof; the proof itself runs on the lab (tests/e2e/test_node.py)."""

import stat
from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    DumpFailed,
    PodferryError,
    RestoreFailed,
)
from ansible_collections.podferry.live.plugins.module_utils._node import proof


@pytest.fixture
def merged_host(tmp_path: Path) -> Path:
    """A host with merged /usr, as Debian has it."""
    root = tmp_path / "host"
    (root / "usr").mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    return root


def test_the_host_is_read_only_in_the_container(merged_host: Path) -> None:
    (merged_host / "sbin").mkdir()
    config = proof.bundle_config("/f", "verify-1-source", False, host_root=str(merged_host))
    binds = {mount["destination"]: mount for mount in config["mounts"] if mount["type"] == "bind"}
    assert set(binds) == {"/usr", "/sbin", "/proof"}
    assert all("ro" in mount["options"] for name, mount in binds.items() if name != "/proof")
    assert binds["/proof"]["source"] == "/f/proof"


def test_links_of_the_host_are_links_in_the_container(merged_host: Path, tmp_path: Path) -> None:
    folder = tmp_path / "verify-1"
    folder.mkdir()
    proof.make_root(str(folder), str(merged_host))
    assert (folder / "rootfs" / "bin").readlink() == Path("usr/bin")
    assert not (folder / "rootfs" / "usr").exists()
    assert stat.S_IMODE((folder / "work").stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("systemd", "path"),
    [(False, "/podferry-verify-verify-1-target"), (True, "system.slice:podferry-verify:verify-1-target")],
)
def test_the_cgroup_names_the_container(systemd: bool, path: str) -> None:
    """The action script freezes only a cgroup that has the container's id in its name."""
    assert proof.bundle_config("/f", "verify-1-target", systemd)["linux"]["cgroupsPath"] == path


def test_every_namespace_is_its_own() -> None:
    namespaces = proof.bundle_config("/f", "x", False)["linux"]["namespaces"]
    assert {entry["type"] for entry in namespaces} == {"pid", "ipc", "uts", "mount", "network"}
    assert not any("path" in entry for entry in namespaces)


def test_the_counter_with_sockets_needs_a_python_that_the_container_sees(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.touch()
    assert proof.counter_with_sockets(str(python)) is None
    command = proof.counter_with_sockets("/usr/bin/no-such-python3")
    assert command is not None
    assert proof.bundle_config("/f", "x", False, command)["process"]["args"] == list(command)
    compile(command[-1], "counter", "exec")


def test_a_half_written_line_is_no_tick() -> None:
    assert proof.ticks("1\n2\n1") == [1, 2]
    assert proof.ticks("") == []


@pytest.mark.parametrize(
    ("numbers", "message"), [([1, 2, 4], "4 where 3"), ([1, 2, 2], "2 where 3"), ([2], "2 where 1")]
)
def test_lost_and_doubled_ticks_are_said(numbers: list[int], message: str) -> None:
    proof.check_continuous([1, 2, 3])
    with pytest.raises(RestoreFailed, match=message):
        proof.check_continuous(numbers)


def test_the_runtimes_last_error() -> None:
    log = '{"level":"warning","msg":"w"}\nnot json\n{"level":"error","msg":"criu failed:\\n  status 1"}\n{"level":"info","msg":"x"}\n[]\n'
    assert proof.last_message(log) == "criu failed: status 1"
    assert proof.last_message("") == ""


def test_an_error_says_its_phase() -> None:
    with pytest.raises(DumpFailed) as caught, proof._phase("dump"):
        raise DumpFailed("no")
    assert caught.value.phase == "dump"
    with pytest.raises(PodferryError, match="/x: No such file") as other, proof._phase("start"):
        raise FileNotFoundError(2, "No such file or directory", "/x")
    assert other.value.phase == "start"


def test_a_failed_proof_leaves_no_folder(tmp_path: Path) -> None:
    tools = proof.Tools("/nonexistent/runc", "/nonexistent/criu", "/nonexistent/action", False)
    folder = tmp_path / "run" / "verify-1"
    with (
        pytest.raises(PodferryError, match="cannot start /nonexistent/runc") as caught,
        proof.Proof(tools, str(folder)) as attempt,
    ):
        attempt.run()
    assert caught.value.phase == "start"
    assert not folder.exists()
