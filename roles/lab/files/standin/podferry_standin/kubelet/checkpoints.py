# SPDX-License-Identifier: Apache-2.0
"""The checkpoint call, answer for answer as Kubernetes 1.36 gives it (recorded, and read in pkg/kubelet/server/server.go)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from .access import Access, User
from .apiclient import ApiError
from .config import stamp
from .errors import CriError

Obj = dict[str, Any]
_KINDS = ("containers", "initContainers", "ephemeralContainers")


class Refused(Exception):
    """A status other than 200, and the words that go with it."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


class Runtime(Protocol):
    """The container runtime, as far as it is needed here."""

    def checkpoint(self, container: str, location: str, timeout: int, /) -> None:
        """:raises CriError:"""


class Checkpoints:
    """What ``POST /checkpoint/NAMESPACE/POD/CONTAINER`` does."""

    def __init__(
        self,
        cri: Runtime,
        access: Access,
        folder: Path,
        pod: Callable[[str, str], Obj | None],
        running: Callable[[str, str, str], Any | None],
    ) -> None:
        """
        :param folder: where archives go
        :param pod: finds a pod of this node by namespace and name
        :param running: finds the running container of a pod by namespace, pod and name
        """
        self._cri, self._access, self._folder = cri, access, folder
        self._pod, self._running = pod, running
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def admit(self, user: User | None, verb: str) -> None:
        """:raises Refused: 401, 403, and 500 when the API cannot be asked."""
        if user is None:
            raise Refused(401, "Unauthorized")
        try:
            allowed = self._access.may(user, verb, "checkpoint")
        except ApiError:
            words = f"Authorization error (user={user.name}, verb={verb}, resource=nodes, subresource=checkpoint)"
            raise Refused(500, words) from None
        if not allowed:
            words = f"Forbidden (user={user.name}, verb={verb}, resource=nodes, subresource(s)=[checkpoint])\n"
            raise Refused(403, words)

    def take(self, namespace: str, name: str, container: str, timeouts: list[str]) -> str:
        """Make one, and return the body of the answer.

        :raises Refused: 404 or 500
        """
        pod = self._pod(namespace, name)
        if pod is None:
            raise Refused(404, "pod does not exist")
        if container not in [one["name"] for kind in _KINDS for one in pod["spec"].get(kind) or []]:
            raise Refused(404, f"container {container} does not exist")
        try:
            timeout = int(timeouts[-1]) if timeouts else 0
        except ValueError:
            raise Refused(404, "cannot parse value of timeout parameter") from None
        try:
            return self._made(namespace, name, container, timeout)
        except CriError as error:
            raise Refused(500, f"checkpointing of {namespace}/{name}/{container} failed ({error.message})") from error

    def _made(self, namespace: str, name: str, container: str, timeout: int) -> str:
        found = self._running(namespace, name, container)
        if found is None:
            raise CriError("CheckpointContainer", "", f"container {container} not found")
        if timeout < 0:
            raise CriError("CheckpointContainer", "", "CheckpointContainer requires the timeout value to be > 0")
        location = self._folder / f"checkpoint-{name}_{namespace}-{container}-{stamp()}.tar"
        self._cri.checkpoint(found.id, str(location), timeout)
        return json.dumps({"items": [str(location)]}, separators=(",", ":"))
