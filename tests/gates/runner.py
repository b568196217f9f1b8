# SPDX-License-Identifier: Apache-2.0
"""Run commands in the repository, time them, count what failed."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Colours only where somebody looks.
PLAIN = {} if sys.stdout.isatty() else {"NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}

Results = list[tuple[str, bool, float]]
"""Of each step its name, whether it passed, and its seconds."""


class CheckFailed(Exception):
    """A step found something wrong; the text says what."""


@dataclass
class Runner:
    """Runs steps; one that raises `CheckFailed`, or anything else, has failed."""

    pytest_args: list[str] = field(default_factory=list)
    results: Results = field(default_factory=list)

    def step(self, name: str, action: Callable[[Runner], None]) -> None:
        """Run one step under a heading and keep its result and duration (seconds)."""
        print(f"\n==== {name} " + "=" * max(4, 110 - len(name)), flush=True)
        started = time.monotonic()
        try:
            action(self)
            passed = True
        except CheckFailed as failure:
            print(f"FAILED: {failure}", flush=True)
            passed = False
        except Exception:  # noqa: BLE001 - a step that crashes has failed, and the others still run
            traceback.print_exc(file=sys.stdout)
            passed = False
        took = time.monotonic() - started
        print(f"---- {name}: {'passed' if passed else 'FAILED'} in {took:.1f} s", flush=True)
        self.results.append((name, passed, took))

    def command(
        self,
        *command: str,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        quiet: bool = False,
        timeout: float = 1800,
        passing: Sequence[int] = (0,),
    ) -> str:
        """Run a command to its end, output to ours (or, with `quiet`, returned and shown only on failure).

        `timeout` is in seconds. Raises `CheckFailed` on a status that is not `passing`, or when the time is up.
        """
        print(f"$ {shlex.join(command) if len(command) < 30 else shlex.join(command[:12]) + ' …'}", flush=True)
        with subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **PLAIN, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
            text=True,
        ) as process:
            try:
                output = process.communicate(timeout=timeout)[0]
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)  # as Ctrl-C: pytest then still takes its lab down
                try:
                    process.communicate(timeout=180)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise CheckFailed(f"{command[0]} did not end within {timeout:.0f} s") from None
        if process.returncode not in passing:
            if quiet:
                print(output, flush=True)
            raise CheckFailed(f"{Path(command[0]).name} ended with status {process.returncode}")
        return output or ""

    def all(self, *commands: Sequence[str], cwd: Path = ROOT) -> None:
        """Run every command, also after one that failed; raises `CheckFailed` when any did."""
        failures = []
        for command in commands:
            try:
                self.command(*command, cwd=cwd)
            except CheckFailed as failure:
                failures.append(str(failure))
        if failures:
            raise CheckFailed("; ".join(failures))


def summary(results: Results, total: float) -> int:
    """Print a table and the closing count; return the exit status. `total` is in seconds."""
    print("\n==== summary " + "=" * 104)
    for name, passed, took in results:
        print(f"{'passed' if passed else 'FAILED':8}{name:16}{took:8.1f} s")
    failed = sum(not passed for _name, passed, _took in results)
    print(f"stages: {len(results) - failed} passed, {failed} failed in {total:.0f} s", flush=True)
    return 1 if failed or not results else 0


def tracked_files() -> Sequence[str]:
    """Paths of the project's files: what git has, and what it would take (new files are judged before they are committed)."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return sorted({path for path in listed.split("\0") if path and os.path.lexists(ROOT / path)})
