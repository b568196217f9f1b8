# SPDX-License-Identifier: Apache-2.0
"""Services by what systemctl and /proc say."""

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import CommandFailed
from ansible_collections.podferry.live.plugins.module_utils._runtime import service
from ansible_collections.podferry.live.plugins.module_utils._runtime.process import Completed

FILES = {
    "/proc/77/cmdline": "/usr/bin/containerd\0--config=/etc/c.toml\0--log-level\0debug\0",
    "/proc/77/environ": "LANG=C\0PATH=/opt/bin:/usr/sbin\0X=1\0",
}


def read(path: str) -> str:
    try:
        return FILES[path]
    except KeyError:
        raise FileNotFoundError(path) from None


def test_running() -> None:
    found = service.find("containerd", lambda argv: Completed(0, "MainPID=77\n", ""), read)
    assert found is not None
    assert found.pid == 77
    assert found.path == "/opt/bin:/usr/sbin"
    assert found.option("--config", "-c") == "/etc/c.toml"
    assert found.option("--log-level") == "debug"
    assert found.option("--address") is None


@pytest.mark.parametrize("show", ["MainPID=0\n", "", "MainPID=\n", "MainPID=78\n"])
def test_not_running(show: str) -> None:
    assert service.find("crio", lambda argv: Completed(0, show, ""), read) is None


def test_no_systemd() -> None:
    def run(argv: object) -> Completed:
        raise CommandFailed("cannot start systemctl")

    assert service.find("crio", run, read) is None


def test_a_service_without_a_path_has_systemds() -> None:
    assert service.search_path("A=b\0") == service.DEFAULT_PATH


def test_which_takes_the_first_and_looks_at_absolute_names() -> None:
    there = {"/b/criu", "/c/criu"}
    assert service.which("criu", "/a:/b:/c", there.__contains__) == "/b/criu"
    assert service.which("criu", "/a", there.__contains__) is None
    assert service.which("/c/criu", "/a", there.__contains__) == "/c/criu"
