# SPDX-License-Identifier: Apache-2.0
"""Programs that are started as Ansible would start them, and stay in conversation."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from ansible.module_utils.common.text.converters import to_bytes
from ansible.plugins.become import BecomeBase

from ansible_collections.podferry.live.plugins.plugin_utils._nodes import InventoryError, inventory, ports
from ansible_collections.podferry.live.plugins.plugin_utils._stream import Stream, StreamError, open_stream


class Become(BecomeBase):  # type: ignore[misc]
    """sudo as far as the stream sees it."""

    name = "sudo"
    fail = ("Sorry, try again.",)
    missing = ("Sorry, a password is required",)

    def __init__(self, password: str | None) -> None:
        super().__init__()
        self.password = password
        self.success = "BECOME-SUCCESS-abc"
        self.prompt = "[sudo] password:" if password else ""

    def get_option(self, option: str, hostvars: Any = None, playcontext: Any = None) -> Any:
        return self.password if option == "become_pass" else None

    def build_become_command(self, cmd: str, shell: Any) -> str:
        return cmd


def start(script: str) -> Any:
    return subprocess.Popen(
        ["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


SUDO = "printf '[sudo] password:' >&2; read -r p; [ \"$p\" = right ] || { echo 'Sorry, try again.' >&2; exit 1; }; "
ECHO = 'echo BECOME-SUCCESS-abc; echo first; while read -r line; do echo "got $line"; done'


def test_without_become() -> None:
    stream = Stream(start("echo hello; cat"))
    assert stream.reader.readline() == b"hello\n"
    stream.writer.write(b"x\n")
    stream.writer.flush()
    assert stream.reader.readline() == b"x\n"
    stream.close()
    assert stream.returncode() == 0


def test_password_is_given_once_and_the_programs_own_output_starts_after_the_marker() -> None:
    stream = Stream(start("echo a banner; " + SUDO + ECHO), Become("right"))
    assert stream.reader.readline() == b"first\n"
    stream.writer.write(b"x\n")
    stream.writer.flush()
    assert stream.reader.readline() == b"got x\n"
    stream.close()


def test_wrong_password() -> None:
    with pytest.raises(StreamError, match="incorrect sudo password"):
        Stream(start(SUDO + ECHO), Become("wrong"))


def test_password_needed_and_none_given() -> None:
    with pytest.raises(StreamError, match="wants a password"):
        Stream(start("echo 'Sorry, a password is required' >&2; sleep 5"), Become(None))


def test_become_fails() -> None:
    with pytest.raises(StreamError, match="not in the sudoers file") as caught:
        Stream(start("echo 'joe is not in the sudoers file' >&2; exit 1"), Become(None))
    assert "become root" in caught.value.remedy


def test_last_words() -> None:
    stream = Stream(start("echo 'Connection refused' >&2; exit 255"))
    assert stream.reader.read() == b""
    assert "Connection refused" in stream.last_words()
    stream.close()


def test_a_program_that_does_not_end_is_ended() -> None:
    stream = Stream(start("trap '' TERM; while :; do sleep 0.2; done"))
    stream.close()
    assert stream.returncode() is not None


class PlayContext:
    """The part of Ansible's that is looked at before a connection is made."""

    timeout = 10
    password = None
    become_pass = None


@pytest.mark.parametrize("name", ["community.docker.docker", "ansible.netcommon.httpapi", "paramiko_ssh"])
def test_connections_that_cannot_stream_are_refused_with_a_remedy(name: str) -> None:
    with pytest.raises(StreamError) as caught:
        open_stream("node-a", {"ansible_connection": name}, PlayContext(), "true")
    assert name in str(caught.value)
    assert "ansible_connection=ssh" in caught.value.remedy


def vars_of(**hosts: dict[str, Any]) -> dict[str, Any]:
    return {"groups": {"all": list(hosts)}, "hostvars": hosts}


def test_inventory_by_name_and_by_variable() -> None:
    found = inventory(
        vars_of(
            a={"podferry_node_name": "worker-1", "podferry_address": "192.0.2.1", "podferry_ports": "1000-1010"}, b={}
        )
    )
    assert {node: [h.name for h in hosts] for node, hosts in found.items()} == {"worker-1": ["a"], "b": ["b"]}
    assert (found["worker-1"][0].address, found["worker-1"][0].ports) == ("192.0.2.1", (1000, 1010))
    assert found["b"][0].address is None


@pytest.mark.parametrize(
    ("given", "range_"), [("17900", (17900, 17900)), (17900, (17900, 17900)), ([1, 2], (1, 2)), ("5-9", (5, 9))]
)
def test_ports(given: Any, range_: tuple[int, int]) -> None:
    assert ports(given, "a") == range_


@pytest.mark.parametrize("given", ["x", "9-5", "0-1", "1-70000", "1-2-3", [], {}])
def test_ports_that_are_none(given: Any) -> None:
    with pytest.raises(InventoryError, match="podferry_ports"):
        ports(given, "a")


def test_marker_is_bytes() -> None:
    assert to_bytes(Become(None).success) == b"BECOME-SUCCESS-abc"
