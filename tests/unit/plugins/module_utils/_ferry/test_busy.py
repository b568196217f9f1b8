# SPDX-License-Identifier: Apache-2.0
"""A state on its way to a store or from one: nobody else ends the run, it stops when it is told to, and nothing stays of it."""

from __future__ import annotations

import io
import json
import os
import pathlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    Cancelled,
    InvalidInput,
    NotFound,
    PodferryError,
    StateConflict,
)
from ansible_collections.podferry.live.plugins.module_utils._ferry import busy, lifecycle, paths, session, stored
from ansible_collections.podferry.live.plugins.module_utils._ferry.journal import Journal
from ansible_collections.podferry.live.plugins.module_utils._runtime.process import Completed
from ansible_collections.podferry.live.plugins.module_utils._store import manifest as manifests
from ansible_collections.podferry.live.plugins.module_utils._store import node as stores

RUN = "0123456789ab"
FIELDS: dict[str, Any] = {
    "id": f"20260101T000000Z-{RUN}", "namespace": "prod", "pod": "redis-0", "uid": "u", "node": "n", "kind": "pod",
    "created": "2026-01-01T00:00:00Z", "containers": [{"name": "app", "image": "i", "image_id": "x@sha256:1"}], "facts": {},
}  # fmt: skip


def runner(argv: Any, **_options: Any) -> Completed:
    return Completed(3 if "is-active" in argv else 0, "", "")


@pytest.fixture
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> paths.RunPaths:
    monkeypatch.setattr(paths.RunPaths.__init__, "__defaults__", (str(tmp_path / "run"),))
    return paths.RunPaths(RUN)


@pytest.fixture
def captured(place: paths.RunPaths) -> paths.RunPaths:
    """A run whose ferry has dumped the pod and ended."""
    place.create()
    os.makedirs(place.criu("app"))
    for name, data in (("pod.json", {}), ("state.json", {"containers": ["app"]})):
        (pathlib.Path(place.images) / name).write_text(json.dumps(data))
    (pathlib.Path(place.criu("app")) / "pages-1.img").write_bytes(os.urandom(2 << 20))
    Journal(place).write(
        "copied", run=RUN, role="source", mode="checkpoint", namespace="prod", pod="redis-0",
        containers=[{"name": "app", "cgroup": "/x"}],
    )  # fmt: skip
    return place


@pytest.fixture
def spec(tmp_path: pathlib.Path) -> dict[str, Any]:
    return {"kind": "path", "path": str(tmp_path / "store")}


def arguments(spec: dict[str, Any]) -> dict[str, Any]:
    return {"run": RUN, "store": spec, "fields": FIELDS, "compression": "none"}


def files(spec: dict[str, Any]) -> list[pathlib.Path]:
    return [path for path in pathlib.Path(spec["path"]).rglob("*") if path.is_file() and path.stat().st_size > 1000]


def listed(place: paths.RunPaths) -> list[dict[str, Any]]:
    return lifecycle.runs("prod", "redis-0", runner, place.state)


@pytest.fixture
def elsewhere() -> Iterator[Callable[[Callable[[], None]], int]]:
    """Lets another process do something until it is killed."""
    children: list[int] = []

    def begin(work: Callable[[], None]) -> int:
        there, here = os.pipe()
        child = os.fork()
        if not child:
            try:
                work_begun(here, work)
            finally:
                os._exit(1)
        children.append(child)
        os.close(here)
        assert os.read(there, 1) == b"x"
        os.close(there)
        return child

    def work_begun(here: int, work: Callable[[], None]) -> None:
        busy_begun.append(here)
        work()

    yield begin
    for child in children:
        kill(child)


busy_begun: list[int] = []


def begun_and_stuck(*_arguments: Any, **_options: Any) -> None:
    """What the other process comes to: it says so, and goes no further."""
    os.write(busy_begun[-1], b"x")
    while True:
        time.sleep(1)


def kill(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_what_is_being_stored_is_alive_and_nobody_else_ends_it(
    captured: paths.RunPaths, spec: dict[str, Any], elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [entry["alive"] for entry in listed(captured)] == [False]
    monkeypatch.setattr(stores, "save", begun_and_stuck)
    child = elsewhere(lambda: void(stored.save(captured, arguments(spec))))
    (entry,) = listed(captured)
    assert (entry["state"], entry["alive"], entry["busy"], entry["controlled"]) == ("copied", True, True, True)
    with pytest.raises(StateConflict, match="being stored"):
        lifecycle.finish(captured, runner)
    assert os.path.exists(captured.criu("app") + "/pages-1.img")
    kill(child)
    assert [entry["alive"] for entry in listed(captured)] == [False]
    assert [lifecycle.finish(captured, runner) for _round in range(2)] == [True, False]


def void(_value: object) -> None:
    return None


def test_two_sessions_do_not_store_one_run(captured: paths.RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "_BEGIN_SECONDS", 0.1)
    with busy.Work(captured), pytest.raises(StateConflict, match="somebody else"):
        busy.Work(captured).__enter__()
    assert not busy.held(captured)


def test_a_run_that_was_ended_is_not_stored(captured: paths.RunPaths, spec: dict[str, Any]) -> None:
    lifecycle.finish(captured, runner)
    with pytest.raises(NotFound, match="knows no run"):
        stored.save(captured, arguments(spec))
    assert not os.path.exists(captured.directory) and files(spec) == []


@pytest.mark.parametrize("gone", ["pod.json", "state.json", "app/criu", ""])
def test_what_is_not_whole_is_no_checkpoint(captured: paths.RunPaths, spec: dict[str, Any], gone: str) -> None:
    there = os.path.join(captured.images, gone)
    os.rename(there, os.path.join(captured.directory, "away"))
    with pytest.raises(PodferryError) as caught:
        stored.save(captured, arguments(spec))
    assert caught.value.kind == "invalid_input" and files(spec) == []


def test_a_state_that_is_not_there_is_not_an_empty_one(spec: dict[str, Any], tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidInput, match="not there"):
        stores.save(spec, str(tmp_path / "nothing"), FIELDS, compression="none")
    assert files(spec) == []


def slowly(monkeypatch: pytest.MonkeyPatch, name: str) -> threading.Event:
    """Let an operation of the store go on until its pulse stops it."""
    begun = threading.Event()
    real = getattr(stores, name)

    def work(*words: Any, pulse: Callable[[], None], **options: Any) -> Any:
        def beat() -> None:
            begun.set()
            while True:
                pulse()
                time.sleep(0.01)

        return real(*words, pulse=beat, **options)

    monkeypatch.setattr(stores, name, work)
    return begun


@pytest.mark.parametrize("how", ["finish", "cancel", "gone"])
def test_storing_stops_and_nothing_stays(
    captured: paths.RunPaths, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The same session ends the run, somebody cancels it, or the controller is gone."""
    begun = slowly(monkeypatch, "save")
    output = io.StringIO()

    def lines() -> Iterator[str]:
        yield json.dumps({"id": 1, "op": "checkpoint_save", "args": arguments(spec)})
        assert begun.wait(10)
        if how != "gone":
            yield json.dumps({"id": 2, "op": how, "args": {"run": RUN}})
            until(lambda: len(output.getvalue().splitlines()) == 2)

    session.Session(output, runner).serve(lines())
    answers = {answer["id"]: answer for answer in map(json.loads, output.getvalue().splitlines())}
    assert answers[1]["error"]["type"] == "cancelled"
    assert how == "gone" or answers[2]["result"] == {"finish": {"ended": True}, "cancel": {"cancelled": True}}[how]
    assert not os.path.exists(captured.directory) and files(spec) == []


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


# --- what comes to the node's memory ---------------------------------------------------------------------------------


@pytest.fixture
def restore(captured: paths.RunPaths, spec: dict[str, Any]) -> dict[str, Any]:
    """The request that loads a checkpoint."""
    document = stored.save(captured, arguments(spec))["manifest"]
    stores.publish(spec, document.encode(), "")
    lifecycle.finish(captured, runner)
    return {"run": RUN, "store": spec, "manifest": document, "need_bytes": 1 << 30}


def test_a_load_is_known_from_its_first_moment(
    place: paths.RunPaths, restore: dict[str, Any], elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "load", begun_and_stuck)
    child = elsewhere(lambda: void(stored.load(place, restore, runner)))
    (entry,) = listed(place)
    assert (entry["run"], entry["role"], entry["mode"], entry["state"]) == (RUN, "target", "restore", "loading")
    assert entry["alive"]
    kill(child)
    assert [entry["alive"] for entry in listed(place)] == [False]
    assert lifecycle.finish(place, runner) and listed(place) == []


def test_a_load_stops_when_its_controller_is_gone(
    place: paths.RunPaths, restore: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = slowly(monkeypatch, "load")
    output = io.StringIO()

    def lines() -> Iterator[str]:
        yield json.dumps({"id": 1, "op": "restore_load", "args": restore})
        assert begun.wait(10)

    started = time.monotonic()
    session.Session(output, runner).serve(lines())
    assert time.monotonic() - started < 20
    assert json.loads(output.getvalue())["error"]["type"] == "cancelled"
    assert not os.path.exists(place.directory)


def test_an_archive_that_comes_is_known_too(place: paths.RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    def convert(_path: str, _folder: str, *, pulse: Callable[[], None], **_options: Any) -> None:
        seen.extend(listed(place))
        assert busy.stop(place)
        pulse()

    monkeypatch.setattr(stored, "convert", convert)
    asked = {"object": {}, "namespace": "prod", "pod": "redis-0", "container": "app", "need_bytes": 1, "path": "/a"}
    with pytest.raises(Cancelled):
        stored.adopt(place, asked, runner)
    assert [(entry["mode"], entry["state"], entry["alive"]) for entry in seen] == [("checkpoint", "loading", True)]
    assert not os.path.exists(place.directory)


def test_another_run_of_that_id_is_left_alone(place: paths.RunPaths, restore: dict[str, Any]) -> None:
    stored.load(place, restore, runner)
    with pytest.raises(StateConflict, match="already"):
        stored.load(place, restore, runner)
    assert manifests.parse(restore["manifest"].encode()).pod == "redis-0" and os.path.exists(place.images)
