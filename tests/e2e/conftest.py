# SPDX-License-Identifier: Apache-2.0
"""One lab for the whole session, prepared once; every test gets clean nodes and proves that it leaves none of ours behind.

PODFERRY_LAB=<name> uses (and keeps) a lab of that name: for working on tests. Without it a lab of its own is made and removed; its name is
in PODFERRY_OWN_LAB where two runs go on beside each other.
PODFERRY_OTHER_LAB=<name> does the same for the second lab, with containerd and runc of Debian testing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.support.cluster import Cluster, until
from e2e.support.footprint import Footprint
from e2e.support.host import host_state
from e2e.support.lab import NODES, Lab, port_of
from e2e.support.plays import Plays

_LEFT_OUT = pytest.StashKey[list[pytest.Item]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With real Kubernetes leave out what only the stand-in can do, and remember it for the end of the output."""
    if not os.environ.get("PODFERRY_KUBERNETES_BIN_DIR"):
        return
    left_out = [item for item in items if item.get_closest_marker("standin")]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        config.stash[_LEFT_OUT] = left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Nothing is left out silently."""
    for item in config.stash.get(_LEFT_OUT, []):
        mark = item.get_closest_marker("standin")
        terminalreporter.write_line(f"not with real Kubernetes: {item.nodeid}: {mark.args[0] if mark else ''}")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab, up, its nodes not yet prepared by us."""
    given = os.environ.get("PODFERRY_LAB")
    if os.geteuid() != 0:
        pytest.fail("the lab needs root: run tests/run as root")
    lab = Lab(given, port_of(given)) if given else Lab(os.environ.get("PODFERRY_OWN_LAB", "e2e"))
    if not given:
        lab.down()  # what an interrupted run left
    lab.up()
    yield lab
    if not given:
        lab.down()


@dataclass
class OtherLab:
    """A second lab, and what the host was like before it came."""

    lab: Lab
    host_before: set[str]


@pytest.fixture(scope="session")
def other_lab() -> Iterator[OtherLab]:
    """A lab of its own, never prepared by us, with containerd and runc of Debian testing.

    Modules that use it are next to each other in the order of tests, so that it need not stay up: the last of them is
    test_lab_lifecycle, which takes it down.
    """
    given = os.environ.get("PODFERRY_OTHER_LAB")
    if given:
        lab = Lab(given, port_of(given), "testing")
        lab.up()
        yield OtherLab(lab, set())
        return
    lab = Lab("lifecycle", runtime_suite="testing")
    # Two runs on one machine would take each other's lab down.
    with Path(f"/run/lock/podferry-lab-{lab.name}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lab.down()
        before = host_state(lab)
        lab.up()
        yield OtherLab(lab, before)
        lab.down()


@pytest.fixture(scope="session")
def prepared(lab: Lab) -> Lab:
    """The lab after playbooks/bootstrap.yml."""
    lab.plays.run("bootstrap", timeout=600).ok()
    return lab


@pytest.fixture(scope="session")
def cluster(prepared: Lab) -> Iterator[Cluster]:
    """The cluster's API, with the runtime class in place."""
    cluster = Cluster(prepared.kubeconfig)
    yield cluster
    cluster.clean()


@pytest.fixture(scope="session")
def plays(prepared: Lab) -> Plays:
    """The playbooks, run against prepared nodes."""
    return prepared.plays


@pytest.fixture(autouse=True)
def pods_of_the_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nodes that are Ready for the test; after it, its pods go, also those that a migration made of them."""
    if "cluster" in request.fixturenames:
        until("all nodes Ready", request.getfixturevalue("cluster").nodes_ready, 90)
    yield
    if "cluster" in request.fixturenames:
        cluster: Cluster = request.getfixturevalue("cluster")
        for name in list(cluster.created):
            cluster.moved(name)
        cluster.clean()


@dataclass
class Traces:
    """Footprints of both nodes before a test's run."""

    lab: Lab
    before: dict[str, Footprint]

    def left(self) -> dict[str, dict[str, list[str]]]:
        """What each node carries of ours that it did not carry before; nodes without anything are left out."""
        found = {node: Footprint.of(self.lab, node).added(self.before[node]) for node in NODES}
        return {node: traces for node, traces in found.items() if traces}

    def assert_none(self, timeout: float = 20) -> None:
        """Fail, naming everything, when something of ours is still there after `timeout` seconds."""
        try:
            until("no traces of ours", lambda: not self.left(), timeout, every=0.5)
        except AssertionError:
            raise AssertionError(f"left behind: {self.left()}") from None


@pytest.fixture
def traces(prepared: Lab) -> Traces:
    """Promise P5: take it before the run, then `traces.assert_none()` after it."""
    return Traces(prepared, {node: Footprint.of(prepared, node) for node in NODES})
