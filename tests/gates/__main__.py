# SPDX-License-Identifier: Apache-2.0
"""Run the stages of the test suite one after another and say what passed.

Every stage runs to its end even when an earlier one failed: one run tells everything that is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time

from gates import checks
from gates.runner import Runner

GROUPS: dict[str, list[str]] = {
    "lint": ["format", "yaml", "shell", "ansible-lint"],
    "types": ["mypy", "node-python"],
    "unit": ["unit"],
    "sanity": ["ansible-test", "docs", "changelog", "galaxy", "syntax", "oldest"],
    "e2e": ["e2e", "molecule"],
}


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
    arguments = parser.parse_args(argv)
    chosen: list[str] = []
    for name in GROUPS if "all" in arguments.what else arguments.what:
        if name not in known:
            parser.error(f"no stage {name!r}; there are: all, {', '.join(known)}")
        chosen += [step for step in GROUPS.get(name, [name]) if step not in chosen]

    started = time.monotonic()
    runner = Runner(pytest_args=arguments.pytest_args.split())
    for step in chosen:
        runner.step(step, checks.STEPS[step])
    return runner.summary(time.monotonic() - started)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
