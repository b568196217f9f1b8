# SPDX-License-Identifier: Apache-2.0
"""Role nfs_client after it ran: its units, as systemd reads them; what it foretells, refuses and takes away."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import testinfra
from testinfra.host import Host

from e2e.support.lab import NODES, Lab, port_of
from e2e.support.role import Scenario

pytestmark = pytest.mark.timeout(900)
NAME = os.environ.get("PODFERRY_LAB", "molecule")
LAB = Lab(NAME, port_of(NAME))
ROLE = Scenario("nfs_client", LAB)
UNIT = "var-lib-podferry-nfs"
PLACES = ("/etc/systemd/system", "/etc/fstab", "/var/lib/podferry")


@pytest.fixture(params=NODES)
def node(request: pytest.FixtureRequest) -> Host:
    """Each node in turn."""
    return testinfra.get_host(f"ssh://{request.param}?ssh_config={LAB.ssh_config}")


def test_units_are_what_systemd_wants(node: Host) -> None:
    verified = node.run(
        f"systemd-analyze verify --man=no /etc/systemd/system/{UNIT}.mount /etc/systemd/system/{UNIT}.automount"
    )
    assert (verified.rc, UNIT in verified.stderr) == (0, False), verified.stderr
    assert node.check_output(f"systemctl is-enabled {UNIT}.automount") == "enabled"
    assert not node.service(f"{UNIT}.automount").is_running


def test_mount_can_neither_hang_nor_be_stale(node: Host) -> None:
    assert node.check_output(f"systemctl show -P What {UNIT}.mount") == "10.213.0.11:/srv/podferry"
    options = node.check_output(f"systemctl show -P Options {UNIT}.mount").split(",")
    assert {
        "nfsvers=4.2",
        "sec=sys",
        "soft",
        "timeo=100",
        "retrans=2",
        "acdirmin=0",
        "acdirmax=0",
        "nosuid",
        "nodev",
        "noexec",
    } <= set(options)
    assert node.check_output(f"systemctl show -P DirectoryMode {UNIT}.automount") == "0700"


def test_client_is_installed(node: Host) -> None:
    assert node.file("/usr/sbin/mount.nfs4").exists


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"nfs_client_server": ""}, "put it into the inventory group nfs_servers"),
        ({"nfs_client_server": "10.0.0.1 -o exec"}, "the NFS server is"),
        ({"nfs_client_path": "/etc/ssh"}, "is in use: files"),
        ({"nfs_client_path": "/proc"}, "at least two parts"),
        ({"nfs_client_path": "/sys/fs/cgroup"}, "is in use"),
        ({"nfs_client_start": True}, "has no NFS client"),
    ],
)
def test_refused_before_anything_is_touched(variables: dict[str, object], words: str) -> None:
    before = ROLE.content("node-a", *PLACES)
    ROLE.play("converge", **variables).refused(words)
    assert ROLE.content("node-a", *PLACES) == before


@pytest.fixture
def busy() -> Iterator[None]:
    """Something is mounted on node-a (this kernel has no NFS: a tmpfs), and a process stands in it."""
    place = "/var/lib/podferry/nfs"
    LAB.ssh("node-a", f"mkdir -p {place} && mount -t tmpfs tmpfs {place}")
    LAB.ssh("node-a", f"systemd-run -q --unit=busy sh -c 'cd {place} && echo >here && exec sleep infinity'")
    LAB.ssh("node-a", f"timeout 10 sh -c 'until test -e {place}/here; do sleep 0.1; done'")
    yield
    LAB.ssh("node-a", f"systemctl stop busy; umount {place}; rmdir --ignore-fail-on-non-empty --parents {place}")


@pytest.mark.usefixtures("busy")
def test_a_mount_in_use_is_not_torn_away() -> None:
    before = ROLE.content("node-a", *PLACES)
    ROLE.play("uninstall", "--limit=node-a").refused("cannot be unmounted, and stays as it is", "Something uses it")
    assert ROLE.content("node-a", *PLACES) == before
    assert LAB.ssh("node-a", "findmnt -no FSTYPE /var/lib/podferry/nfs").stdout.strip() == "tmpfs"
    assert LAB.ssh("node-a", f"systemctl is-enabled {UNIT}.automount").stdout.strip() == "enabled"


def test_check_mode_and_uninstall() -> None:
    """The last one: it takes the role's work away, twice, and has it foretold."""
    assert ROLE.play("converge", "--check").ok().changed == 0
    assert ROLE.play("converge", "--check", "-e", "nfs_client_timeout=10").ok().changed == 0  # a string
    assert ROLE.play("uninstall").ok().changed > 0
    left = ROLE.content("node-a", *PLACES)
    assert UNIT not in left
    assert ROLE.play("uninstall").ok().changed == 0
    assert ROLE.play("converge", "--check", "--diff").ok().changed > 0
    assert ROLE.content("node-a", *PLACES) == left
