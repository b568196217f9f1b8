# SPDX-License-Identifier: Apache-2.0
"""The handler's decision about one ``create``: plain, restored, or refused. Refusing is the default."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._ferry import handler, paths
from ansible_collections.podferry.live.plugins.module_utils._ferry.record import Record

RUN = "0123456789ab"
CONTAINER = "ab" * 32
CRI = "io.kubernetes.cri."


class Executed(Exception):
    """The handler became another program."""


class Create:
    """A node's folders, and calls of the handler whose end is looked at."""

    def __init__(self, root: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.bundle = root / "bundle"
        self.bundle.mkdir()
        self.log = root / "log.json"
        self.answer: Any = {"images": "/i", "work": str(root)}
        self.asked = 0
        monkeypatch.setattr(paths, "STATE", str(root))
        for function in (paths.arrival, paths.arrivals, paths.claim, paths.RunPaths.__init__):
            monkeypatch.setattr(function, "__defaults__", (str(root),))
        self.place = paths.RunPaths(RUN, str(root))
        self.place.create()
        (root / "arrivals").mkdir()
        monkeypatch.setattr(handler, "_wait", self._wait)
        monkeypatch.setattr(handler.os, "execv", lambda path, argv: self._executed("plain", argv))
        monkeypatch.setattr(handler.os, "execve", lambda path, argv, env: self._executed("restore", argv))
        monkeypatch.setenv("PODFERRY_RUNTIME", "/usr/sbin/runc")
        self.on_wait = lambda: None
        self.identity()

    def _executed(self, kind: str, argv: list[str]) -> None:
        raise Executed(kind, argv)

    def _wait(self, *_words: Any) -> Any:
        self.asked += 1
        self.on_wait()
        return self.answer

    def identity(self, uid: str = "u1", kind: str = "container", name: str = "web", **annotations: str) -> None:
        notes = {
            f"{CRI}container-type": kind, f"{CRI}sandbox-namespace": "default", f"{CRI}sandbox-name": "pod",
            f"{CRI}sandbox-uid": uid, f"{CRI}container-name": name, **annotations,
        }  # fmt: skip
        (self.bundle / "config.json").write_text(json.dumps({"annotations": notes}))

    def arrive(self, state: str) -> Record:
        record = Record(self.place.directory)
        if state != "none":
            record.arm({})
        if state not in ("armed", "none"):
            record.move("armed", state)  # type: ignore[arg-type]
        (self.root / "arrivals/default_pod").symlink_to(self.place.directory)
        return record

    def call(self, *more: str, identifier: str = CONTAINER) -> str:
        """What became of it: plain, restore, or the refusal's text."""
        words = [
            "--root",
            "/r",
            "--log",
            str(self.log),
            "create",
            "--bundle",
            str(self.bundle),
            "--pid-file",
            "/p",
            *more,
            identifier,
        ]
        try:
            code = handler.main(words)
        except Executed as executed:
            return str(executed.args[0])
        assert code == 1
        return str(json.loads(self.log.read_text().splitlines()[-1])["msg"])


@pytest.fixture
def create(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Create:
    return Create(tmp_path, monkeypatch)


def test_no_arrival(create: Create) -> None:
    assert create.call() == "plain"


def test_a_container_that_only_passes_by_may_have_words_that_we_do_not_know(create: Create) -> None:
    assert create.call("--pidfd-socket", "/s") == "plain"


def test_marked_without_a_record(create: Create) -> None:
    create.identity(**{"podferry.live/arrival": RUN})
    assert "has no record of it" in create.call()


def test_an_arrival_that_points_nowhere_is_no_record(create: Create) -> None:
    (create.root / "arrivals/default_pod").symlink_to(create.root / "runs/ffffffffffff")
    assert create.call() == "plain"
    create.identity(**{"podferry.live/arrival": RUN})
    assert "has no record of it" in create.call()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("armed", "restore"),
        ("going", "restore"),
        ("done", "plain"),
        ("aborted", "is aborted"),
        ("none", "is leaving the node"),
    ],
)
@pytest.mark.parametrize("marked", [True, False])
def test_every_state_of_the_record(create: Create, state: str, expected: str, marked: bool) -> None:
    if marked:
        create.identity(**{"podferry.live/arrival": RUN})
    create.arrive(state)
    assert expected in create.call()
    assert create.asked == (1 if expected == "restore" else 0)


def test_the_sandbox_is_created(create: Create) -> None:
    create.arrive("armed")
    create.identity(kind="sandbox", **{"podferry.live/arrival": RUN})
    assert create.call() == "plain"


def test_what_is_no_pods_is_created(create: Create) -> None:
    create.arrive("armed")
    (create.bundle / "config.json").write_text("{}")
    assert create.call() == "plain"


def test_p1_used_once(create: Create) -> None:
    """The kubelet tries again after a create that failed or timed out: not from the image, and not restored twice."""
    create.arrive("armed")
    assert create.call() == "restore"
    assert "was claimed before" in create.call()
    assert "was claimed before" in create.call(identifier="cd" * 32)
    assert create.asked == 1


def test_another_pod_of_that_name(create: Create) -> None:
    create.arrive("armed")
    create.identity(name="one")
    assert create.call() == "restore"
    create.identity(uid="u2", name="two")
    assert "another pod of that name" in create.call()


def test_a_uid_that_was_half_written_belongs_to_nobody(create: Create) -> None:
    create.arrive("armed")
    (pathlib.Path(create.place.directory) / "pod-uid").touch()
    assert "another pod of that name" in create.call()


def test_two_containers_of_one_pod(create: Create) -> None:
    create.arrive("armed")
    for name in ("one", "two"):
        create.identity(name=name)
        assert create.call() == "restore"


def test_p1_given_up_while_it_waited(create: Create) -> None:
    record = create.arrive("armed")
    create.on_wait = lambda: void(record.move("armed", "aborted"))
    assert "given up while its container was created" in create.call()


def void(_value: object) -> None:
    return None


def test_a_word_that_a_restore_does_not_know_claims_nothing(create: Create) -> None:
    create.arrive("armed")
    assert "which a restore does not know" in create.call("--preserve-fds", "3")
    assert not os.path.exists(create.place.mark("claim", "web"))


def test_no_criu_configuration_by_annotation(create: Create) -> None:
    create.arrive("armed")
    create.identity(**{"org.criu.config": "/image/evil.conf"})
    assert "would configure CRIU as root" in create.call()


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_bundle_that_is_not_understood_is_not_created(create: Create, content: str) -> None:
    create.arrive("armed")
    (create.bundle / "config.json").write_text(content)
    try:
        assert create.call() not in ("plain", "restore")
    except (AttributeError, TypeError):
        pass  # ends with a traceback and a code that is not 0: not created either


def test_hostile_names_in_the_bundle(create: Create) -> None:
    create.arrive("armed")
    create.identity(**{f"{CRI}sandbox-name": "../../etc"})
    assert "is not a Kubernetes name" in create.call()
    create.identity(name="../x")
    assert "is not a Kubernetes name" in create.call()


def test_the_reason_is_where_containerd_reads_it(create: Create, capsys: pytest.CaptureFixture[str]) -> None:
    create.arrive("aborted")
    create.call()
    line = json.loads(create.log.read_text())
    assert line["level"] == "error" and line["msg"].startswith("podferry: ")
    assert "podferry: " in capsys.readouterr().err


def test_a_finished_init_container_runs_nothing_of_its_image(create: Create) -> None:
    create.identity(name="setup")
    record = create.arrive("none")
    record.arm({"finished": ["setup"]})
    (create.bundle / "rootfs").mkdir()
    assert create.call("--pidfd-socket", "/s") == "plain"
    (argument,) = json.loads((create.bundle / "config.json").read_text())["process"]["args"]
    assert (create.bundle / "rootfs" / argument.lstrip("/")).exists()
    assert create.asked == 0
    record.move("armed", "aborted")
    create.identity(name="setup")
    assert "aborted" in create.call()


def test_the_sandbox_lets_restarts_count_on(create: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler.logs.count_on, "__defaults__", (str(create.root / "logs"),))
    create.identity(kind="sandbox")
    create.arrive("none").arm({"restarts": {"web": 3, "side": 0}})
    assert create.call() == "plain"
    assert sorted(os.listdir(create.root / "logs/default_pod_u1")) == ["web"]
    assert os.listdir(create.root / "logs/default_pod_u1/web") == ["2.log"]


def test_a_marked_pod_that_has_arrived_long_ago_starts_from_its_image(create: Create) -> None:
    """CRI-O's sandbox keeps the mark; what has arrived says so in the kubelet's folder of the pod, by the run's id."""
    pod = create.root / "pods/u1"
    pod.mkdir(parents=True)
    create.identity(**{"podferry.live/arrival": RUN})
    config = json.loads((create.bundle / "config.json").read_text())
    config["mounts"] = [{"destination": "/etc/hosts", "source": f"{pod}/etc-hosts"}]
    (create.bundle / "config.json").write_text(json.dumps(config))
    assert "has no record of it" in create.call()
    (pod / "podferry.arrived").write_text("ffffffffffff\n")
    assert "has no record of it" in create.call()
    (pod / "podferry.arrived").write_text(f"{RUN}\n")
    assert create.call() == "plain"
