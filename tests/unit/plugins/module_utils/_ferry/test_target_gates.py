# SPDX-License-Identifier: Apache-2.0
"""Who may come to the target ferry's gate, and what ends the waiting."""

from __future__ import annotations

import pathlib
import types
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    DeadlineExceeded,
    InvalidInput,
    RestoreFailed,
    StateConflict,
)
from ansible_collections.podferry.live.plugins.module_utils._ferry import target
from doubles import archives
from doubles.cgroups import FakeCgroup


class Gate:
    """A ``create`` that waits."""

    init = 0

    def __init__(self, _peer: object, request: dict[str, Any]) -> None:
        self.config = {"mounts": [{"destination": place} for place in request["mounts"]]}
        self.cgroup: FakeCgroup | None = None
        self.gone = False

    def ended(self) -> bool:
        return self.gone


@pytest.fixture
def ferry(monkeypatch: pytest.MonkeyPatch) -> Any:
    made: Any = object.__new__(target.TargetFerry)
    made.names, made.gates, made._cancelled, made._misfit = ["web"], {}, False, None
    made._destinations, made._expect_claim_since = {"web": ["/data"]}, None
    made._roster, made._began = {"restarts": {}}, 0.0
    made.namespace, made.pod = "default", "web"
    made.deadlines = types.SimpleNamespace(claim=30.0)
    made.emit = lambda *_words, **_more: None
    monkeypatch.setattr(target, "Gate", Gate)
    return made


def claim(ferry: Any, container: str = "web", mounts: tuple[str, ...] = ("/data",)) -> None:
    ferry.on_claim(None, {"container": container, "mounts": mounts})


def test_the_awaited_container(ferry: Any) -> None:
    claim(ferry)
    ferry._look_after_gates()
    assert list(ferry.gates) == ["web"]


@pytest.mark.parametrize("name", ["other", "", "None"])
def test_a_container_that_nobody_awaits(ferry: Any, name: str) -> None:
    with pytest.raises(StateConflict, match="is not awaited"):
        claim(ferry, name)


def test_a_second_claim(ferry: Any) -> None:
    claim(ferry)
    with pytest.raises(StateConflict):
        claim(ferry)


def test_after_a_cancel(ferry: Any) -> None:
    ferry._cancelled = True
    with pytest.raises(StateConflict):
        claim(ferry)


def test_other_mounts_end_the_migration_with_their_own_reason(ferry: Any) -> None:
    with pytest.raises(RestoreFailed, match="mounts something else than the source's: /data, /more"):
        claim(ferry, mounts=("/more",))
    with pytest.raises(RestoreFailed, match="mounts something else"):
        ferry._look_after_gates()


def test_a_create_that_was_stopped(ferry: Any) -> None:
    claim(ferry)
    ferry.gates["web"].gone = True
    with pytest.raises(RestoreFailed, match="was stopped while it waited"):
        ferry._look_after_gates()


@pytest.mark.parametrize(("frozen", "alive"), [(False, True), (True, False)])
def test_a_copy_that_does_not_stand_any_more(ferry: Any, frozen: bool, alive: bool) -> None:
    claim(ferry)
    group = ferry.gates["web"].cgroup = FakeCgroup("/g", frozen=True)
    ferry._look_after_gates()
    group.is_frozen, group.alive = frozen, alive
    with pytest.raises(RestoreFailed, match="did not stay frozen"):
        ferry._look_after_gates()


def test_nobody_comes(ferry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ferry._expect_claim_since = target.time.monotonic() - 31
    with pytest.raises(DeadlineExceeded, match="did not reach the handler within 30 s"):
        ferry._look_after_gates()
    claim(ferry)
    ferry._look_after_gates()


def test_a_stored_dump_that_may_more_than_the_container(
    ferry: Any, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anything of it is laid out; what comes straight from its own container is not looked at."""
    (tmp_path / "criu").mkdir()
    for name, data in archives.criu_images().items():
        (tmp_path / "criu" / name).write_bytes(data)
    (tmp_path / "criu/core-1.img").write_bytes(archives.core("app", caps=1 << 21))
    claim(ferry)
    laid: list[object] = []

    def layout(_pulse: object) -> Any:
        laid.append(None)
        raise StateConflict("as far as this goes here")

    monkeypatch.setattr(ferry, "_folder", lambda _name: str(tmp_path), raising=False)
    monkeypatch.setattr(ferry, "_layout", layout, raising=False)
    ferry.mode = "restore"
    with pytest.raises(RestoreFailed, match="CAP_SYS_ADMIN"):
        ferry._begin("web", ferry.gates["web"], lambda: None)
    assert not laid
    ferry.gates["web"].config = {"process": {"capabilities": {"bounding": ["CAP_SYS_ADMIN"]}}}
    with pytest.raises(StateConflict):
        ferry._begin("web", ferry.gates["web"], lambda: None)
    ferry.mode, ferry.gates["web"].config = "twin", {}
    with pytest.raises(StateConflict):
        ferry._begin("web", ferry.gates["web"], lambda: None)


@pytest.mark.parametrize(("way", "report"), [("_run_twin", "ready"), ("_run_successor", "data_ok")])
def test_a_target_that_may_be_given_the_word_is_watched(
    ferry: Any, monkeypatch: pytest.MonkeyPatch, way: str, report: str
) -> None:
    """If it hangs when the word comes, only its guard can end the source's doubt; so it is watched before the source can give it."""
    done: list[Any] = []
    monkeypatch.setattr(target.deadman, "within", done.append)
    ferry.deadlines = types.SimpleNamespace(freeze=30.0)
    ferry._restore_all = lambda: None
    ferry.phases = types.SimpleNamespace(entries=list)
    ferry.enter = lambda _name: None

    def send(kind: str, **_fields: Any) -> None:
        done.append(kind)

    ferry.peer = lambda: types.SimpleNamespace(send=send)
    ferry._next = lambda _timeout: {"m": "nothing that is awaited"}
    with pytest.raises(InvalidInput):
        getattr(ferry, way)()
    assert done == [35.0, report]
