# SPDX-License-Identifier: Apache-2.0
"""What is told about a checkpoint, and what is not unless it is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._archive import convert, info, own
from ansible_collections.podferry.live.plugins.module_utils._archive.errors import (
    DamagedArchive,
    NoCheckpoint,
    UnsafeArchive,
)
from ansible_collections.podferry.live.plugins.module_utils._archive.reader import Checkpoint
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._store import node
from ansible_collections.podferry.live.plugins.module_utils._store.manifest import canonical
from doubles import archives
from doubles.examples import examples


def inspect(folder: Path, data: bytes, values: bool = False) -> dict[str, Any]:
    path = folder / "checkpoint.tar"
    path.write_bytes(data)
    return info.inspect(Checkpoint(str(path)), values)


def test_it_tells_what_it_found(tmp_path: Path) -> None:
    told = inspect(tmp_path, archives.archive())
    (container,) = told["containers"]
    assert (told["engine"], told["form"], container["name"], container["arch"]) == (
        "containerd",
        "archive",
        "app",
        "x86_64",
    )
    assert container["environment"] == ["EMPTY", "PATH", "SECRET"]
    assert [process["pid"] for process in container["processes"]] == [1, 7, 9]
    files = archives.contents()
    assert container["bytes"] == {
        "unpacked": sum(map(len, files.values())),
        "checkpoint": sum(len(data) for name, data in files.items() if name.startswith("checkpoint/")),
        "memory": 2 * archives.PAGE,
        "rootfs_diff": 0,
    }
    assert container["statistics"]["frozen_us"] == 2


def test_secrets_stay_where_they_are(tmp_path: Path) -> None:
    assert "hunter2" not in json.dumps(inspect(tmp_path, archives.archive()))
    assert "--fast" not in json.dumps(inspect(tmp_path, archives.archive()))


@pytest.mark.parametrize("pack", [bytes, archives.zstd])
def test_values_when_they_are_asked_for(tmp_path: Path, pack: Any) -> None:
    (container,) = inspect(tmp_path, pack(archives.archive()), values=True)["containers"]
    assert container["values"] == {"PATH": "/bin", "SECRET": "hunter2", "EMPTY": ""}
    first, worker, _gone = container["processes"]
    assert first["arguments"] == ["app", "--fast"]
    assert first["environment"] == ["SECRET=hunter2", "EMPTY="]
    assert worker["arguments"] is None


@pytest.mark.parametrize("name", ["config__dump", "spec__dump"])
def test_what_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    with pytest.raises(NoCheckpoint, match="is no checkpoint of a container"):
        inspect(tmp_path, archives.archive(archives.contents(**{name: b"-"})))
    with pytest.raises(DamagedArchive, match="is no JSON"):
        inspect(tmp_path, archives.archive(archives.contents(**{name: b"{"})))


def test_a_deep_document(tmp_path: Path) -> None:
    with pytest.raises(DamagedArchive):
        inspect(tmp_path, archives.archive(archives.contents(spec__dump=b"[" * 200_000)))


def test_a_key_twice(tmp_path: Path) -> None:
    """Go would put both hooks together."""
    spec = json.dumps(archives.SPEC)[:-1] + ', "hooks": {"prestart": [{"path": "/bin/sh"}]}, "hooks": {}}'
    with pytest.raises(UnsafeArchive, match="twice"):
        inspect(tmp_path, archives.archive(archives.contents(spec__dump=spec.encode())))


def test_a_measurement_that_is_broken_is_left_out(tmp_path: Path) -> None:
    told = inspect(tmp_path, archives.archive({**archives.contents(), "stats-dump": b"x"}))
    assert told["containers"][0]["statistics"] == {}


def test_lists_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "_MOST_IMAGES", 1000)
    with pytest.raises(DamagedArchive, match="no sensible size"):
        inspect(tmp_path, archives.archive({**archives.contents(), "checkpoint/files.img": bytes(2000)}))


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.booleans())
def test_any_file_may_be_damaged(tmp_path: Path, data: st.DataObject, values: bool) -> None:
    files = archives.contents()
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for _round in range(data.draw(st.integers(1, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    files[name] = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        json.dumps(inspect(tmp_path, archives.archive(files), values))
    except InvalidInput:
        pass


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder of ours, with a value that is secret."""
    (tmp_path / "checkpoint.tar").write_bytes(archives.archive({**archives.contents(), "container.log": b"a line\n"}))
    folder = tmp_path / "state"
    folder.mkdir()
    spec = {
        "containers": [
            {
                "name": "app",
                "image": "app:1",
                "env": [{"name": "TOKEN", "value": "hunter2"}],
                "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            }
        ]
    }
    pod = {"metadata": {"name": "web-0", "namespace": "shop", "uid": archives.UID}, "spec": spec}
    convert.convert(str(tmp_path / "checkpoint.tar"), str(folder), container="app", limit=1 << 20, pod_object=pod)
    return folder


def test_a_state_of_ours(state: Path) -> None:
    told = own.inspect_folder(str(state))
    (container,) = told["containers"]
    assert (told["form"], told["engine"], told["pod"]["namespace"]) == ("state", "containerd", "shop")
    assert (container["name"], container["image"]["name"], container["environment"]) == ("app", "app:1", ["TOKEN"])
    assert container["mounts"][0]["destination"] == "/v"
    assert [process["pid"] for process in container["processes"]] == [1, 7, 9]
    assert "hunter2" not in json.dumps(told)
    (container,) = own.inspect_folder(str(state), values=True)["containers"]
    assert container["values"] == {"TOKEN": "hunter2"} and container["processes"][0]["arguments"] == ["app", "--fast"]


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(NoCheckpoint):
        own.inspect_folder(str(tmp_path))
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(NoCheckpoint, match="no container"):
        own.inspect_folder(str(tmp_path))


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_stored_one(state: Path, tmp_path: Path, compression: str) -> None:
    large = bytes(range(256)) * 8192
    (state / "app/criu/pages-1.img").write_bytes(large)
    spec = {"kind": "path", "path": str(tmp_path / "store")}
    fields = {
        "id": "20261125T174144Z-0123456789ab", "namespace": "shop", "pod": "web-0", "uid": archives.UID, "node": "node-a",
        "created": "2026-11-25T17:41:44Z", "kind": "container", "containers": [{"name": "app", "image": "app:1", "image_id": "x"}], "facts": {},
    }  # fmt: skip
    made = node.save(spec, str(state), fields, compression=compression)
    node.publish(spec, canonical(made), "")
    for identifier in ("latest", made.id):
        told = own.inspect_stored(spec, "shop", "web-0", identifier)
        (container,) = told["containers"]
        assert (told["id"], told["form"], container["bytes"]["memory"]) == (made.id, "store", len(large))
        assert [process["pid"] for process in container["processes"]] == [1, 7, 9]
        assert "hunter2" not in json.dumps(told)
    told = own.inspect_stored(spec, "shop", "web-0", "latest", values=True)
    assert told["containers"][0]["values"] == {"TOKEN": "hunter2"}
    with pytest.raises(NoCheckpoint):
        own.inspect_stored(spec, "shop", "other", "latest")
