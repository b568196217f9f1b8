# SPDX-License-Identifier: Apache-2.0
"""An archive as a state of ours: CRIU's images as they are, files as our own trees, and nothing that the archive should not decide."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._archive import changes, convert
from ansible_collections.podferry.live.plugins.module_utils._archive.errors import (
    DamagedArchive,
    NoCheckpoint,
    TooLarge,
    UnsafeArchive,
    WrongCheckpoint,
)
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._criu import tcp
from ansible_collections.podferry.live.plugins.module_utils._ferry import transfer, tree
from doubles import archives
from doubles.archives import LOOPBACK, connection, criu_images, entry, tar
from doubles.examples import examples

LIMIT = 1 << 22
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="trees are unpacked by root")


def state(folder: Path, files: dict[str, bytes] | None = None, **options: Any) -> tuple[Path, dict[str, Any]]:
    """Convert an archive of these files; the state, and what was said."""
    (folder / "checkpoint.tar").write_bytes(archives.archive(files))
    out = folder / "state"
    out.mkdir(exist_ok=True)
    told = convert.convert(str(folder / "checkpoint.tar"), str(out), **{"container": "app", "limit": LIMIT, **options})
    return out, told


def with_rootfs(*entries: tuple[tarfile.TarInfo, bytes], **more: bytes) -> dict[str, bytes]:
    return {**archives.contents(**more), "rootfs-diff.tar": tar(*entries)}


def test_images_log_and_description(tmp_path: Path) -> None:
    log = b"2026-11-25T17:41:12.649057859Z stdout F tick 1\n"
    files = {**archives.contents(), "container.log": log, "dump.log": b"x", "status": b"{}"}
    out, told = state(tmp_path, {**files, "checkpoint/dump.log": b"y"}, namespace="shop", pod="web-0")
    assert {path.name: path.read_bytes() for path in (out / "app/criu").iterdir()} == criu_images()
    assert (out / "app/log").read_bytes() == log
    assert sorted(path.name for path in (out / "app").iterdir()) == ["criu", "log"]
    assert told["created"] == "2026-11-25T17:41:44Z"
    assert told["bytes"] == {"memory": 2 * archives.PAGE, "files": len(log)}
    assert told["containers"] == [
        {"name": "app", "image": "registry.example.com/app:1", "image_id": archives.CONFIG["rootfsImageRef"]}
    ]
    described = json.loads((out / "state.json").read_text())
    assert described["containers"] == ["app"] and described["destinations"] == {"app": ["/proc"]}
    assert not (out / "pod.json").exists()
    for path in out.rglob("*"):
        assert not path.stat().st_mode & 0o077
        name = str(path.relative_to(out))
        assert path.is_dir() or "/" not in name or transfer._NAME.fullmatch(name)


def test_the_pod_is_the_callers(tmp_path: Path) -> None:
    out, _told = state(tmp_path, pod_object={"metadata": {"name": "web-0"}})
    assert json.loads((out / "pod.json").read_text()) == {"metadata": {"name": "web-0"}}


@pytest.mark.parametrize("options", [{"container": "other"}, {"namespace": "bank"}, {"pod": "web-1"}])
def test_a_checkpoint_of_somebody_else(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(WrongCheckpoint):
        state(tmp_path, None, **options)
    assert not list((tmp_path / "state").iterdir())


def test_a_name_that_is_a_path(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        state(tmp_path, None, container="../app")


@pytest.mark.parametrize("name", ["inventory.img", "files.img", "descriptors.json"])
def test_a_dump_that_lacks_something(tmp_path: Path, name: str) -> None:
    files = archives.contents()
    del files[f"checkpoint/{name}"]
    with pytest.raises(InvalidInput, match=name):
        state(tmp_path, files)


@pytest.mark.parametrize("name", ["checkpoint/a/b.img", "checkpoint/.hidden", "checkpoint/a b"])
def test_images_of_names_that_criu_does_not_use(tmp_path: Path, name: str) -> None:
    with pytest.raises(DamagedArchive, match="no image of the name"):
        state(tmp_path, {**archives.contents(), name: b"x"})


def test_connections_that_leave_are_closed(tmp_path: Path) -> None:
    far = 0x0201A8C0
    entries = (
        connection(30, (LOOPBACK, 5000), (LOOPBACK, 6000)),
        connection(31, (LOOPBACK, 6000), (LOOPBACK, 5000)),
        connection(32, (far, 5001), (far, 6001)),
        connection(33, (LOOPBACK, 5002), (LOOPBACK, 6002)),
    )
    files = {**archives.contents(), "checkpoint/files.img": criu_images(entries)["files.img"]}
    out, told = state(tmp_path, files)
    left = {(end.source[1], end.destination[1]) for end in tcp.connections(str(out / "app/criu"))}
    assert left == {(5000, 6000), (6000, 5000)} and told["connections_closed"] == 2


def test_more_than_was_reserved(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        state(tmp_path, None, limit=6000)


def test_a_bomb_inside(tmp_path: Path) -> None:
    """The archive itself is small; its changes of files are not."""
    inner = gzip.compress(tar(entry("zeros", bytes(8 << 20))))
    with pytest.raises(TooLarge):
        state(tmp_path, {**archives.contents(), "rootfs-diff.tar": inner})


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("mtime", [1_700_000_000, 1_700_000_000.5])
def test_many_small_files_fit_into_what_was_weighed(tmp_path: Path, pack: Any, mtime: float) -> None:
    """Without adopt's margin; changes may be compressed once more, and each file and deletion has a header or three."""
    small = [entry(f"d/{number}", b"x", mtime=mtime) for number in range(500)]
    files = {**archives.contents(), "rootfs-diff.tar": pack(tar(*small, entry(".wh.gone")))}
    files["deleted.files"] = json.dumps([f"/gone/{number}" for number in range(500)]).encode()
    (tmp_path / "checkpoint.tar").write_bytes(archives.archive(files))
    weight = convert.weigh(str(tmp_path / "checkpoint.tar"))
    out, told = state(tmp_path, files, limit=weight)
    assert told["bytes"]["files"] == (out / "app/rootfs.tar").stat().st_size < weight


def test_deletions_are_weighed_too(tmp_path: Path) -> None:
    files = {**archives.contents(), "deleted.files": json.dumps([f"/gone/{number}" for number in range(500)]).encode()}
    (tmp_path / "checkpoint.tar").write_bytes(archives.archive(files))
    state(tmp_path, files, limit=convert.weigh(str(tmp_path / "checkpoint.tar")))


def test_changes_are_counted_as_they_are_written(tmp_path: Path) -> None:
    nothing = changes.Survey(frozenset(), frozenset())
    packed = tar(*(entry(str(number), b"x") for number in range(100)))
    size = changes.measure(io.BytesIO(packed), nothing)
    assert changes.rewrite(io.BytesIO(packed), nothing, str(tmp_path / "fits"), size) == size <= len(packed)
    for limit in (size - 1, 512, 0):
        with pytest.raises(TooLarge):
            changes.rewrite(io.BytesIO(packed), nothing, str(tmp_path / f"not{limit}"), limit)
    large = tar(entry("large", bytes(1 << 20)))
    with pytest.raises(TooLarge):
        changes.rewrite(io.BytesIO(large), nothing, str(tmp_path / "large"), 1 << 16)
    assert (tmp_path / "large").stat().st_size <= 1 << 16


# --- files of the container ---------------------------------------------------------------------------------------------


def lay(out: Path, root: Path) -> None:
    tree.unpack(str(out / "app/rootfs.tar"), str(root))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What the image has."""
    folder = tmp_path / "root"
    for name in ("podferry-etc/old", "podferry-etc/kept", "podferry-opaque/image", "podferry-gone/deep/file"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("image")
    return folder


@root_only
@pytest.mark.parametrize("pack", [bytes, gzip.compress, archives.zstd])
def test_a_layer_of_containerd(tmp_path: Path, root: Path, pack: Any) -> None:
    info, data = entry("podferry-data/new", b"new", mode=0o4755, uid=5, gid=6)
    info.pax_headers = {"SCHILY.xattr.user.note": "x", "SCHILY.xattr.trusted.overlay.opaque": "y"}
    layer = tar(
        entry("podferry-data/", kind=tarfile.DIRTYPE, mode=0o750),
        (info, data),
        entry("podferry-data/hard", kind=tarfile.LNKTYPE, linkname="podferry-data/new"),
        entry("podferry-data/soft", kind=tarfile.SYMTYPE, linkname="/nowhere"),
        entry("podferry-data/pipe", kind=tarfile.FIFOTYPE),
        entry("podferry-etc/.wh.old"),
        entry("podferry-opaque", kind=tarfile.DIRTYPE, mode=0o700),
        entry("podferry-opaque/.wh..wh..opq"),
        entry("podferry-opaque/mine", b"mine"),
        entry(".wh.podferry-gone"),
        entry(".wh..wh.plnk/1", b"aufs"),
    )
    out, told = state(tmp_path, {**archives.contents(), "rootfs-diff.tar": pack(layer)})
    lay(out, root)
    found = sorted(str(path.relative_to(root)) for path in root.rglob("*"))
    assert found == [
        "podferry-data", "podferry-data/hard", "podferry-data/new", "podferry-data/pipe", "podferry-data/soft",
        "podferry-etc", "podferry-etc/kept", "podferry-opaque", "podferry-opaque/mine",
    ]  # fmt: skip
    new = (root / "podferry-data/new").stat()
    assert (new.st_mode & 0o7777, new.st_uid, new.st_gid, new.st_nlink) == (0o4755, 5, 6, 2)
    assert os.listxattr(root / "podferry-data/new") == ["user.note"]
    assert (root / "podferry-data").stat().st_mode & 0o777 == 0o750
    assert told["bytes"]["files"] == (out / "app/rootfs.tar").stat().st_size


@root_only
def test_deletions_of_crio(tmp_path: Path, root: Path) -> None:
    files = with_rootfs(entry("podferry-etc/old", b"made again"))
    files["deleted.files"] = json.dumps(["/podferry-etc/old", "/podferry-gone", "/podferry-never"]).encode()
    out, _told = state(tmp_path, files)
    lay(out, root)
    assert (root / "podferry-etc/old").read_text() == "made again"
    assert not (root / "podferry-gone").exists()


@root_only
def test_nothing_but_deletions(tmp_path: Path, root: Path) -> None:
    out, _told = state(tmp_path, {**archives.contents(), "deleted.files": b'["/podferry-gone"]'})
    lay(out, root)
    assert not (root / "podferry-gone").exists() and (root / "podferry-etc/old").exists()


@root_only
def test_shared_memory_of_podman(tmp_path: Path) -> None:
    memory = tar(entry("./", kind=tarfile.DIRTYPE, mode=0o1777), entry("./podferry-segment", b"shared"))
    out, _told = state(tmp_path, {**archives.contents(), "devshm-checkpoint.tar": memory})
    place = tmp_path / "shm"
    place.mkdir()
    tree.unpack(str(out / "app/shm.tar"), str(place))
    assert (place / "podferry-segment").read_bytes() == b"shared"


@pytest.mark.parametrize(
    "made",
    [
        entry("../podferry-x", b"x"),
        entry("/podferry-x", b"x"),
        entry(".wh...", b""),
        entry(".wh."),
        entry(".wh..wh..opq"),
        entry("a", kind=tarfile.LNKTYPE, linkname="../../etc/shadow"),
    ],
)
def test_hostile_changes(tmp_path: Path, made: tuple[tarfile.TarInfo, bytes]) -> None:
    with pytest.raises(UnsafeArchive):
        state(tmp_path, with_rootfs(made))


def test_a_device(tmp_path: Path) -> None:
    with pytest.raises(NoCheckpoint, match="a device"):
        state(tmp_path, with_rootfs(entry("dev/sda", kind=tarfile.BLKTYPE, devmajor=8)))


def test_a_folder_that_is_emptied_after_it_was_filled(tmp_path: Path) -> None:
    late = (entry("d/.wh..wh..opq"), entry("d/new", b"x"), entry("d", kind=tarfile.DIRTYPE))
    with pytest.raises(UnsafeArchive, match="after they fill it"):
        state(tmp_path, with_rootfs(*late))
    with pytest.raises(DamagedArchive, match="without describing it"):
        state(tmp_path, with_rootfs(entry("d/.wh..wh..opq")))


@pytest.mark.parametrize("listed", [b'["/a/../../etc"]', b'["/"]', b"{}", b"[5]", b'"x"', b"["])
def test_hostile_deletions(tmp_path: Path, listed: bytes) -> None:
    with pytest.raises(InvalidInput):
        state(tmp_path, {**archives.contents(), "deleted.files": listed})


@settings(max_examples=examples(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_changes(tmp_path: Path, data: st.DataObject) -> None:
    packed = bytearray(
        tar(
            entry("d", kind=tarfile.DIRTYPE),
            entry("d/.wh..wh..opq"),
            entry("d/a", b"x" * 600),
            entry("l", kind=tarfile.LNKTYPE, linkname="d/a"),
            entry(".wh.b"),
        )
    )
    for _round in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    survey = None
    path = tmp_path / "rootfs.tar"
    path.unlink(missing_ok=True)
    try:
        survey = changes.survey(io.BytesIO(packed))
        changes.rewrite(io.BytesIO(packed), survey, str(path), LIMIT)
        with tarfile.open(path) as made:
            for info in made:
                assert not info.name.startswith("/") and ".." not in info.name.split("/")
    except InvalidInput:
        pass


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-25T17:41:44.956514876Z", "2026-11-25T17:41:44Z"),
        ("2026-11-25T17:41:44Z", "2026-11-25T17:41:44Z"),
        ("2026-11-25T17:41:44.1+00:00", "2026-11-25T17:41:44Z"),
        ("yesterday", ""),
        ("", ""),
    ],
)
def test_moments(text: str, expected: str) -> None:
    assert convert.moment(text) == expected
