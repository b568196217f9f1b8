# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""One record of one migration. Its JSON form is documented in ``docs/report.md`` (checked by a test)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Outcome = Literal["finished", "undone", "in_doubt", "refused", "cancelled", "already_there", "planned"]

SCHEMA = 1


@dataclass
class Phase:
    """A named step. ``node`` is where it was measured; ``start_ms`` counts from the begin of the run."""

    name: str
    start_ms: float
    ms: float
    node: str = "controller"


@dataclass
class Place:
    """One end of a migration."""

    node: str = ""
    pod: str = ""
    uid: str = ""
    ip: str = ""


@dataclass
class Failure:
    """What went wrong, where, and what to do about it."""

    phase: str
    type: str
    message: str
    remedy: str = ""


@dataclass
class Report:
    """What happened. Times in milliseconds, sizes in bytes; None: not known or not reached."""

    run: str
    namespace: str
    pod: str
    outcome: Outcome = "planned"
    schema: int = SCHEMA
    mode: str | None = None
    owner: str = ""
    tcp: str = "close"
    source: Place = field(default_factory=Place)
    target: Place = field(default_factory=Place)
    started_at: str = ""
    resumed_run: bool = False
    restored_at_home: bool = False
    total_ms: float | None = None
    downtime_ms: float | None = None
    until_ready_ms: float | None = None
    frozen_at: float | None = None
    diverged_at: float | None = None
    source_frozen_ms: float | None = None
    thawed_at: float | None = None
    bytes: dict[str, int] = field(default_factory=dict)
    connections_closed: int = 0
    phases: list[Phase] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusals: list[dict[str, Any]] = field(default_factory=list)
    error: Failure | None = None
    criu_log: list[str] = field(default_factory=list)
    ways_out: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def bytes_sent(self) -> int | None:
        """Bytes that crossed the link, when the ferries told."""
        return self.bytes.get("wire", self.bytes.get("files"))
