# SPDX-License-Identifier: Apache-2.0
"""A tree that changes between its rounds arrives as it is in the end, whatever was done to it meanwhile.

Names here must not exist on a host: a defect in the code under test may write to the host's root directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import shutil
import signal
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    DumpFailed,
    InvalidInput,
    RestoreFailed,
)
from ansible_collections.podferry.live.plugins.module_utils._ferry import held, inside, layout, rounds, staging, tree
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
        st_ino=7, st_ctime_ns=ctime, st_mtime_ns=ctime, st_size=1, st_mode=stat.S_IFREG | 0o644, st_nlink=1, st_blocks=8
    )
    monkeypatch.setattr(inside, "walk", lambda _root, _failed: iter([("pf-a", entry)]))
    one = rounds.Rounds("/pf-nowhere")
    assert one.look().changed == ["pf-a"]
    assert one.look().changed == (["pf-a"] if again else [])


# --- a program that works against us ----------------------------------------------------------------------------------


@pytest.fixture
def upper(tmp_path: pathlib.Path) -> pathlib.Path:
    """The pod's tree; beside it lies a folder of the host with a file of the same name."""
    (tmp_path / "upper/pf-d").mkdir(parents=True)
    (tmp_path / "upper/pf-d/shadow").write_text("mine")
    (tmp_path / "host").mkdir()
    (tmp_path / "host/shadow").write_text("HOST SECRET")
    return tmp_path / "upper"


def packed(archive: str) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar if each.isreg()}  # type: ignore[union-attr]


@pytest.mark.parametrize("instead", ["link", "nothing", "another"])
def test_a_folder_that_is_replaced_between_look_and_pack_and_comes_back(
    tmp_path: pathlib.Path, upper: pathlib.Path, instead: str
) -> None:
    """Nothing but the folder itself is archived, and it goes again although it looks as it did."""
    target = tmp_path / "target"
    target.mkdir()
    looked = rounds.Rounds(str(upper))
    change = looked.look()
    (upper / "pf-d").rename(tmp_path / "away")
    if instead == "link":
        (upper / "pf-d").symlink_to(tmp_path / "host")
    elif instead == "another":
        (upper / "pf-d").mkdir()
        (upper / "pf-d/shadow").write_text("HOST SECRET")
    looked.pack(change, str(tmp_path / "1.tar"), lambda: None, frozen=False)
    assert packed(str(tmp_path / "1.tar")) == {}
    remove(upper / "pf-d")
    (tmp_path / "away").rename(upper / "pf-d")
    looked._looked_ns += 10**12  # long ago, as the files' times see it
    looked.pack(looked.look(), str(tmp_path / "2.tar"), lambda: None, frozen=True)
    for number in (1, 2):
        tree.unpack(str(tmp_path / f"{number}.tar"), str(target))
    assert described(target) == described(upper)


def test_a_folder_that_was_away_still_hides_the_image(tmp_path: pathlib.Path, upper: pathlib.Path) -> None:
    target = tmp_path / "target"
    (target / "pf-d").mkdir(parents=True)
    (target / "pf-d/of-the-image").touch()
    os.setxattr(upper / "pf-d", "trusted.overlay.opaque", b"y")
    looked = rounds.Rounds(str(upper))
    change = looked.look()
    (upper / "pf-d").rename(tmp_path / "away")
    looked.pack(change, str(tmp_path / "1.tar"), lambda: None, frozen=False)
    (tmp_path / "away").rename(upper / "pf-d")
    looked._looked_ns += 10**12
    looked.pack(looked.look(), str(tmp_path / "2.tar"), lambda: None, frozen=True)
    for number in (1, 2):
        tree.unpack(str(tmp_path / f"{number}.tar"), str(target))
    assert os.listdir(target / "pf-d") == ["shadow"]


def test_what_comes_back_in_the_middle_of_a_pack_has_its_folder(
    tmp_path: pathlib.Path, upper: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry whose folder was left out would find none on the target."""
    (upper / "pf-a").touch()
    (upper / "pf-d/x").touch()
    looked = rounds.Rounds(str(upper))
    change = looked.look()

    def passing(folders: inside.Folders, name: str, ask: Any = inside.Folders.entry) -> int:
        if name == "pf-d":
            raise FileNotFoundError(errno.ENOENT, "gone for a moment", name)
        return int(ask(folders, name))

    with monkeypatch.context() as patch:
        patch.setattr(inside.Folders, "entry", passing)
        looked.pack(change, str(tmp_path / "1.tar"), lambda: None, frozen=False)
    assert set(packed(str(tmp_path / "1.tar"))) == {"pf-a"}
    looked._looked_ns += 10**12
    assert looked.look().changed == ["pf-d", "pf-d/shadow", "pf-d/x"]


@contextlib.contextmanager
def not_for_ever(seconds: int = 20) -> Iterator[None]:
    """What hangs in the kernel ends with an error."""

    def stop(*_args: object) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def put(path: pathlib.Path, what: str, host: pathlib.Path) -> None:
    """Have a link to a file of the host, a FIFO or a device there."""
    if what == "link":
        path.symlink_to(host)
    elif what == "fifo":
        os.mkfifo(path)
    else:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))


@pytest.mark.parametrize("instead", ["link", "fifo", "device"])
def test_a_file_that_becomes_something_else_while_it_is_archived(
    tmp_path: pathlib.Path, upper: pathlib.Path, monkeypatch: pytest.MonkeyPatch, instead: str
) -> None:
    """What is read is what was looked at; nothing else is opened."""
    path, real = upper / "pf-d/shadow", os.listxattr

    def swap(*args: Any, **options: Any) -> list[str]:
        found = real(*args, **options)
        path.unlink()
        put(path, instead, tmp_path / "host/shadow")
        return found

    monkeypatch.setattr(os, "listxattr", swap)
    with not_for_ever():
        tree.pack(str(upper), str(tmp_path / "t"), only=["pf-d/shadow"], frozen=False)
    assert packed(str(tmp_path / "t")) == {"pf-d/shadow": b"mine"}


@pytest.mark.parametrize("instead", ["link", "fifo", "device"])
def test_a_file_that_becomes_something_else_before_it_is_opened(
    tmp_path: pathlib.Path, upper: pathlib.Path, instead: str
) -> None:
    """It counts as vanished; a device that was not there at the look is nothing to refuse the pod for yet."""
    path, archive = upper / "pf-d/shadow", str(tmp_path / "t")
    looked = rounds.Rounds(str(upper))
    change = looked.look()
    path.rename(tmp_path / "away")  # so that its inode is not used again
    put(path, instead, tmp_path / "host/shadow")
    with not_for_ever():
        looked.pack(change, archive, lambda: None, frozen=False)
    with tarfile.open(archive) as tar:
        assert tar.getnames() == [".", "pf-d"]


def test_a_folder_that_becomes_a_link_in_the_middle_of_a_look(
    tmp_path: pathlib.Path, upper: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "host/of-the-host").touch()

    def swapping(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if not isinstance(path, int) and str(path).endswith("pf-d") and not (upper / "pf-d").is_symlink():
                (upper / "pf-d").rename(tmp_path / "away")
                (upper / "pf-d").symlink_to(tmp_path / "host")
            return real(path, *args, **options)

        return call

    monkeypatch.setattr(os, "open", swapping(os.open))
    monkeypatch.setattr(os, "scandir", swapping(os.scandir))
    assert rounds.Rounds(str(upper)).look().changed == [".", "pf-d"]
    assert (upper / "pf-d").is_symlink()


# --- what cannot be read ----------------------------------------------------------------------------------------------


def broken(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path, number: int) -> None:
    """Let the list of one folder fail."""
    real = os.scandir

    def scandir(path: Any) -> Any:
        place = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else str(path)
        if place == str(folder):
            raise OSError(number, os.strerror(number), place)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.fixture
def files(tmp_path: pathlib.Path, upper: pathlib.Path) -> staging.Staging:
    place = RunPaths("0123456789ab", str(tmp_path / "run"))
    place.create()
    made = staging.Staging(place, {"web/rootfs": str(upper)}, keep=False)
    made.round(lambda: None)
    return made


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOMEM, errno.ENOENT])
def test_a_folder_that_cannot_be_read_in_the_freeze_is_not_a_deleted_one(
    files: staging.Staging, upper: pathlib.Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    broken(monkeypatch, upper / "pf-d", number)
    with pytest.raises(DumpFailed, match=r"'pf-d' of the pod's files cannot be read: .*"):
        files.last("web/", frozenset(), lambda: None)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOENT])
def test_while_the_pod_runs_only_what_vanished_is_left_out(
    files: staging.Staging, upper: pathlib.Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    broken(monkeypatch, upper / "pf-d", number)
    with contextlib.nullcontext() if number == errno.ENOENT else pytest.raises(DumpFailed):
        files.round(lambda: None)


@pytest.mark.parametrize("frozen", [False, True])
def test_an_entry_that_cannot_be_looked_at(upper: pathlib.Path, monkeypatch: pytest.MonkeyPatch, frozen: bool) -> None:
    real = os.scandir

    class Entry:
        name = "shadow"

        def stat(self, **_options: Any) -> None:
            raise OSError(errno.EIO, "bad block")

        is_dir = stat

    @contextlib.contextmanager
    def scandir(path: Any) -> Iterator[Any]:
        with real(path) as entries:
            yield [Entry() if entry.name == "shadow" else entry for entry in entries]

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DumpFailed, match=r"'pf-d/shadow' of the pod's files cannot be read: bad block"):
        rounds.Rounds(str(upper)).look(frozen=frozen)


def deep(root: pathlib.Path, length: int) -> str:
    """Make a file whose path in the tree has that many bytes; returns the path."""
    names = []
    left = length
    above = os.open(root, os.O_RDONLY)
    while left > 201:
        names.append("d" * 100)
        os.mkdir(names[-1], dir_fd=above)
        inner = os.open(names[-1], os.O_RDONLY, dir_fd=above)
        os.close(above)
        above, left = inner, left - 101
    names.append("f" * left)
    descriptor = os.open(names[-1], os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=above)
    os.write(descriptor, b"payload")
    os.close(descriptor)
    os.close(above)
    return "/".join(names)


@pytest.mark.parametrize("length", [4045, 4094])
def test_a_path_that_is_too_long_together_with_the_tree_s_place_is_carried(
    tmp_path: pathlib.Path, upper: pathlib.Path, length: int
) -> None:
    """Up to what a program in the container can name. It is laid out with nothing before it."""
    name = deep(upper, length)
    (tmp_path / "target").mkdir()
    looked = rounds.Rounds(str(upper))
    looked.pack(looked.look(), str(tmp_path / "t"), lambda: None, frozen=False)
    assert packed(str(tmp_path / "t"))[name] == b"payload"
    tree.unpack(str(tmp_path / "t"), str(tmp_path / "target"))
    with inside.Folders(str(tmp_path / "target")) as folders:
        entry = folders.entry(name)
        with open(inside.opened(entry), "rb") as stream:
            assert stream.read() == b"payload"
        os.close(entry)


def test_a_longer_path_is_refused_while_the_pod_runs(files: staging.Staging, upper: pathlib.Path) -> None:
    deep(upper, 4095)
    with pytest.raises(InvalidInput, match="longer than 4095 bytes"):
        files.round(lambda: None)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=5).map("/".join), min_size=1, max_size=12), st.integers(1, 3))
def test_a_folder_by_descriptors_is_the_one_of_that_path(asked: list[str], most: int) -> None:
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        patch.setattr(inside, "_MOST_OPEN", most)
        for folder in asked[::2]:
            os.makedirs(os.path.join(root, folder), exist_ok=True)
        before = len(os.listdir("/proc/self/fd"))
        with inside.Folders(root) as folders:
            for folder in asked:
                path = os.path.join(root, folder)
                if os.path.isdir(path):
                    assert os.fstat(folders.at(folder)).st_ino == os.stat(path).st_ino
                else:
                    with pytest.raises(FileNotFoundError):
                        folders.at(folder)
                assert len(os.listdir("/proc/self/fd")) <= before + 1 + most
        assert len(os.listdir("/proc/self/fd")) == before
