# SPDX-License-Identifier: Apache-2.0
"""Where the recorded requests go: an API in this process with simulated kubelets, or the cluster of PODFERRY_KUBECONFIG."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
sys.path[:0] = [str(TOP / "roles/lab/files/standin"), str(Path(__file__).parent)]

from clusters import Cluster, LiveCluster, SimulatedCluster  # noqa: E402


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster with two nodes and an empty default namespace."""
    given = os.environ.get("PODFERRY_KUBECONFIG")
    made: Cluster = LiveCluster(Path(given)) if given else SimulatedCluster()
    try:
        made.clean()
        yield made
    finally:
        made.clean()
        made.close()
