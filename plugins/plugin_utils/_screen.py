# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a person sees of a migration while it goes on, and how he stops it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, get_args

from ansible_collections.podferry.live.plugins.module_utils._report.record import Outcome
from ansible_collections.podferry.live.plugins.module_utils._report.summary import human_bytes

OUTCOMES = get_args(Outcome)


class Screen:
    """One line a phase, as it happens. Never lets a lost terminal disturb a migration. Safe to use from threads."""

    def __init__(self, display: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._display = display
        self._clock = clock
        self._begun = clock()
        self._lock = threading.Lock()
        self.interrupted = threading.Event()

    def phase(self, name: str, node: str = "", detail: str = "") -> None:
        self._say(f"{node or 'controller':<14} {name.replace('_', ' ')}" + (f": {detail}" if detail else ""))

    def progress(self, sent: int, expected: int, rate: float) -> None:
        of = f" of about {human_bytes(expected)}" if expected > sent else ""
        self._say(f"{'':<14} {human_bytes(sent)}{of}, {human_bytes(rate)}/s")

    def warning(self, text: str) -> None:
        self._say(f"{'note':<14} {text}", color="yellow")

    def lines(self, lines: list[str]) -> None:
        for line in lines:
            self._show(line)

    def _say(self, text: str, color: str | None = None) -> None:
        self._show(f"  {self._clock() - self._begun:7.2f} s  {text}", color)

    def _show(self, text: str, color: str | None = None) -> None:
        with self._lock, suppress(Exception):  # the process that owns the terminal may be gone
            if not self.interrupted.is_set():
                self._display.display(text, color=color)
                return
            # After Ctrl-C ansible-playbook waits for us and reads no more of what we display, but what becomes of the
            # pod is just what its user wants to know then: write to where it would have been written.
            with open(f"/proc/{os.getppid()}/fd/1", "a", encoding="utf-8") as terminal:
                terminal.write(text + "\n")


@contextmanager
def interruptible(flag: threading.Event) -> Iterator[None]:
    """Ctrl-C and SIGTERM raise ``flag`` instead of ending the process in the middle of a migration."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, lambda _n, _f: flag.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class OfPod:
    """One pod's lines among those of others: its begin, its freeze, its end; every phase for those who want to see more."""

    _SHOWN = ("begin", "freeze", "cancel")

    def __init__(self, screen: Screen, title: str, *, every_phase: bool) -> None:
        self._screen = screen
        self._title = title
        self._every_phase = every_phase
        self._last = ""

    def phase(self, name: str, node: str = "", detail: str = "") -> None:
        self._last = name
        if self._every_phase or name in (*self._SHOWN, *OUTCOMES):
            self._screen.phase(f"{self._title} {name}", node, detail)

    def progress(self, sent: int, expected: int, rate: float) -> None:
        return  # of several pods at once it would tell nobody anything

    def warning(self, text: str) -> None:
        if self._every_phase or self._last != "preflight":  # what a move changes for others is the same for each pod
            self._screen.warning(f"{self._title}: {text}")
