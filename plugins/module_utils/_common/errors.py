# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The errors of the engine: each says what happened and what a person can do about it."""

from __future__ import annotations

import typing as t


class PodferryError(Exception):
    """Something that stops a step of a migration.

    :param message: what happened, in one sentence.
    :param remedy: what the operator can do about it; empty when nothing sensible can be said.
    :param phase: the phase in which it happened; filled in by whoever knows it.
    """

    kind = "error"

    def __init__(self, message: str, remedy: str = "", phase: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.phase = phase

    def to_dict(self) -> dict[str, t.Any]:
        """Return the JSON form that crosses process and node borders."""
        return {"type": self.kind, "message": self.message, "remedy": self.remedy, "phase": self.phase}


class InvalidInput(PodferryError):
    """What came in (a request, a name, a file of another node) is not of the agreed form."""

    kind = "invalid_input"


class NotFound(PodferryError):
    """A container, run or file that a step needs does not exist."""

    kind = "not_found"


class CommandFailed(PodferryError):
    """A program that we started ended badly."""

    kind = "command_failed"


class FreezeFailed(PodferryError):
    """A container could not be frozen, or did not stay frozen."""

    kind = "freeze_failed"


class DumpFailed(PodferryError):
    """CRIU refused or failed to dump."""

    kind = "dump_failed"


class RestoreFailed(PodferryError):
    """The target could not be brought to stand frozen with the state of the source."""

    kind = "restore_failed"


class TargetGaveUp(RestoreFailed):
    """The target's ferry said that its record is aborted: it was not let go and never will be."""

    @classmethod
    def because(cls, data: t.Mapping[str, t.Any] | None) -> TargetGaveUp:
        """Take over what the target said of the cause, whatever it said."""
        cause = data if isinstance(data, dict) else {}
        return cls(
            str(cause.get("message") or "the target gave up"),
            str(cause.get("remedy") or ""),
            str(cause.get("phase") or ""),
        )


class LinkLost(PodferryError):
    """The other ferry went silent or the connection broke."""

    kind = "link_lost"


class DeadlineExceeded(PodferryError):
    """A step did not end in the time that it may take."""

    kind = "deadline"


class Cancelled(PodferryError):
    """Somebody asked to stop before the commit point."""

    kind = "cancelled"


class StateConflict(PodferryError):
    """A request does not fit the state that the run is in."""

    kind = "state_conflict"


class LeftOver(PodferryError):
    """A run has come to its end, but something of it cannot be removed; asking again tries again."""

    kind = "left_over"


_BY_KIND: dict[str, type[PodferryError]] = {
    cls.kind: cls
    for cls in (
        PodferryError, InvalidInput, NotFound, CommandFailed, FreezeFailed, DumpFailed, RestoreFailed, LinkLost,
        DeadlineExceeded, Cancelled, StateConflict, LeftOver,
    )
}  # fmt: skip


def from_dict(data: t.Mapping[str, t.Any]) -> PodferryError:
    """Make an error again of what :meth:`PodferryError.to_dict` gave; an unknown type becomes the base class."""
    data = data if isinstance(data, dict) else {}
    cls = _BY_KIND.get(str(data.get("type")), PodferryError)
    return cls(str(data.get("message", "")), str(data.get("remedy") or ""), str(data.get("phase") or ""))
