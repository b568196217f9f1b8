# SPDX-License-Identifier: Apache-2.0
"""A store in a folder: nobody sees half a checkpoint, whatever kills the writer; links and loose permissions are refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common import faults
from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    InvalidInput,
    NotFound,
    PodferryError,
    StateConflict,
)
from ansible_collections.podferry.live.plugins.module_utils._store import node
from ansible_collections.podferry.live.plugins.module_utils._store.contract import Denied, Full, open_store
from ansible_collections.podferry.live.plugins.module_utils._store.manifest import Blob, canonical
from ansible_collections.podferry.live.plugins.module_utils._store.names import Place
from ansible_collections.podferry.live.plugins.module_utils._store.path import PathStore
from ansible_collections.podferry.live.plugins.module_utils._store.spool import Spool

from .conftest import RUN, FolderShop, Pod, files, flip, load, save


@pytest.fixture
def shop(tmp_path: Path) -> FolderShop:
    return FolderShop({"kind": "path", "path": str(tmp_path / "store")})


def child(work: Callable[[], object], active: dict[str, str]) -> int:
    """Do the work in another process with these faults; its wait status."""
    pid = os.fork()
    if pid == 0:
        faults._active.update(active)
        faults._trace = "trace" in active
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent asks for the exit code
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def points(tmp_path: Path, work: Callable[[], object]) -> list[str]:
    """All points that the work passes."""
    trace = tmp_path / "trace"
    trace.write_text("")
    assert child(work, {"trace": str(trace)}) == 0
    return list(dict.fromkeys(trace.read_text().split()))


@pytest.mark.parametrize("how", ["kill", "error"])
def test_a_writer_that_ends_at_any_point(tmp_path: Path, pod: Pod, how: str) -> None:
    state = pod.dump()
    passed = points(
        tmp_path,
        lambda: save(
            FolderShop({"kind": "path", "path": str(tmp_path / "trial")}), pod, state, signature="s", compression="none"
        ),
    )
    assert {
        "store:pages.0:written",
        "store:manifest.sig:renamed",
        "store:manifest.json:synced",
        "store:manifest.json:renamed",
    } <= set(passed)
    seen = []
    for number, point in enumerate(passed):
        shop = FolderShop({"kind": "path", "path": str(tmp_path / f"store-{number}")})
        assert child(lambda shop=shop: save(shop, pod, state, signature="s", compression="none"), {point: how}) != 0, (
            point
        )  # type: ignore[misc]
        found = shop.shelf.entries()
        seen.append(len(found))
        for entry in found:
            assert entry.signature == "s"
            assert load(shop, entry.manifest, tmp_path / f"back-{number}") == files(state)
        # and it is no obstacle: the same checkpoint can be stored, and what was left goes with it
        made = save(shop, pod, state, signature="s", compression="none")
        assert load(shop, made, tmp_path / f"again-{number}") == files(state)
        shop.age(pytest.MonkeyPatch())
        shop.shelf.remove(pod.place, [made.id])
        assert shop.contents() == {}, point
    assert seen == sorted(seen) and 0 in seen and 1 in seen


def test_a_remover_that_is_killed_at_any_point(tmp_path: Path, pod: Pod) -> None:
    pod._count = 1
    last = pod.dump()

    def fresh(name: str) -> tuple[FolderShop, str, str]:
        for old in pod.folder.iterdir():
            if old != last and old.is_dir():
                shutil.rmtree(old)
        pod._count = 0
        shop = FolderShop({"kind": "path", "path": str(tmp_path / name)})
        state = pod.dump()
        first = save(shop, pod, state, compression="none")
        pod._count = 2
        return shop, first.id, save(shop, pod, last, first, compression="none").id

    shop, first, second = fresh("trial")
    passed = points(tmp_path, lambda: shop.shelf.remove(pod.place, [first]))
    assert "store:remove:hidden" in passed
    for number, point in enumerate(passed):
        shop, first, second = fresh(f"store-{number}")
        assert child(lambda shop=shop, first=first: shop.shelf.remove(pod.place, [first]), {point: "kill"}) != 0  # type: ignore[misc]
        there = {entry.manifest.id: entry.manifest for entry in shop.shelf.entries()}
        assert second in there
        assert load(shop, there[second], tmp_path / f"back-{number}") == files(last)
        shop.shelf.remove(pod.place, list(there))
        assert shop.contents() == {}, point


def test_only_root_reads_it(shop: FolderShop, pod: Pod) -> None:
    old = os.umask(0)
    try:
        save(shop, pod, pod.dump(), signature="s")
    finally:
        os.umask(old)
    for path in [Path(shop.options["path"]), *Path(shop.options["path"]).rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    os.chmod(shop.options["path"], 0o750)
    with pytest.raises(InvalidInput, match="others than the owner") as caught:
        shop.shelf.entries()
    assert "chmod" in caught.value.remedy


@pytest.mark.parametrize("path", ["", "relative", "/", "//", "/.."])
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(InvalidInput):
        open_store({"kind": "path", "path": path})


def test_there_may_be_no_store_yet(shop: FolderShop) -> None:
    assert shop.shelf.entries() == [] and shop.shelf.leases() == [] and shop.shelf.sweep() == 0
    assert not Path(shop.options["path"]).exists()


@pytest.mark.parametrize("step", ["default", "default/counter", "ID"])
def test_links_are_not_followed(shop: FolderShop, pod: Pod, tmp_path: Path, step: str) -> None:
    """Who may write somewhere in a shared store cannot make us write or read elsewhere."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    state = pod.dump()
    path = Path(shop.options["path"], step if step != "ID" else f"default/counter/{pod.fields()['id']}")
    path.parent.mkdir(parents=True)
    os.chmod(shop.options["path"], 0o700)
    path.symlink_to(elsewhere)
    with pytest.raises(PodferryError):
        save(shop, pod, state)
    assert list(elsewhere.iterdir()) == []
    assert shop.shelf.entries() == []


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "pages.0"])
def test_files_are_files(shop: FolderShop, pod: Pod, tmp_path: Path, name: str) -> None:
    made = save(shop, pod, pod.dump(), signature="s")
    path = Path(shop.options["path"], *pod.place, made.id, name)
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    found = shop.shelf.entries()
    if found:  # its size is that of the link's target only by chance
        with pytest.raises(InvalidInput):
            load(shop, made, tmp_path / "back")
    path.unlink()
    os.mkfifo(path)
    assert shop.shelf.entries() == []


def test_a_manifest_in_the_wrong_place_is_none(shop: FolderShop, pod: Pod) -> None:
    made = save(shop, pod, pod.dump())
    root = Path(shop.options["path"])
    (root / "team").mkdir()
    (root / "default/counter").rename(root / "team/counter")
    assert shop.shelf.entries() == []
    with pytest.raises(PodferryError):
        node.load(shop.options, made, str(root.parent / "back"), limit=1 << 30)


def test_what_cannot_be_read_stops_a_removal(shop: FolderShop, pod: Pod) -> None:
    """A manifest that is damaged may need any page: nothing is removed beside it."""
    first = save(shop, pod, pod.dump())
    second = save(shop, pod, pod.dump(), first)
    (Path(shop.options["path"]) / "default/counter" / second.id / "manifest.json").write_text("{}")
    before = set(shop.contents())
    with pytest.raises(StateConflict, match="nobody knows what it needs"):
        shop.shelf.remove(pod.place, [first.id])
    assert {name for name in before if re.search(r"pages|index|state", name)} <= set(shop.contents())


def test_leftovers_are_swept_and_what_is_being_written_is_not(
    shop: FolderShop, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = save(shop, pod, pod.dump())
    save(shop, pod, pod.dump(), publish=False)
    assert shop.shelf.sweep() == 0, "its writer may be about to publish it"
    shop.age(monkeypatch)
    would = shop.shelf.sweep(dry=True)
    assert would > 1 << 20 and len(shop.contents()) > 4
    assert shop.shelf.sweep() == would
    assert {entry.manifest.id for entry in shop.shelf.entries()} == {keep.id}
    assert {name.split("/")[2] for name in shop.contents()} == {keep.id}


def test_a_remover_gives_back_what_somebody_took_meanwhile(
    shop: FolderShop, pod: Pod, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The lease comes between the first look and the withdrawal of the manifest."""
    state = pod.dump()
    made = save(shop, pod, state)

    def point(name: str) -> None:
        if name == "store:remove:hidden":
            open_store(shop.options).lease(pod.place, made.id, "late")

    monkeypatch.setattr(faults, "point", point)
    with pytest.raises(StateConflict, match="late"):
        shop.shelf.remove(pod.place, [made.id])
    assert [entry.manifest for entry in shop.shelf.entries()] == [made]
    assert load(shop, made, tmp_path / "back") == files(state)


def test_who_restores_looks_for_the_manifest_after_the_lease(shop: FolderShop, pod: Pod, tmp_path: Path) -> None:
    made = save(shop, pod, pod.dump())
    (Path(shop.options["path"]) / "default/counter" / made.id / "manifest.json").unlink()
    with pytest.raises(NotFound):
        load(shop, made, tmp_path / "back")
    assert shop.shelf.leases() == []


def test_a_store_that_can_only_be_read(
    shop: FolderShop, pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = pod.dump()
    made = save(shop, pod, state)
    from ansible_collections.podferry.live.plugins.module_utils._store import path

    def refuse(*_arguments: object, **_options: object) -> None:
        raise Denied("read only")

    monkeypatch.setattr(path.PathStore, "lease", refuse)
    assert load(shop, made, tmp_path / "back") == files(state)
    with pytest.raises(Denied):
        save(shop, pod, pod.dump())


def test_a_pod_that_is_gone_leaves_no_folder(shop: FolderShop, pod: Pod) -> None:
    made = save(shop, pod, pod.dump())
    open_store(shop.options).lease(pod.place, "20200101T000000Z-0123456789ab", RUN)
    open_store(shop.options).release(pod.place, "20200101T000000Z-0123456789ab", RUN)
    assert os.listdir(Path(shop.options["path"], *pod.place)) == [made.id]
    shop.shelf.remove(pod.place, [made.id])
    assert os.listdir(shop.options["path"]) == []


def test_damage_is_found_before_any_tool_sees_it(
    shop: FolderShop, pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """zstd and age are started as root: they get only what the manifest vouches for."""
    made = save(shop, pod, pod.dump())
    for blob in made.blobs:
        flip(Path(shop.options["path"], *pod.place, blob.key))
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **_options: started.append(arguments))
    with pytest.raises(InvalidInput):
        load(shop, made, tmp_path / "back")
    assert started == []


def test_a_bomb(shop: FolderShop, pod: Pod, tmp_path: Path) -> None:
    """A manifest that vouches for a state of a few bytes that unpacks to very many."""
    import hashlib
    import subprocess

    made = save(shop, pod, pod.dump())
    bomb = subprocess.run(["zstd", "-q", "-c", "-1"], input=bytes(100 << 20), capture_output=True, check=True).stdout
    blob = made.blob("state")
    Path(shop.options["path"], *pod.place, blob.key).write_bytes(bomb)
    document = json.loads(json.dumps(vars(made), default=vars))
    for entry in document["blobs"]:
        if entry["kind"] == "state":
            entry |= {"size": len(bomb), "sha256": hashlib.sha256(bomb).hexdigest()}
    from ansible_collections.podferry.live.plugins.module_utils._store import manifest

    forged = manifest.make(document)
    Path(shop.options["path"], *pod.place, made.id, "manifest.json").write_bytes(manifest.canonical(forged))
    with pytest.raises(InvalidInput, match="unpacks to more"):
        load(shop, forged, tmp_path / "back", limit=10 << 20)


def test_places() -> None:
    with pytest.raises(InvalidInput):
        open_store({"kind": "path", "path": "/tmp/x"}).lease(Place("..", "x"), "20200101T000000Z-0123456789ab", RUN)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_what_is_in_a_full_store_can_be_restored(
    shop: FolderShop, pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    state = pod.dump()
    made = save(shop, pod, state)
    real = os.open

    def full(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_CREAT and "dir_fd" in options:
            raise OSError(error, os.strerror(error))
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(Full, match="the store is full"):
        open_store(shop.options).lease(pod.place, made.id, "restoring")
    with pytest.raises(Full):
        save(shop, pod, pod.dump())
    assert load(shop, made, tmp_path / "back", run="restoring") == files(state)


def test_why_a_save_failed_is_told_and_nothing_stays(
    shop: FolderShop, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where a manifest beside it cannot be read: it does not name what was begun just now."""
    root = Path(shop.options["path"])
    beside = root.joinpath(*pod.place, f"20200101T000000Z-{RUN}", "manifest.json")
    beside.parent.mkdir(parents=True, mode=0o700)
    root.chmod(0o700)
    beside.write_text('{"format":2}')
    before = files(root)
    put = PathStore.put

    def full(store: PathStore, place: Place, blob: Blob, spool: Spool) -> bool:
        if blob.kind == "state":
            raise Full
        return put(store, place, blob, spool)

    monkeypatch.setattr(PathStore, "put", full)
    with pytest.raises(Full):
        save(shop, pod, pod.dump())
    assert files(root) == before


def test_a_discard_that_fails_does_not_hide_why_a_save_did(
    shop: FolderShop, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object) -> None:
        raise StateConflict("nobody knows what it needs")

    monkeypatch.setattr(PathStore, "discard", fails)
    (pod.dump() / "web/stranger").write_text("x")
    with pytest.raises(InvalidInput, match="stranger"):
        save(shop, pod, pod.folder / "state-1")


def test_a_parent_that_says_it_was_huge_is_not_read(
    shop: FolderShop, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its manifest says must not be how much memory its index may take."""
    first = save(shop, pod, pod.dump())
    forged = dataclasses.replace(first, bytes={**first.bytes, "memory": 1 << 49})
    open_store(shop.options).publish(forged, canonical(forged), "")

    def read(*_arguments: object, limit: int, **_options: object) -> None:
        raise AssertionError(f"it was read, with a limit of {limit}")

    with monkeypatch.context() as patched:
        patched.setattr(node.packing, "read_index", read)
        second = save(shop, pod, pod.dump(), forged)
    assert second.parent == "" and not second.origins
    assert shop.shelf.leases() == [], "the parent's is given back, too"
