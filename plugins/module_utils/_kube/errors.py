# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What can go wrong between the controller and the Kubernetes API."""

from __future__ import annotations


class KubeError(Exception):
    """The API answered, and the answer is an error.

    ``status`` is the HTTP status, ``reason`` the API's own word (``NotFound``,
    ``AlreadyExists``, ``Forbidden``, ...), ``message`` what it says to a person.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def not_found(self) -> bool:
        return self.status == 404

    @property
    def conflict(self) -> bool:
        return self.status == 409

    @property
    def passing(self) -> bool:
        """True for an answer that a later try may not give (overload, restart)."""
        return self.status in (429, 500, 502, 503, 504)

    @property
    def over_quota(self) -> bool:
        """A ResourceQuota has no room (now)."""
        return self.status == 403 and "exceeded quota" in self.message


class KubeUnavailable(Exception):
    """The API did not answer: refused, reset, timed out, TLS failed.

    ``sent`` is False when there was no connection, so that the request cannot have been carried out.
    """

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class KubeSetupError(Exception):
    """No client can be built from the options given; ``remedy`` says what to do."""

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.remedy = remedy


class KubeTimeout(Exception):
    """A condition was not reached in time; ``last`` is the object last seen, if any."""

    def __init__(self, message: str, last: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.last = last
