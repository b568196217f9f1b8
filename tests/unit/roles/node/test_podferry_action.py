# SPDX-License-Identifier: Apache-2.0
"""CRIU's action script over fake cgroup trees: what it freezes, what it moves out, and that it fails closed."""

import os
import pathlib
import subprocess
import time
from collections.abc import Iterator

import pytest

SCRIPT = pathlib.Path(__file__).parents[4] / "roles/node/files/libexec/podferry-action"
CONTAINER = "ab" * 32


class Stage:
    """A restored init (a sleeping process), its cgroup as files, and the ferry's folders."""

    def __init__(self, root: pathlib.Path, version: int, path: str) -> None:
        self.init = subprocess.Popen(["sleep", "60"])
        self.root = root
        self.run = root / "run"
        self.images = root / "images"
        self.refuge = root / "refuge"
        self.mount = root / "cgroup"
        self.group = self.mount / path.lstrip("/")
        for folder in (self.run, self.images, self.refuge, self.group, root / "proc" / str(self.init.pid)):
            folder.mkdir(parents=True, exist_ok=True)
        (self.refuge / "cgroup.procs").touch()
        membership = f"9:cpu,cpuacct:/elsewhere\n7:freezer:{path}\n0::/\n" if version == 1 else f"0::{path}\n"
        (root / "proc" / str(self.init.pid) / "cgroup").write_text(membership)
        (self.group / ("freezer.state" if version == 1 else "cgroup.freeze")).touch()
        if version == 2:
            (self.group / "cgroup.kill").touch()
        (self.group / "cgroup.procs").write_text(f"{self.init.pid}\n")
        values = {
            "container": CONTAINER, "run": self.run, "name": "web", "refuge": self.refuge,
            "freezer_mount": self.mount, "unified_mount": self.mount,
        }  # fmt: skip
        (self.images / "podferry.arrival").write_text("".join(f"{name}='{value}'\n" for name, value in values.items()))
        # Only the membership is faked: /proc/PID/ns of the real init says in which PID namespace it is.
        text = SCRIPT.read_text().replace('"/proc/$CRTOOLS_INIT_PID/cgroup"', f'"{root}/proc/$CRTOOLS_INIT_PID/cgroup"')
        self.script = root / "action"
        self.script.write_text(text)

    def call(self, action: str = "pre-resume") -> int:
        environment = {
            "PATH": os.environ["PATH"],
            "CRTOOLS_SCRIPT_ACTION": action,
            "CRTOOLS_IMAGE_DIR": str(self.images),
            "CRTOOLS_INIT_PID": str(self.init.pid),
        }
        return subprocess.run(["sh", str(self.script)], env=environment, check=False, capture_output=True).returncode

    def ordered(self) -> str:
        """What was written to the freezer."""
        for name in ("freezer.state", "cgroup.freeze"):
            if (self.group / name).exists():
                return (self.group / name).read_text().strip()
        raise AssertionError("no freezer file")

    def killed(self) -> bool:
        try:
            return self.init.wait(1) == -9
        except subprocess.TimeoutExpired:
            return False

    def alive(self) -> bool:
        return self.init.poll() is None

    def frozen_mark(self) -> bool:
        return (self.run / "frozen.web").exists()


@pytest.fixture(params=[1, 2])
def stage(tmp_path: pathlib.Path, request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = Stage(tmp_path, request.param, f"/kubepods/pod1/cri-containerd-{CONTAINER}.scope")
    yield made
    made.init.kill()
    made.init.wait()


def test_the_group_is_ordered_to_freeze(stage: Stage) -> None:
    assert stage.call() == 0
    assert stage.ordered() in ("FROZEN", "1")
    assert stage.frozen_mark() and stage.alive()


def test_other_stages_do_nothing(stage: Stage) -> None:
    for action in ("setup-namespaces", "post-restore", "post-resume", ""):
        assert stage.call(action) == 0
    assert stage.ordered() == "" and not stage.frozen_mark()


def test_twice_is_once(stage: Stage) -> None:
    assert [stage.call(), stage.call()] == [0, 0]
    assert stage.frozen_mark() and stage.alive()


def test_who_is_of_the_hosts_pid_namespace_is_moved_out(stage: Stage) -> None:
    # Here the "init" itself is in this namespace, as criu is: it must be moved before the freeze.
    assert stage.call() == 0
    assert (stage.refuge / "cgroup.procs").read_text().split() == [str(stage.init.pid)]


def test_a_group_of_somebody_else_is_not_touched_and_the_init_dies(tmp_path: pathlib.Path) -> None:
    stage = Stage(tmp_path, 1, "/kubepods/pod1/another")
    assert stage.call() == 1
    assert stage.ordered() == "" and not stage.frozen_mark()
    assert (stage.run / "action-failed.web").read_text().startswith("the restored init is in cgroup")
    assert stage.killed()


def test_the_root_group_is_nobodys_container(tmp_path: pathlib.Path) -> None:
    stage = Stage(tmp_path, 2, "/")
    assert stage.call() == 1
    assert stage.killed() and stage.ordered() == ""


def test_without_an_arrival_the_init_dies(stage: Stage) -> None:
    (stage.images / "podferry.arrival").unlink()
    assert stage.call() != 0
    assert stage.killed() and stage.ordered() == ""


def test_an_init_that_is_gone_fails(stage: Stage) -> None:
    stage.init.kill()
    stage.init.wait()
    (stage.root / "proc" / str(stage.init.pid) / "cgroup").unlink()
    assert stage.call() == 1 and not stage.frozen_mark()


def test_what_cannot_be_frozen_is_killed(tmp_path: pathlib.Path) -> None:
    stage = Stage(tmp_path, 2, f"/pod1/{CONTAINER}")
    (stage.group / "cgroup.freeze").unlink()
    (stage.group / "cgroup.freeze").mkdir()  # a write fails, also for root
    assert stage.call() == 1
    assert (stage.group / "cgroup.kill").read_text().strip() == "1"
    assert stage.killed() and not stage.frozen_mark()


def test_what_cannot_be_moved_out_is_killed(tmp_path: pathlib.Path) -> None:
    stage = Stage(tmp_path, 1, f"/pod1/{CONTAINER}")
    (stage.refuge / "cgroup.procs").unlink()
    (stage.refuge / "cgroup.procs").mkdir()
    assert stage.call() == 1
    assert stage.killed() and stage.ordered() == ""


def test_cruns_own_process_is_taken_out_and_keeps_going(stage: Stage) -> None:
    """crun waits for its end, and below a frozen cgroup it would never end."""
    helper = subprocess.Popen(["sleep", "60"])
    try:
        proxy = stage.group / ".proxy-crun"
        proxy.mkdir()
        (proxy / "cgroup.procs").write_text(f"{helper.pid}\n")
        unified = (stage.group / "cgroup.freeze").exists()
        place = stage.refuge / "crun.web" if unified else stage.refuge
        assert stage.call() == 0
        assert stage.frozen_mark() and stage.ordered() in ("FROZEN", "1")
        assert (place / "cgroup.procs").read_text() == f"{helper.pid}\n"
        if not unified:  # it moves itself up into the frozen cgroup afterwards
            (stage.refuge / "cgroup.procs").write_text("")
            (stage.group / "cgroup.procs").write_text(f"{stage.init.pid}\n{helper.pid}\n")
            for _try in range(200):
                if (stage.refuge / "cgroup.procs").read_text() == f"{helper.pid}\n":
                    break
                time.sleep(0.01)
            else:
                raise AssertionError("it stays frozen")
            assert helper.wait(5) == -9
    finally:
        helper.kill()
        helper.wait()
