# SPDX-License-Identifier: Apache-2.0
"""Role nfs_server after it ran: what it wrote, as NFS's own tools and systemd read it; what it foretells, refuses and takes away."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import testinfra
from testinfra.host import Host

from e2e.support.lab import Lab, port_of
from e2e.support.role import Scenario

pytestmark = pytest.mark.timeout(900)
NAME = os.environ.get("PODFERRY_LAB", "molecule")
LAB = Lab(NAME, port_of(NAME))
ROLE = Scenario("nfs_server", LAB)
PLACES = ("/etc/exports.d", "/etc/nfs.conf.d", "/etc/systemd/system", "/etc/passwd", "/etc/group", "/srv/podferry")


@pytest.fixture(scope="module")
def server() -> Host:
    """The node that the role ran on."""
    return testinfra.get_host(f"ssh://node-a?ssh_config={LAB.ssh_config}")


def test_exports_name_the_nodes_by_address_and_squash_root(server: Host) -> None:
    lines = [
        line for line in server.file("/etc/exports.d/podferry.exports").content_string.splitlines() if line[0] != "#"
    ]
    options = "(rw,sync,secure,root_squash,anonuid=60913,anongid=60913,no_subtree_check,sec=sys)"
    assert lines == [f"/srv/podferry {address}{options}" for address in ("10.213.0.11", "10.213.0.12")]


def test_folder_belongs_to_an_account_that_nobody_can_use(server: Host) -> None:
    folder, account = server.file("/srv/podferry"), server.user("podferry-store")
    assert (folder.user, folder.group, folder.mode) == ("podferry-store", "podferry-store", 0o700)
    assert (account.uid, account.gid, account.shell) == (60913, 60913, "/usr/sbin/nologin")
    assert account.password.startswith("!")


@pytest.mark.parametrize(
    ("key", "value"), {"vers3": "n", "vers4": "y", "vers4.0": "n", "vers4.2": "y", "grace-time": "30"}.items()
)
def test_nfs_reads_its_configuration_so(server: Host, key: str, value: str) -> None:
    assert server.check_output(f"nfsconf --get nfsd {key}") == value


def test_rpcbind_may_listen_to_this_machine_only(server: Host) -> None:
    server.run_test("systemctl daemon-reload")
    listen = server.check_output("systemctl show -P Listen rpcbind.socket").split()
    assert [word for word in listen if word[0] != "("] == [
        "/run/rpcbind.sock",
        *["127.0.0.1:111"] * 2,
        *["[::1]:111"] * 2,
    ]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"nfs_server_clients": ["10.213.0.11", "*.example.com"]}, "addresses only, and *.example.com"),
        ({"nfs_server_clients": ["10.213.0.0/24"]}, "addresses only, and 10.213.0.0/24"),
        ({"nfs_server_group": "none"}, "group none is empty"),
        ({"nfs_server_path": "/etc/ssh"}, "is not an empty folder"),
        ({"nfs_server_path": "/srv/x (rw)"}, "letters, digits"),
        ({"nfs_server_uid": 1}, "account daemon with number 1"),
        ({"nfs_server_account": "daemon"}, "account daemon with number 1"),
        ({"nfs_server_account": "backup", "nfs_server_uid": 34}, "account backup, and it is not one of this role"),
        ({"nfs_server_start": True}, "has no NFS server"),
    ],
)
def test_refused_before_anything_is_touched(variables: dict[str, object], words: str) -> None:
    before = ROLE.content("node-a", *PLACES)
    ROLE.play("converge", **variables).refused(words)
    assert ROLE.content("node-a", *PLACES) == before


@pytest.fixture
def others() -> Iterator[None]:
    """The machine exports something else as well."""
    LAB.ssh("node-a", "echo '/home *(ro)' >/etc/exports.d/others.exports")
    yield
    LAB.ssh("node-a", "rm /etc/exports.d/others.exports")


@pytest.mark.usefixtures("others")
def test_a_server_of_others_keeps_its_configuration(server: Host) -> None:
    ROLE.play("converge").refused("exports something else as well (/home *(ro))")
    ROLE.play("converge", "-e", "nfs_server_v4_only=false").ok()  # a string, as from a command line
    assert not server.file("/etc/nfs.conf.d/podferry.conf").exists
    assert not server.file("/etc/systemd/system/rpcbind.socket.d/podferry.conf").exists


@pytest.fixture
def stranger() -> Iterator[str]:
    """A folder of somebody else's."""
    LAB.ssh("node-a", "mkdir /srv/stranger && echo x >/srv/stranger/file")
    yield "/srv/stranger"
    LAB.ssh("node-a", "rm -r /srv/stranger")


def test_what_is_not_ours_is_not_purged(stranger: str) -> None:
    places = (*PLACES, stranger)
    before = ROLE.content("node-a", *places)
    ROLE.play("uninstall", nfs_server_purge=True, nfs_server_path=stranger).refused("belongs to user 0", "not removed")
    ROLE.play("uninstall", nfs_server_purge=True, nfs_server_account="backup").refused("not removed")
    assert ROLE.content("node-a", *places) == before


def test_check_mode_and_uninstall() -> None:
    """The last one: it takes the role's work away, twice, and has it foretold."""
    ROLE.play("converge").ok()
    assert ROLE.play("converge", "--check").ok().changed == 0
    assert ROLE.play("converge", "--check", "-e", "nfs_server_uid=60913 nfs_server_lease=30").ok().changed == 0
    LAB.ssh("node-a", "echo x >/srv/podferry/checkpoint")
    assert ROLE.play("uninstall").ok().changed > 0
    assert LAB.ssh("node-a", "cat /srv/podferry/checkpoint; id -u podferry-store").stdout.split() == ["x", "60913"]
    ROLE.play("uninstall", nfs_server_purge=True).ok()
    left = ROLE.content("node-a", *PLACES)
    assert not [
        name
        for name in ("podferry.exports", "nfs.conf.d/podferry.conf", "rpcbind.socket.d", "/srv/podferry")
        if name in left
    ]
    assert LAB.ssh("node-a", "getent passwd podferry-store; getent group podferry-store", check=False).stdout == ""
    assert ROLE.play("uninstall").ok().changed == 0
    assert ROLE.play("uninstall", nfs_server_account="backup").ok().changed == 0
    assert ROLE.play("converge", "--check", "--diff").ok().changed > 5
    assert ROLE.content("node-a", *PLACES) == left
