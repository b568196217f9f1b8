# SPDX-License-Identifier: Apache-2.0
"""Which OCI runtime made a container, and its first process, from what runc or crun wrote down."""

import json
import pathlib

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import NotFound
from ansible_collections.podferry.live.plugins.module_utils._runtime import container

ID = "ab" * 32
OURS = {"annotations": {"io.kubernetes.cri-o.RuntimeHandler": "podferry"}}
STATES = {"runc": ("state.json", {"init_process_pid": 41}), "crun": ("status", {"pid": 42, "cgroup-path": "/x"})}


@pytest.fixture
def roots(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    front = tmp_path / "podferry-runc"
    front.write_text("#!/bin/sh\nruntime=/opt/bin/crun\nstate=/run/podferry\n")
    monkeypatch.setattr(container, "FRONT", str(front))
    monkeypatch.setattr(container, "CRIO_RUNC_ROOTS", (str(tmp_path / "runc"), str(tmp_path / "crun")))
    monkeypatch.setattr(container, "find_program", lambda name: name if name.startswith("/") else f"/usr/bin/{name}")
    return tmp_path


def made(roots: pathlib.Path, family: str, root: str) -> None:
    name, content = STATES[family]
    folder = roots / root / ID
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(content))


@pytest.mark.parametrize(("family", "pid"), [("runc", 41), ("crun", 42)])
@pytest.mark.parametrize("root", ["runc", "crun"])
def test_cri_o_with_either(roots: pathlib.Path, family: str, pid: int, root: str) -> None:
    """By the state's form, not by the root's name: a handler may have any."""
    made(roots, family, root)
    assert container._runtime_of("crio", "/b", ID, {}) == (f"/usr/bin/{family}", str(roots / root))
    assert container._init_of(str(roots / root / ID)) == pid


def test_behind_our_front(roots: pathlib.Path) -> None:
    made(roots, "crun", "crun")
    assert container._runtime_of("crio", "/b", ID, OURS)[0] == "/opt/bin/crun"


def test_no_state(roots: pathlib.Path) -> None:
    with pytest.raises(NotFound, match="no OCI runtime"):
        container._runtime_of("crio", "/b", ID, OURS)
