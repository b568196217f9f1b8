# SPDX-License-Identifier: Apache-2.0
"""Images of checkpoints: marked for the engines, the same for the same checkpoint, whole or not there, and the archive back."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._archive import image
from ansible_collections.podferry.live.plugins.module_utils._archive.errors import AsksForHost, DamagedArchive
from ansible_collections.podferry.live.plugins.module_utils._archive.image import Wanted
from ansible_collections.podferry.live.plugins.module_utils._archive.reader import Checkpoint
from ansible_collections.podferry.live.plugins.module_utils._common.errors import CommandFailed, StateConflict
from doubles import archives

FORMS = ("oci-dir", "oci-archive", "archive")
PACKED = ("none", "gzip", "zstd")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    (tmp_path / "checkpoint.tar").write_bytes(archives.archive())
    return Checkpoint(str(tmp_path / "checkpoint.tar"))


def files(path: str) -> dict[str, bytes]:
    return {member.name: member.all() for member in Checkpoint(path).members()}


def asking(tmp_path: Path) -> Checkpoint:
    spec = {**archives.SPEC, "hooks": {"prestart": [{"path": "/bin/sh"}]}}
    (tmp_path / "asking.tar").write_bytes(archives.archive(archives.contents(spec__dump=json.dumps(spec).encode())))
    return Checkpoint(str(tmp_path / "asking.tar"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compression", PACKED)
def test_there_and_back(checkpoint: Checkpoint, tmp_path: Path, form: str, compression: str) -> None:
    wanted = Wanted(str(tmp_path / "out"), form, compression, "localhost/web:1")
    told = image.make(checkpoint, wanted, write=False)
    assert told.changed and not os.path.exists(wanted.path)
    made = image.make(checkpoint, wanted, write=True)
    assert made.changed and made.digest.startswith("sha256:")
    assert files(wanted.path) == archives.contents()
    for again in (checkpoint, Checkpoint(wanted.path, reference="localhost/web:1" if form != "archive" else "")):
        for write in (False, True):
            assert image.make(again, wanted, write=write) == made._replace(changed=False)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint.tar", "out"]


def test_the_same_checkpoint_is_the_same_image(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "packed.tar").write_bytes(archives.zstd(archives.archive()))
    digests = {
        image.make(each, Wanted(str(tmp_path / name), "oci-dir", "none", name), write=True).digest
        for each, name in ((checkpoint, "a"), (Checkpoint(str(tmp_path / "packed.tar")), "b"))
    }
    assert len(digests) == 1


def test_nobody_else_can_read_it(checkpoint: Checkpoint, tmp_path: Path) -> None:
    os.umask(0)
    for form in FORMS:
        image.make(checkpoint, Wanted(str(tmp_path / form), form, "none", ""), write=True)
    for folder, folders, names in os.walk(tmp_path / "oci-dir"):
        for name in [*folders, *names, "."]:
            assert not stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) & 0o077
    for form in ("oci-archive", "archive"):
        assert stat.S_IMODE((tmp_path / form).stat().st_mode) == 0o600


def test_a_layout_is_one_by_the_book(checkpoint: Checkpoint, tmp_path: Path) -> None:
    made = image.make(checkpoint, Wanted(str(tmp_path / "x"), "oci-archive", "gzip", "localhost/web:1"), write=True)
    with tarfile.open(tmp_path / "x") as layout:
        contents = {info.name: layout.extractfile(info).read() for info in layout}  # type: ignore[union-attr]
    assert json.loads(contents["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    for name, data in contents.items():
        if name.startswith("blobs/"):
            assert hashlib.sha256(data).hexdigest() == name.rpartition("/")[2]
    (described,) = json.loads(contents["index.json"])["manifests"]
    assert described["digest"] == made.digest
    assert described["annotations"] == {"org.opencontainers.image.ref.name": "localhost/web:1"}
    manifest = json.loads(contents[f"blobs/sha256/{made.digest[7:]}"])
    assert manifest["layers"][0]["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    config = json.loads(contents[f"blobs/sha256/{manifest['config']['digest'][7:]}"])
    assert (config["architecture"], config["os"]) == ("amd64", "linux")


def test_the_marks(checkpoint: Checkpoint, tmp_path: Path) -> None:
    notes = image.make(checkpoint, Wanted(str(tmp_path / "x"), "oci-dir", "none", ""), write=False).annotations
    assert notes["io.kubernetes.cri-o.annotations.checkpoint.name"] == "app"
    assert notes["org.criu.checkpoint.container.name"] == "app"
    assert notes["org.criu.checkpoint.pod.namespace"] == "shop"
    assert not [key for key in notes if key.startswith("io.podman.")]


def test_the_marks_of_podman(tmp_path: Path) -> None:
    spec = {**archives.SPEC, "annotations": {"io.container.manager": "libpod"}}
    config = {**archives.CONFIG, "name": "work", "runtime": "runc"}
    changed = {"spec__dump": json.dumps(spec).encode(), "config__dump": json.dumps(config).encode()}
    (tmp_path / "podman.tar").write_bytes(archives.archive(archives.contents(**changed)))
    wanted = Wanted(str(tmp_path / "x"), "oci-dir", "none", "")
    notes = image.make(Checkpoint(str(tmp_path / "podman.tar")), wanted, write=False).annotations
    assert notes["io.podman.annotations.checkpoint.runtime.name"] == "runc"
    assert notes["io.podman.annotations.checkpoint.name"] == "work"
    assert not [key for key in notes if key.startswith("io.kubernetes.")]


def test_one_that_asks_for_something_of_the_host(tmp_path: Path) -> None:
    wanted = Wanted(str(tmp_path / "x"), "oci-dir", "none", "")
    with pytest.raises(AsksForHost, match="hook prestart"):
        image.make(asking(tmp_path), wanted, write=True)
    assert not os.path.exists(wanted.path)
    assert image.make(asking(tmp_path), wanted, write=True, allow_host_access=True).changed
    # An archive of it is no more than it was before.
    assert image.make(asking(tmp_path), Wanted(str(tmp_path / "y"), "archive", "none", ""), write=True).changed


@pytest.mark.parametrize("form", FORMS)
def test_what_is_there_is_replaced_when_it_is_another(checkpoint: Checkpoint, tmp_path: Path, form: str) -> None:
    wanted = Wanted(str(tmp_path / "x"), form, "none", "a:1")
    image.make(checkpoint, wanted, write=True)
    (tmp_path / "other.tar").write_bytes(archives.archive(archives.contents(checkpoint___descriptors__json=b'["x"]')))
    other = Checkpoint(str(tmp_path / "other.tar"))
    assert image.make(other, wanted, write=False).changed
    assert image.make(other, wanted, write=True).changed
    assert files(wanted.path)["checkpoint/descriptors.json"] == b'["x"]'
    assert image.make(other, wanted._replace(compression="zstd"), write=False).changed
    if form != "archive":
        assert image.make(other, wanted._replace(reference="b:1"), write=False).changed


def test_a_damaged_image_is_made_again(checkpoint: Checkpoint, tmp_path: Path) -> None:
    wanted = Wanted(str(tmp_path / "x"), "oci-archive", "none", "")
    image.make(checkpoint, wanted, write=True)
    data = bytearray((tmp_path / "x").read_bytes())
    data[data.index(b"\xa5" * 100)] ^= 1
    (tmp_path / "x").write_bytes(data)
    assert image.make(checkpoint, wanted, write=True).changed
    assert files(wanted.path) == archives.contents()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_ours_stays(checkpoint: Checkpoint, tmp_path: Path, form: str) -> None:
    path = tmp_path / "x"
    if form == "oci-dir":
        path.mkdir()
        (path / "precious").touch()
    else:
        path.mkdir()
    with pytest.raises(StateConflict):
        image.make(checkpoint, Wanted(str(path), form, "none", ""), write=True)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateConflict):
        image.make(checkpoint, Wanted(str(link), form, "none", ""), write=True)


@pytest.mark.parametrize("form", ["oci-archive", "archive"])
@pytest.mark.parametrize("write", [True, False])
def test_files_of_something_else_stay(checkpoint: Checkpoint, tmp_path: Path, form: str, write: bool) -> None:
    path = tmp_path / "x"
    wanted = Wanted(str(path), form, "none", "")
    image.make(checkpoint, Wanted(str(tmp_path / "dir"), "oci-dir", "none", ""), write=True)
    image.make(checkpoint, Wanted(str(tmp_path / "image"), "oci-archive", "none", ""), write=True)
    layer = archives.archive()
    for other in (
        b"a dump of a database",
        archives.zstd(b"a dump of a database"),
        archives.tar(archives.entry("database", b"a dump")),
        archives.docker_save(layer),
        (tmp_path / ("image" if form == "archive" else "checkpoint.tar")).read_bytes(),
    ):
        path.write_bytes(other)
        with pytest.raises(StateConflict, match="something else"):
            image.make(checkpoint, wanted, write=write)
        assert path.read_bytes() == other


def test_the_archive_that_it_is_made_of_stays(checkpoint: Checkpoint, tmp_path: Path) -> None:
    before = (tmp_path / "checkpoint.tar").read_bytes()
    with pytest.raises(StateConflict):
        image.make(checkpoint, Wanted(checkpoint.path, "oci-archive", "none", ""), write=True)
    assert (tmp_path / "checkpoint.tar").read_bytes() == before


@pytest.mark.parametrize("form", FORMS)
def test_what_is_empty_is_replaced(checkpoint: Checkpoint, tmp_path: Path, form: str) -> None:
    path = tmp_path / "x"
    path.mkdir() if form == "oci-dir" else path.touch()
    assert image.make(checkpoint, Wanted(str(path), form, "none", ""), write=True).changed


@pytest.mark.parametrize("more", ["image", "file", "by others"])
def test_layouts_that_hold_more_stay(checkpoint: Checkpoint, tmp_path: Path, more: str) -> None:
    path = tmp_path / "x"
    wanted = Wanted(str(path), "oci-dir", "none", "a:1")
    made = image.make(checkpoint, wanted, write=True)
    if more == "file":
        (path / "precious").touch()
    elif more == "image":
        index = json.loads((path / "index.json").read_text())
        index["manifests"].append({**index["manifests"][0], "annotations": {"org.opencontainers.image.ref.name": "b"}})
        (path / "index.json").write_text(json.dumps(index))
    else:
        config = {"rootfs": {"diff_ids": []}, "history": [{"created_by": "a build"}]}
        described = image._blob(str(path / "blobs/sha256"), config, "application/x")
        manifest = json.loads((path / "blobs/sha256" / made.digest[7:]).read_text())
        described = image._blob(str(path / "blobs/sha256"), {**manifest, "config": described}, "application/x")
        (path / "index.json").write_text(json.dumps({"manifests": [described]}))
    names = sorted(str(item) for item in path.rglob("*"))
    with pytest.raises(StateConflict):
        image.make(checkpoint, wanted._replace(compression="gzip"), write=True)
    assert sorted(str(item) for item in path.rglob("*")) == names
    if more != "by others":
        assert image.make(checkpoint, wanted, write=True) == made._replace(changed=False)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_left_of_one_that_fails(tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoint.tar").write_bytes(archives.archive())
    checkpoint = Checkpoint(str(tmp_path / "checkpoint.tar"))
    real = image._Layer.fill

    def breaks(self: Any, source: Checkpoint) -> None:
        real(self, source)
        raise DamagedArchive("the end of it is missing")

    monkeypatch.setattr(image._Layer, "fill", breaks)
    with pytest.raises(DamagedArchive):
        image.make(checkpoint, Wanted(str(tmp_path / "x"), form, "none", ""), write=True)
    assert os.listdir(tmp_path) == ["checkpoint.tar"]


def test_without_zstd(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CommandFailed, match="zstd"):
        image.make(checkpoint, Wanted(str(tmp_path / "x"), "archive", "zstd", ""), write=True)
    with pytest.raises(CommandFailed, match="skopeo"):
        image.push(Wanted(str(tmp_path / "x"), "oci-dir", "none", ""), "", "docker://x/y", write=True)


def test_push(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A skopeo that keeps what it was called with, and a registry of one manifest."""
    tool = tmp_path / "bin"
    tool.mkdir()
    (tool / "skopeo").write_text(
        '#!/bin/sh\necho "$@" >>"$HERE/calls"\nif [ "$1" = inspect ]; then cat "$HERE/there" 2>/dev/null; exit; fi\n'
        'if [ -e "$HERE/broken" ]; then echo unauthorized >&2; exit 1; fi\nprintf manifest >"$HERE/there"\n'
    )
    (tool / "skopeo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool}:{os.environ['PATH']}")
    monkeypatch.setenv("HERE", str(tmp_path))
    digest = f"sha256:{hashlib.sha256(b'manifest').hexdigest()}"
    wanted = Wanted("/images/web", "oci-archive", "none", "")

    def push(write: bool) -> bool:
        return image.push(wanted, digest, "docker://r/web:1", write=write, authfile="/auth", tls_verify=False)

    (tmp_path / "broken").touch()
    with pytest.raises(CommandFailed, match="unauthorized"):
        push(True)
    (tmp_path / "broken").unlink()
    assert push(False) and not (tmp_path / "there").exists()
    assert push(True) and not push(True)
    copied = [line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith("copy")][-1]
    assert (
        copied
        == "copy --quiet --preserve-digests --authfile /auth --dest-tls-verify=false oci-archive:/images/web docker://r/web:1"
    )
