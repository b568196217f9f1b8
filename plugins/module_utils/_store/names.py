# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Names that may stand in a store. Whatever comes from elsewhere is matched here before it becomes part of a path or URL."""

from __future__ import annotations

import datetime
import re
import typing as t

from .._common.errors import InvalidInput

_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{12}")
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_POD = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_HOLDER = re.compile(r"[A-Za-z0-9-]{1,64}")
_BLOB = re.compile(r"(state|index)\.0|pages\.(0|[1-9]\d{0,5})")
_FILE = re.compile(
    r"(pod|state)\.json"
    r"|[a-z0-9][a-z0-9.-]{0,62}/"
    r"(criu/[A-Za-z0-9][A-Za-z0-9._-]{0,99}|[a-z0-9][a-z0-9-]{0,62}(\.\d{1,6})?\.tar|held\.json|log)"
)


class Place(t.NamedTuple):
    """Whose checkpoints: a pod."""

    namespace: str
    pod: str


def new_id(now: datetime.datetime, run: str) -> str:
    """The id of what ``run`` stores at ``now`` (UTC): those of a pod sort by time."""
    return f"{now:%Y%m%dT%H%M%SZ}-{run}"


def written(now: datetime.datetime) -> str:
    """A time (UTC) as manifests have it."""
    return f"{now:%Y-%m-%dT%H:%M:%SZ}"


def valid_id(text: t.Any) -> str:
    """:raises InvalidInput: it is no checkpoint's id."""
    return _valid(_ID, text, "id of a checkpoint")


def valid_place(namespace: t.Any, pod: t.Any) -> Place:
    """:raises InvalidInput: Kubernetes would not take these names."""
    if len(str(pod)) > 253:
        raise InvalidInput(f"{str(pod)[:60]!r}… is no name of a pod")
    return Place(_valid(_NAMESPACE, namespace, "namespace"), _valid(_POD, pod, "name of a pod"))


def valid_blob(text: t.Any) -> str:
    """:raises InvalidInput: no blob has that name."""
    return _valid(_BLOB, text, "name of a stored file")


def valid_holder(text: t.Any) -> str:
    """:raises InvalidInput: nobody who uses a checkpoint is called so."""
    return _valid(_HOLDER, text, "name of a run")


def valid_file(text: t.Any) -> str:
    """:raises InvalidInput: no file of a pod's state has that name."""
    return _valid(_FILE, text, "name of a file of a checkpoint")


def _valid(pattern: re.Pattern[str], text: t.Any, what: str) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        raise InvalidInput(f"{str(text)[:100]!r} is no {what}")
    return text
