# SPDX-License-Identifier: Apache-2.0
"""Everything that can go wrong in a migration is made to go wrong, and a witness judges: never two, never none, nothing left.

By default a selection that takes a few minutes; PODFERRY_FAULTS=all runs every fault point with every kind of failure. Pods of one
container and of two, with files that travel in rounds, moved under a new name or their own, and copied.
The witness is the workload itself: numbered lines with clocks, from every body that it had (`e2e.support.direct`).
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import pytest

from ansible_collections.podferry.live.plugins.module_utils._migrate.errors import NodeError
from e2e.support.cluster import until
from e2e.support.direct import (
    ADDRESSES,
    BOUND,
    LOGS,
    MIB,
    NODES,
    SOURCE,
    TARGET,
    Body,
    Crossing,
    Hands,
    crossing,
    everywhere,
    history,
    parting,
    runs_on,
)
from e2e.support.footprint import Footprint
from e2e.support.lab import Lab

pytestmark = pytest.mark.timeout(420)

ALL = os.environ.get("PODFERRY_FAULTS") == "all"
in_full = pytest.mark.skipif(not ALL, reason="in the full matrix (PODFERRY_FAULTS=all)")
_ended: Counter[str] = Counter()


# --- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hands(prepared: Lab, request: pytest.FixtureRequest) -> Iterator[Hands]:
    hands = Hands(prepared)
    with crossing(hands):  # what the first container of a node makes for good (the runtime's own cgroups) is no trace
        for node in NODES:
            Body(hands, node, "first", "00000000-0000").first()
    yield hands
    hands.close()
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    if reporter and _ended:
        cases = len(CHOSEN) + len(CHOSEN_DISTURBANCES)
        points = {(fault.shape, fault.point) for fault in MATRIX} | {(what.shape, what.point) for what in DISTURBANCES}
        reporter.write_line(
            f"\nfaults ({'all' if ALL else 'selected'}): {cases} of {len(MATRIX) + len(DISTURBANCES)} cases at {len(points)} points"
            f" ({len({point for _shape, point in points})} names) of {len(SHAPES)} kinds of pods and moves"
        )
        counts = ", ".join(f"{count} {how}" for how, count in sorted(_ended.items()))
        reporter.write_line(f"{sum(_ended.values())} migrations in this run: {counts}")


EVERYTHING = r"""
import json, os
def read(path):
    try:
        return open(path, 'rb').read().replace(b'\0', b' ').decode('utf-8', 'replace').strip()
    except OSError:
        return ''
passing = ('sshd', 'python3 -', 'systemd', '(', '/usr/lib/systemd', '/usr/sbin/sshd')
print(json.dumps({
    'process': sorted(c for c in (read('/proc/%s/cmdline' % p) for p in os.listdir('/proc') if p.isdigit()) if c and not c.startswith(passing)),
    'mount': sorted(line.split()[1] for line in read('/proc/mounts').splitlines()),
    'cgroup': sorted(d for d, _s, _f in os.walk('/sys/fs/cgroup') if not any(w in d for w in ('user.slice', 'user-', 'session-', 'ssh', '/systemd/'))),
    'file': sorted(os.path.join(d, n) for d, s, f in os.walk('/run/podferry') for n in s + f),
}))
"""


class Traces:
    """Promise P5: nodes before and after; not only what carries our name."""

    def __init__(self, hands: Hands) -> None:
        self.hands = hands
        self.before = self.take()

    def take(self) -> dict[str, tuple[Footprint, dict[str, list[str]]]]:
        def at(node: str) -> tuple[Footprint, dict[str, list[str]]]:
            return Footprint.of(self, node), json.loads(self.python(node, EVERYTHING))

        return everywhere(at)

    def python(self, node: str, program: str) -> str:
        return self.hands.run(node, "python3 -", stdin=program, timeout=120)

    def left(self) -> dict[str, dict[str, list[str]]]:
        now, found = self.take(), {}
        for node in NODES:
            ours = now[node][0].added(self.before[node][0])
            # containerd's own streaming port is another one after its restart; a ferry never listens there.
            ours["listening"] = [item for item in ours.get("listening", []) if not item.startswith("127.0.0.1:")]
            for kind, items in now[node][1].items():
                new = Counter(items) - Counter(self.before[node][1][kind])
                if new:
                    ours.setdefault(f"any {kind}", []).extend(new)
            if any(ours.values()):
                found[node] = ours
        return found


@pytest.fixture(scope="module")
def traces(hands: Hands) -> Traces:
    """Taken before the first workload exists; every test comes back to it."""
    return Traces(hands)


def nothing_left(traces: Traces) -> None:
    left: dict[str, dict[str, list[str]]] = {}

    def clean() -> bool:
        nonlocal left
        left = traces.left()
        return not left

    try:
        until("nothing left behind", clean, 15, every=0.5)
    except AssertionError:
        traces.before = traces.take()  # one failure is one failure
        raise AssertionError(f"left behind: {left}") from None


# --- the judge --------------------------------------------------------------------------------------------------------


def conclude(
    one: Crossing, verdict: str, *, surrender: bool = False, dead_source: bool = False, again: bool = True
) -> str:
    """From the end of a run to a workload that provably runs, exactly once; returns how it ended.

    :param surrender: the way out of a doubt.
    :param again: the kubelet tries once more to create the target's container, as it does until its pod is deleted.
    :param dead_source: the test itself killed the source: then nothing may run, and least of all the target.
    """
    if one.mode == "copy":
        return conclude_copy(one, verdict, dead_source=dead_source)
    how = {"committed": "finished", "aborted": "undone"}.get(verdict, verdict)
    if verdict == "in_doubt":
        one.source.stands()
        assert one.entry(SOURCE, "source")["state"] == "in_doubt"
        verdict = one.settle(surrender=surrender)
        how = f"in doubt, then {verdict}"
    if verdict == "committed" and one.mode == "successor":
        if one.change_over():
            runs_on(one.target, BOUND)
        else:
            assert one.go_home(), "the pod was restored on neither node"
            assert one.home is not None
            runs_on(one.home, BOUND)
            how = "restored at home"
    elif verdict == "committed":
        runs_on(one.target, BOUND)
    elif dead_source:
        one.target.stands()
        assert one.target.last() == 0
    else:
        runs_on(one.source, BOUND)
        if one.armed and one.mode == "twin" and again:
            one.create_again()
        assert one.target.last() == 0, "the target ran although the source was not given up"
    assert history(one.copies) == []
    one.finish()
    assert history(one.copies) == []
    if verdict == "committed":
        for each in one.source.ids:
            assert not one.hands.run(SOURCE, f"ctr -n k8s.io task ls | grep {each} | grep RUNNING", check=False)
    _ended[how] += 1
    return how


def conclude_copy(one: Crossing, verdict: str, *, dead_source: bool) -> str:
    """The source runs on whatever became of its copy; the copy runs, or never did, or was taken away again."""
    if not dead_source:
        runs_on(one.source, BOUND)
    if verdict == "in_doubt":  # a source that was copied does not know more; the copy's record does
        verdict = one.settle(surrender=True)
    how = {"committed": "finished", "aborted": "undone"}[verdict]
    if verdict == "committed":
        runs_on(one.target, BOUND)
    elif one.armed:
        if one.ask(TARGET, "record")["resumed"]:  # the word that it runs was lost: nobody counts on it
            how = "undone after it ran"
            one.target.remove()
        else:
            one.create_again()
            assert one.target.last() == 0, "the copy ran although it was given up"
    assert parting(one.source, one.target) == []
    one.finish()
    if not dead_source:
        one.source.grows(BOUND)
    assert parting(one.source, one.target) == []
    _ended[f"copy {how}"] += 1
    return how


# --- every fault point ------------------------------------------------------------------------------------------------


class Shape(NamedTuple):
    """What moves, and how."""

    mode: str
    containers: tuple[str, ...] = ("main",)
    files: bool = False


PAIR = ("main", "second")
SHAPES = {
    "twin": Shape("twin"),
    "successor": Shape("successor"),
    "copy": Shape("copy"),
    "pair": Shape("twin", PAIR),
    "pair-successor": Shape("successor", PAIR),
    "pair-copy": Shape("copy", PAIR),
    "files": Shape("twin", files=True),
    "files-successor": Shape("successor", files=True),
}


def moving(hands: Hands, shape: str, **options: Any) -> AbstractContextManager[Crossing]:
    """A crossing of that shape."""
    mode, containers, files = SHAPES[shape]
    return crossing(hands, mode, containers=containers, files=files, **options)


class Fault(NamedTuple):
    """What fails, where, how, and how a run with it may end."""

    shape: str
    node: str
    point: str
    action: str
    ends: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.shape}-{self.point}-{self.action}"


UNDONE = ("undone",)
DOUBT = ("undone", "in doubt, then aborted")
"""The word may be out: whether the source knows that the target gave up is a race, the result is not."""
EITHER = ("undone", "finished", "in doubt, then aborted", "in doubt, then committed")
FINISHED = ("finished", "in doubt, then committed")
HOME = ("restored at home",)
STANDS = (*HOME, "finished")
"""All stands restored and was let go: a ferry that is killed is finished by its guard."""
COPIED = ("finished", "undone", "undone after it ran")


def both(*names: str) -> list[str]:
    return [f"{name}:{when}" for name in names for when in ("before", "after")]


def second(*names: str) -> list[str]:
    """The same of the second container."""
    return [f"{point}@second" for point in both(*names)]


ACTIONS = ("kill", "error", "hang")

SOURCE_BEFORE = [
    *both("source:journal:prepared", "source:send:hello", "source:send:ping", "source:journal:waiting"),
    "source:phase:freeze", "source:freeze:before", *both("source:journal:freezing", "source:journal:frozen"),
    "source:phase:dump", *both("source:dump", "source:send:file", "source:send:begin_restore"), "source:phase:transfer",
    *both("source:send:manifest"),
]  # fmt: skip
"""Both modes: the source has given nothing away yet."""
TARGET_BEFORE = [
    *both("target:journal:prepared", "target:send:hello", "target:send:pong"),
]  # fmt: skip

POINTS: dict[tuple[str, str, tuple[str, ...]], list[str]] = {
    ("twin", SOURCE, UNDONE): [
        *SOURCE_BEFORE, "source:phase:wait_for_target", *both("source:send:expect_claim"), "source:phase:restore",
        "source:phase:commit", "source:journal:go_given:before",
    ],
    ("twin", SOURCE, DOUBT): ["source:journal:go_given:after", "source:send:go:before"],
    ("twin", SOURCE, FINISHED): ["source:send:go:after", *both("source:journal:committed")],
    ("twin", TARGET, UNDONE): [
        *TARGET_BEFORE, *both("target:send:claimed"), "target:phase:receive", "target:phase:restore",
        *both("target:lay_early", "target:restore"), "target:send:ready:before", "handler:claim:before", "handler:claim:after", "handler:exec:before",
    ],
    ("twin", TARGET, EITHER): ["target:send:ready:after", "target:phase:ready"],
    ("twin", TARGET, FINISHED): [
        "target:thaw:one", *both("target:thaw", "target:send:resumed", "target:journal:resumed"),
    ],
    ("successor", SOURCE, UNDONE): [
        *SOURCE_BEFORE, "source:phase:data_ready", *both("source:journal:data_ready"), "source:journal:go_given:before",
    ],
    ("successor", SOURCE, DOUBT): ["source:journal:go_given:after", "source:send:relinquish:before"],
    ("successor", SOURCE, (*FINISHED, "in doubt, then aborted")): ["source:send:relinquish:after", *both("source:journal:relinquished")],
    ("successor", TARGET, UNDONE): [*TARGET_BEFORE, *both("target:send:data_ok"), "target:phase:data_ready"],
    ("successor", TARGET, (*EITHER, *HOME)): [*both("target:send:relinquished")],
    ("successor", TARGET, HOME): [
        "target:phase:wait_for_successor", "target:phase:restore", "target:restore:before", "handler:claim:before",
        "handler:claim:after", "handler:exec:before",
    ],
    ("successor", TARGET, STANDS): ["target:restore:after"],
    ("successor", TARGET, ("finished",)): ["target:thaw:one", *both("target:thaw", "target:journal:resumed")],
    # A copy: from `copied` on the source's ferry has nothing more to answer for.
    ("copy", SOURCE, UNDONE): [
        "source:freeze:before", *both("source:journal:frozen", "source:dump", "source:send:manifest"), "source:thaw:before",
        *both("source:journal:copied"), "source:phase:restore", "source:phase:commit", "source:send:go:before",
    ],
    ("copy", SOURCE, COPIED): ["source:send:go:after"],
    ("copy", TARGET, UNDONE): [
        *both("target:send:claimed", "target:restore"), "target:phase:receive", "target:phase:restore", "target:send:ready:before",
        "handler:claim:before", "handler:claim:after", "handler:exec:before",
    ],
    ("copy", TARGET, COPIED): [
        "target:send:ready:after", "target:phase:ready", "target:thaw:one",
        *both("target:thaw", "target:send:resumed", "target:journal:resumed"),
    ],
    # Two containers: between the first and the second, and at the second.
    ("pair", SOURCE, UNDONE): ["source:freeze:before@second", "source:dump:after", *second("source:dump")],
    ("pair", TARGET, UNDONE): [
        "target:restore:after", *second("target:restore"), *second("handler:claim"),
        "handler:exec:before@second",
    ],
    ("pair", TARGET, FINISHED): ["target:thaw:one", "target:thaw:one@second", "target:thaw:after"],
    ("pair-successor", SOURCE, UNDONE): ["source:freeze:before@second", *second("source:dump")],
    ("pair-successor", TARGET, HOME): [
        "target:restore:before@second", *second("handler:claim"), "handler:exec:before@second",
    ],
    ("pair-successor", TARGET, STANDS): ["target:restore:after@second"],
    ("pair-successor", TARGET, ("finished",)): ["target:thaw:one@second"],
    ("pair-copy", SOURCE, UNDONE): ["source:freeze:before@second", *second("source:dump"), "source:thaw:before@second"],
    ("pair-copy", TARGET, UNDONE): [
        *second("target:restore"), *second("handler:claim"), "handler:exec:before@second",
    ],
    ("pair-copy", TARGET, COPIED): ["target:thaw:one@second"],
    # Files: rounds before the freeze, the last one (of a twin) when its handler waits at the gate.
    ("files", SOURCE, UNDONE): [
        "source:phase:stage", *both("source:round:1", "source:round:2", "source:round:3", "source:send:file"), "source:phase:transfer",
    ],
    ("files", TARGET, UNDONE): [*both("target:lay_early", "target:restore")],
    ("files", TARGET, FINISHED): ["target:thaw:before"],
    ("files-successor", SOURCE, UNDONE): ["source:phase:stage", *both("source:round:1", "source:round:2")],
    ("files-successor", TARGET, HOME): ["target:phase:wait_for_successor", "target:restore:before"],
    ("files-successor", TARGET, STANDS): ["target:restore:after"],
}  # fmt: skip

SPOKE_AND_HUNG = ("target:send:data_ok:after", "target:phase:data_ready")
"""The word was heard, so it may be answered before the silence that follows is one."""

MATRIX = [
    Fault(shape, node, point, action, DOUBT if action == "hang" and point in SPOKE_AND_HUNG else ends)
    for (shape, node, ends), points in POINTS.items()
    for point in points
    for action in ACTIONS
]

SELECTED = {
    "twin-source:journal:frozen:after-kill",
    "twin-source:phase:commit-hang",
    "twin-source:journal:go_given:after-kill",
    "twin-source:journal:committed:before-error",
    "twin-target:thaw:before-kill",
    "twin-handler:exec:before-kill",
    "successor-source:journal:data_ready:after-kill",
    "pair-handler:exec:before@second-kill",
    "pair-target:thaw:one@second-kill",
    "pair-copy-source:thaw:before@second-kill",
    "copy-target:restore:after-error",
    "files-source:round:2:after-kill",
    "files-successor-target:restore:before-error",
}
assert {str(fault) for fault in MATRIX} >= SELECTED
CHOSEN = [fault for fault in MATRIX if ALL or str(fault) in SELECTED]


@pytest.mark.parametrize("fault", CHOSEN, ids=str)
def test_fault_point(hands: Hands, traces: Traces, fault: Fault) -> None:
    # A ferry that hangs is noticed by a deadline only: a short one.
    deadlines = {"freeze": 9.0} if fault.action == "hang" else {}
    with moving(hands, fault.shape, faults={fault.node: {fault.point: fault.action}}, deadlines=deadlines) as one:
        how = conclude(one, one.carry(), surrender=len(fault.point) % 2 == 0, again=fault.action == "kill")
    assert how in fault.ends
    nothing_left(traces)


@pytest.mark.parametrize("shape", SHAPES if ALL else ["twin", "successor", "pair", "copy", "files"])
def test_without_a_fault_and_every_point_is_in_the_matrix(hands: Hands, traces: Traces, shape: str) -> None:
    """The list above is complete: what an undisturbed run passes is in it, for two containers and files what they add."""
    trace = {"trace": "/run/podferry/trace"}
    with moving(hands, shape, faults=dict.fromkeys(NODES, trace)) as one:
        for node in NODES:
            hands.run(node, "rm -f /run/podferry/trace")
        verdict = one.carry()
        assert conclude(one, verdict) == "finished"
        passed = {line for node in NODES for line in hands.run(node, "cat /run/podferry/trace").split()}
    passed = {point.removesuffix("@main") for point in passed if ":send:beat:" not in point}
    known = {point for (of, _node, _ends), points in POINTS.items() if of == shape for point in points}
    plainer = ("twin", "successor", "copy") if shape == "pair-copy" else ("twin", "successor")
    plain = {point for (of, _node, _ends), points in POINTS.items() if of in plainer for point in points}
    assert passed - plain <= known <= passed
    if shape in ("twin", "successor"):
        assert passed == known
    nothing_left(traces)


@pytest.mark.parametrize("action", ["kill", "error"] if ALL else ["kill"])
def test_two_failures(hands: Hands, traces: Traces, action: str) -> None:
    """The move fails, and the ferry as well when it has thawed only the first of two containers: its guard thaws the second."""
    faults = {SOURCE: {"source:send:manifest:before": "error", "source:thaw:before@second": action}}
    with moving(hands, "pair", faults=faults) as one:
        assert conclude(one, one.carry(), again=False) == "undone"
    nothing_left(traces)


HOME_POINTS = [
    *both("target:journal:prepared", "target:thaw", "target:journal:resumed"), "target:phase:restore",
    "handler:claim:before", "handler:exec:before",
]  # fmt: skip
FATAL_AT_HOME = ("target:journal:prepared", "target:phase:restore", "handler:")


@pytest.mark.parametrize("point", ["none", *(HOME_POINTS if ALL else [])])
def test_a_successor_that_cannot_be_restored_comes_back_home(hands: Hands, traces: Traces, point: str) -> None:
    """And when the return fails as well, nothing runs, and the dump is kept."""
    faults = {TARGET: {"handler:exec:before": "kill"}, **({} if point == "none" else {SOURCE: {point: "kill"}})}
    with crossing(hands, "successor", faults=faults) as one:
        assert one.carry() == "committed"
        assert not one.change_over()
        lost = point.startswith(FATAL_AT_HOME)
        try:
            returned = one.go_home()
        except NodeError as error:
            assert lost, error
            returned = False
        assert returned != lost
        if returned:
            assert one.home is not None
            runs_on(one.home, BOUND)
        else:
            assert hands.run(SOURCE, f"ls /run/podferry/runs/{one.run}/images/main/criu/inventory.img")
        assert history(one.copies) == []
        _ended["restored at home" if returned else "dump kept"] += 1
        one.finish()
    nothing_left(traces)


# --- what others do to it ---------------------------------------------------------------------------------------------


class Disturbance(NamedTuple):
    """What somebody does while a run is held at a point."""

    name: str
    node: str
    point: str
    act: Callable[[Crossing], None]
    ends: tuple[str, ...]
    dead_source: bool = False
    shape: str = "twin"

    @property
    def staging(self) -> bool:
        """Whether it happens in a round while the pod runs and nobody has said go."""
        return self.point.startswith(("source:round:1", "source:round:2"))


def kill_source(one: Crossing) -> None:
    one.hands.run(SOURCE, "; ".join(f"ctr -n k8s.io task kill -s 9 {each}" for each in one.source.ids))


def set_freezer(one: Crossing, state: str, number: int, ids: Sequence[str] = ()) -> None:
    for each in ids or one.source.ids:
        one.hands.run(SOURCE, f"for f in $(find /sys/fs/cgroup -path '*{each}/freezer.state'); do echo {state} >$f; done; "
                              f"for f in $(find /sys/fs/cgroup -path '*{each}/cgroup.freeze'); do echo {number} >$f; done")  # fmt: skip


def thaw_source(one: Crossing) -> None:
    set_freezer(one, "THAWED", 0)
    one.source.grows(10)


def thaw_and_freeze_source(one: Crossing) -> None:
    thaw_source(one)
    set_freezer(one, "FROZEN", 1)


def delete_target(one: Crossing) -> None:
    one.target.remove()


def kill_handler(one: Crossing) -> None:
    one.hands.run(TARGET, f"kill -9 $(sed 's/.*pid\": *\\([0-9]*\\).*/\\1/' /run/podferry/runs/{one.run}/claim.main)")


def thaw_and_freeze_second(one: Crossing) -> None:
    before = one.source.containers[1].last()
    set_freezer(one, "THAWED", 0, one.source.ids[1:])
    until("the second container runs", lambda: one.source.containers[1].last() > before, 10)
    set_freezer(one, "FROZEN", 1, one.source.ids[1:])


RESTART = "systemctl restart containerd; until ctr version >/dev/null 2>&1; do sleep .1; done"


def restart_containerd(one: Crossing) -> None:
    one.hands.run(TARGET, RESTART)


def restart_containerd_at_the_source(one: Crossing) -> None:
    one.hands.run(SOURCE, RESTART)


def kill_first(one: Crossing) -> None:
    one.hands.run(TARGET, f"ctr -n k8s.io task kill -s 9 {one.target.ids[0]}")


def break_criu(one: Crossing) -> None:
    one.hands.write(TARGET, "/usr/local/sbin/criu", "#!/bin/sh\nexit 1\n")
    one.hands.run(TARGET, "chmod 755 /usr/local/sbin/criu")


def another_pod_claims(one: Crossing) -> None:
    assert "belongs to another pod" in one.create_again(uid="99999999-dddd")


def second_claim(one: Crossing) -> None:
    assert "claimed before" in one.create_again()


def lose_controller(one: Crossing) -> None:
    for node in NODES:
        one.sessions.pop(node).lose()


def cut(hands: Hands) -> None:
    """The two nodes hear nothing of each other any more; their ways to the controller stay."""
    for node, other in zip(NODES, reversed(NODES), strict=True):
        hands.run(node, f"nft add table inet cut; nft 'add chain inet cut in {{ type filter hook input priority 0; }}'; "
                        f"nft add rule inet cut in ip saddr {ADDRESSES[other]} drop")  # fmt: skip


def mend(hands: Hands) -> None:
    for node in NODES:
        hands.run(node, "nft delete table inet cut 2>/dev/null", check=False)


def mend_criu(hands: Hands) -> None:
    hands.run(TARGET, "rm -f /usr/local/sbin/criu")


def cut_link(one: Crossing) -> None:
    cut(one.hands)


BEFORE_READY = "source:send:manifest:before"
STANDS_FROZEN = "source:phase:commit"
"""Held here, the handler waits at the gate, or both copies stand frozen."""

DISTURBANCES = [
    Disturbance("source killed while frozen", SOURCE, STANDS_FROZEN, kill_source, UNDONE, dead_source=True),
    Disturbance("source thawed while frozen", SOURCE, STANDS_FROZEN, thaw_source, UNDONE),
    Disturbance("source thawed and frozen again", SOURCE, STANDS_FROZEN, thaw_and_freeze_source, UNDONE),
    Disturbance("source thawed between freeze and dump", SOURCE, "source:phase:dump", thaw_source, UNDONE),
    Disturbance("source killed between freeze and dump", SOURCE, "source:phase:dump", kill_source, UNDONE, dead_source=True),
    Disturbance("target deleted at the gate", SOURCE, BEFORE_READY, delete_target, UNDONE),
    Disturbance("target deleted while frozen", SOURCE, STANDS_FROZEN, delete_target, UNDONE),
    Disturbance("target deleted just before the thaw", TARGET, "target:phase:ready", delete_target, DOUBT),
    Disturbance("handler killed at the gate", SOURCE, BEFORE_READY, kill_handler, UNDONE),
    Disturbance("containerd restarted at the gate", SOURCE, BEFORE_READY, restart_containerd, UNDONE),
    Disturbance("claim by another pod of the name", SOURCE, BEFORE_READY, another_pod_claims, ("finished",)),
    Disturbance("second claim by the same pod", SOURCE, BEFORE_READY, second_claim, ("finished",)),
    Disturbance("second claim while frozen", SOURCE, STANDS_FROZEN, second_claim, ("finished",)),
    Disturbance("controller lost after the go", SOURCE, "source:phase:freeze", lose_controller, ("finished",)),
    Disturbance("link cut mid-transfer", SOURCE, BEFORE_READY, cut_link, UNDONE),
    Disturbance("link cut while frozen", SOURCE, STANDS_FROZEN, cut_link, DOUBT),
    Disturbance("link cut just before the go is sent", SOURCE, "source:send:go:before", cut_link, DOUBT),
    Disturbance("link cut right after the go", TARGET, "target:thaw:before", cut_link, FINISHED),
    Disturbance("link cut right after the thaw", TARGET, "target:thaw:after", cut_link, FINISHED),
    Disturbance("containerd restarted at the source in the freeze", SOURCE, "source:phase:dump", restart_containerd_at_the_source, ("finished",)),
    Disturbance("link cut in a round", SOURCE, "source:round:1:before", cut_link, UNDONE, shape="files"),
    Disturbance("link cut between two rounds", SOURCE, "source:round:1:after", cut_link, UNDONE, shape="files"),
    Disturbance("link cut in the last round", SOURCE, "source:round:3:before", cut_link, UNDONE, shape="files"),
    Disturbance("link cut in a round of a successor", SOURCE, "source:round:2:before", cut_link, UNDONE, shape="files-successor"),
    Disturbance("containerd restarted while files are laid out", TARGET, "target:lay_early:before", restart_containerd, UNDONE, shape="files"),
    Disturbance("containerd restarted at the source in a round", SOURCE, "source:round:1:before", restart_containerd_at_the_source,
                ("finished",), shape="files"),
    Disturbance("source killed in a round", SOURCE, "source:round:2:before", kill_source, UNDONE, dead_source=True, shape="files"),
    # Held at the source: a target's ferry that is held itself could not end the create for which the deletion waits.
    Disturbance("target deleted when files are laid out", SOURCE, "source:round:3:before", delete_target, UNDONE, shape="files"),
    Disturbance("link cut between two dumps", SOURCE, "source:dump:before@second", cut_link, UNDONE, shape="pair"),
    Disturbance("containerd restarted at the source between two dumps", SOURCE, "source:dump:before@second",
                restart_containerd_at_the_source, ("finished",), shape="pair"),
    Disturbance("source thawed between two dumps", SOURCE, "source:dump:before@second", thaw_source, UNDONE, shape="pair"),
    Disturbance("link cut between two restores", TARGET, "target:restore:before@second", cut_link, UNDONE, shape="pair"),
    Disturbance("containerd restarted between two restores", TARGET, "target:restore:before@second", restart_containerd, UNDONE, shape="pair"),
    Disturbance("first container killed between two restores", TARGET, "target:restore:before@second", kill_first, UNDONE, shape="pair"),
    Disturbance("second restore fails", TARGET, "target:restore:before@second", break_criu, UNDONE, shape="pair"),
    Disturbance("target deleted while two stand frozen", SOURCE, STANDS_FROZEN, delete_target, UNDONE, shape="pair"),
    Disturbance("one of two killed while they stand frozen", SOURCE, STANDS_FROZEN, kill_first, UNDONE, shape="pair"),
    Disturbance("containerd restarted while two stand frozen", SOURCE, STANDS_FROZEN, restart_containerd, ("finished",), shape="pair"),
    Disturbance("source of two thawed and frozen again", SOURCE, STANDS_FROZEN, thaw_and_freeze_source, UNDONE, shape="pair"),
    Disturbance("second of two thawed and frozen again", SOURCE, STANDS_FROZEN, thaw_and_freeze_second, UNDONE, shape="pair"),
    Disturbance("link cut between two thaws", TARGET, "target:thaw:one@second", cut_link, FINISHED, shape="pair"),
    Disturbance("second restore of a successor fails", TARGET, "target:restore:before@second", break_criu, HOME, shape="pair-successor"),
    Disturbance("link cut between two restores of a successor", TARGET, "target:restore:before@second", cut_link, ("finished",),
                shape="pair-successor"),
    Disturbance("source thawed and frozen before it was copied", SOURCE, "source:send:manifest:before", thaw_and_freeze_source, UNDONE, shape="copy"),
    Disturbance("link cut after the copy's source went on", SOURCE, "source:phase:restore", cut_link, UNDONE, shape="copy"),
    Disturbance("link cut right before the copy's thaw", TARGET, "target:thaw:before", cut_link, COPIED, shape="copy"),
    Disturbance("source killed after it was copied", SOURCE, "source:phase:restore", kill_source, ("finished",), dead_source=True, shape="copy"),
    Disturbance("copy deleted while it stands frozen", SOURCE, STANDS_FROZEN, delete_target, UNDONE, shape="copy"),
    Disturbance("containerd restarted at the gate of a copy", SOURCE, BEFORE_READY, restart_containerd, UNDONE, shape="copy"),
    Disturbance("second restore of a copy fails", TARGET, "target:restore:before@second", break_criu, UNDONE, shape="pair-copy"),
    Disturbance("link cut between two thaws of a copy", TARGET, "target:thaw:one@second", cut_link, COPIED, shape="pair-copy"),
]  # fmt: skip
SELECTED_DISTURBANCES = {
    "source thawed and frozen again",
    "target deleted while frozen",
    "second claim by the same pod",
    "containerd restarted at the gate",
    "link cut right after the go",
    "containerd restarted between two restores",
}
CHOSEN_DISTURBANCES = [item for item in DISTURBANCES if ALL or item.name in SELECTED_DISTURBANCES]


@pytest.mark.parametrize("what", CHOSEN_DISTURBANCES, ids=lambda item: item.name)
def test_disturbance(hands: Hands, traces: Traces, what: Disturbance) -> None:
    # A held ferry is silent: the other must have the patience for that, and notice all the same when it is meant to.
    silence = 6.0 if "link" in what.name else 25.0
    deadlines = {"silence": silence, "settle": 12.0, "freeze": 60.0, "restore": 50.0}
    with moving(hands, what.shape, faults={what.node: {what.point: "hold"}}, deadlines=deadlines) as one:
        # After the word was given a successor's controller has more to do before its restore can be disturbed.
        late = what.node == TARGET and SHAPES[what.shape].mode == "successor"

        def disturb() -> None:
            one.held(what.node, what.point)
            if what.point == BEFORE_READY:
                until("the handler at the gate", lambda: hands.run(TARGET, f"ls /run/podferry/runs/{one.run}/claim.main", check=False), 20)  # fmt: skip
            what.act(one)
            one.release(what.node, what.point)

        try:
            if late:
                verdict = one.carry()
                with ThreadPoolExecutor(1) as pool:
                    disturbed = pool.submit(disturb)
                    how = conclude(one, verdict)
                    disturbed.result()
            else:
                verdict = one.carry(disturb, staging=what.staging)
        finally:
            mend(hands)
            mend_criu(hands)
        if not late:
            how = conclude(one, verdict, dead_source=what.dead_source)
    assert how in what.ends
    nothing_left(traces)


@pytest.mark.parametrize("moment", ["before the go", "data ready"] if ALL else ["data ready"])
def test_controller_lost_while_its_word_is_awaited(hands: Hands, traces: Traces, moment: str) -> None:
    """Nobody would ever say go, or relinquish: the pod runs on by itself, without anybody asking for it."""
    with crossing(hands, "twin" if moment == "before the go" else "successor") as one:
        one.connect()
        one.arm()
        if moment == "data ready":
            one.go()
            assert one.session(SOURCE).wait(lambda event: event.name == "data_ready", 30)
        lose_controller(one)
        runs_on(one.source, BOUND)
        assert conclude(one, one.verdict()) == "undone"
    nothing_left(traces)


def test_a_person_goes_back_to_the_source(hands: Hands, traces: Traces) -> None:
    """The target ran and was lost, and what it did does not count (docs/failures.md): the source's older state goes on."""
    with crossing(hands) as one:
        assert one.carry() == "committed"
        one.target.grows(BOUND)
        one.target.remove()
        one.source.stands()
        with pytest.raises(NodeError):
            one.ask(SOURCE, "thaw", target_record="aborted")
        one.ask(SOURCE, "thaw", target_record="forsaken")
        runs_on(one.source, BOUND)
        one.finish()
        one.source.grows(BOUND)
    nothing_left(traces)


@in_full
def test_cancel(hands: Hands, traces: Traces) -> None:
    """In the freeze: the source runs on."""
    with crossing(hands, faults={SOURCE: {"source:phase:transfer": "hold"}}, deadlines={"silence": 6.0}) as one:

        def cancel() -> None:
            one.held(SOURCE, "source:phase:transfer")
            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(one.ask, SOURCE, "cancel")
                time.sleep(0.3)  # it has arrived; the held ferry answers when it goes on
                one.release(SOURCE, "source:phase:transfer")
                assert asked.result(30)["cancelled"]

        assert conclude(one, one.carry(cancel)) == "undone"
    nothing_left(traces)


# --- criu, runc, memory, what cannot be dumped ------------------------------------------------------------------------

WRAPPER = """#!/bin/sh
# Holds the first call for as long as /run/crossing-hold is there, then becomes the real program.
if [ -e /run/crossing-hold ]; then
  echo $$ >/run/crossing-pid
  while [ -e /run/crossing-hold ]; do sleep .05; done
fi
exec /usr/sbin/criu "$@"
"""


@pytest.fixture
def held_criu(hands: Hands) -> Iterator[Callable[[str], None]]:
    """A criu in front of the real one that waits; call it with the node."""

    def on(node: str) -> None:
        hands.write(node, "/usr/local/sbin/criu", WRAPPER)
        hands.run(node, "chmod 755 /usr/local/sbin/criu; touch /run/crossing-hold")

    yield on
    for node in NODES:
        hands.run(node, "rm -f /usr/local/sbin/criu /run/crossing-hold /run/crossing-pid", check=False)


@pytest.mark.parametrize("who", ["criu", "runc"] if ALL else ["criu"])
@pytest.mark.parametrize("node", NODES if ALL else [SOURCE])
def test_criu_or_runc_killed_before_its_work(
    hands: Hands, traces: Traces, held_criu: Callable[[str], None], node: str, who: str
) -> None:
    with crossing(hands) as one:
        held_criu(node)

        def strike() -> None:
            until("criu", lambda: hands.run(node, "cat /run/crossing-pid 2>/dev/null", check=False), 20)
            pid = "$(cat /run/crossing-pid)"
            victim = pid if who == "criu" else f"$(awk '/^PPid/ {{print $2}}' /proc/{pid}/status)"
            hands.run(node, f"kill -9 {victim}; rm -f /run/crossing-hold")

        assert conclude(one, one.carry(strike)) == "undone"
        hands.run(node, "rm -f /usr/local/sbin/criu /run/crossing-hold /run/crossing-pid")
    nothing_left(traces)


STRIKER = """
import os, signal, time
end = time.monotonic() + 20
while time.monotonic() < end:
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            words = open('/proc/%s/cmdline' % pid, 'rb').read().split(b'\\0')
        except OSError:
            continue
        # Found already while it is held back by our front: the process stays the same.
        if b'swrk' in words[:-1] and words[words.index(b'swrk') + 1] == b'3':
            log = {log!r}
            while time.monotonic() < end and os.path.exists('/proc/' + pid):
                found = [os.path.join(d, n) for d, _s, f in os.walk('/run/podferry/runs') for n in f if n == log]
                if any({mark!r} in open(p, errors='replace').read() for p in found):
                    os.kill(int(pid), signal.SIGKILL)
                    print('struck')
                    raise SystemExit
print('missed')
"""


class Moment(NamedTuple):
    """A line of CRIU's own log at which it is killed."""

    node: str
    log: str
    mark: str


MOMENTS = [
    Moment(SOURCE, "dump.log", "Seized task"),
    Moment(SOURCE, "dump.log", "Setting up parasite"),
    Moment(SOURCE, "dump.log", "Dumping pages"),
    Moment(TARGET, "restore.log", "Forking task"),
    Moment(TARGET, "restore.log", "Restore finished successfully"),
    Moment(TARGET, "restore.log", "Run late stage hook"),
]


@pytest.mark.parametrize("moment", MOMENTS if ALL else [MOMENTS[2]], ids=lambda moment: f"{moment.log}-{moment.mark}")
def test_criu_killed_in_its_work(hands: Hands, traces: Traces, moment: Moment) -> None:
    """At whatever moment it dies: one body goes on, unharmed."""
    program = STRIKER.format(log=moment.log, mark=moment.mark)
    # Larger than elsewhere: there must be time to strike.
    with crossing(hands, program="/usr/bin/python3 /app/counter.py 48") as one:
        striker = hands.command(moment.node, f"python3 -c {shlex.quote(program)}")
        with subprocess.Popen(striker, stdout=subprocess.PIPE, text=True) as process:
            verdict = one.carry()
            struck = (process.communicate(timeout=30)[0] or "").strip()
        how = conclude(one, verdict)
        assert how in EITHER
    # A CRIU that dies while it makes the mount namespace leaves an empty folder of its own: CRIU's own, harmless.
    hands.run(moment.node, "rmdir /tmp/.criu.mntns.* 2>/dev/null", check=False)
    nothing_left(traces)
    if struck != "struck":
        pytest.skip("criu was done before it could be killed")


@pytest.mark.parametrize("end", ["source", "target"] if ALL else ["target"])
def test_memory_for_the_images_runs_out(hands: Hands, traces: Traces, end: str) -> None:
    with crossing(hands, need_bytes={end: 2 << 20}) as one:
        assert conclude(one, one.carry()) == "undone"
    nothing_left(traces)


SMALL = "mount -t tmpfs -o size=1m small"


@pytest.mark.parametrize("shape", ["files", "files-successor"] if ALL else ["files"])
@pytest.mark.parametrize("end", ["source", "target", "volume"] if ALL else ["target"])
def test_the_disk_for_the_files_runs_out(hands: Hands, traces: Traces, end: str, shape: str) -> None:
    """Where rounds wait on either node, and on the volume that they are laid out on."""
    node, place = (SOURCE if end == "source" else TARGET), "/var/lib/podferry"
    with moving(hands, shape) as one:
        if end == "volume":
            place = f"{LOGS}/pods/{one.target.uid}/volumes/kubernetes.io~empty-dir/data"
        hands.run(node, f"mkdir -p {place}; {SMALL} {place}")
        try:
            how = conclude(one, one.carry())
        finally:
            hands.run(node, f"umount {place}; rmdir {place}", check=False)
        assert how == ("restored at home" if (end, shape) == ("volume", "files-successor") else "undone")
    nothing_left(traces)


REFUSED = {
    "io_uring": "import ctypes; l=ctypes.CDLL(None); b=ctypes.create_string_buffer(256); f=l.syscall(425,4,b); assert f>0",
    "af_alg": 'import socket; s=socket.socket(38,5,0); s.bind(("hash","sha256"))',
}


@pytest.mark.parametrize("kind", REFUSED if ALL else ["io_uring"])
def test_what_criu_cannot_dump(hands: Hands, traces: Traces, kind: str) -> None:
    try:
        socket.socket(38, socket.SOCK_SEQPACKET).close()
    except OSError as error:
        if kind == "af_alg":
            pytest.skip(f"the kernel has no AF_ALG: {error}")
    code = f'{REFUSED[kind]}; import sys; sys.argv=["counter","{MIB}"]; exec(open("/app/counter.py").read())'
    with crossing(hands, program=f"/usr/bin/python3 -c '{code}'") as one:
        verdict = one.carry()
        assert one.entry(SOURCE, "source")["error"]["type"] == "dump_failed"
        assert conclude(one, verdict) == "undone"
    nothing_left(traces)


@in_full
def test_a_marked_pod_without_a_record_does_not_start(hands: Hands, traces: Traces) -> None:
    """The record is lost (a node restarted, say): the state may live elsewhere, so nothing starts from the image."""
    with crossing(hands) as one:
        assert "has no record" in one.create_again()
        one.source.grows(10)
    nothing_left(traces)
