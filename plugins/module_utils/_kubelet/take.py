# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Asking, and asking again where that cannot make two checkpoints of one."""

from __future__ import annotations

import dataclasses
import typing as t

from . import answers
from .errors import Unreachable
from .request import NotSent, Request, Sender

FIRST_PAUSE_S = 1.0


@dataclasses.dataclass(frozen=True)
class Taken:
    """A checkpoint was made. ``duration_s`` is that of the call that made it."""

    path: str
    duration_s: float
    attempts: int


def take(
    send: Sender,
    request: Request,
    via: str,
    *,
    retries: int,
    clock: t.Callable[[], float],
    sleep: t.Callable[[float], None],
) -> Taken:
    """Have a checkpoint made.

    Only what has surely not run is asked for again: no connection, 429, 503. The pause doubles each time.

    :raises PodferryError: one type for each thing that can be wrong.
    """
    for attempt in range(1, retries + 2):
        begun, last = clock(), attempt > retries
        try:
            answer = send(request)
        except NotSent as error:
            if last:
                raise Unreachable(
                    f"no connection, {attempt} times: {error}",
                    "Check the service, the address and the port, and what is between. Nothing was done.",
                ) from error
        else:
            if last or not answers.may_be_repeated(answer):
                return Taken(answers.location(answer, request, via), clock() - begun, attempt)
        sleep(FIRST_PAUSE_S * 2 ** (attempt - 1))
    raise AssertionError("the last attempt returns or raises")
