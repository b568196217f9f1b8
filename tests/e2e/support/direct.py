# SPDX-License-Identifier: Apache-2.0
"""One migration without Kubernetes: containers by `ctr` with the identity that the CRI would give them, two sessions, two ferries.

A pod has one container or several, and files of its own or none (then there are no rounds before the freeze).
What the kubelet would do (create, create again, delete) is done here by hand, and so at the worst moment that a test wants.
Seconds everywhere.
"""

from __future__ import annotations

import itertools
import json
import secrets
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.podferry.live.plugins.module_utils._ferry.staging import patience
from ansible_collections.podferry.live.plugins.module_utils._migrate.decided import from_source_state
from ansible_collections.podferry.live.plugins.module_utils._migrate.errors import NodeError, SessionLost
from ansible_collections.podferry.live.plugins.module_utils._migrate.keys import make_pair
from ansible_collections.podferry.live.plugins.module_utils._migrate.session import Event, Session
from e2e.support import ticks
from e2e.support.cluster import until
from e2e.support.lab import Lab

SOURCE, TARGET = "node-a", "node-b"
NODES = (SOURCE, TARGET)
ADDRESSES = {SOURCE: "10.213.0.11", TARGET: "10.213.0.12"}
IMAGE = "localhost/podferry-counter:lab"
FAULTS = "/run/podferry/faults.json"
LOGS = "/root/crossing"
NETNS = "crossing"
FRONT = "/usr/local/libexec/podferry/podferry-runc"
SESSION = "/usr/local/libexec/podferry/podferry-node session"

MIB = 4
"""Memory that a counter touches: small, so that a case is cheap."""
COUNTER = f"/usr/bin/python3 /app/counter.py {MIB}"
BESIDE = ("twin", "copy")
"""Modes in which the target pod stands beside its source."""
DEADLINES = {"idle": 40.0, "claim": 10.0, "freeze": 15.0, "restore": 12.0, "settle": 4.0, "silence": 2.5}
OF_A_RUN = (
    "systemctl stop 'podferry-{run}*'; umount /run/podferry/runs/{run}*/images; "
    "rm -rf /run/podferry/*/{run}* /var/lib/podferry/*/{run}*; find /run/podferry/arrivals -lname '*/{run}*' -delete"
)
"""Takes what is left of a run from a node, whatever the run says."""
START_SECONDS = 20.0
"""Until a ferry that does not say that it stands is given up."""
STAGE_BYTES = 64 << 20
STAGE_SECONDS = 12.0
"""Until files that are not copied by then are given up."""
BOUND = 10 * DEADLINES["settle"]
"""Until the workload runs again, counted from the moment at which the run's end is known."""


def everywhere(action: Callable[[str], Any]) -> dict[str, Any]:
    """Do something on both nodes at once; returns the results by node, raises what one raised."""
    with ThreadPoolExecutor(len(NODES)) as pool:
        return dict(zip(NODES, pool.map(action, NODES), strict=True))


class Hands:
    """A shell on each node over one kept connection: a test looks often, and a new ssh costs more than what it asks."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._options = [
            "-o",
            "ControlMaster=auto",
            "-o",
            f"ControlPath={lab.state}/mux-%n",
            "-o",
            "ControlPersist=300",
        ]

    def command(self, node: str, line: str) -> list[str]:
        """The argv that runs `line` on a node."""
        return [*self.lab.ssh_command(node)[:-1], *self._options, node, line]

    def run(self, node: str, line: str, *, check: bool = True, stdin: str = "", timeout: float = 60) -> str:
        """Run a shell line as root; returns what it printed on standard output."""
        done = subprocess.run(
            self.command(node, line), input=stdin, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, f"{node}: {line!r} ended with {done.returncode}: {done.stderr}"
        return done.stdout

    def write(self, node: str, path: str, text: str) -> None:
        """Write a file; its folder must be there."""
        self.run(node, f"cat >{shlex.quote(path)}", stdin=text)

    def close(self) -> None:
        """End the kept connections."""
        for node in NODES:
            self.run(node, f"ip netns del {NETNS}", check=False)
            subprocess.run(
                [*self.lab.ssh_command(node)[:-1], *self._options, "-O", "exit", node], capture_output=True, check=False
            )


# A counter that also keeps files: three MiB that must stay as they are, and two journals that grow, on an emptyDir volume and on
# the root file system. It looks at all of them by their names, so they must be where they were, with what was in them.
KEEPER = r"""
import hashlib, os, sys, threading, time
def keep():
    places, number, journals, sums = ("/data", "/var"), 0, [], []
    for place in places:
        with open(place + "/bulk", "wb") as bulk:
            bulk.write(os.urandom(3 << 19))
        sums.append(hashlib.sha1(open(place + "/bulk", "rb").read()).digest())
        journals.append(open(place + "/journal", "a"))
    while True:
        for place, journal, known in zip(places, journals, sums):
            journal.write("%08d\n" % number); journal.flush()
            with open(place + "/journal", "rb") as now:
                now.seek(-9, 2)
                found = int(now.read()), now.tell() // 9 - 1
            assert found == (number, number), (place, number, found)
            assert number % 50 or hashlib.sha1(open(place + "/bulk", "rb").read()).digest() == known, place
        if number % 50 == 0:
            os.write(1, b"files verified\n")
        number += 1
        time.sleep(0.02)
def kept():
    try:
        keep()
    except BaseException as error:
        os.write(1, ("files CORRUPT: %r\n" % error).encode())
threading.Thread(target=kept, daemon=True).start()
while not os.path.exists("/var/journal"):
    time.sleep(0.01)
exec(open("/app/counter.py").read())
"""


@dataclass
class Copy:
    """A container that is, or will be, part of the workload."""

    hands: Hands
    node: str
    pod: str
    uid: str
    program: str = COUNTER
    container: str = "main"
    files: bool = False
    """It has a volume, and keeps files on it."""
    id: str = field(default_factory=lambda: secrets.token_hex(32))

    @property
    def log(self) -> str:
        """Where its standard output goes, on its node."""
        return f"{LOGS}/{self.id[:12]}.log"

    def create_line(self, *, arriving: str = "") -> str:
        """The line that creates and starts it. `arriving`: the run whose handler it goes through."""
        identity = {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-namespace": "default",
            "io.kubernetes.cri.sandbox-name": self.pod,
            "io.kubernetes.cri.sandbox-uid": self.uid,
            "io.kubernetes.cri.container-name": self.container,
            **({"podferry.live/arrival": arriving} if arriving else {}),
        }
        words = ["ctr", "-n", "k8s.io", "run", "-d", "--log-uri", f"file://{self.log}"]
        words += ["--runc-binary", FRONT] if arriving else []
        words += [word for item in identity.items() for word in ("--annotation", "=".join(item))]
        words += ["--with-ns", f"network:/run/netns/{NETNS}"]
        program, made = self.program, ""
        if self.files:
            volume = f"{LOGS}/pods/{self.uid}/volumes/kubernetes.io~empty-dir/data"
            words += ["--mount", f"type=bind,src={volume},dst=/data,options=rbind:rw"]
            program = shlex.join(["/usr/bin/python3", "-c", f"import sys; sys.argv = ['counter', '{MIB}']\n{KEEPER}"])
            made = f"mkdir -p {volume}; "
        return f"{made}{shlex.join(words)} {IMAGE} {self.id} {program}"

    def text(self) -> str:
        """All that it wrote."""
        return self.hands.run(self.node, f"cat {self.log} 2>/dev/null", check=False)

    def last(self) -> int:
        """Number of its last tick; 0 when it never ran."""
        found = ticks.parse("\n" + self.hands.run(self.node, f"tail -c 2000 {self.log} 2>/dev/null", check=False))
        return found[-1].number if found else 0

    def remove_line(self) -> str:
        """The shell line that kills, deletes and forgets it. Fine when there is nothing."""
        return (
            f"t={self.id}; c='ctr -n k8s.io'; {{ $c task kill -s 9 $t && for i in $(seq 100); do "
            "$c task rm $t && break; sleep .1; done || $c task rm $t; $c container rm $t; } >/dev/null 2>&1"
        )


class Body:
    """The containers of one pod on one node, in the order in which a kubelet makes them."""

    def __init__(
        self, hands: Hands, node: str, pod: str, uid: str, names: Sequence[str] = ("main",), **each: Any
    ) -> None:
        self.hands, self.node, self.pod, self.uid = hands, node, pod, uid
        self.containers = [Copy(hands, node, pod, uid, container=name, **each) for name in names]

    @property
    def ids(self) -> list[str]:
        """Of all containers."""
        return [one.id for one in self.containers]

    def create_line(self, *, arriving: str = "") -> str:
        """One container after another: the next is created when the one before was started."""
        return " && ".join(f"{{ {one.create_line(arriving=arriving)}; }}" for one in self.containers)

    def first(self) -> None:
        """Start it once and remove it."""
        self.hands.run(self.node, self.create_line())
        self.remove()

    def lasts(self) -> list[int]:
        """The last tick of each container."""
        return [one.last() for one in self.containers]

    def last(self) -> int:
        """The furthest tick of any container; 0 when none ever ran."""
        return max(self.lasts())

    def grows(self, timeout: float, by: int = 2) -> None:
        """Fail unless each container writes `by` more ticks within `timeout`."""
        first = self.lasts()
        until(
            f"{by} ticks after {first} of {self.pod} on {self.node}",
            lambda: all(now >= before + by for now, before in zip(self.lasts(), first, strict=True)),
            timeout,
        )

    def stands(self, seconds: float = 0.5) -> None:
        """Fail if any container writes a tick within `seconds`."""
        first = self.lasts()
        time.sleep(seconds)
        assert self.lasts() == first, f"{self.pod} on {self.node} runs"

    def remove(self) -> None:
        """What the kubelet does for a deleted pod."""
        self.hands.run(self.node, "; ".join(one.remove_line() for one in self.containers), check=False)


class NodeSession:
    """The controller's session to one node, with its events kept."""

    def __init__(self, hands: Hands, node: str) -> None:
        self.node = node
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            hands.command(node, SESSION),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._process.stdin and self._process.stdout
        self._session = Session(node, self._process.stdout, self._process.stdin, on_event=self._put)

    def _put(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def ask(self, op: str, timeout: float = 90, **args: Any) -> dict[str, Any]:
        """One request. Raises NodeError, SessionLost."""
        return self._session.call(op, timeout_s=timeout, **args)

    def wait(self, wanted: Callable[[Event], bool], timeout: float) -> Event | None:
        """The first event that is wanted, also one that has come already; None when none comes."""
        end = time.monotonic() + timeout
        with self._changed:
            while True:
                found = next(filter(wanted, self.events), None)
                left = end - time.monotonic()
                if found is not None or left <= 0:
                    return found
                self._changed.wait(left)

    def lose(self) -> None:
        """The controller is gone without a word."""
        self._process.kill()
        self._process.wait()
        with suppress(SessionLost):
            self._session.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()

    def close(self) -> None:
        """End the session in order."""
        self._session.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()


class Crossing:
    """One migration of one pod of counters, in the steps of the controller's own sequences.

    :param faults: per node, point -> action (see the engine's `_common/faults.py`).
    :param containers: their names, in the order of the pod's specification.
    :param files: the pod has a volume and writes files, which travel in rounds before the freeze.
    """

    def __init__(
        self,
        hands: Hands,
        mode: str = "twin",
        *,
        faults: Mapping[str, Mapping[str, str]] | None = None,
        deadlines: Mapping[str, float] | None = None,
        need_bytes: Mapping[str, int] | None = None,
        program: str = COUNTER,
        containers: Sequence[str] = ("main",),
        files: bool = False,
    ) -> None:
        self.hands = hands
        self.mode = mode
        self.run = secrets.token_hex(6)
        self.deadlines = {**DEADLINES, **(deadlines or {})}
        self.need = {"source": 96 << 20, "target": 96 << 20, **(need_bytes or {})}
        self.faults = {node: dict(points) for node, points in (faults or {}).items()}
        self.names = tuple(containers)
        self.files = files
        self._shape: dict[str, Any] = {"names": self.names, "program": program, "files": files}
        self.source = Body(hands, SOURCE, "traveller", "11111111-aaaa", **self._shape)
        target = "traveller-twin" if mode in BESIDE else "traveller"
        self.target = Body(hands, TARGET, target, "22222222-bbbb", **self._shape)
        self.home: Body | None = None
        self.retries: list[Copy] = []
        self.sessions: dict[str, NodeSession] = {}
        self.armed = False
        self.ended = False
        self._posts: list[subprocess.Popen[str]] = []

    # --- the parts of a sequence ------------------------------------------------------------------------------------

    @property
    def copies(self) -> list[Copy]:
        """Every container that could have run."""
        bodies = [self.source, self.target, *([self.home] if self.home else [])]
        return [*(one for body in bodies for one in body.containers), *self.retries]

    def session(self, node: str) -> NodeSession:
        """The session to a node, opened when there is none."""
        if node not in self.sessions:
            self.sessions[node] = NodeSession(self.hands, node)
        return self.sessions[node]

    def ask(self, node: str, op: str, timeout: float = 90, **args: Any) -> dict[str, Any]:
        """A request about this run; on a fresh session when the old one is lost."""
        try:
            return self.session(node).ask(op, timeout, run=self.run, **args)
        except SessionLost:
            self.sessions.pop(node).lose()
            return self.session(node).ask(op, timeout, run=self.run, **args)

    def start(self) -> None:
        """The workload runs, the faults lie ready, the sessions are open."""

        def at(node: str) -> None:
            make = [f"mkdir -p {LOGS}; [ -e /run/netns/{NETNS} ] || ip netns add {NETNS}"]
            if node in self.faults:
                make.append(f"echo {shlex.quote(json.dumps(self.faults[node]))} >{FAULTS}")
            self.hands.run(node, "; ".join([*make, self.source.create_line()] if node == SOURCE else make))
            self.session(node).ask("hello")

        everywhere(at)
        until("the counters count", lambda: min(self.source.lasts()) >= 3, 30)

    def connect(self) -> None:
        """Both ferries up and connected; nothing is touched yet."""
        source_keys, target_keys = make_pair(self.run)
        common: dict[str, Any] = {
            "mode": self.mode,
            "namespace": "default",
            "deadlines": self.deadlines,
            "source_pod": self.source.pod,
            "target_pod": self.target.pod,
            "source_node": SOURCE,
            "target_node": TARGET,
            "stage_bytes": STAGE_BYTES if self.files else 0,
        }
        port = self.session(TARGET).ask(
            "ferry_start", START_SECONDS, run=self.run, role="target", pod=self.target.pod, containers=list(self.names), need_bytes=self.need["target"],
            listen={"address": "0.0.0.0", "ports": [7440, 7459]}, tls=target_keys.to_dict(), **common,
        )["port"]  # fmt: skip
        self.session(SOURCE).ask(
            "ferry_start", START_SECONDS, run=self.run, role="source", pod=self.source.pod, uid=self.source.uid, pod_ip="10.9.9.9",
            containers=[{"name": one.container, "id": f"containerd://{one.id}"} for one in self.source.containers],
            need_bytes=self.need["source"],
            peer={"address": ADDRESSES[TARGET], "port": port}, tls=source_keys.to_dict(), tcp="close", **common,
        )  # fmt: skip

    def stage(self) -> None:
        """The files travel in rounds while the pod runs. Raises NodeError when they do not arrive."""
        source = self.session(SOURCE)
        source.ask("stage", run=self.run)
        ends = ("staged", "end", "ferry_ended")
        event = source.wait(lambda event: event.name in ends and event.role == "source", STAGE_SECONDS)
        if event is None or event.name != "staged":
            with suppress(NodeError, SessionLost):
                self.ask(SOURCE, "cancel", STAGE_SECONDS)  # as the controller does
            for node in reversed(NODES):
                self.ask(node, "finish")
            raise NodeError(SOURCE, "not_staged", f"the files were not copied: {event}")

    def arm(self) -> None:
        """The arrival is written."""
        self.session(TARGET).ask("arm", run=self.run)
        self.armed = True

    def post(self, body: Body | None = None) -> None:
        """What a POST leads to: a kubelet creates and starts the containers. Returns at once."""
        body = body or self.target
        self._posts.append(
            subprocess.Popen(
                self.hands.command(body.node, body.create_line(arriving=self.run)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )

    def create_again(self, node: str = TARGET, *, pod: str = "", uid: str = "") -> str:
        """The kubelet's next attempt, or somebody else's: same names, a new container. Returns the refusal; fails the test without one."""
        copy = Copy(self.hands, node, pod or self.target.pod, uid or self.target.uid, files=self.files)
        self.retries.append(copy)
        done = subprocess.run(
            self.hands.command(node, copy.create_line(arriving=self.run)), capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert done.returncode != 0, f"a second create of {copy.pod} on {node} was let through"
        return done.stdout + done.stderr

    def go(self) -> None:
        """The source may freeze."""
        self.session(SOURCE).ask("go", run=self.run)

    def held(self, node: str, point: str, timeout: float = 30) -> None:
        """Wait until a fault `hold` is reached."""
        path = f"/run/podferry/hold.{point.replace(':', '.')}"
        until(f"{point} on {node}", lambda: self.hands.run(node, f"ls {path}", check=False), timeout, every=0.05)

    def release(self, node: str, point: str) -> None:
        """Let a held point go on."""
        self.hands.run(node, f"rm -f /run/podferry/hold.{point.replace(':', '.')}")

    def entry(self, node: str, role: str) -> dict[str, Any]:
        """What the node knows of this run; empty when it knows nothing."""
        for entry in self.ask(node, "runs", namespace="default").get("runs") or []:
            if entry["run"] == self.run and entry["role"] == role:
                return dict(entry)
        return {}

    # --- the sequences ----------------------------------------------------------------------------------------------

    def carry(self, meanwhile: Callable[[], None] = lambda: None, *, staging: bool = False) -> str:
        """The whole way of a controller that loses nothing of its own, up to `committed`, `aborted` or `in_doubt`.

        :param meanwhile: called after the go, or beside the rounds when `staging`; what it does disturbs.
        """
        try:
            self.connect()
            if self.files:
                with ThreadPoolExecutor(1) as pool:
                    disturbed = pool.submit(meanwhile if staging else lambda: None)
                    try:
                        self.stage()
                    finally:
                        disturbed.result()
            self.arm()
            if self.mode in BESIDE:
                self.post()
            self.go()
            if not staging:
                meanwhile()
            if self.mode in BESIDE:
                return self.verdict()
            event = self.session(SOURCE).wait(
                lambda event: event.name in ("data_ready", "end", "ferry_ended") and event.role == "source",
                self.deadlines["freeze"] + 30,
            )
            if event is not None and event.name == "data_ready":
                self.session(SOURCE).ask("relinquish", run=self.run)
        except (NodeError, SessionLost):
            pass  # the journals say what became of it
        return self.verdict()

    def verdict(self) -> str:
        """What the source's ferry says in the end, else its journal. Within the deadlines of the run."""
        if SOURCE in self.sessions:  # one that was opened later hears nothing of it
            self.sessions[SOURCE].wait(
                lambda event: event.name in ("end", "ferry_ended") and event.role == "source",
                self.deadlines["freeze"] + 30,
            )
        found = "under_way"

        def decided() -> bool:
            nonlocal found
            entry = self.entry(SOURCE, "source")
            state, alive = str(entry.get("state") or "none"), bool(entry.get("alive"))
            if state in ("prepared", "waiting") or (self.mode == "successor" and state == "data_ready"):
                with suppress(NodeError, SessionLost):
                    self.ask(SOURCE, "cancel")  # as the controller does with a source that waits for nobody
            found = from_source_state(state, alive)
            return found != "under_way" and state != "go_given"  # its guard still has to come to its conclusion

        # A source that hangs before the freeze is ended by its watchdog, which knows how long rounds may take.
        rounds = patience(STAGE_BYTES) if self.files else 0.0
        until(f"an end of run {self.run}", decided, self.deadlines["freeze"] + self.deadlines["idle"] + rounds)
        return found

    def settle(self, *, surrender: bool) -> str:
        """Out of the doubt by the target's record. With `surrender` it is given up first, if nothing of it ran."""
        if surrender:
            answer = self.ask(TARGET, "surrender")
            state = "aborted" if answer["surrendered"] else "going"
        else:
            record: dict[str, Any] = {}

            def known() -> bool:
                nonlocal record
                record = self.ask(TARGET, "record")
                lost = self.entry(TARGET, "target").get("state") == "restore_lost"  # let go, and cannot be restored
                return bool(record["resumed"]) or record["state"] in ("aborted", "done") or lost

            until("the target's record decides", known, BOUND)
            state = record["state"]
        if state == "aborted":
            self.ask(SOURCE, "thaw", target_record="aborted")
            return "aborted"
        self.ask(SOURCE, "settle", target_record=state)
        return "committed"

    def change_over(self) -> bool:
        """Successor, after relinquish: source killed, successor created. False when it could not be restored."""
        self.ask(SOURCE, "kill")
        self.source.remove()
        self.post()
        return self.resumed(TARGET)

    def resumed(self, node: str, since: int = 0) -> bool:
        """Whether the arrival on `node` came to run."""
        self.session(node).wait(
            lambda event: event.name in ("resumed", "restore_failed") or (event.name == "ferry_ended" and event.role != "source"),
            self.deadlines["claim"] + self.deadlines["restore"] + 10,
        )  # fmt: skip
        run = self.run if node == TARGET else f"{self.run}.undo"
        time.sleep(0.2)
        until("a ferry that ended", lambda: not self._alive(node, run) or self._thawed(node, run), BOUND)
        return self._thawed(node, run)

    def _alive(self, node: str, run: str) -> bool:
        unit = f"podferry-{run}-target.service"
        state = self.hands.run(node, f"systemctl is-active {unit}", check=False).strip()
        return state not in ("inactive", "failed")

    def _thawed(self, node: str, run: str) -> bool:
        return bool(self.hands.run(node, f"ls /run/podferry/runs/{run}/thawed 2>/dev/null", check=False))

    def go_home(self) -> bool:
        """After a restore that failed: the dump is restored where it was made."""
        self._end_hung_creates()
        self.target.remove()
        answer = self.ask(TARGET, "surrender")
        assert answer["surrendered"], answer
        self.session(SOURCE).events.clear()
        self.ask(SOURCE, "undo_arm", deadlines=self.deadlines, target_record="aborted")
        self.home = Body(self.hands, SOURCE, self.target.pod, "33333333-cccc", **self._shape)
        self.post(self.home)
        return self.resumed(SOURCE)

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """End the run on both nodes."""
        self.ask(TARGET, "finish")
        self.ask(SOURCE, "finish")
        self.ended = True

    def _end_hung_creates(self) -> None:
        """What the kubelet's patience with its runtime comes to: containerd kills what does not end. Nothing is removed before."""
        points = {point: action for each in self.faults.values() for point, action in each.items()}
        if any(point.startswith("handler:") and action == "hang" for point, action in points.items()):
            lines = [f"pkill -9 -f '[c]reate.*{copy.id}'" for copy in self.copies]  # not the shell that says it
            everywhere(lambda node: self.hands.run(node, "; ".join(lines), check=False))

    def clean(self) -> None:
        """Take everything away, whatever state the test left it in."""
        self._end_hung_creates()
        for node in NODES if self.faults else ():
            self.hands.run(node, f"rm -f {FAULTS} /run/podferry/hold.* /run/podferry/trace", check=False)
        if not self.ended:
            self.target.remove()
            for node in reversed(NODES):
                with suppress(NodeError, SessionLost, AssertionError):
                    self.ask(node, "finish")
        everywhere(lambda node: self.sessions[node].close() if node in self.sessions else None)
        self.sessions.clear()
        for process in self._posts:
            try:
                process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()  # a create that hangs; ssh's shared connection may hold on to its output
                process.wait()

        def away(node: str) -> None:
            mine = [copy.remove_line() for copy in self.copies if copy.node == node]
            left = [] if self.ended else [OF_A_RUN.format(run=self.run)]  # the next case must not fail of this one
            self.hands.run(node, "; ".join([*mine, *left, f"rm -rf {LOGS}"]), check=False)

        everywhere(away)


@contextmanager
def crossing(hands: Hands, mode: str = "twin", **options: Any) -> Iterator[Crossing]:
    """A crossing whose workload runs; everything of it is gone at the end."""
    one = Crossing(hands, mode, **options)
    try:
        one.start()
        yield one
    finally:
        one.clean()


# --- the witness ------------------------------------------------------------------------------------------------------


def history(copies: list[Copy]) -> list[str]:
    """What is wrong with the life of a pod that had several bodies (promises P1 and P3); empty when nothing is."""
    names = dict.fromkeys(copy.container for copy in copies)
    return [wrong for name in names for wrong in _life([copy for copy in copies if copy.container == name])]


def _life(copies: list[Copy]) -> list[str]:
    """The same for one of its containers."""
    wrong, lives, starts = [], [], 0
    for copy in copies:
        text = copy.text()
        starts += text.count("start pid=")
        wrong += _spoilt(copy, text)
        found = ticks.parse(text)
        if found:
            lives.append((copy, found))
    if starts != 1:
        wrong.append(f"container {copies[0].container} was started {starts} times from its image")
    lives.sort(key=lambda life: life[1][0].realtime)
    for (one, before), (two, after) in itertools.pairwise(lives):
        if before[-1].realtime >= after[0].realtime:
            wrong.append(
                f"two at once: {one.pod} on {one.node} at tick {before[-1].number} after {two.pod} on {two.node} began with {after[0].number}"
            )
    return wrong + ticks.problems([tick for _copy, found in lives for tick in found])


def _spoilt(copy: Copy, text: str) -> list[str]:
    return [f"{copy.pod} on {copy.node}: {line}" for line in text.splitlines() if "CORRUPT" in line]


def parting(source: Body, copy: Body) -> list[str]:
    """What is wrong with a pod and its copy: each goes on from the same tick, and nobody was started anew."""
    wrong = []
    for one, other in zip(source.containers, copy.containers, strict=True):
        mine, theirs = one.text(), other.text()
        wrong += _spoilt(one, mine) + _spoilt(other, theirs)
        starts = mine.count("start pid=") + theirs.count("start pid=")
        if starts != 1:
            wrong.append(f"container {one.container} was started {starts} times from its image")
        here, there = ticks.parse(mine), ticks.parse(theirs)
        wrong += ticks.problems(here)
        if there:
            before = [tick for tick in here if tick.number < there[0].number]
            wrong += ticks.problems([*before[-1:], *there])
            if not before or before[-1].number != there[0].number - 1:
                wrong.append(
                    f"the copy of {one.container} begins with tick {there[0].number}, which the source never came near"
                )
    return wrong


def runs_on(body: Body, timeout: float, pages: int = MIB * 256) -> None:
    """Fail unless the workload goes on and finds all its memory, and its files, as they were (promises P2 and P3)."""
    for copy in body.containers:
        _runs_on(copy, timeout, pages)


def _runs_on(copy: Copy, timeout: float, pages: int) -> None:
    first = copy.last()
    before = copy.text()

    def more(text: str, what: str) -> bool:
        return text.count(what) > before.count(what)

    def proven() -> bool:
        text = copy.text()
        assert not _spoilt(copy, text), _spoilt(copy, text)
        files = more(text, "files verified") or not copy.files
        return more(text, "memory verified") and files and copy.last() >= first + pages // 16

    try:
        until(f"{copy.pod} on {copy.node} to run on after tick {first} with its memory verified", proven, timeout)
    except AssertionError as error:
        raise AssertionError(f"{error}; it is at tick {copy.last()}") from None
