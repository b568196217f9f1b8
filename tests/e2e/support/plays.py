# SPDX-License-Identifier: Apache-2.0
"""Run the project's playbooks as a user does, and read what they said."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
RECAP = re.compile(
    r"^(?P<host>\S+)\s*:\s+ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)\s+failed=(?P<failed>\d+)",
    re.M,
)


@dataclass(frozen=True)
class PlayResult:
    """What one `ansible-playbook` run left: exit status, output, recap, and the JSON report if the playbook wrote one."""

    rc: int
    stdout: str
    stderr: str
    seconds: float
    report: dict[str, Any] | None

    @property
    def output(self) -> str:
        """Everything a user would have seen, with line ends joined to blanks: messages wrap."""
        return re.sub(r"\s+", " ", f"{self.stdout}\n{self.stderr}")

    @property
    def changed(self) -> int:
        """Sum of `changed=` over the hosts of the recap."""
        return sum(int(match["changed"]) for match in RECAP.finditer(self.stdout))

    def ok(self) -> PlayResult:
        """Itself; fails the test, showing the run's end, when the run failed."""
        assert self.rc == 0, f"ansible-playbook ended with {self.rc}:\n{self.stdout[-6000:]}\n{self.stderr[-2000:]}"
        return self

    def refused(self, *words: str) -> PlayResult:
        """Itself; fails the test unless the run failed and its message holds every given word (case is ignored)."""
        assert self.rc != 0, f"expected a refusal, got success:\n{self.stdout[-4000:]}"
        missing = [word for word in words if word.lower() not in self.output.lower()]
        assert not missing, f"the message lacks {missing}:\n{self.stdout[-4000:]}\n{self.stderr[-1000:]}"
        return self


@dataclass
class RunningPlay:
    """A playbook run that goes on in the background, for tests that disturb it."""

    process: subprocess.Popen[str]
    log: Path
    report_path: Path | None
    started: float = field(default_factory=time.monotonic)

    def wait_for(self, text: str, timeout: float = 60) -> None:
        """Wait (seconds) until the run has printed `text`; fails when it ended or the time is up before."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if text in self.log.read_text(errors="replace"):
                return
            if self.process.poll() is not None and text not in self.log.read_text(errors="replace"):
                raise AssertionError(
                    f"the run ended ({self.process.returncode}) before {text!r}:\n{self.log.read_text()[-4000:]}"
                )
            time.sleep(0.02)
        raise AssertionError(f"no {text!r} within {timeout} s:\n{self.log.read_text()[-4000:]}")

    def finish(self, timeout: float = 240) -> PlayResult:
        """Wait for the end (seconds) and return the result; a run that does not end is killed and fails the test."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"the playbook did not end within {timeout} s:\n{self.log.read_text()[-6000:]}"
            ) from None
        return PlayResult(
            self.process.returncode,
            self.log.read_text(errors="replace"),
            "",
            time.monotonic() - self.started,
            read_report(self.report_path),
        )


def read_report(path: Path | None) -> dict[str, Any] | None:
    """The JSON report at `path`, or None where none was written."""
    if path is None or not path.exists():
        return None
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


@dataclass
class Plays:
    """Runs playbooks against one inventory with a fixed set of extra variables."""

    inventory: str
    variables: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    scratch: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="podferry-e2e-")))

    def command(self, playbook: str, variables: dict[str, Any], flags: Sequence[str]) -> list[str]:
        """The command line of one run."""
        return [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            self.inventory,
            f"playbooks/{playbook}.yml",
            "-e",
            json.dumps({**self.variables, **variables}),
            *flags,
        ]

    def env(self) -> dict[str, str]:
        """The environment of a run: ours, without colours, output not held back."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }

    def run(self, playbook: str, *flags: str, timeout: float = 300, **variables: Any) -> PlayResult:
        """Run `playbooks/<playbook>.yml` to its end; `variables` become extra variables, `flags` are added as they are."""
        return self.start(playbook, *flags, **variables).finish(timeout)

    def start(self, playbook: str, *flags: str, **variables: Any) -> RunningPlay:
        """Start a run in the background; output of both kinds goes to one log."""
        log = self.scratch / f"{playbook}-{time.monotonic_ns()}.log"
        report = variables.get("report")
        with log.open("w") as out:
            process = subprocess.Popen(
                self.command(playbook, variables, flags),
                cwd=ROOT,
                env=self.env(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
            )
        return RunningPlay(process, log, Path(report) if report else None)

    def migrate(self, pod: str, target: str, *flags: str, timeout: float = 300, **variables: Any) -> PlayResult:
        """Run `migrate.yml` for a pod, with a report (`PlayResult.report`)."""
        return self.start_migrate(pod, target, *flags, **variables).finish(timeout)

    def start_migrate(self, pod: str, target: str, *flags: str, **variables: Any) -> RunningPlay:
        """As `migrate`, in the background."""
        report = self.scratch / f"report-{time.monotonic_ns()}.json"
        return self.start("migrate", *flags, **{"pod": pod, "target": target, "report": str(report), **variables})
