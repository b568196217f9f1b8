# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a ferry has done so far, for whoever comes after it: the guard, a later session, a person.

On tmpfs: nothing in the freeze waits for a disk. A node that restarts has lost the frozen pod with it.
"""

from __future__ import annotations

import os
import typing as t

from .._common import faults
from .._common.errors import NotFound, PodferryError
from .._common.files import read_json, write_json
from .paths import STATE, RunPaths, valid_run

SOURCE_STATES = (
    "prepared", "waiting", "freezing", "frozen", "data_ready", "go_given", "relinquished", "committed", "aborted",
    "in_doubt", "killed", "copied",
)  # fmt: skip
"""The states of the source, in their order; ``copied`` comes after ``frozen`` and is the last of a copy's.

From ``go_given`` on only the target's record tells who may run.
"""

THAW_BY_GUARD = ("freezing", "frozen", "data_ready")
"""States in which a source whose ferry died must run again."""


LOADING = "loading"
"""The state of a run whose state just comes from a store or an archive: it has no ferry yet."""


class Journal:
    """The journal of one run on one node."""

    def __init__(self, paths: RunPaths) -> None:
        self._path = paths.journal
        self.data: dict[str, t.Any] = {}

    @classmethod
    def load(cls, paths: RunPaths) -> Journal:
        """Read an existing journal.

        :raises NotFound: there is none.
        """
        journal = cls(paths)
        try:
            data = read_json(paths.journal)
        except (OSError, ValueError, RecursionError) as error:
            raise NotFound(f"this node knows no run {paths.run}") from error
        if not isinstance(data, dict):
            raise NotFound(f"this node knows no run {paths.run}", "Its journal is damaged.")
        journal.data = data
        return journal

    @property
    def state(self) -> str:
        """The state last written."""
        return str(self.data.get("state", "none"))

    def write(self, state: str, **more: t.Any) -> None:
        """Enter ``state``; what else is given stays in the journal from now on."""
        self.data.update(more)
        self.data["state"] = state
        point = f"{self.data.get('role')}:journal:{state}"
        faults.point(f"{point}:before")
        write_json(self._path, self.data)
        faults.point(f"{point}:after")


def all_runs(state: str = STATE) -> list[tuple[RunPaths, Journal]]:
    """All runs that this node has a journal of."""
    found: list[tuple[RunPaths, Journal]] = []
    folder = os.path.join(state, "runs")
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        try:
            paths = RunPaths(valid_run(name), state)
            found.append((paths, Journal.load(paths)))
        except PodferryError:  # a folder that is no run of ours, or one that never got its journal
            continue
    return found
