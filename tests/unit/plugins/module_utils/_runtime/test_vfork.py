# SPDX-License-Identifier: Apache-2.0
"""Who waits in vfork: on files as the kernel has them, and on this kernel."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import time

import pytest

from ansible_collections.podferry.live.plugins.module_utils._runtime import vfork


def _thread(proc: pathlib.Path, pid: int, tid: int, waits_in: str) -> None:
    folder = proc / str(pid) / "task" / str(tid)
    folder.mkdir(parents=True)
    (folder / "wchan").write_text(waits_in)


@pytest.mark.parametrize("function", ["kernel_clone", "wait_for_vfork_done", "_do_fork"])
def test_any_thread_may_wait(tmp_path: pathlib.Path, function: str) -> None:
    _thread(tmp_path, 11, 11, "futex_do_wait")
    _thread(tmp_path, 11, 13, function)
    _thread(tmp_path, 12, 12, "get_signal")
    assert vfork.waiting([11, 12, 99], str(tmp_path)) == [11]


@pytest.mark.parametrize("silence", ["0", ""])
def test_a_kernel_that_does_not_say(tmp_path: pathlib.Path, silence: str) -> None:
    _thread(tmp_path, 11, 11, silence)
    _thread(tmp_path, 12, 12, silence)
    assert vfork.waiting([11, 12], str(tmp_path)) == []


def test_a_process_alone_has_no_child_to_wait_for(tmp_path: pathlib.Path) -> None:
    _thread(tmp_path, 11, 11, "kernel_clone")
    assert vfork.waiting([11], str(tmp_path)) == []


SLOW_TO_EXEC = """
import os, sys
os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
"""


def test_this_kernel_says_so(tmp_path: pathlib.Path) -> None:
    """The child is kept from its exec by a pipe that nobody writes to."""
    if os.geteuid() != 0:
        pytest.skip("only root may read what others wait in")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    parent = subprocess.Popen([sys.executable, "-c", SLOW_TO_EXEC, str(pipe)])
    try:
        children = pathlib.Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        deadline = time.monotonic() + 20
        found: list[int] = []
        while not found and time.monotonic() < deadline:
            time.sleep(0.01)
            found = vfork.waiting([*map(int, children.read_text().split()), parent.pid])
        assert found == [parent.pid]
        with pipe.open("w"):
            assert parent.wait(20) == 0
    finally:
        parent.kill()
        parent.wait()
