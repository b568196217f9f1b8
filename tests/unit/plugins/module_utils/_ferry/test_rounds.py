# SPDX-License-Identifier: Apache-2.0
"""A tree that changes between its rounds arrives as it is in the end, whatever was done to it meanwhile.

Names here must not exist on a host: a defect in the code under test may write to the host's root directory.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import stat
import tempfile
import time
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput, RestoreFailed
from ansible_collections.podferry.live.plugins.module_utils._ferry import held, layout, rounds, staging, tree
from ansible_collections.podferry.live.plugins.module_utils._ferry.paths import RunPaths

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="trees are unpacked by root")

NAMES = ("pf-a", "pf-b", "pf-d/x", "pf-d/y", "pf-d/pf-e/z", "pf-d", "pf-d/pf-e")


class SentFiles:
    """Takes the place of the connection: archives lie in one folder, as the target's staging would hold them."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder

    def file(self, name: str, path: str, _pulse: Any) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, self.folder / name)


def remove(path: pathlib.Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif path.exists() or path.is_symlink():
        path.unlink()


def change(root: pathlib.Path, action: str, name: str, number: int) -> None:
    """One thing that a program may do to its files."""
    path = root / name
    with contextlib.suppress(
        FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError
    ):
        if action == "write":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes([number % 256]) * (number * 37 % 5000))
        elif action == "append":
            with path.open("ab") as stream:
                stream.write(b"%d" % number)
        elif action == "mkdir":
            path.mkdir(parents=True)
        elif action == "remove":
            remove(path)
        elif action == "link":
            os.link(root / NAMES[number % 4], path)
        elif action == "symlink":
            path.symlink_to(f"/pf-nowhere/{number}")
        elif action == "rename" and not NAMES[number % len(NAMES)].startswith(f"{name}/"):
            os.rename(path, root / NAMES[number % len(NAMES)])
        elif action == "chmod":
            path.chmod(0o600 + number % 0o177)
        elif action == "xattr" and not path.is_symlink():
            os.setxattr(path, "user.pf", b"%d" % number)
        elif action == "holes":
            with path.open("r+b") as stream:
                stream.truncate(number * 4096)


def described(root: pathlib.Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    links: dict[int, list[str]] = {}
    for folder, folders, names in os.walk(root):
        for name in [".", *folders, *names]:
            path = pathlib.Path(folder, name)
            status = path.lstat()
            relative = os.path.normpath(os.path.relpath(path, root))
            entry: list[Any] = [stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid]
            if stat.S_ISREG(status.st_mode):
                entry += [path.read_bytes(), os.listxattr(path)]
                links.setdefault(status.st_ino, []).append(relative)
            if stat.S_ISLNK(status.st_mode):
                entry.append(os.readlink(path))
            found[relative] = entry
    found["links"] = sorted(sorted(names) for names in links.values() if len(names) > 1)
    return found


STEP = st.tuples(
    st.sampled_from(["write", "append", "mkdir", "remove", "link", "symlink", "rename", "chmod", "xattr", "holes"]),
    st.sampled_from(NAMES),
    st.integers(0, 300),
)


@example([[("write", "pf-a", 5), ("write", "pf-d/x", 6)], [("remove", "pf-a", 0), ("remove", "pf-d", 0)]], 1)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(STEP, max_size=8), min_size=1, max_size=4), st.sampled_from([1, 3000, 64 << 20]))
def test_what_arrives_is_what_is_there_in_the_end(history: list[list[tuple[str, str, int]]], part: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "_PART_BYTES", part)
        base = pathlib.Path(folder)
        source, target, sent = base / "source", base / "target", base / "sent"
        source.mkdir()
        target.mkdir()
        place = RunPaths("0123456789ab", str(base / "run"))
        place.create()
        files = staging.Staging(place, {"web/rootfs": str(source)}, keep=False)
        files._sender = SentFiles(sent)  # type: ignore[assignment]
        for number, steps in enumerate(history):
            for action, name, value in steps:
                change(source, action, name, value)
            if number < len(history) - 1:
                files.round(lambda: None)
        assert files.last("web/", frozenset(), lambda: None) == ["web/rootfs.tar"]
        (base / "images/web").mkdir(parents=True)
        shutil.copyfile(os.path.join(place.images, "web/rootfs.tar"), base / "images/web/rootfs.tar")
        laid = layout.Layout(str(base / "images"), str(sent))
        bundle = {"root": {"path": str(target)}}
        laid.early("web", "/", bundle, "u")
        laid.container("web", "/", bundle, "u")
        assert described(target) == described(source)


def test_a_mapped_file_goes_again_whatever_its_times_say(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pf").write_text("x")
    looked = rounds.Rounds(str(tmp_path))
    looked.look()
    looked._looked_ns += 10**12  # long ago, as the file's times see it
    assert "pf" not in looked.look().changed
    looked._looked_ns += 10**12
    assert "pf" in looked.look({(tmp_path / "pf").stat().st_ino}).changed


def test_a_folder_that_hides_the_image_does_so_once(tmp_path: pathlib.Path) -> None:
    upper, root = tmp_path / "upper", tmp_path / "root"
    for path in (upper / "pf-o", root / "pf-o"):
        path.mkdir(parents=True)
    (root / "pf-o/old").touch()
    (upper / "pf-o/one").touch()
    os.setxattr(upper / "pf-o", "trusted.overlay.opaque", b"y")
    looked = rounds.Rounds(str(upper))
    for number, name in enumerate(["two", "three"]):
        looked.pack(looked.look(), str(tmp_path / f"{number}.tar"), lambda: None, frozen=True)
        tree.unpack(str(tmp_path / f"{number}.tar"), str(root))
        (upper / f"pf-o/{name}").touch()
    assert sorted(os.listdir(root / "pf-o")) == ["one", "two"]


def test_rounds_end(tmp_path: pathlib.Path) -> None:
    place = RunPaths("0123456789ab", str(tmp_path / "run"))
    place.create()
    files = staging.Staging(place, {"web/rootfs": str(tmp_path / "files")}, keep=True)
    (tmp_path / "files").mkdir()
    files._sender = SentFiles(tmp_path / "sent")  # type: ignore[assignment]
    number = 0
    while files.worth_another():
        number += 1
        (tmp_path / "files/pf").write_bytes(b"x" * (2 << 20))  # as much in every round
        files.round(lambda: None)
    assert number == 2
    assert len(list((tmp_path / "sent/web").iterdir())) == len(os.listdir(os.path.join(place.staging, "web")))
    place.remove_staging()
    assert not os.path.exists(place.staging)


def test_what_a_run_left_on_the_disk_goes_when_the_node_has_forgotten_it(tmp_path: pathlib.Path) -> None:
    old = RunPaths("ffffffffffff", str(tmp_path))
    os.makedirs(old.staging)
    RunPaths("0123456789ab", str(tmp_path)).create()
    assert not os.path.exists(old.staging)


@pytest.mark.parametrize(
    ("mount", "path"),
    [("/pf-other", "a"), ("/pf-config", "../a"), ("/pf-config", "/a"), ("/pf-config", "x/../../a"), ("/pf-config", "")],
)
def test_a_held_file_for_another_place(tmp_path: pathlib.Path, mount: str, path: str) -> None:
    (tmp_path / "held.json").write_text(
        f'[{{"mount": "{mount}", "path": "{path}", "mode": 420, "uid": 0, "gid": 0, "mtime_ns": 0, "data": ""}}]'
    )
    (tmp_path / "volume").mkdir()
    with pytest.raises((InvalidInput, RestoreFailed), match=r"no such volume|of the name"):
        held.unpack(str(tmp_path / "held.json"), {"/pf-config": str(tmp_path / "volume")})


def test_held_files_through_links(tmp_path: pathlib.Path) -> None:
    """A volume's own link that leads out of it is not followed, and what is there already stays."""
    volume, there = tmp_path / "volume", tmp_path / "there"
    (volume / "..data_1").mkdir(parents=True)
    (volume / "..data_1/words").write_text("kept")
    there.mkdir()
    status = (volume / "..data_1/words").stat()
    picked = held.pick({(status.st_dev, status.st_ino)}, {"/pf-config": str(volume)})
    assert picked == [("/pf-config", "..data_1/words")]
    archive = str(tmp_path / "held.json")
    with (volume / "..data_1/words").open():
        assert held.pack([os.getpid()], {"/pf-config": str(volume)}, archive)
    held.unpack(archive, {"/pf-config": str(there)})
    held.unpack(archive, {"/pf-config": str(there)})
    assert (there / "..data_1/words").read_text() == "kept"
    (tmp_path / "trap").mkdir()
    (tmp_path / "trap/..data_1").symlink_to(tmp_path / "volume")
    with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
        held.unpack(archive, {"/pf-config": str(tmp_path / "trap")})


@pytest.mark.parametrize(("age_ms", "again"), [(5, True), (500, False)])
def test_what_changed_just_before_a_look_is_sent_once_more(
    monkeypatch: pytest.MonkeyPatch, age_ms: int, again: bool
) -> None:
    """A write in the same tick of the file system's clock as our look would leave no other trace."""
    ctime = time.time_ns() - age_ms * 1_000_000
    entry: Any = SimpleNamespace(
        st_ino=7, st_ctime_ns=ctime, st_mtime_ns=ctime, st_size=1, st_mode=stat.S_IFREG | 0o644
    )
    monkeypatch.setattr(rounds, "_walk", lambda _root: iter([("pf-a", entry)]))
    one = rounds.Rounds("/pf-nowhere")
    assert one.look().changed == ["pf-a"]
    assert one.look().changed == (["pf-a"] if again else [])
