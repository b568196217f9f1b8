# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What somebody else does to a pod of a run while the run is busy with the nodes: seen by watches in threads of their own.

Nothing waits for them, least of all in the freeze: without an API they see nothing, and the run goes its way.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from .._kube import predicates
from .._kube.errors import KubeError, KubeTimeout, KubeUnavailable
from .run import Run
from .session import Event

Obj = Mapping[str, Any]

_SLICE_S = 5.0
"""A watch that is not wanted any more ends within this time."""
_PAUSE_S = 0.3


class Lookout:
    """One watch on one pod, for as long as ``with`` lasts."""

    def __init__(self, run: Run, pod: str, uid: str) -> None:
        self.run = run
        self.pod = pod
        self.uid = uid
        self._stopped = threading.Event()

    def __enter__(self) -> None:
        self.run.tools.beside(self._watch)

    def __exit__(self, *_exc: object) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        tools, namespace = self.run.tools, self.run.plan.namespace

        def worth_a_word(pod: Obj | None) -> bool:
            return self._stopped.is_set() or self.wanted(pod)

        while not self._stopped.is_set():
            try:
                pod = tools.cluster.wait_pod(namespace, self.pod, worth_a_word, timeout_s=_SLICE_S)
                if self._stopped.is_set() or self.act(pod):
                    return
            except KubeTimeout:
                continue
            except KubeUnavailable:
                pass
            except KubeError as exc:
                if not exc.passing:
                    return  # no right to look, or to write: what is done without it is done
            self._stopped.wait(_PAUSE_S)

    def wanted(self, pod: Obj | None) -> bool:
        """Whether this is what is looked out for."""
        raise NotImplementedError

    def act(self, pod: Obj | None) -> bool:
        """Do what is to be done about it; True when that was all. Raises KubeError, KubeUnavailable."""
        raise NotImplementedError

    def lost(self, pod: Obj | None) -> bool:
        """Whether the pod is not there any more, or ends."""
        return pod is None or predicates.uid_of(pod) != self.uid or predicates.terminating(pod)


class TargetGone(Lookout):
    """Somebody deletes the target pod, or its kubelet does not take it: then its copy must not be let go.

    The node does not tell: a kubelet lets a ``create`` that is under way come to its end, also when the pod is gone.
    """

    def wanted(self, pod: Obj | None) -> bool:
        return self.lost(pod) or (pod is not None and predicates.failed(pod))

    def act(self, pod: Obj | None) -> bool:
        if self.lost(pod):
            why = f"somebody deleted the target pod {self.pod}"
        else:
            status = (pod or {}).get("status") or {}
            why = f"the target pod {self.pod} has failed: {status.get('reason') or ''} {status.get('message') or ''}".strip()
        run = self.run
        run.events.put(Event("", "target_gone", run.id, "controller", {"message": why}, run.tools.clock()))
        return True


class Unrouted(Lookout):
    """Nobody is sent to the frozen source: it is marked as not Ready, again whenever its kubelet says Ready (every 10 s)."""

    def wanted(self, pod: Obj | None) -> bool:
        return self.lost(pod) or (pod is not None and predicates.ready(pod))

    def act(self, pod: Obj | None) -> bool:
        if self.lost(pod):
            return True
        self.mark()
        return False

    def mark(self) -> None:
        """Raises KubeError, KubeUnavailable."""
        plan = self.run.plan
        self.run.tools.cluster.mark_not_ready(
            plan.namespace,
            self.pod,
            uid=self.uid,
            reason=predicates.FROZEN,
            message=f"It is frozen: it runs on {plan.target_node} as {plan.target_pod} now (run {self.run.id}).",
        )
