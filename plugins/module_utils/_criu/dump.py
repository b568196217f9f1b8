# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Dumping a frozen container through the node's own runc or crun.

The container keeps standing: CRIU leaves a cgroup that it found frozen frozen (since 3.15).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import typing as t

from .._common.errors import DumpFailed
from .._runtime.container import Container
from .environment import environment
from .hold import Hold, can_hold
from .log import explain

DUMP_LOG = "dump.log"
DESCRIPTORS = "descriptors.json"
"""Written by runc and crun before they call CRIU, read by their restore before it calls CRIU."""
STOP_SECONDS = 30.0
"""How long a dump that nobody wants any more may take to end by itself."""


def argv(container: Container, images: str, work: str, skip_in_flight: bool) -> list[str]:
    """The runtime's command line for a dump that leaves the container where it is. Connections are part of it.

    :param skip_in_flight: the runtime knows the flag that leaves connections out which nobody has accepted yet.
    """
    words = [
        *container.base_argv(),
        "--log", os.path.join(work, "runtime.log"), "--log-format", "json",
        "checkpoint", "--leave-running", "--image-path", images, "--work-path", work,
        "--file-locks", "--manage-cgroups-mode", "soft", "--tcp-established",
    ]  # fmt: skip
    if skip_in_flight:
        words.append("--tcp-skip-in-flight")
    return [*words, container.id]


_OPTIONS = ("skip-in-flight",)
_REPORT = "This is a defect of podferry: please report it with the runtime's version."


class Dump:
    """A dump under way: a child process, so that its files can travel while they grow."""

    def __init__(self, container: Container, images: str, work: str, skip_in_flight: bool = False) -> None:
        os.makedirs(images, mode=0o700)
        os.makedirs(work, mode=0o700, exist_ok=True)
        self._name = container.name
        self._work = work
        self._images = images
        # Runtimes that know the flag set it for CRIU in any case; the others leave it to the configuration.
        env = environment(work, _OPTIONS)
        self._hold: Hold | None = None
        if can_hold(container.runtime):
            self._hold = Hold(work)
            env = self._hold.environment(env)
        self._argv = argv(container, images, work, skip_in_flight)
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    def tell(self, options: t.Sequence[str]) -> None:
        """Give CRIU more options; before :meth:`begin`."""
        environment(self._work, [*_OPTIONS, *options])

    def get_ready(self, timeout: float, pulse: t.Callable[[], None]) -> None:
        """Start the runtime and let it come as far as CRIU, while the container still runs. ``timeout`` in seconds.

        ``pulse`` is called meanwhile, so that the other node hears of us; it may raise to stop.

        Without a hold (a runtime that we cannot stop there) nothing is started yet.

        :raises DumpFailed: the runtime ended, or did not come so far.
        """
        if self._hold is None:
            return
        self._start()
        deadline = time.monotonic() + timeout
        while not self._hold.reached():
            if not self.running():
                self.finish()
                raise DumpFailed(f"the runtime dumped container {self._name} before it was frozen", _REPORT)
            if time.monotonic() > deadline:
                raise DumpFailed(
                    f"the runtime did not call CRIU for container {self._name} within {timeout:g} s", _REPORT
                )
            pulse()
            time.sleep(0.001)

    def begin(self) -> None:
        """Dump: the container stands frozen now."""
        if self._hold is None:
            self._start()
            return
        self._hold.release()
        self._hold = None

    def _start(self) -> None:
        with open(os.path.join(self._work, "checkpoint.out"), "w", encoding="utf-8") as output:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,  # so that what is held can be ended with it
            )

    def running(self) -> bool:
        """Whether it goes on."""
        return self._process is not None and self._process.poll() is None

    def described(self) -> bool:
        """Whether there is all that the other node's runtime wants before CRIU; a runtime that is not held writes it late."""
        try:
            return os.path.getsize(os.path.join(self._images, DESCRIPTORS)) > 0
        except OSError:
            return False

    def finish(self) -> None:
        """Wait for the end.

        :raises DumpFailed: the dump cannot be used; CRIU's own words are in the message.
        """
        code = self._process.wait() if self._process is not None else 0
        if code != 0:
            reason = explain(os.path.join(self._work, DUMP_LOG)) or _tail(os.path.join(self._work, "checkpoint.out"))
            raise DumpFailed(f"CRIU could not dump container {self._name}: {reason}", remedy_for(reason))

    def stop(self) -> None:
        """Let a dump that nobody wants any more come to its end: a dump that is killed leaves CRIU's parasite behind.

        One that has not begun is ended at once.
        """
        if self._process is None:
            return
        if self._hold is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _tail(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()[-300:]
    except OSError:
        return "no log was written"


_REMEDIES: tuple[tuple[str, str], ...] = (
    ("io_uring", "The application uses io_uring, which CRIU does not support: switch it off in the application."),
    ("tcp", "Migrate with tcp=close, or when no connection is open."),
    ("in-flight", "A connection over a unix socket has not been accepted yet and carries data: migrate again."),
    (
        "Control messages",
        "Messages with credentials (SO_PASSCRED) are on their way through a unix socket: migrate again.",
    ),
    ("unix", "A unix socket is connected to a process outside the pod: close it before the migration."),
    ("No space", "Memory for the dump ran out: give the node more, or make the pod smaller."),
    (
        "link-remap",
        "A file that was deleted while open cannot be carried; restart the application's log or temporary files.",
    ),
    ("ghost", "A large deleted file is still open; let the application close it."),
)


def remedy_for(reason: str) -> str:
    """What to do about a reason that CRIU gave."""
    for word, remedy in _REMEDIES:
        if word.lower() in reason.lower():
            return remedy
    return "The pod runs on at its source. CRIU's log is in the report; most causes are open files of a kind CRIU cannot carry."


def log_tail(work: str, name: str, lines: int = 40) -> list[str]:
    """The last lines of a log of CRIU's, for the report."""
    try:
        with open(os.path.join(work, name), encoding="utf-8", errors="replace") as stream:
            return [line.rstrip("\n") for line in stream.readlines()[-lines:]]
    except OSError:
        return []
