# SPDX-License-Identifier: Apache-2.0
"""The parts of the lab's tool that need neither root nor a lab."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from podferry_lab import cgroups, oci, process, roots, spec

V1 = """\
30 24 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/freezer rw,nosuid - cgroup cgroup rw,freezer
33 30 0:29 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
35 24 0:28 / /var/lib/other/freezer rw,nosuid - cgroup cgroup rw,freezer
"""


@pytest.mark.parametrize("name", ["podferry", "a", "lab-2", "x" * 24])
def test_lab_names(name: str) -> None:
    assert spec.check_name(name) == name


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a.b", "-a", "a-", "x" * 25, "a\n"])
def test_lab_names_that_would_leave_their_place(name: str) -> None:
    with pytest.raises(ValueError, match="lab name"):
        spec.check_name(name)


def test_v1_hierarchies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each v1 controller once, where the host has it; the v2 mount beside them is none of ours."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(V1)
    monkeypatch.setattr(cgroups, "is_v2", lambda: False)
    monkeypatch.setattr(cgroups, "Path", lambda _path: mountinfo)
    found = {hierarchy.directory: hierarchy.options for hierarchy in cgroups.hierarchies()}
    assert found == {"cpu,cpuacct": "cpu,cpuacct", "freezer": "freezer", "systemd": "name=systemd"}


def _tree(path: Path, *files: str) -> Path:
    for file in files:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).touch()
    return path


def test_v2_uses_the_unit_that_systemd_delegated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor steps aside into a leaf, so that its unit may have controllers for children."""
    unit = "system.slice/podferry-lab-demo-node-a.service"
    _tree(tmp_path, f"{unit}/cgroup.procs", "cgroup.controllers")
    monkeypatch.setattr(cgroups, "ROOT", str(tmp_path))
    reads = {"/proc/self/cgroup": f"0::/{unit}", f"{tmp_path}/{unit}/cgroup.controllers": "cpu memory pids"}
    writes: list[tuple[str, str]] = []
    monkeypatch.setattr(cgroups, "_read", reads.__getitem__)
    monkeypatch.setattr(cgroups, "_write", lambda path, text: writes.append((path[len(str(tmp_path)) + 1 :], text)))
    assert cgroups.create("demo", "node-a") == [f"{tmp_path}/{unit}/podferry-lab.demo.node-a"]
    assert writes[0] == (f"{unit}/supervisor/cgroup.procs", str(os.getpid()))
    assert writes[1:] == [(f"{unit}/cgroup.subtree_control", f"+{name}") for name in ("cpu", "memory", "pids")]
    assert cgroups.existing("demo") == [f"{tmp_path}/{unit}/podferry-lab.demo.node-a"]
    assert cgroups.existing("demo", "node-b") == []
    assert cgroups.existing("dem") == []


def test_v2_without_systemd_is_at_the_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _tree(tmp_path, "cgroup.controllers")
    monkeypatch.setattr(cgroups, "ROOT", str(tmp_path))
    reads = {"/proc/self/cgroup": "0::/user.slice/session-1.scope", f"{tmp_path}/cgroup.controllers": "pids"}
    monkeypatch.setattr(cgroups, "_read", reads.__getitem__)
    monkeypatch.setattr(cgroups, "_write", lambda _path, _text: None)
    assert cgroups.create("demo", "node-a") == [f"{tmp_path}/podferry-lab.demo.node-a"]


def test_a_reused_pid_is_a_stranger() -> None:
    """Killing by a stored pid must not hit whoever has it now."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        identity = process.identify(child.pid)
        assert identity.alive()
        stranger = process.Identity(child.pid, identity.start - 1)
        assert not stranger.alive()
        stranger.kill()
        assert child.poll() is None
        identity.kill()
        assert identity.wait_gone(5)
    finally:
        child.kill()
        child.wait()
    assert not identity.alive()


def test_identities_survive_a_broken_file(tmp_path: Path) -> None:
    path = str(tmp_path / "pids.json")
    assert process.read_identities(path) == {}
    process.write_identities(path, {"init": process.Identity(7, 11)})
    assert process.read_identities(path) == {"init": process.Identity(7, 11)}
    Path(path).write_text('{"init": [7')
    assert process.read_identities(path) == {}


def test_roots_are_keyed_by_what_is_in_them() -> None:
    assert roots.key("node", "trixie", ["b", "a", "a"]) == roots.key("node", "trixie", ["a", "b"])
    others = [
        ("image", "trixie", ["a"]),
        ("node", "sid", ["a"]),
        ("node", "trixie", ["a", "b"]),
        ("node", "trixie", ["a/testing"]),
    ]
    assert roots.key("node", "trixie", ["a"]) not in {roots.key(*other) for other in others}


def test_digest_sees_every_change(tmp_path: Path) -> None:
    """A root that somebody wrote to, tidied up or chmodded is not the one that was built."""
    tree = _tree(tmp_path, "etc/hosts", "usr/bin/x")
    seen = [roots.digest(str(tree))]
    assert roots.digest(str(tree)) == seen[0]
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n")
    seen.append(roots.digest(str(tree)))
    (tree / "usr/bin/x").chmod(0o755)
    seen.append(roots.digest(str(tree)))
    os.utime(tree / "etc/hosts", (0, 0))
    seen.append(roots.digest(str(tree)))
    (tree / "usr/bin/x").unlink()
    seen.append(roots.digest(str(tree)))
    assert len(set(seen)) == len(seen)


def test_images_are_an_oci_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every blob is what its name says, every reference resolves, and the base layer is there once."""
    root = _tree(tmp_path / "root", "usr/bin/busybox", "etc/hosts")
    monkeypatch.setattr(roots, "ensure", lambda *_arguments, **_options: (str(root), False))
    first = oci.ensure(str(tmp_path / "cache"), "trixie", "http://mirror", ["python3"])
    assert first["changed"]
    again = oci.ensure(str(tmp_path / "cache"), "trixie", "http://mirror", ["python3"])
    assert again == {**first, "changed": False}

    with tarfile.open(first["path"]) as archive:
        content = {entry.name: archive.extractfile(entry) for entry in archive.getmembers() if entry.isfile()}
        blobs = {name: handle.read() for name, handle in content.items() if handle}
    for name, blob in blobs.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(blob).hexdigest() == name.rpartition("/")[2]

    def load(descriptor: dict[str, str]) -> bytes:
        return blobs["blobs/" + descriptor["digest"].replace(":", "/")]

    index = json.loads(blobs["index.json"])
    names = {item["annotations"]["io.containerd.image.name"]: item for item in index["manifests"]}
    assert {name: item["digest"] for name, item in names.items()} == first["digests"]
    assert sorted(names) == [f"localhost/podferry-{app}:lab" for app in ("counter", "http", "json", "pause", "redis")]
    bases = set()
    for name, item in names.items():
        manifest = json.loads(load(item))
        config = json.loads(load(manifest["config"]))
        assert [layer["digest"] for layer in manifest["layers"]] == config["rootfs"]["diff_ids"]
        assert all(len(load(layer)) == int(layer["size"]) for layer in manifest["layers"])
        if "pause" not in name:
            bases.add(manifest["layers"][0]["digest"])
    assert len(bases) == 1


def test_a_changed_application_is_another_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = _tree(tmp_path / "root", "usr/bin/busybox")
    monkeypatch.setattr(roots, "ensure", lambda *_arguments, **_options: (str(root), False))
    before = oci.ensure(str(tmp_path / "cache"), "trixie", "http://mirror", [])
    monkeypatch.setattr(oci, "_source", lambda name: f"# {name} {time.time()}".encode())
    after = oci.ensure(str(tmp_path / "cache"), "trixie", "http://mirror", [])
    assert after["digests"]["localhost/podferry-counter:lab"] != before["digests"]["localhost/podferry-counter:lab"]
    assert after["digests"]["localhost/podferry-redis:lab"] == before["digests"]["localhost/podferry-redis:lab"]
