# SPDX-License-Identifier: Apache-2.0
"""Run the stages of the test suite and say what passed.

Every stage runs to its end even when an earlier one failed: one run tells everything that is wrong. The end-to-end tests wait more than
they work: the other stages run beside them, at a lower priority, and what they print comes after.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from gates import checks
from gates.runner import Results, Runner, summary

GROUPS: dict[str, list[str]] = {
    "lint": ["format", "yaml", "shell", "ansible-lint"],
    "types": ["mypy", "node-python"],
    "unit": ["unit"],
    "sanity": ["ansible-test", "docs", "changelog", "galaxy", "syntax", "oldest"],
    "e2e": ["e2e", "second-lab", "molecule"],
}
LONGEST = "e2e"
"""About as long as all the others together."""


def run(steps: Sequence[str], pytest_args: str) -> Results:
    """One after another."""
    runner = Runner(pytest_args=shlex.split(pytest_args))
    for step in steps:
        runner.step(step, checks.STEPS[step])
    return runner.results


def run_beside(longest: str, others: Sequence[str], pytest_args: str) -> Results:
    """`longest` here, the others in a process of their own; what that says is shown when both have ended."""
    with tempfile.TemporaryDirectory(prefix="podferry-gates-") as folder:
        said, results = Path(folder, "said"), Path(folder, "results.json")
        ourselves = [sys.executable, "-X", "faulthandler", "-m", "gates", f"--results={results}"]
        print(f"beside {longest}, shown at the end: {' '.join(others)}", flush=True)
        with said.open("w") as out:
            aside = subprocess.Popen(
                ["nice", "-n", "5", *ourselves, f"--pytest-args={pytest_args}", *others],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            found = run([longest], pytest_args)
        finally:
            aside.wait()  # Ctrl-C reached it, too
            print(said.read_text(errors="replace"), flush=True)
        if not results.exists():
            return [*found, (f"all but {longest}", False, 0.0)]
        return [tuple(result) for result in json.loads(results.read_text())] + found


def main(argv: list[str]) -> int:
    """Return the exit status: 0 when every step of the chosen groups passed, 1 otherwise."""
    known = [*GROUPS, *(step for steps in GROUPS.values() for step in steps if step not in GROUPS)]
    parser = argparse.ArgumentParser(
        prog="tests/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", default=["all"], metavar="STAGE", help=f"all, or any of: {', '.join(known)} (default: all)"
    )
    parser.add_argument("--pytest-args", default="", help='more arguments for pytest, e.g. --pytest-args "-k redis -x"')
    parser.add_argument("--results", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    chosen: list[str] = []
    for name in GROUPS if "all" in arguments.what else arguments.what:
        if name not in known:
            parser.error(f"no stage {name!r}; there are: all, {', '.join(known)}")
        chosen += [step for step in GROUPS.get(name, [name]) if step not in chosen]

    started = time.monotonic()
    others = [step for step in chosen if step != LONGEST]
    if arguments.results:
        arguments.results.write_text(json.dumps(run(chosen, arguments.pytest_args)))
        return 0
    if others and LONGEST in chosen:
        results = run_beside(LONGEST, others, arguments.pytest_args)
    else:
        results = run(chosen, arguments.pytest_args)
    return summary(results, time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
