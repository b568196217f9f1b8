# SPDX-License-Identifier: Apache-2.0
"""Archives and images of checkpoints: each form is read; each hostile one is refused with a type of its own."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._archive.errors import (
    DamagedArchive,
    NoCheckpoint,
    TooLarge,
    UnsafeArchive,
)
from ansible_collections.podferry.live.plugins.module_utils._archive.reader import Checkpoint
from ansible_collections.podferry.live.plugins.module_utils._archive.streams import DEFAULT, Limits
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from doubles import archives
from doubles.examples import examples


def read(path: Path, limits: Limits = DEFAULT, reference: str = "") -> dict[str, bytes]:
    return {member.name: member.all() for member in Checkpoint(str(path), limits, reference).members()}


def put(folder: Path, data: bytes) -> Path:
    path = folder / "checkpoint.tar"
    path.write_bytes(data)
    return path


def oci(folder: Path, layer: bytes, **changes: Any) -> Path:
    """A layout; `changes` replace parts of its manifest or index."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data), "mediaType": "application/x"}

    config = blob(json.dumps({"rootfs": {"diff_ids": []}}).encode())
    manifest = {"config": config, "layers": [blob(layer)], "annotations": {"a": "b"}, **changes.get("manifest", {})}
    described = {**blob(json.dumps(manifest).encode()), **changes.get("descriptor", {})}
    index = {"manifests": [described], **changes.get("index", {})}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text("{}")
    return folder


def packed(folder: Path) -> bytes:
    """A layout folder as a tar, blobs first."""
    names = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.name == "index.json")
    return archives.tar(*(archives.entry(str(path.relative_to(folder)), path.read_bytes()) for path in names))


@pytest.mark.parametrize("pack", [bytes, gzip.compress, archives.zstd])
def test_archives(tmp_path: Path, pack: Any) -> None:
    assert read(put(tmp_path, pack(archives.archive()))) == archives.contents()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, archives.zstd])
def test_layouts(tmp_path: Path, pack: Any) -> None:
    layout = oci(tmp_path / "layout", pack(archives.archive()))
    found = Checkpoint(str(layout))
    assert read(layout) == archives.contents()
    assert (found.form, found.annotations) == ("oci-dir", {"a": "b"})


def test_a_tar_of_a_layout(tmp_path: Path) -> None:
    path = put(tmp_path, packed(oci(tmp_path / "layout", archives.archive())))
    assert read(path) == archives.contents()
    assert Checkpoint(str(path)).form == "oci-archive"


@pytest.mark.parametrize("compress", [False, True])
def test_docker_save(tmp_path: Path, compress: bool) -> None:
    path = put(tmp_path, archives.docker_save(archives.archive(), packed=compress))
    assert read(path) == archives.contents()
    assert Checkpoint(str(path)).form == "docker-archive"


def test_docker_save_whose_layer_is_another(tmp_path: Path) -> None:
    data = archives.docker_save(archives.archive())
    path = put(tmp_path, data.replace(b"\xa5" * 100, b"\x5a" * 100))
    with pytest.raises(DamagedArchive, match="something else"):
        read(path)


def test_an_index_in_the_index(tmp_path: Path) -> None:
    layout = oci(tmp_path, archives.archive())
    inner = (layout / "index.json").read_bytes()
    digest = hashlib.sha256(inner).hexdigest()
    (layout / "blobs/sha256" / digest).write_bytes(inner)
    outer = {"manifests": [{"digest": f"sha256:{digest}", "size": len(inner)}]}
    (layout / "index.json").write_text(json.dumps(outer))
    assert read(layout) == archives.contents()


def test_one_of_several_images(tmp_path: Path) -> None:
    layout = oci(tmp_path, archives.archive())
    index = json.loads((layout / "index.json").read_text())
    first = {**index["manifests"][0], "annotations": {"org.opencontainers.image.ref.name": "one"}}
    second = {**index["manifests"][0], "annotations": {"org.opencontainers.image.ref.name": "two"}}
    (layout / "index.json").write_text(json.dumps({"manifests": [first, second]}))
    assert read(layout, reference="two") == archives.contents()
    with pytest.raises(NoCheckpoint, match="2 images instead of one: one, two"):
        read(layout)
    with pytest.raises(NoCheckpoint, match="0 images"):
        read(layout, reference="three")


HOSTILE = {
    "up": archives.entry("../x", b"x"),
    "absolute": archives.entry("/etc/x", b"x"),
    "symlink": archives.entry("checkpoint/link", kind=tarfile.SYMTYPE, linkname="/etc"),
    "hard link": archives.entry("checkpoint/link", kind=tarfile.LNKTYPE, linkname="config.dump"),
    "device": archives.entry("checkpoint/dev", kind=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "disk": archives.entry("checkpoint/dev", kind=tarfile.BLKTYPE, devmajor=8),
    "fifo": archives.entry("checkpoint/fifo", kind=tarfile.FIFOTYPE),
    "twice": archives.entry("config.dump", b"{}"),
    "twice in another form": archives.entry("./config.dump", b"{}"),
    "below a file": archives.entry("config.dump/x", b"x"),
    "a folder's name": archives.entry("checkpoint", b"x"),
    "control": archives.entry("a\nb", b"x"),
    "whiteout": archives.entry("checkpoint/.wh.x", b""),
    "deep": archives.entry("/".join("a" * 20), b"x"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_entries(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafeArchive):
        read(put(tmp_path, archives.archive(None, HOSTILE[name])))


def test_an_incremental_one(tmp_path: Path) -> None:
    parent = archives.entry("checkpoint/parent", kind=tarfile.SYMTYPE, linkname="../pre-checkpoint")
    with pytest.raises(NoCheckpoint, match="only what changed"):
        read(put(tmp_path, archives.archive(None, parent)))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated(tmp_path: Path, part: float) -> None:
    data = archives.archive()
    with pytest.raises(DamagedArchive):
        read(put(tmp_path, data[: int(len(data) * part)]))


def test_too_large_by_what_it_claims(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        read(put(tmp_path, archives.archive()), Limits(5000))


def test_a_header_that_claims_a_terabyte(tmp_path: Path) -> None:
    info, _data = archives.entry("checkpoint/pages-9.img")
    info.size = 1 << 45
    path = put(tmp_path, info.tobuf() + bytes(1024))
    with pytest.raises(TooLarge):
        read(path)
    with pytest.raises(DamagedArchive):
        read(path, Limits(1 << 50))


@pytest.mark.parametrize("data", [b"", b"hello", b"\x7fELF" * 200, bytes(10240)])
def test_no_archive_at_all(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NoCheckpoint):
        read(put(tmp_path, data))


@pytest.mark.parametrize(
    "changes",
    [
        {"descriptor": {"digest": "sha256:../../../../etc/passwd"}},
        {"descriptor": {"digest": "md5:" + "0" * 64}},
        {"descriptor": {"digest": "sha256:" + "0" * 64}},
        {"descriptor": {"size": 5}},
        {"descriptor": {"size": True}},
        {"manifest": {"layers": "all"}},
        {"manifest": {"layers": []}},
        {"manifest": {"config": None}},
        {"index": {"manifests": []}},
        {"index": {"manifests": [3]}},
    ],
)
def test_hostile_layouts(tmp_path: Path, changes: Any) -> None:
    layout = oci(tmp_path / "layout", archives.archive(), **changes)
    with pytest.raises(InvalidInput):
        read(layout)
    with pytest.raises(InvalidInput):
        read(put(tmp_path, packed(layout)))


def test_a_layer_that_is_not_what_its_digest_says(tmp_path: Path) -> None:
    layout = oci(tmp_path, archives.archive())
    largest = max((layout / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[-1] ^= 1
    largest.write_bytes(data)
    with pytest.raises(DamagedArchive, match="something else"):
        read(layout)


def test_a_layout_whose_blob_is_a_link(tmp_path: Path) -> None:
    layout = oci(tmp_path / "layout", archives.archive())
    for blob in (layout / "blobs/sha256").iterdir():
        elsewhere = tmp_path / blob.name
        os.rename(blob, elsewhere)
        blob.symlink_to(elsewhere)
    with pytest.raises(NoCheckpoint):
        read(layout)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_an_error_of_ours_or_none(tmp_path: Path, data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        whole = archives.archive()
    else:
        folder = tmp_path / "layout"
        whole = packed(folder if folder.exists() else oci(folder, archives.archive()))
    changed = bytearray(whole)
    for _round in range(data.draw(st.integers(1, 3))):
        # Headers are where it matters; most of the rest is page data.
        place = data.draw(st.integers(0, len(whole) // 512 - 1)) * 512 + data.draw(st.integers(0, 511))
        changed[place] = data.draw(st.integers(0, 255))
    try:
        read(put(tmp_path, bytes(changed)))
    except InvalidInput as error:
        assert error.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["manifests", "layers", "config", "digest", "size"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(json_values, json_values)
def test_any_description_of_an_image(tmp_path: Path, index: Any, manifest: Any) -> None:
    raw = json.dumps(manifest).encode()
    digest = hashlib.sha256(raw).hexdigest()
    described = {"manifests": [{"digest": f"sha256:{digest}", "size": len(raw)}]}
    files = {"oci-layout": b"{}", f"blobs/sha256/{digest}": raw}
    for top in (index, described):
        entries = [
            archives.entry(name, data) for name, data in {**files, "index.json": json.dumps(top).encode()}.items()
        ]
        with pytest.raises(InvalidInput):
            read(put(tmp_path, archives.tar(*entries)))
    saved = archives.tar(archives.entry("manifest.json", json.dumps(index).encode()))
    with pytest.raises(InvalidInput):
        read(put(tmp_path, saved))
