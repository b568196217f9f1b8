# SPDX-License-Identifier: Apache-2.0
"""Trees as archives: what comes out is what went in, and a hostile archive reaches nothing outside its tree.

Names here must not exist on a host: a defect in the code under test may write to the host's root directory.
"""

from __future__ import annotations

import errno
import io
import os
import pathlib
import shutil
import stat
import tarfile
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    Cancelled,
    DumpFailed,
    InvalidInput,
    NotFound,
    RestoreFailed,
)
from ansible_collections.podferry.live.plugins.module_utils._ferry import tree
from doubles.examples import examples

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="trees are unpacked by root")


@pytest.fixture
def upper(tmp_path: pathlib.Path) -> pathlib.Path:
    """Where changes are."""
    return _folder(tmp_path / "upper")


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """The tree that the changes are laid over."""
    return _folder(tmp_path / "root")


def _folder(path: pathlib.Path) -> pathlib.Path:
    path.mkdir()
    return path


def carry(upper: pathlib.Path, root: pathlib.Path) -> None:
    archive = root.parent / "archive.tar"
    tree.pack(str(upper), str(archive))
    tree.unpack(str(archive), str(root))


def whiteout(path: pathlib.Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(0, 0))


# --- the way there and back -------------------------------------------------------------------------------------------


def test_files_with_owner_mode_and_time(upper: pathlib.Path, root: pathlib.Path) -> None:
    (upper / "podferry-test").mkdir(mode=0o750)
    path = upper / "podferry-test/file"
    path.write_bytes(b"data\n")
    os.chown(path, 1234, 4321)
    path.chmod(0o4755)
    os.utime(path, (1, 1_500_000_000.25))
    os.utime(upper / "podferry-test", (1, 1_400_000_000))
    carry(upper, root)
    found = os.lstat(root / "podferry-test/file")
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_mtime) == (
        1234,
        4321,
        0o4755,
        1_500_000_000.25,
    )
    assert (root / "podferry-test/file").read_bytes() == b"data\n"
    assert stat.S_IMODE(os.lstat(root / "podferry-test").st_mode) == 0o750
    assert os.lstat(root / "podferry-test").st_mtime == 1_400_000_000


def test_links_fifos_and_empty_folders(upper: pathlib.Path, root: pathlib.Path) -> None:
    (upper / "pf-a").write_text("one")
    os.link(upper / "pf-a", upper / "pf-b")
    (upper / "pf-dangling").symlink_to("/nowhere/at/all")
    (upper / "pf-folder-link").symlink_to("pf-empty")
    (upper / "pf-empty").mkdir()
    os.mkfifo(upper / "pf-pipe", 0o620)
    carry(upper, root)
    assert os.lstat(root / "pf-a").st_ino == os.lstat(root / "pf-b").st_ino and (root / "pf-b").read_text() == "one"
    assert os.readlink(root / "pf-dangling") == "/nowhere/at/all"
    assert os.readlink(root / "pf-folder-link") == "pf-empty"
    assert (root / "pf-empty").is_dir() and stat.S_ISFIFO(os.lstat(root / "pf-pipe").st_mode)


def test_sockets_stay_behind(upper: pathlib.Path, root: pathlib.Path) -> None:
    os.mknod(upper / "pf-sock", 0o600 | stat.S_IFSOCK)
    carry(upper, root)
    assert not (root / "pf-sock").exists()


def test_deletions_and_replacements(upper: pathlib.Path, root: pathlib.Path) -> None:
    (root / "pf-folder/below").mkdir(parents=True)
    (root / "pf-file").write_text("image")
    (root / "pf-was-file").write_text("image")
    (root / "pf-was-folder").mkdir()
    (root / "pf-was-folder/x").touch()
    (root / "pf-was-link").symlink_to("pf-folder")
    whiteout(upper / "pf-folder")
    whiteout(upper / "pf-file")
    whiteout(upper / "pf-never-was")
    (upper / "pf-was-file").mkdir()
    (upper / "pf-was-folder").write_text("file now")
    (upper / "pf-was-link").mkdir()
    (upper / "pf-was-link/y").touch()
    carry(upper, root)
    assert not os.path.lexists(root / "pf-folder") and not (root / "pf-file").exists()
    assert (root / "pf-was-file").is_dir()
    assert (root / "pf-was-folder").read_text() == "file now"
    assert not (root / "pf-was-link").is_symlink() and (root / "pf-was-link/y").exists()


def test_a_folder_is_merged_and_an_opaque_one_is_not(upper: pathlib.Path, root: pathlib.Path) -> None:
    for name in ("pf-merged", "pf-opaque"):
        (root / name).mkdir()
        (root / name / "old").touch()
        (upper / name).mkdir()
        (upper / name / "new").touch()
    os.setxattr(upper / "pf-opaque", "trusted.overlay.opaque", b"y")
    carry(upper, root)
    assert sorted(os.listdir(root / "pf-merged")) == ["new", "old"]
    assert os.listdir(root / "pf-opaque") == ["new"]


def test_attributes_but_not_those_of_overlayfs(upper: pathlib.Path, root: pathlib.Path) -> None:
    path = upper / "pf-ping"
    path.touch()
    value = bytes(range(256))
    os.setxattr(path, "trusted.binary", value)
    os.setxattr(path, "security.capability", b"\x01\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
    os.setxattr(path, "trusted.overlay.origin", b"x")
    carry(upper, root)
    assert os.getxattr(root / "pf-ping", "trusted.binary") == value
    assert os.getxattr(root / "pf-ping", "security.capability") == os.getxattr(path, "security.capability")
    assert "trusted.overlay.origin" not in os.listxattr(root / "pf-ping")


def test_attributes_of_a_link_are_its_own(upper: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (upper / "pf-file").touch()
    os.setxattr(upper / "pf-file", "trusted.of", b"the file")
    (upper / "pf-link").symlink_to("pf-file")
    (upper / "pf-dangling").symlink_to("pf-nowhere")
    for name in ("pf-link", "pf-dangling"):
        os.setxattr(upper / name, "trusted.of", b"the link", follow_symlinks=False)
    tree.pack(str(upper), str(tmp_path / "t"))
    with tarfile.open(tmp_path / "t") as tar:
        found = {each.name: each.pax_headers.get("SCHILY.xattr.trusted.of") for each in tar}
    assert found == {".": None, "pf-dangling": "the link", "pf-file": "the file", "pf-link": "the link"}


@pytest.mark.parametrize("mark", ["trusted.overlay.metacopy", "trusted.overlay.redirect"])
def test_what_the_upper_directory_only_refers_to_is_refused(
    upper: pathlib.Path, tmp_path: pathlib.Path, mark: str
) -> None:
    (upper / "pf-file").touch()
    os.truncate(upper / "pf-file", 4096)  # as overlayfs leaves it: the size without the data
    os.setxattr(upper / "pf-file", mark, b"/other")
    with pytest.raises(InvalidInput, match="reference into the image"):
        tree.pack(str(upper), str(tmp_path / "archive"))


def test_devices_are_refused(upper: pathlib.Path, tmp_path: pathlib.Path) -> None:
    os.mknod(upper / "pf-null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    with pytest.raises(InvalidInput, match="a device, pf-null"):
        tree.pack(str(upper), str(tmp_path / "archive"))


def test_holes_stay_holes(upper: pathlib.Path, root: pathlib.Path) -> None:
    with open(upper / "pf-lastlog", "wb") as stream:
        stream.seek(3 << 20)
        stream.write(b"middle")
        stream.truncate(1 << 30)
    with open(upper / "pf-empty", "wb") as stream:
        stream.truncate(1 << 30)
    carry(upper, root)
    assert (root.parent / "archive.tar").stat().st_size < 1 << 20
    found = os.stat(root / "pf-lastlog")
    assert found.st_size == 1 << 30 and found.st_blocks * 512 < 1 << 20
    with open(root / "pf-lastlog", "rb") as stream:
        stream.seek(3 << 20)
        assert stream.read(8) == b"middle\0\0"
    assert os.stat(root / "pf-empty").st_size == 1 << 30 and os.stat(root / "pf-empty").st_blocks == 0


@pytest.mark.parametrize("call", ["lseek", "pread", "scandir"])
def test_what_cannot_be_read_is_neither_a_hole_nor_left_out(
    upper: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    (upper / "pf-folder").mkdir()
    with open(upper / "pf-folder/pf-holes", "wb") as stream:
        stream.write(b"data")
        stream.truncate(1 << 20)
    real: Any = getattr(os, call)

    def bad(where: Any, *args: Any) -> Any:
        place = os.readlink(f"/proc/self/fd/{where}") if isinstance(where, int) else str(where)
        if place.startswith(str(upper / "pf-folder")):
            raise OSError(errno.EIO, "bad block")
        return real(where, *args)

    monkeypatch.setattr(os, call, bad)
    with pytest.raises(DumpFailed, match=r"'pf-folder.*' of the pod's files cannot be read: bad block"):
        tree.pack(str(upper), str(tmp_path / "t"))


def test_a_file_that_shrinks_in_the_freeze(
    upper: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (upper / "pf-file").write_bytes(b"x" * 100)
    monkeypatch.setattr(os, "pread", lambda *_args: b"")
    with pytest.raises(DumpFailed, match="shorter than it was"):
        tree.pack(str(upper), str(tmp_path / "t"))


def test_names_that_are_no_text(upper: pathlib.Path, root: pathlib.Path) -> None:
    for name in (b"caf\xe9", b"\xff" * 255, b"new\nline", b" ", "ü".encode() * 60, b"a" * 200):
        with open(os.path.join(os.fsencode(upper), name), "wb") as stream:
            stream.write(name)
    os.symlink(b"to\xff", os.path.join(os.fsencode(upper), b"link"))
    carry(upper, root)
    assert sorted(os.listdir(os.fsencode(root))) == sorted(os.listdir(os.fsencode(upper)))
    assert os.readlink(os.path.join(os.fsencode(root), b"link")) == b"to\xff"


_NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)


@settings(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        st.lists(_NAMES, min_size=1, max_size=3).map(tuple),
        st.tuples(st.binary(max_size=40), st.integers(0, 0o7777), st.integers(0, 60000)),
        max_size=5,
    )
)
def test_any_tree_survives(tmp_path: pathlib.Path, files: dict[tuple[str, ...], tuple[bytes, int, int]]) -> None:
    place = tmp_path / str(time.monotonic_ns())
    place.mkdir()
    upper, root = _folder(place / "upper"), _folder(place / "root")
    for parts, (data, mode, owner) in files.items():
        path = upper.joinpath("podferry-any", *parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except OSError:
            continue  # a file where a folder is needed
        os.chown(path, owner, owner)
        path.chmod(mode)
    carry(upper, root)
    assert _listing(root) == _listing(upper)


def _listing(root: pathlib.Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for path in root.rglob("*"):
        status = os.lstat(path)
        data = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, data)
    return found


# --- archives of somebody else ----------------------------------------------------------------------------------------


def archive(path: pathlib.Path, *members: tarfile.TarInfo, data: bytes = b"evil") -> str:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return str(path)


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", **notes: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.mode = 0o755
    info.pax_headers = {f"PODFERRY.{key}": value for key, value in notes.items()}
    return info


@pytest.fixture
def outside(tmp_path: pathlib.Path) -> pathlib.Path:
    """A file of the host, beside the tree."""
    path = tmp_path / "pf-outside"
    path.write_text("host")
    return path


@pytest.mark.parametrize(
    "name", ["../pf-outside", "/../pf-outside", "x/../../pf-outside", "../../../../../../../../pf-outside"]
)
def test_a_name_cannot_leave_the_tree(
    tmp_path: pathlib.Path, root: pathlib.Path, outside: pathlib.Path, name: str
) -> None:
    tree.unpack(archive(tmp_path / "t", entry(name)), str(root))
    assert outside.read_text() == "host" and (root / "pf-outside").read_text() == "evil"


def test_an_absolute_name_is_one_of_the_tree(tmp_path: pathlib.Path, root: pathlib.Path, outside: pathlib.Path) -> None:
    (root / str(tmp_path).lstrip("/")).mkdir(parents=True)
    tree.unpack(archive(tmp_path / "t", entry(str(outside))), str(root))
    assert outside.read_text() == "host"
    assert (root / str(outside).lstrip("/")).read_text() == "evil"


@pytest.mark.parametrize("target", ["..", "../..", "{0}", "/proc/self/root", "/"])
def test_a_link_of_the_archive_leads_nowhere(
    tmp_path: pathlib.Path, root: pathlib.Path, outside: pathlib.Path, target: str
) -> None:
    members = (entry("pf-door", tarfile.SYMTYPE, target.format(tmp_path)), entry("pf-door/pf-outside"))
    try:
        tree.unpack(archive(tmp_path / "t", *members), str(root))
    except RestoreFailed:
        pass
    assert outside.read_text() == "host"


def test_a_link_of_the_image_leads_nowhere(tmp_path: pathlib.Path, root: pathlib.Path, outside: pathlib.Path) -> None:
    (root / "pf-door").symlink_to(tmp_path)
    with pytest.raises(RestoreFailed):
        tree.unpack(archive(tmp_path / "t", entry("pf-door/pf-outside")), str(root))
    assert outside.read_text() == "host"


def test_a_deletion_does_not_follow_links(tmp_path: pathlib.Path, root: pathlib.Path, outside: pathlib.Path) -> None:
    (root / "pf-door").symlink_to(tmp_path)
    tree.unpack(
        archive(tmp_path / "t", entry("pf-door/pf-outside", deleted="1"), entry("pf-door", deleted="1")), str(root)
    )
    assert outside.exists() and not os.path.lexists(root / "pf-door")


@pytest.mark.parametrize("target", ["../pf-outside", "{0}/pf-outside", "/pf-outside"])
def test_a_hard_link_cannot_reach_out(
    tmp_path: pathlib.Path, root: pathlib.Path, outside: pathlib.Path, target: str
) -> None:
    with pytest.raises(RestoreFailed):
        tree.unpack(archive(tmp_path / "t", entry("pf-h", tarfile.LNKTYPE, target.format(tmp_path))), str(root))
    assert os.lstat(outside).st_nlink == 1


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_no_device_is_made(tmp_path: pathlib.Path, root: pathlib.Path, kind: bytes) -> None:
    with pytest.raises(RestoreFailed, match="of a type that we never send"):
        tree.unpack(archive(tmp_path / "t", entry("pf-dev", kind)), str(root))
    assert os.listdir(root) == []


def test_an_existing_device_or_fifo_is_replaced_not_written_to(tmp_path: pathlib.Path, root: pathlib.Path) -> None:
    os.mkfifo(root / "pf-f")  # opening it for writing would wait for ever
    tree.unpack(archive(tmp_path / "t", entry("pf-f")), str(root))
    assert (root / "pf-f").read_text() == "evil"


@pytest.mark.parametrize(
    "sparse", ["4 0+99", "4 0+-1 x", "x", "", "4 -5+4", "-1 0+4", f"4 {1 << 70}+4"], ids=lambda text: text or "pf-empty"
)
def test_holes_that_make_no_sense(tmp_path: pathlib.Path, root: pathlib.Path, sparse: str) -> None:
    with pytest.raises(RestoreFailed):
        tree.unpack(archive(tmp_path / "t", entry("pf-f", sparse=sparse)), str(root))


def test_holes_of_tars_own_kind_are_refused(tmp_path: pathlib.Path, root: pathlib.Path) -> None:
    """GNU tar's sparse files say how large they are without holding it: a few bytes would fill the node's disk."""
    info = tarfile.TarInfo("pf-bomb")
    raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    raw[156:157] = tarfile.GNUTYPE_SPARSE
    raw[483:495] = b"00400000000\0"  # 64 MiB
    raw[148:156] = b" " * 8
    raw[148:156] = f"{sum(raw):06o}\0 ".encode()
    (tmp_path / "t").write_bytes(raw + bytes(10240))
    with pytest.raises(RestoreFailed, match="of a type that we never send"):
        tree.unpack(str(tmp_path / "t"), str(root))
    pax = entry("pf-bomb")
    pax.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "pf-x",
        "GNU.sparse.realsize": str(1 << 26),
    }
    with pytest.raises(RestoreFailed):
        tree.unpack(archive(tmp_path / "u", pax, data=b"0\n".ljust(512, b"\0")), str(root))
    assert not os.listdir(root)


def test_marks_of_overlayfs_are_not_laid_out(tmp_path: pathlib.Path, root: pathlib.Path) -> None:
    info = entry("pf-folder", tarfile.DIRTYPE)
    info.pax_headers = {"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.note": "x"}
    tree.unpack(archive(tmp_path / "t", info), str(root))
    assert os.listxattr(root / "pf-folder") == ["user.note"]


notes = st.dictionaries(
    st.sampled_from(
        [
            "PODFERRY.deleted",
            "PODFERRY.gone",
            "PODFERRY.opaque",
            "PODFERRY.sparse",
            "SCHILY.xattr.user.x",
            "SCHILY.xattr.",
            "mtime",
            "size",
            "uid",
        ]
    ),
    st.sampled_from(["1", "", "-1", "10 0+5", "5 3+-1", "9999999999999999999", "4096 0+1 2+1", "x"]),
    max_size=2,
)
members = st.lists(
    st.tuples(
        st.sampled_from(["pf-a", "pf-a/pf-b", "pf-c", "../pf-outside", "/pf-a", ".", "", "pf-link/pf-x", "pf-link"]),
        st.sampled_from(
            [
                tarfile.REGTYPE,
                tarfile.DIRTYPE,
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.FIFOTYPE,
                tarfile.CHRTYPE,
                tarfile.GNUTYPE_SPARSE,
                b"Z",
            ]
        ),
        st.sampled_from(["", "pf-a", "..", "/", "../pf-outside", "pf-link"]),
        notes,
    ),
    max_size=5,
)


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members, st.none() | st.tuples(st.integers(0, 10_000), st.integers(0, 255)))
def test_any_archive_stays_in_its_tree(
    tmp_path: pathlib.Path,
    outside: pathlib.Path,
    found: list[tuple[str, bytes, str, dict[str, str]]],
    damage: tuple[int, int] | None,
) -> None:
    top = tmp_path / "tree"
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir()
    (top / "pf-link").symlink_to("/" + str(tmp_path))
    made = []
    for name, kind, target, marks in found:
        info = entry(name, kind, target)
        info.pax_headers = marks
        made.append(info)
    path = tmp_path / "t"
    path.unlink(missing_ok=True)
    data = bytearray(pathlib.Path(archive(path, *made)).read_bytes())
    if damage is not None:
        data[damage[0] % len(data)] = damage[1]
        path.write_bytes(data)
    try:
        tree.unpack(str(path), str(top))
    except RestoreFailed:
        pass
    assert sorted(os.listdir(tmp_path)) == ["pf-outside", "t", "tree"] and outside.read_text() == "host"
    total = sum(
        os.lstat(os.path.join(folder, name)).st_blocks for folder, _folders, names in os.walk(top) for name in names
    )
    assert total * 512 < 1 << 20


@pytest.mark.parametrize("damage", [b"", b"no tar at all" * 100, b"\0" * 10240])
def test_what_is_no_archive(tmp_path: pathlib.Path, root: pathlib.Path, damage: bytes) -> None:
    (tmp_path / "t").write_bytes(damage)
    try:
        tree.unpack(str(tmp_path / "t"), str(root))
    except RestoreFailed:
        pass
    assert os.listdir(root) == []


def test_an_archive_that_was_cut(tmp_path: pathlib.Path, root: pathlib.Path, upper: pathlib.Path) -> None:
    (upper / "pf-big").write_bytes(b"x" * 100_000)
    tree.pack(str(upper), str(tmp_path / "t"))
    os.truncate(tmp_path / "t", 50_000)
    with pytest.raises(RestoreFailed):
        tree.unpack(str(tmp_path / "t"), str(root))


def test_no_module_of_the_image_is_imported(
    tmp_path: pathlib.Path, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tree is our root directory then: what Python would look for on the host's paths would be the image's."""

    def curious(_tar: object, _member: object) -> None:
        import podferry_never_heard_of  # type: ignore[import-not-found]  # noqa: F401

    place = root / str(tmp_path).lstrip("/")
    place.mkdir(parents=True)
    (place / "podferry_never_heard_of.py").write_text("open('/imported', 'w').close()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(tree, "_lay", curious)
    with pytest.raises(RestoreFailed, match="ModuleNotFoundError"):
        tree.unpack(archive(tmp_path / "t", entry("pf-f")), str(root))
    assert not (root / "imported").exists()


# --- being heard meanwhile --------------------------------------------------------------------------------------------


def test_reading_a_large_tree_gives_signs_of_life(
    upper: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "_PULSE_SECONDS", 0.0)
    (upper / "pf-big").write_bytes(b"x" * (5 << 20))
    beats: list[int] = []
    tree.pack(str(upper), str(tmp_path / "t"), lambda: beats.append(1))
    assert len(beats) >= 5


def test_reading_can_be_stopped(upper: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "_PULSE_SECONDS", 0.0)
    (upper / "pf-a").touch()

    def stop() -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        tree.pack(str(upper), str(tmp_path / "t"), stop)


def test_writing_can_be_stopped_and_leaves_no_process(
    tmp_path: pathlib.Path, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "_lay", lambda _tar, _member: time.sleep(30))

    def stop() -> None:
        raise Cancelled("enough")

    began = time.monotonic()
    with pytest.raises(Cancelled):
        tree.unpack(archive(tmp_path / "t", entry("pf-f")), str(root), stop)
    assert time.monotonic() - began < 5
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# --- finding it -------------------------------------------------------------------------------------------------------

MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
90 22 0:50 / /run/b/rootfs rw,relatime - overlay overlay rw,lowerdir=/l1:/l2,upperdir=/var/lib/s/12/fs,workdir=/w
91 22 0:51 / /run/with\\040space/rootfs rw - overlay overlay rw,lowerdir=/l,upperdir=/up\\054per,workdir=/w
92 22 0:52 / /run/plain/rootfs rw - ext4 /dev/sdb rw
"""


def test_the_upper_directory(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    table = str(tmp_path / "mountinfo")
    assert tree.upper_directory("/run/b/rootfs", table) == "/var/lib/s/12/fs"
    assert tree.upper_directory("/run/with space/rootfs", table) == "/up,per"
    for other in ("/run/plain/rootfs", "/run/b", "/"):
        with pytest.raises(NotFound, match="not an overlay"):
            tree.upper_directory(other, table)


def test_the_size_does_not_follow_links(upper: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (tmp_path / "pf-big").write_bytes(b"x" * (1 << 20))
    (upper / "link").symlink_to(tmp_path / "pf-big")
    (upper / "small").write_bytes(b"x")
    assert 0 < tree.size(str(upper)) < 65536


def test_the_size_of_what_is_not_there() -> None:
    assert tree.size("/pf-nowhere") == 0
