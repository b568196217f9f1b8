# SPDX-License-Identifier: Apache-2.0
"""A state that goes through a store: stored by a child of the source's ferry, fetched by one of the target's, gone at the end."""

from __future__ import annotations

import json
import pathlib
import stat
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    Cancelled,
    CommandFailed,
    InvalidInput,
    PodferryError,
)
from ansible_collections.podferry.live.plugins.module_utils._ferry import through

RUN = "0123456789ab"
ID = f"20261125T120000Z-{RUN}"


def fields(identity: str = ID) -> dict[str, Any]:
    return {
        "id": identity,
        "namespace": "default",
        "pod": "web",
        "uid": "u",
        "node": "node-a",
        "created": "2026-11-25T12:00:00Z",
        "kind": "pod",
        "containers": [{"name": "web", "image": "web:1", "image_id": "sha256:" + "7" * 64}],
        "facts": {},
    }


def state(folder: pathlib.Path) -> dict[str, bytes]:
    """A state with a large and a small file."""
    contents = {"web/criu/pages-1.img": bytes(range(256)) * 16 * 1024, "web/criu/core-1.img": b"core"}
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return contents


@pytest.fixture
def way(tmp_path: pathlib.Path) -> dict[str, Any]:
    return {"id": ID, "fields": fields(), "store": {"kind": "path", "path": str(tmp_path / "store")}}


def test_there_and_gone(tmp_path: pathlib.Path, way: dict[str, Any]) -> None:
    contents = state(tmp_path / "source")
    identity, recipient = through.new_identity()
    said = through.put({**way, "recipient": recipient, "folder": str(tmp_path / "source")})
    stored = b"".join(p.read_bytes() for p in (tmp_path / "store").rglob("*") if p.is_file())
    assert bytes(range(200)) not in stored, "what lies in the store is encrypted"
    target = tmp_path / "target"
    got = through.get(
        {**way, "manifest": said["manifest"], "folder": str(target), "identity": identity, "limit": 1 << 30}
    )
    assert got["stored"] == said["stored"]
    assert {name: (target / name).read_bytes() for name in contents} == contents
    through.drop({**way, **way["fields"]})
    assert not [p for p in (tmp_path / "store").rglob("*") if p.is_file()]


def test_nobody_sees_it_as_a_checkpoint(tmp_path: pathlib.Path, way: dict[str, Any]) -> None:
    from ansible_collections.podferry.live.plugins.module_utils._store import node

    state(tmp_path / "source")
    _identity, recipient = through.new_identity()
    through.put({**way, "recipient": recipient, "folder": str(tmp_path / "source")})
    assert node.entries(way["store"]) == []


def test_a_damaged_blob_is_not_taken(tmp_path: pathlib.Path, way: dict[str, Any]) -> None:
    state(tmp_path / "source")
    identity, recipient = through.new_identity()
    said = through.put({**way, "recipient": recipient, "folder": str(tmp_path / "source")})
    blob = next((tmp_path / "store").rglob("pages.0"))
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(bytes(data))
    with pytest.raises(PodferryError):
        through.get(
            {
                **way,
                "manifest": said["manifest"],
                "folder": str(tmp_path / "t"),
                "identity": identity,
                "limit": 1 << 30,
            }
        )


def test_a_state_of_another_run_is_refused(tmp_path: pathlib.Path, way: dict[str, Any]) -> None:
    state(tmp_path / "source")
    _identity, recipient = through.new_identity()
    other = {**way, "fields": fields("20261125T120000Z-ffffffffffff")}
    said = through.put({**other, "recipient": recipient, "folder": str(tmp_path / "source")})
    with pytest.raises(InvalidInput, match="not this run's"):
        through.expected(said["manifest"].encode(), way)


def test_what_was_never_stored_can_be_dropped(tmp_path: pathlib.Path, way: dict[str, Any]) -> None:
    (tmp_path / "store").mkdir(mode=0o700)
    through.drop({**way, **way["fields"]})


# --- the child -------------------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands for ``podferry-node``: what its ``carry`` does is the test's to say, in shell."""

    def says(script: str) -> None:
        program = tmp_path / "podferry-node"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(through, "NODE", str(program))

    return says


def test_the_child_s_answer(node: Any) -> None:
    node("""cat >/dev/null; echo '{"ok": true, "result": {"stored": 7}}'""")
    assert through.Carrier("put").carry({}, lambda: None) == {"stored": 7}


def test_the_child_s_error_keeps_its_kind(node: Any) -> None:
    error = InvalidInput("no", "yes").to_dict()
    node(f"cat >/dev/null; echo '{json.dumps({'ok': False, 'error': error})}'")
    with pytest.raises(InvalidInput, match="no"):
        through.Carrier("get").carry({}, lambda: None)


def test_a_child_that_dies_is_an_error(node: Any) -> None:
    node("exit 3")
    with pytest.raises(CommandFailed):
        through.Carrier("get").carry({"much": "x" * (1 << 20)}, lambda: None)


def test_a_store_that_hangs_does_not_hang_the_ferry(node: Any) -> None:
    node("sleep 600")

    def pulse() -> None:
        raise Cancelled("stop")

    carrier = through.Carrier("put")
    with pytest.raises(Cancelled):
        carrier.carry({}, pulse)
    assert carrier._child.wait(5) != 0


def test_dropping_does_not_wait_for_ever(node: Any) -> None:
    node("sleep 600")
    with pytest.raises(PodferryError, match="did not answer within"):
        through.drop_soon({}, 0.2)
