# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Cordoning, and telling others that a node is being drained: by whom and since when.

The announcement is an annotation on the node, refreshed while the drain lives and removed at its end, so that of two drains
that would undo each other's work one gives way. It protects no pod: a cordoned node takes none, and each pod's run is
locked on its node.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from .._kube import predicates
from .._kube.cluster import FIELD_MANAGER
from .._kube.errors import KubeError, KubeUnavailable
from .._migrate.errors import Cancelled, PodferryError
from .._migrate.patience import persist
from .._migrate.ports import Tools
from .._plan.nodes import untolerated
from .options import NodesApi
from .signs import DRAIN, RENEW_S, STALE_S, Announcement, Sign, Signs, announcement

Obj = Mapping[str, Any]
Rival = tuple[str, Announcement]
"""A node and who drains it."""

CORDONED_BY = "podferry.live/cordoned-by"
"""On a node that a drain cordoned, for as long as it stays so."""

_TRIES = 8
_YIELD_S = 15.0
_LOOK_S = 1.0
_AGAIN_S = 2.0
_RELEASE_S = 60.0


class DrainConflict(PodferryError):
    """Another drain is in the way."""

    kind = "drain_conflict"


def rivals(nodes: Sequence[Obj], node: str, target: str, known: Collection[str]) -> list[Obj]:
    """The nodes that the pods of ``node`` would have to go to, when none of them takes pods: their drains are in our way.

    ``known``: nodes that the inventory can reach. One with a taint does not count as a way out: few pods bear it.
    """
    others = [
        n
        for n in nodes
        if predicates.name_of(n) != node
        and target in ("", predicates.name_of(n))
        and (target or (predicates.name_of(n) in known and not untolerated(n, [])))
    ]
    if any(predicates.schedulable(n) and predicates.node_ready(n) for n in others):
        return []
    return [n for n in others if announcement(n) is not None]


class Cordon:
    """The node as this drain holds it."""

    def __init__(
        self,
        cluster: NodesApi,
        node: str,
        target: str,
        mine: Announcement,
        *,
        known: Collection[str],
        tools: Tools,
    ) -> None:
        self._cluster = cluster
        self._node = node
        self._target = target
        self._mine = mine
        self._known = known
        self._tools = tools
        self._signs = Signs(tools.clock, tools.wall)
        self._renew_at = 0.0
        self._lifting = False
        self.held = False
        """Marks of ours may be on the node: a request that sets them has been sent, and none has taken them back."""
        self.displaced = ""
        """Whose the node is now, when it is not ours any more."""
        self.trouble: Exception | None = None
        """Why what was begun could not be taken back."""
        self.before = False
        """It was cordoned when we came."""
        self.ours = False
        """The node is cordoned by us, or by an earlier drain of ours that did not come to its end."""

    def check(self) -> None:
        """Raise DrainConflict when somebody else was first, Cancelled when nobody wants to wait. Touches nothing.

        It takes up to ``STALE_S`` to see that a drain that has left its mark is dead.
        """
        waiting = False
        while self._nobody_knows():
            if not waiting:
                self._tools.reporter.phase("wait", self._node, "for a sign of life of the drain that is announced")
                waiting = True
            self._pause()

    def _nobody_knows(self) -> bool:
        """Is there a drain in the way that may be dead? Raises DrainConflict for one that lives."""
        node = self._read()
        self.before = not predicates.schedulable(node)
        other, sign = self._signs.of(node)
        if other is not None and sign == "alive":
            raise _same_node(self._node, other)
        against = self._rivals()
        if "alive" in against.values():
            raise _opposite([one for one, lives in against.items() if lives == "alive"])
        return sign == "unclear" or bool(against)

    def _pause(self) -> None:
        if self._tools.interrupt.is_set():
            raise Cancelled("the drain was stopped before it had begun", "Nothing was moved.", "cordon")
        self._tools.sleep(_LOOK_S)

    def take(self) -> None:
        """Cordon and announce. Raises PodferryError (DrainConflict among them), KubeError, KubeUnavailable.

        Then nothing of ours is left, or ``held`` and ``trouble`` say that it is.
        """
        try:
            self._announce()
            self._settle_opposite()
        except BaseException:
            self._give_up()
            raise

    def _give_up(self) -> None:
        """Before anything was moved: the node as it was. What an earlier drain had cordoned was so before."""
        try:
            self._release(lambda run: run == self._mine.run)
        except (PodferryError, KubeError, KubeUnavailable) as exc:
            self.trouble = exc

    def _announce(self) -> None:
        for attempt in range(_TRIES):
            node = self._read()
            other, sign = self._signs.of(node)
            # One that was not there at the check has come since: it lives, however old it looks.
            if other is not None and other.run != self._mine.run and sign != "dead":
                raise _same_node(self._node, other)
            before = not predicates.schedulable(node)
            earlier = _cordoner(node)
            marks: dict[str, str | None] = {DRAIN: self._now().text()}
            if not earlier and CORDONED_BY in predicates.annotations_of(node):
                marks[CORDONED_BY] = None
            if not before:
                marks[CORDONED_BY] = f"{self._mine.run} {self._mine.by} {self._mine.since}"
            self.before, self.ours = before, not before or bool(earlier)
            self.held = True  # from here on: it may be done although its answer is lost
            try:
                self._cluster.patch_node(self._node, annotations=marks, unschedulable=True, seen=node)
            except KubeError as exc:
                if not exc.conflict or attempt == _TRIES - 1:
                    raise
                continue  # the kubelet wrote its status in between
            self._renew_at = self._tools.clock() + RENEW_S
            return

    def _settle_opposite(self) -> None:
        """Both have announced before either looked: the earlier one goes on when the later one has given way."""
        deadline = self._tools.clock() + _YIELD_S
        while True:
            against = self._rivals()
            if not against:
                return
            first = min(told.order for _name, told in against)
            if first < self._mine.order or self._tools.clock() >= deadline:
                raise _opposite(list(against))
            self._pause()

    def renew(self) -> None:
        """Say that we are still there, every now and then. An API that fails is no reason to stop; ``displaced`` is one."""
        now = self._tools.clock()
        if not self.held or self.displaced or now < self._renew_at:
            return
        self._renew_at = now + _AGAIN_S
        with contextlib.suppress(KubeError, KubeUnavailable):
            node = self._cluster.get_node(self._node)
            if node is None or not self._still_ours(node):
                return
            self._cluster.patch_node(self._node, annotations={DRAIN: self._now().text()}, seen=node)
            self._renew_at = now + RENEW_S

    def _still_ours(self, node: Obj) -> bool:
        """Another drain has taken us for dead, or a person has removed the mark: what it says now is not ours to overwrite."""
        told = announcement(node)
        if told is not None and told.run == self._mine.run:
            return True
        whose = f"is being drained {told.sentence}" if told else "does not say any more that this drain empties it"
        self.displaced = f"node {self._node} {whose}: this drain has lost it"
        return False

    def release(self, *, uncordon: bool) -> bool:
        """Take the announcement back, and the cordon if it is ours and ``uncordon``. True when the node was uncordoned.

        Raises KubeError, PodferryError: then it is still ``held``.
        """
        return self._release(lambda _run: uncordon)

    def ways_out(self, *, uncordon: bool) -> str:
        """What a person does in the place of ``release``."""
        marks = [f"{DRAIN}-"]
        if uncordon and self.ours:
            marks.append(f"{CORDONED_BY}-")
        commands = [f"kubectl annotate node {self._node} {' '.join(marks)}"]
        if uncordon and self.ours:
            commands.append(f"kubectl uncordon {self._node}")
        return "; ".join(commands)

    def _release(self, lifts: Callable[[str], bool]) -> bool:
        """``lifts``: is the cordon of this drain to be lifted?"""
        if not self.held:
            return False
        what = f"take back the marks on node {self._node}"
        lifted = persist(self._tools, what, lambda: self._take_back(lifts), patience_s=_RELEASE_S)
        self.held = False
        return lifted

    def _take_back(self, lifts: Callable[[str], bool]) -> bool:
        for attempt in range(_TRIES):
            node = self._cluster.get_node(self._node)
            if node is None:
                return False
            told = announcement(node)
            # Gone already, or it is another drain's node now. A mark that a person removed leaves our cordon to be lifted.
            whose = _cordoner(node) if told is None else told.run
            if whose != self._mine.run:
                return self._lifting and predicates.schedulable(node)
            marks: dict[str, str | None] = {DRAIN: None}
            cordoner = _cordoner(node)
            lift = bool(cordoner) and lifts(cordoner)
            if lift or not cordoner:
                marks[CORDONED_BY] = None
            self._lifting = lift
            try:
                self._cluster.patch_node(
                    self._node, annotations=marks, unschedulable=False if lift else None, seen=node
                )
            except KubeError as exc:
                if not exc.conflict or attempt == _TRIES - 1:
                    raise
                continue  # the kubelet wrote its status in between
            return lift
        return False

    def _rivals(self) -> dict[Rival, Sign]:
        """Drains in our way that are not known to be dead."""
        against: dict[Rival, Sign] = {}
        for node in rivals(self._cluster.list_nodes(), self._node, self._target, self._known):
            told, sign = self._signs.of(node)
            if told is not None and sign != "dead":
                against[(predicates.name_of(node), told)] = sign
        return against

    def _read(self) -> Obj:
        node = self._cluster.get_node(self._node)
        if node is None:
            raise PodferryError(
                f"the cluster has no node {self._node}", "Give node= as 'kubectl get nodes' shows it.", "preflight"
            )
        return node

    def _now(self) -> Announcement:
        return Announcement(self._mine.run, self._mine.by, self._mine.since, self._tools.wall())


def timestamp(wall: float) -> str:
    """Seconds since 1970 as UTC, so that strings sort like times."""
    return datetime.datetime.fromtimestamp(wall, datetime.UTC).isoformat(timespec="milliseconds")


def _cordoner(node: Obj) -> str:
    """The drain of ours that has cordoned the node; '' when somebody else has, or nobody."""
    if predicates.schedulable(node) or _owners(node) not in (None, {FIELD_MANAGER}):
        return ""
    return predicates.annotations_of(node).get(CORDONED_BY, "").partition(" ")[0]


def _owners(node: Obj) -> set[str] | None:
    """Who has cordoned the node, as the API keeps it: our annotation outlives 'kubectl uncordon'. None: it keeps nothing."""
    managed = predicates.metadata(node).get("managedFields")
    if not managed:
        return None
    return {
        str(entry.get("manager"))
        for entry in managed
        if "f:unschedulable" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    }


def _same_node(node: str, other: Announcement) -> DrainConflict:
    return DrainConflict(
        f"node {node} is being drained already, {other.sentence}",
        f"Wait for its end. A drain whose controller died is forgotten {STALE_S:.0f} s after its last sign of life.",
        "preflight",
    )


def _opposite(against: Sequence[Rival]) -> DrainConflict:
    told = "; ".join(
        f"node {name} is being drained itself, {other.sentence}"
        for name, other in sorted(against, key=lambda rival: rival[0])
    )
    return DrainConflict(
        f"the pods have nowhere to go: {told}",
        "Wait for its end, then run again; or give another target. Two opposite drains would send the pods back and forth.",
        "preflight",
    )
