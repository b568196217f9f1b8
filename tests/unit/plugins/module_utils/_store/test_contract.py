# SPDX-License-Identifier: Apache-2.0
"""What every kind of store promises, against real processes: the same tests for all."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._checkpoint import signing
from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    CommandFailed,
    InvalidInput,
    NotFound,
    PodferryError,
    StateConflict,
)
from ansible_collections.podferry.live.plugins.module_utils._store import node, pack
from ansible_collections.podferry.live.plugins.module_utils._store.contract import open_store
from ansible_collections.podferry.live.plugins.module_utils._store.manifest import Blob, Manifest, canonical
from ansible_collections.podferry.live.plugins.module_utils._store.spool import Spool
from services import s3 as s3_service

from .conftest import KINDS, LIMIT, RUN, Pod, Shop, emptied, files, load, save

KEY = subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, text=True, check=True).stdout


def age_keys(folder: Path) -> tuple[str, str]:
    """A recipient and its identity."""
    folder.mkdir(exist_ok=True)
    path = folder / f"age-{len(list(folder.iterdir()))}"
    subprocess.run(["age-keygen", "-o", str(path)], check=True, capture_output=True)
    shown = subprocess.run(["age-keygen", "-y", str(path)], check=True, capture_output=True, text=True)
    return shown.stdout.strip(), path.read_text()


def test_what_is_stored_comes_back(shop: Shop, pod: Pod, tmp_path: Path) -> None:
    state = pod.dump()
    made = save(shop, pod, state, publish=False)
    assert shop.shelf.entries() == [], "nobody sees what is not published"
    shop.shelf.publish(made, signing.sign(canonical(made), KEY))
    (entry,) = shop.shelf.entries(*pod.place)
    assert entry.manifest == made
    signing.verify(entry.data, entry.signature, signing.public_key(KEY))
    assert load(shop, made, tmp_path / "back") == files(state)
    assert made.bytes["memory"] == 2 << 20
    assert made.bytes["stored"] < 1.6 * (1 << 20), "pages of zeros are not stored"
    assert shop.shelf.leases() == []


def test_only_what_changed_is_stored_again(shop: Shop, pod: Pod, tmp_path: Path) -> None:
    chain: list[tuple[Manifest, Path]] = []
    for _step in range(3):
        state = pod.dump()
        chain.append((save(shop, pod, state, chain[-1][0] if chain else None), state))
    assert [made.bytes["stored"] > 1 << 20 for made, _state in chain] == [True, False, False]
    assert [entry.manifest for entry in shop.shelf.entries()] == [made for made, _state in chain]
    for made, state in chain:
        assert load(shop, made, tmp_path / made.id) == files(state)


def test_what_is_there_does_not_travel(shop: Shop, pod: Pod) -> None:
    made = save(shop, pod, pod.dump())
    store = open_store(json.loads(json.dumps(shop.shelf.for_copying(made))))
    blob = made.blob("state")
    with Spool() as spool:
        store.get(pod.place, blob, spool)
        assert store.put(pod.place, blob, spool) is False
        shop.lose(pod.place, blob)
        if shop.kind != "registry":  # which remembers for a while what was there
            assert store.put(pod.place, blob, spool) is True


def test_what_others_refer_to_stays(shop: Shop, pod: Pod, tmp_path: Path) -> None:
    first = save(shop, pod, pod.dump())
    second = save(shop, pod, pod.dump(), first)
    state = pod.dump()
    third = save(shop, pod, state, second)
    assert third.origins >= {first.id}
    freed = shop.shelf.remove(pod.place, [first.id, second.id])
    assert [entry.manifest for entry in shop.shelf.entries()] == [third]
    assert load(shop, third, tmp_path / "back") == files(state)
    assert freed < first.bytes["stored"]
    assert freed + shop.shelf.remove(pod.place, [third.id]) >= first.bytes["stored"]
    assert shop.shelf.entries() == []
    if shop.kind != "registry":  # which collects its garbage by itself
        assert shop.contents() == {}


@pytest.mark.parametrize("kind", ["state", "index", "pages"])
def test_a_damaged_blob_is_refused(shop: Shop, pod: Pod, tmp_path: Path, kind: str) -> None:
    made = save(shop, pod, pod.dump())
    shop.damage(pod.place, next(blob for blob in made.blobs if blob.kind == kind))
    with emptied(tmp_path / "back"), pytest.raises(PodferryError) as caught:
        load(shop, made, tmp_path / "back")
    assert "not what was stored" in caught.value.message or "cannot be reached" in caught.value.message


@pytest.mark.parametrize("kind", ["state", "pages"])
def test_a_lost_blob_is_noticed(shop: Shop, pod: Pod, tmp_path: Path, kind: str) -> None:
    made = save(shop, pod, pod.dump(), publish=False)
    blob = next(blob for blob in made.blobs if blob.kind == kind)
    shop.lose(pod.place, blob)
    if shop.kind != "registry":  # which trusts its own disk, and remembers for a while what was there
        with pytest.raises(NotFound):
            shop.shelf.publish(made)
        assert shop.shelf.entries() == []


def test_what_is_in_use_is_not_removed(shop: Shop, pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = pod.dump()
    made = save(shop, pod, state)
    if shop.kind == "s3":
        shop.shelf.lease(pod.place, made.id, "restoring")  # the controller's job

    seen = []

    def look() -> None:
        if not seen and shop.shelf.leases(*pod.place):
            seen.append([lease.id for lease in shop.shelf.leases(*pod.place)])
            with pytest.raises(StateConflict, match="in use by restoring"):
                shop.shelf.remove(pod.place, [made.id])

    assert load(shop, made, tmp_path / "back", run="restoring", pulse=look) == files(state)
    assert seen == [[made.id]], "while the load was under way"
    shop.shelf.release(pod.place, made.id, "restoring")
    assert shop.shelf.leases() == []
    assert shop.shelf.remove(pod.place, [made.id]) > 0


def test_a_lease_of_somebody_who_is_gone_ends(shop: Shop, pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    made = save(shop, pod, pod.dump())
    if shop.kind == "s3":
        shop.shelf.lease(pod.place, made.id, "crashed")
    else:
        from ansible_collections.podferry.live.plugins.module_utils._store.contract import open_store

        open_store(shop.options).lease(pod.place, made.id, "crashed")
    with pytest.raises(StateConflict):
        shop.shelf.remove(pod.place, [made.id])
    shop.age(monkeypatch)
    assert shop.shelf.leases() == []
    shop.shelf.remove(pod.place, [made.id])
    assert shop.shelf.entries() == []


def test_a_parent_stays_while_its_child_is_being_stored(shop: Shop, pod: Pod) -> None:
    first = save(shop, pod, pod.dump())
    seen = []

    def look() -> None:
        if not seen and first.id in [lease.id for lease in shop.shelf.leases(*pod.place)]:
            seen.append(True)
            with pytest.raises(StateConflict):
                shop.shelf.remove(pod.place, [first.id])

    second = save(shop, pod, pod.dump(), first, pulse=look)
    assert seen and second.parent == first.id
    assert len(shop.shelf.entries()) == 2


def test_lists_are_of_one_pod(shop: Shop, pod: Pod, tmp_path: Path) -> None:
    others = [Pod(tmp_path / "b", "default", "other"), Pod(tmp_path / "c", "team", "counter")]
    made = [save(shop, one, one.dump()) for one in (pod, *others)]
    assert {entry.manifest.place for entry in shop.shelf.entries()} == {one.place for one in (pod, *others)}
    assert [entry.manifest for entry in shop.shelf.entries("team")] == [made[2]]
    assert [entry.manifest for entry in shop.shelf.entries("default", "other")] == [made[1]]
    assert shop.shelf.entries("team", "other") == []
    assert shop.shelf.remove(others[0].place, [made[0].id]) >= 0  # ids are those of a pod
    assert len(shop.shelf.entries("default", "counter")) == 1


def test_a_manifest_of_another_pod_is_none(shop: Shop, pod: Pod, tmp_path: Path) -> None:
    """Who may write to one pod's place cannot make a checkpoint of another pod appear there."""
    made = save(shop, pod, pod.dump())
    other = Pod(tmp_path / "other", "team", "victim")
    forged = Manifest(**{**vars(made), "namespace": "team", "pod": "victim"})
    with pytest.raises(PodferryError):
        load(shop, forged, tmp_path / "back")
    assert shop.shelf.entries(*other.place) == []


def test_encrypted_at_rest(shop: Shop, pod: Pod, tmp_path: Path) -> None:
    recipient, identity = age_keys(tmp_path / "keys")
    _other, wrong = age_keys(tmp_path / "keys")
    first_state = pod.dump()
    first = save(shop, pod, first_state, recipient=recipient)
    with pytest.raises(InvalidInput, match="encrypted"):
        save(shop, pod, pod.dump(), first, recipient=recipient)
    state = pod.dump()
    second = save(shop, pod, state, first, recipient=recipient, identity=identity, signature="x")
    assert second.bytes["stored"] < 1 << 19
    for name, content in shop.contents().items():
        assert b"swordfish" not in content and bytes(pod.memory[:64]) not in content, name
    for bad, said in (("", "encrypted"), (wrong, "does not fit"), ("AGE-SECRET-KEY-1NONE", "no secret key")):
        with emptied(tmp_path / "back"), pytest.raises(PodferryError, match=said) as caught:
            load(shop, second, tmp_path / "back", identity=bad)
        assert not any(line in str(caught.value.to_dict()) for line in bad.splitlines() if line.startswith("AGE"))
    assert load(shop, second, tmp_path / "back", identity=f"{wrong}\n{identity}") == files(state)
    assert load(shop, first, tmp_path / "back-1", identity=identity) == files(first_state)


def test_a_parent_of_another_form_is_refused(shop: Shop, pod: Pod) -> None:
    first = save(shop, pod, pod.dump(), compression="none")
    with pytest.raises(StateConflict, match="not with zstd"):
        save(shop, pod, pod.dump(), first, compression="zstd")
    with pytest.raises((NotFound, InvalidInput)):
        missing = Manifest(**{**vars(first), "id": f"20200101T000000Z-{RUN}"})
        save(shop, pod, pod.dump(), missing, compression="none")
    assert len(shop.shelf.entries()) == 1


def test_more_than_there_is_room_for(shop: Shop, pod: Pod, tmp_path: Path) -> None:
    made = save(shop, pod, pod.dump())
    with emptied(tmp_path / "back"), pytest.raises(InvalidInput, match="more than"):
        load(shop, made, tmp_path / "back", limit=2 << 20)


def test_a_store_that_stops_in_the_middle_leaves_nothing_visible(shop: Shop, pod: Pod) -> None:
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        save(shop, pod, pod.dump(), pulse=stop)
    assert shop.shelf.entries() == []
    if shop.kind == "path":
        assert shop.contents() == {}


def test_what_will_not_be_published_is_taken_away(shop: Shop, pod: Pod) -> None:
    first = save(shop, pod, pod.dump())
    before = set(shop.contents())
    made = save(shop, pod, pod.dump(), first, publish=False)
    if shop.kind == "s3":  # the controller's own lease, and a manifest beside it that cannot be read
        shop.shelf.lease(pod.place, made.id, RUN)
        beside = "/".join((shop.options["prefix"], *pod.place, f"20200101T000000Z-{RUN}", "manifest.json"))
        s3_service.client(shop.options).put_object(Bucket=s3_service.BUCKET, Key=beside, Body=b'{"format":2}')
        before.add(beside)
    shop.shelf.discard(pod.place, made.id, RUN, first.id)
    assert shop.shelf.leases() == []
    assert [entry.manifest for entry in shop.shelf.entries()] == [first]
    if shop.kind != "registry":  # which collects its garbage by itself
        assert set(shop.contents()) == before
    shop.shelf.discard(pod.place, first.id, RUN)
    assert [entry.manifest for entry in shop.shelf.entries()] == [first], "what is published stays"


def killed_at(pulse_number: int, work: Callable[[Callable[[], None]], None]) -> bool:
    """Do the work in another process that is killed at its n-th pulse; True when it came to its end before."""
    child = os.fork()
    if child == 0:
        left = pulse_number

        def pulse() -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            work(pulse)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the parent asks for the exit code
            os._exit(1)
    _pid, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return not os.WIFSIGNALED(status)


def test_a_writer_that_is_killed_at_any_step(shop: Shop, pod: Pod, tmp_path: Path) -> None:
    state = pod.dump()
    ended = False
    for number in itertools.count():

        def work(pulse: Callable[[], None]) -> None:
            made = save(shop, pod, state, pulse=pulse)
            pulse()
            assert made

        ended = killed_at(number if number < 8 else number * 3, work)
        for entry in shop.shelf.entries():
            assert load(shop, entry.manifest, tmp_path / f"back-{number}") == files(state)
        if ended:
            break
        assert number < 100
    assert len(shop.shelf.entries()) == 1


@pytest.mark.parametrize(("source", "target"), [*itertools.product(KINDS, KINDS)])
def test_copies_go_on_where_they_were_interrupted(
    make_shop: Callable[[str], Shop],
    pod: Pod,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    target: str,
) -> None:
    here, there = make_shop(source), make_shop(target)
    first = save(here, pod, pod.dump())
    state = pod.dump()
    made = save(here, pod, state, first, signature="signed")
    total = sum(blob.size for blob in made.blobs)
    assert len(made.blobs) == 4 and len(made.origins) == 1

    def copy() -> Any:
        return node.copy(here.shelf.for_loading(made), there.shelf.for_copying(made), made, "signed", run="copying")

    fetched: list[Blob] = []
    real = pack.fetch

    def fetch(get: Any, blob: Blob, *arguments: Any) -> None:
        if len(fetched) == 2:
            raise RuntimeError("interrupted")
        fetched.append(blob)
        real(get, blob, *arguments)

    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(node.packing, "fetch", fetch)
        copy()
    assert there.shelf.entries() == []
    assert copy() == {"bytes": total - sum(blob.size for blob in fetched), "blobs": 2, "present": 2}
    (entry,) = there.shelf.entries()
    assert (entry.manifest, entry.signature) == (made, "signed")
    assert load(there, made, tmp_path / "back") == files(state)
    assert copy()["bytes"] == 0
    assert there.shelf.leases() == [] and here.shelf.leases() == []
    there.shelf.remove(pod.place, [made.id])
    if target != "registry":
        assert there.contents() == {}, "the pages of another checkpoint that came along are gone as well"


def test_a_damaged_blob_is_not_copied(make_shop: Callable[[str], Shop], pod: Pod) -> None:
    here, there = make_shop("path"), make_shop("path")
    made = save(here, pod, pod.dump())
    here.damage(pod.place, made.blobs[0])
    with pytest.raises(InvalidInput, match="not what was stored"):
        node.copy(here.shelf.for_loading(made), there.shelf.for_copying(made), made, "")
    assert there.shelf.entries() == []


def test_a_tool_that_fails_is_told(shop: Shop, pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(CommandFailed, match="cannot start zstd"):
        save(shop, pod, pod.dump())
    broken = tmp_path / "bin/zstd"
    broken.write_text("#!/bin/sh\necho no room >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(CommandFailed, match="zstd failed"):
        save(shop, pod, pod.dump())
    assert shop.shelf.entries() == []


def test_a_state_holds_no_strangers(shop: Shop, pod: Pod) -> None:
    state = pod.dump()
    (state / "web/criu/parent").symlink_to("/etc")  # CRIU's, and no state
    os.mkfifo(state / "web/gate")
    save(shop, pod, state)
    (state / "web/stranger").write_text("x")
    with pytest.raises(InvalidInput, match="stranger"):
        save(shop, pod, state)


def test_the_limit_of_urls_is_told(make_shop: Callable[[str], Shop], pod: Pod) -> None:
    shop = make_shop("s3")
    fields = {**pod.fields(), "id": f"20261125T170001Z-{RUN}"}
    spec = shop.shelf.for_saving(pod.place, fields["id"], LIMIT)
    spec["urls"] = {key: urls for key, urls in spec["urls"].items() if "pages" not in key}
    with pytest.raises(InvalidInput, match="no URL"):
        node.save(spec, str(pod.dump()), fields)
