# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""Run host programs; what they said goes into the error."""

from __future__ import annotations

import subprocess
from pathlib import Path


class LabError(Exception):
    """Something the user should read."""


def run(*argv: str, stdin: str | None = None, log: str | None = None, env: dict[str, str] | None = None) -> str:
    """Run a program and return its output. Output goes to file ``log`` when given. Raises LabError."""
    try:
        if log:
            with Path(log).open("ab") as handle:
                subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=handle, stderr=subprocess.STDOUT, check=True, env=env
                )
            return ""
        done = subprocess.run(argv, input=stdin or "", capture_output=True, text=True, check=True, env=env)
        return done.stdout
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is not installed") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip() if not log else _tail(log)
        shown = " ".join(word if "\n" not in word else "…" for word in argv)
        raise LabError(f"`{shown}` ended with {error.returncode}: {said}") from error


def _tail(path: str, lines: int = 15) -> str:
    with Path(path).open(encoding="utf-8", errors="replace") as handle:
        return f"see {path}, which ends with:\n" + "".join(handle.readlines()[-lines:])
