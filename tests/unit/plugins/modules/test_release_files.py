# SPDX-License-Identifier: Apache-2.0
"""Files out of a release, from a server on loopback."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]


class Mirror:
    """A folder, served."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def archive(self, name: str, members: dict[str, bytes | None]) -> str:
        """Make a tar archive (None is a symbolic link); return its SHA-256."""
        with tarfile.open(self.folder / name, "w:gz") as archive:
            for member, content in members.items():
                entry = tarfile.TarInfo(member)
                if content is None:
                    entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/shadow"
                    archive.addfile(entry)
                else:
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
        return hashlib.sha256((self.folder / name).read_bytes()).hexdigest()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    folder = tmp_path / "mirror"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Mirror(folder, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


def run(check: bool = False, **arguments: Any) -> dict[str, Any]:
    """The module as Ansible runs it: a process of its own."""
    code = "from ansible_collections.podferry.live.plugins.modules import release_files; release_files.main()"
    text = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check}})
    prepared = (
        "import sys; from ansible.module_utils import basic; "
        "basic._ANSIBLE_ARGS = sys.stdin.buffer.read(); basic._ANSIBLE_PROFILE = 'legacy'; "
    )
    done = subprocess.run(
        [sys.executable, "-c", prepared + code],
        input=text,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={
            "PYTHONPATH": str(ROOT / ".collections"),
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "TMPDIR": "/tmp",
        },
        check=False,
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def wanted(mirror: Mirror, tmp_path: Path) -> dict[str, Any]:
    digest = mirror.archive("tool.tar.gz", {"bin/tool": b"#!/bin/sh\n", "etc/tool.service": b"[Unit]\n", "x": b"y"})
    return {
        "name": "tool",
        "url": f"{mirror.url}/tool.tar.gz",
        "checksum": f"sha256:{digest}",
        "files": {"bin/tool": str(tmp_path / "out/bin/tool"), "etc/tool.service": str(tmp_path / "out/tool.service")},
        "record_path": str(tmp_path / "records"),
    }


def test_installed_once_and_taken_away(wanted: dict[str, Any], tmp_path: Path) -> None:
    assert run(check=True, **wanted)["changed"] is True
    assert not (tmp_path / "out").exists()
    assert run(**wanted)["changed"] is True
    tool, unit = tmp_path / "out/bin/tool", tmp_path / "out/tool.service"
    assert (tool.read_bytes(), tool.stat().st_mode & 0o777) == (b"#!/bin/sh\n", 0o755)
    assert (unit.read_bytes(), unit.stat().st_mode & 0o777) == (b"[Unit]\n", 0o644)
    assert run(**wanted)["changed"] is False

    tool.write_bytes(b"another version, by hand")
    gone = run(name="tool", state="absent", record_path=wanted["record_path"])
    assert (gone["changed"], gone["kept"]) == (True, [str(tool)])
    assert tool.exists() and not unit.exists() and not (tmp_path / "records").exists()
    assert run(name="tool", state="absent", record_path=wanted["record_path"])["changed"] is False


def test_folders_that_came_with_it_go_with_it(wanted: dict[str, Any], tmp_path: Path) -> None:
    run(**wanted)
    run(name="tool", state="absent", record_path=wanted["record_path"])
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    run(**wanted)
    run(name="tool", state="absent", record_path=wanted["record_path"])
    assert list((tmp_path / "out").iterdir()) == [], "this one was there before"


def test_a_damaged_file_is_put_back(wanted: dict[str, Any], tmp_path: Path) -> None:
    run(**wanted)
    (tmp_path / "out/bin/tool").unlink()
    assert run(**wanted)["changed"] is True
    assert (tmp_path / "out/bin/tool").exists()


def test_one_that_broke_off_is_finished_or_taken_away(wanted: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("no folder")  # so nothing can be put there
    assert run(**wanted)["failed"]
    (tmp_path / "out").unlink()
    assert run(**wanted)["changed"] is True
    assert run(**wanted)["changed"] is False
    (tmp_path / "out/tool.service").unlink()
    gone = run(name="tool", state="absent", record_path=wanted["record_path"])
    assert gone["files"] == [wanted["files"]["bin/tool"]]
    assert not (tmp_path / "out").exists() and not (tmp_path / "records").exists()


def test_permissions_are_put_right_without_another_download(wanted: dict[str, Any], tmp_path: Path) -> None:
    run(**{**wanted, "mode": "700"})
    tool, unit = tmp_path / "out/bin/tool", tmp_path / "out/tool.service"
    assert tool.stat().st_mode & 0o777 == 0o700
    without_server = {**wanted, "url": "http://127.0.0.1:1/x"}
    for check in (True, False):
        made = run(check=check, **without_server)
        assert (made["changed"], made["files"]) == (True, [str(tool)])
    assert tool.stat().st_mode & 0o777 == 0o755
    unit.chmod(0o755)
    assert run(**without_server)["files"] == [str(unit)]
    assert unit.stat().st_mode & 0o777 == 0o644
    assert run(**without_server)["changed"] is False


def test_a_program_of_another_mode_is_replaced_by_one_that_runs(wanted: dict[str, Any], tmp_path: Path) -> None:
    """A move takes over the permissions of the file that was there."""
    run(**wanted)
    tool = tmp_path / "out/bin/tool"
    tool.write_bytes(b"damaged")
    tool.chmod(0o644)
    assert run(**wanted)["changed"] is True
    assert tool.stat().st_mode & 0o777 == 0o755


def test_what_a_newer_release_has_no_more_goes(mirror: Mirror, wanted: dict[str, Any], tmp_path: Path) -> None:
    run(**wanted)
    tool, unit, other = tmp_path / "out/bin/tool", tmp_path / "out/tool.service", tmp_path / "out/other"
    digest = mirror.archive("new.tar.gz", {"bin/other": b"new"})
    newer: dict[str, Any] = {
        **wanted,
        "url": f"{mirror.url}/new.tar.gz",
        "checksum": digest,
        "files": {"bin/other": str(other)},
    }
    tool.write_bytes(b"by hand")
    for check in (True, False):
        made = run(check=check, **newer)
        assert (made["changed"], made["files"]) == (True, sorted([str(other), str(unit)]))
    assert other.exists() and not unit.exists()
    assert tool.read_bytes() == b"by hand", "nobody's to remove"
    assert run(**newer)["changed"] is False

    unit.write_bytes(b"[Unit]\n")  # somebody's own, now
    gone = run(name="tool", state="absent", record_path=wanted["record_path"])
    assert (gone["files"], gone["kept"]) == ([str(other)], [str(tool)])
    assert unit.exists()


def test_an_exchange_that_broke_off_is_finished(mirror: Mirror, wanted: dict[str, Any], tmp_path: Path) -> None:
    run(**wanted)
    digest = mirror.archive("new.tar.gz", {"bin/other": b"new"})
    (tmp_path / "blocked").write_text("no folder")
    files = {"bin/other": str(tmp_path / "blocked/other")}
    newer: dict[str, Any] = {**wanted, "url": f"{mirror.url}/new.tar.gz", "checksum": digest, "files": files}
    assert run(**newer)["failed"]
    (tmp_path / "blocked").unlink()
    assert run(**newer)["changed"] is True
    assert not (tmp_path / "out/bin/tool").exists() and not (tmp_path / "out/tool.service").exists()
    run(name="tool", state="absent", record_path=wanted["record_path"])
    assert not (tmp_path / "out").exists() and not (tmp_path / "blocked").exists()


def test_a_wrong_checksum_installs_nothing(wanted: dict[str, Any], tmp_path: Path) -> None:
    failed = run(**{**wanted, "checksum": "0" * 64})
    assert failed["failed"] and "has the SHA-256" in failed["msg"]
    assert not (tmp_path / "out").exists() and not (tmp_path / "records").exists()


def test_files_of_others_are_never_overwritten(wanted: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "out/bin").mkdir(parents=True)
    (tmp_path / "out/bin/tool").write_text("theirs")
    failed = run(**wanted)
    assert failed["failed"] and "is there already" in failed["msg"]
    assert (tmp_path / "out/bin/tool").read_text() == "theirs" and not (tmp_path / "out/tool.service").exists()


def test_a_single_file(mirror: Mirror, tmp_path: Path) -> None:
    (mirror.folder / "runc.amd64").write_bytes(b"\x7fELF")
    digest = hashlib.sha256(b"\x7fELF").hexdigest()
    where = str(tmp_path / "runc")
    arguments = {"name": "runc", "url": f"{mirror.url}/runc.amd64", "checksum": digest, "files": {"": where}}
    assert run(**arguments, record_path=str(tmp_path / "records"))["files"] == [where]
    assert Path(where).read_bytes() == b"\x7fELF"


@pytest.mark.parametrize(
    ("members", "member", "message"),
    [
        ({"bin/other": b""}, "bin/tool", "holds no bin/tool"),
        ({"bin/tool": None}, "bin/tool", "is no regular file"),
    ],
)
def test_archives_that_are_not_what_was_meant(
    mirror: Mirror, wanted: dict[str, Any], tmp_path: Path, members: dict[str, bytes | None], member: str, message: str
) -> None:
    digest = mirror.archive("bad.tar.gz", members)
    files = {member: str(tmp_path / "out/tool")}
    failed = run(**{**wanted, "url": f"{mirror.url}/bad.tar.gz", "checksum": digest, "files": files})
    assert failed["failed"] and message in failed["msg"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checksum": "sha256:abc"}, "is no SHA-256"),
        ({"files": {"a": "relative"}}, "no absolute path"),
        ({"files": {"": "/a", "b": "/b"}}, "either an archive"),
        ({"name": "../x"}, "is no name"),
        ({"url": "http://127.0.0.1:1/x"}, "cannot be fetched"),
        ({"mode": 0o755}, "Quote it"),
        ({"mode": 755}, "Quote it"),
        ({"mode": "0o755"}, "octal digits"),
        ({"mode": "u=rwx"}, "octal digits"),
    ],
)
def test_what_cannot_be_meant_is_refused(wanted: dict[str, Any], change: dict[str, Any], message: str) -> None:
    failed = run(**{**wanted, **change})
    assert failed["failed"] and message in failed["msg"]
    assert not Path(wanted["record_path"]).exists()
