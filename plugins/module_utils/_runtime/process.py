# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The process runner: every program that node code starts goes through one callable, so that tests can hand in theirs."""

from __future__ import annotations

import dataclasses
import subprocess
import typing as t

from .._common.errors import CommandFailed, DeadlineExceeded


@dataclasses.dataclass(frozen=True)
class Completed:
    """What a program left: its exit code and its output as text."""

    code: int
    stdout: str
    stderr: str


class Runner(t.Protocol):
    """Runs a program to its end."""

    def __call__(
        self, argv: t.Sequence[str], *, stdin: str = "", timeout: float = 60.0, env: t.Mapping[str, str] | None = None
    ) -> Completed:
        """Return how ``argv`` ended; ``timeout`` in seconds.

        :raises DeadlineExceeded: it did not end in time and was killed.
        :raises CommandFailed: it could not be started.
        """


def run(
    argv: t.Sequence[str], *, stdin: str = "", timeout: float = 60.0, env: t.Mapping[str, str] | None = None
) -> Completed:
    """The real :class:`Runner`."""
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            env=env,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"{argv[0]} did not end within {timeout:g} s") from error
    except OSError as error:
        raise CommandFailed(
            f"cannot start {argv[0]}: {error.strerror}", "Run playbooks/bootstrap.yml for this node."
        ) from error
    return Completed(done.returncode, done.stdout, done.stderr)


def silent(argv: t.Sequence[str], *, timeout: float, env: t.Mapping[str, str] | None, cwd: str | None = None) -> int:
    """Run a program without a stream of ours, which a process that it restores would keep. Return its exit code.

    :raises DeadlineExceeded: it did not end within ``timeout`` seconds and was killed.
    :raises CommandFailed: it could not be started.
    """
    null = subprocess.DEVNULL
    try:
        return subprocess.run(
            list(argv), stdin=null, stdout=null, stderr=null, timeout=timeout, check=False, cwd=cwd, env=env
        ).returncode
    except subprocess.TimeoutExpired as error:
        raise DeadlineExceeded(f"{' '.join(argv[:4])} did not end within {timeout:g} s") from error
    except OSError as error:
        raise CommandFailed(f"cannot start {argv[0]}: {error.strerror}") from error


def check(runner: Runner, argv: t.Sequence[str], *, timeout: float = 60.0) -> str:
    """Run ``argv`` and return its standard output.

    :raises CommandFailed: it exited with something else than 0.
    """
    done = runner(argv, timeout=timeout)
    if done.code != 0:
        raise CommandFailed(
            f"{' '.join(argv[:3])}… exited with {done.code}: {(done.stderr or done.stdout).strip()[-500:]}"
        )
    return done.stdout


def piped(stream: t.IO[bytes] | None) -> t.IO[bytes]:
    """A stream of a child that was asked for.

    :raises ValueError: it was not.
    """
    if stream is None:
        raise ValueError("the child was started without this pipe")
    return stream
