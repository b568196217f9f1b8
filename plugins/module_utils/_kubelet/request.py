# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What is asked of a kubelet, and what an answer is."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from urllib.parse import quote

from .._common.errors import InvalidInput

KUBELET, API = "kubelet", "api"
"""The two ways: the kubelet's own port, or the node proxy of the API server."""

CRI_DEFAULT_S = 120
"""The kubelet's runtimeRequestTimeout as it is delivered: it never waits shorter than that."""
MARGIN_S = 15.0

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Request:
    """A checkpoint of one container; ``timeout`` in seconds, 0 leaves it to the kubelet."""

    namespace: str
    pod: str
    container: str
    timeout: int = 0

    def __post_init__(self) -> None:
        """:raises InvalidInput: a name that Kubernetes would not give becomes no part of a path."""
        for what, value, form, longest in (
            ("namespace", self.namespace, _LABEL, 63),
            ("pod", self.pod, _NAME, 253),
            ("container", self.container, _LABEL, 63),
        ):
            if not form.fullmatch(value) or len(value) > longest:
                raise InvalidInput(f"{what} {value!r} is not a name of Kubernetes", f"Give the {what}'s name.")
        if self.timeout < 0:
            raise InvalidInput("timeout is less than 0", "0 leaves it to the kubelet.")

    @property
    def title(self) -> str:
        """For messages."""
        return f"container {self.container} of pod {self.namespace}/{self.pod}"

    @property
    def path(self) -> str:
        """On the kubelet's port."""
        path = f"/checkpoint/{self.namespace}/{self.pod}/{self.container}"
        return f"{path}?timeout={self.timeout}" if self.timeout else path

    def proxied(self, node: str) -> str:
        """On the API server, without the query."""
        return f"/api/v1/nodes/{quote(node, safe='')}/proxy/checkpoint/{self.namespace}/{self.pod}/{self.container}"

    @property
    def patience_s(self) -> float:
        """How long to wait for the answer: the kubelet's own limit, which is never below its default, and a little."""
        return max(self.timeout, CRI_DEFAULT_S) + MARGIN_S

    @property
    def archive(self) -> re.Pattern[str]:
        """File names that the kubelet gives to archives of this container."""
        names = "-".join(re.escape(part) for part in (f"{self.pod}_{self.namespace}", self.container))
        return re.compile(rf"checkpoint-{names}-(\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d))\.tar")


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP answer. ``reason`` is the API server's word for an error of its own; the kubelet has no such word."""

    status: int
    body: str
    reason: str = ""


class NotSent(Exception):
    """No connection was made, so nothing was asked: another try cannot do it twice."""


class Sender(t.Protocol):
    """One request, one answer.

    Raises NotSent, Untrusted, Unreachable (for good), Unauthorized (by TLS), OutcomeUnknown.
    """

    def __call__(self, request: Request, /) -> Answer: ...
