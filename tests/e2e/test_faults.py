# SPDX-License-Identifier: Apache-2.0
"""Everything that can go wrong in a migration is made to go wrong, and a witness judges: never two, never none, nothing left.

By default a selection that takes a few minutes; PODFERRY_FAULTS=all runs every fault point with every kind of failure.
The witness is the workload itself: numbered lines with clocks, from every body that it had (`e2e.support.direct`).
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from ansible_collections.podferry.live.plugins.module_utils._migrate.errors import NodeError
from e2e.support.cluster import until
from e2e.support.direct import (
    ADDRESSES,
    BOUND,
    MIB,
    NODES,
    SOURCE,
    TARGET,
    Copy,
    Crossing,
    Hands,
    crossing,
    everywhere,
    history,
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
            Copy(hands, node, "first", "00000000-0000").first()
    yield hands
    hands.close()
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    if reporter and _ended:
        which = "all" if ALL else "selected"
        counts = ", ".join(f"{count} {how}" for how, count in sorted(_ended.items()))
        reporter.write_line(f"\nfaults ({which}): {sum(_ended.values())} migrations: {counts}")


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
        assert not one.hands.run(SOURCE, f"ctr -n k8s.io task ls | grep {one.source.id} | grep RUNNING", check=False)
    _ended[how] += 1
    return how


# --- every fault point ------------------------------------------------------------------------------------------------


class Fault(NamedTuple):
    """What fails, where, how, and how a run with it may end."""

    mode: str
    node: str
    point: str
    action: str
    ends: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.mode}-{self.point}-{self.action}" + ("-home" if "home" in self.mode else "")


UNDONE = ("undone",)
DOUBT = ("undone", "in doubt, then aborted")
"""The word may be out: whether the source knows that the target gave up is a race, the result is not."""
EITHER = ("undone", "finished", "in doubt, then aborted", "in doubt, then committed")
FINISHED = ("finished", "in doubt, then committed")
HOME = ("restored at home",)


def both(*names: str) -> list[str]:
    return [f"{name}:{when}" for name in names for when in ("before", "after")]


ACTIONS = ("kill", "error", "hang")

SOURCE_BEFORE = [
    *both("source:journal:prepared", "source:send:hello", "source:send:ping", "source:journal:waiting"),
    "source:phase:freeze", *both("source:journal:freezing", "source:journal:frozen"),
    "source:phase:dump", *both("source:send:file", "source:send:begin_restore"), "source:phase:transfer",
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
        "target:send:ready:before", "handler:claim:before", "handler:claim:after", "handler:exec:before",
    ],
    ("twin", TARGET, EITHER): ["target:send:ready:after", "target:phase:ready"],
    ("twin", TARGET, FINISHED): [
        *both("target:thaw", "target:send:resumed", "target:journal:resumed"),
    ],
    ("successor", SOURCE, UNDONE): [
        *SOURCE_BEFORE, "source:phase:data_ready", *both("source:journal:data_ready"), "source:journal:go_given:before",
    ],
    ("successor", SOURCE, DOUBT): ["source:journal:go_given:after", "source:send:relinquish:before"],
    ("successor", SOURCE, (*FINISHED, "in doubt, then aborted")): ["source:send:relinquish:after", *both("source:journal:relinquished")],
    ("successor", TARGET, UNDONE): [*TARGET_BEFORE, *both("target:send:data_ok"), "target:phase:data_ready"],
    ("successor", TARGET, (*EITHER, *HOME)): [*both("target:send:relinquished")],
    ("successor", TARGET, HOME): [
        "target:phase:wait_for_successor", "target:phase:restore", "handler:claim:before", "handler:claim:after",
        "handler:exec:before",
    ],
    ("successor", TARGET, ("finished",)): [*both("target:thaw", "target:journal:resumed")],
}  # fmt: skip

MATRIX = [
    Fault(mode, node, point, action, ends)
    for (mode, node, ends), points in POINTS.items()
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
}
assert {str(fault) for fault in MATRIX} >= SELECTED


@pytest.mark.parametrize("fault", [fault for fault in MATRIX if ALL or str(fault) in SELECTED], ids=str)
def test_fault_point(hands: Hands, traces: Traces, fault: Fault) -> None:
    # A ferry that hangs is noticed by a deadline only: a short one.
    deadlines = {"freeze": 9.0} if fault.action == "hang" else {}
    with crossing(hands, fault.mode, faults={fault.node: {fault.point: fault.action}}, deadlines=deadlines) as one:
        how = conclude(one, one.carry(), surrender=len(fault.point) % 2 == 0, again=fault.action == "kill")
    assert how in fault.ends
    nothing_left(traces)


@pytest.mark.parametrize("mode", ["twin", "successor"])
def test_without_a_fault_and_every_point_is_in_the_matrix(hands: Hands, traces: Traces, mode: str) -> None:
    """The list above is complete: what an undisturbed run passes is in it."""
    trace = {"trace": "/run/podferry/trace"}
    with crossing(hands, mode, faults=dict.fromkeys(NODES, trace)) as one:
        for node in NODES:
            hands.run(node, "rm -f /run/podferry/trace")
        verdict = one.carry()
        assert conclude(one, verdict) == "finished"
        passed = {line for node in NODES for line in hands.run(node, "cat /run/podferry/trace").split()}
    known = {point for (of, _node, _ends), points in POINTS.items() if of == mode for point in points}
    assert {point for point in passed if ":send:beat:" not in point} == known
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


def kill_source(one: Crossing) -> None:
    one.hands.run(SOURCE, f"ctr -n k8s.io task kill -s 9 {one.source.id}")


def thaw_source(one: Crossing) -> None:
    one.hands.run(SOURCE, f"for f in $(find /sys/fs/cgroup -path '*{one.source.id}/freezer.state'); do echo THAWED >$f; done; "
                          f"for f in $(find /sys/fs/cgroup -path '*{one.source.id}/cgroup.freeze'); do echo 0 >$f; done")  # fmt: skip
    one.source.grows(10)


def thaw_and_freeze_source(one: Crossing) -> None:
    thaw_source(one)
    one.hands.run(SOURCE, f"for f in $(find /sys/fs/cgroup -path '*{one.source.id}/freezer.state'); do echo FROZEN >$f; done; "
                          f"for f in $(find /sys/fs/cgroup -path '*{one.source.id}/cgroup.freeze'); do echo 1 >$f; done")  # fmt: skip


def delete_target(one: Crossing) -> None:
    one.target.remove()


def kill_handler(one: Crossing) -> None:
    one.hands.run(TARGET, f"kill -9 $(sed 's/.*pid\": *\\([0-9]*\\).*/\\1/' /run/podferry/runs/{one.run}/claim.main)")


def restart_containerd(one: Crossing) -> None:
    one.hands.run(TARGET, "systemctl restart containerd; until ctr version >/dev/null 2>&1; do sleep .1; done")


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
]  # fmt: skip
SELECTED_DISTURBANCES = {
    "source thawed and frozen again",
    "target deleted while frozen",
    "second claim by the same pod",
    "containerd restarted at the gate",
    "link cut right after the go",
}


@pytest.mark.parametrize(
    "what", [item for item in DISTURBANCES if ALL or item.name in SELECTED_DISTURBANCES], ids=lambda item: item.name
)
def test_disturbance(hands: Hands, traces: Traces, what: Disturbance) -> None:
    # A held ferry is silent: the other must have the patience for that, and notice all the same when it is meant to.
    silence = 6.0 if "link" in what.name else 25.0
    deadlines = {"silence": silence, "settle": 12.0, "freeze": 60.0, "restore": 50.0}
    with crossing(hands, faults={what.node: {what.point: "hold"}}, deadlines=deadlines) as one:

        def disturb() -> None:
            one.held(what.node, what.point)
            if what.point == BEFORE_READY:
                until("the handler at the gate", lambda: hands.run(TARGET, f"ls /run/podferry/runs/{one.run}/claim.main", check=False), 20)  # fmt: skip
            what.act(one)
            one.release(what.node, what.point)

        try:
            verdict = one.carry(disturb)
        finally:
            mend(hands)
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


REFUSED = {
    "io_uring": "import ctypes; l=ctypes.CDLL(None); b=ctypes.create_string_buffer(256); f=l.syscall(425,4,b); assert f>0",
    "af_alg": 'import socket; s=socket.socket(38,5,0); s.bind(("hash","sha256"))',
}


@pytest.mark.parametrize("kind", REFUSED if ALL else ["io_uring"])
def test_what_criu_cannot_dump(hands: Hands, traces: Traces, kind: str) -> None:
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
