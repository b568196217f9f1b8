# SPDX-License-Identifier: Apache-2.0
"""One migration without Kubernetes: containers by `ctr` with the identity that the CRI would give them, two sessions, two ferries.

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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

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
DEADLINES = {"idle": 40.0, "claim": 10.0, "freeze": 15.0, "restore": 12.0, "settle": 4.0, "silence": 2.5}
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


@dataclass
class Copy:
    """A container that is, or will be, the workload."""

    hands: Hands
    node: str
    pod: str
    uid: str
    program: str = f"/usr/bin/python3 /app/counter.py {MIB}"
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
            "io.kubernetes.cri.container-name": "main",
            **({"podferry.live/arrival": arriving} if arriving else {}),
        }
        words = ["ctr", "-n", "k8s.io", "run", "-d", "--log-uri", f"file://{self.log}"]
        words += ["--runc-binary", FRONT] if arriving else []
        words += [word for item in identity.items() for word in ("--annotation", "=".join(item))]
        words += ["--with-ns", f"network:/run/netns/{NETNS}", IMAGE, self.id]
        return f"{shlex.join(words)} {self.program}"

    def first(self) -> None:
        """Start it once and remove it."""
        self.hands.run(self.node, self.create_line())
        self.remove()

    def text(self) -> str:
        """All that it wrote."""
        return self.hands.run(self.node, f"cat {self.log} 2>/dev/null", check=False)

    def last(self) -> int:
        """Number of its last tick; 0 when it never ran."""
        found = ticks.parse("\n" + self.hands.run(self.node, f"tail -c 2000 {self.log} 2>/dev/null", check=False))
        return found[-1].number if found else 0

    def grows(self, timeout: float, by: int = 2) -> None:
        """Fail unless it writes `by` more ticks within `timeout`."""
        first = self.last()
        until(f"{by} ticks after tick {first} of {self.pod} on {self.node}", lambda: self.last() >= first + by, timeout)

    def stands(self, seconds: float = 0.5) -> None:
        """Fail if it writes a tick within `seconds`."""
        first = self.last()
        time.sleep(seconds)
        assert self.last() == first, f"{self.pod} on {self.node} runs"

    def remove(self) -> None:
        """What the kubelet does for a deleted pod: kill, delete, forget. Fine when there is nothing."""
        self.hands.run(
            self.node,
            f"t={self.id}; c='ctr -n k8s.io'; {{ $c task kill -s 9 $t && for i in $(seq 100); do "
            "$c task rm $t && break; sleep .1; done || $c task rm $t; $c container rm $t; } >/dev/null 2>&1",
            check=False,
        )  # fmt: skip


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
    """One migration of one counter, in the steps of the controller's own sequences.

    :param faults: per node, point -> action (see the engine's `_common/faults.py`).
    """

    def __init__(
        self,
        hands: Hands,
        mode: str = "twin",
        *,
        faults: Mapping[str, Mapping[str, str]] | None = None,
        deadlines: Mapping[str, float] | None = None,
        need_bytes: Mapping[str, int] | None = None,
        program: str | None = None,
    ) -> None:
        self.hands = hands
        self.mode = mode
        self.run = secrets.token_hex(6)
        self.deadlines = {**DEADLINES, **(deadlines or {})}
        self.need = {"source": 96 << 20, "target": 96 << 20, **(need_bytes or {})}
        self.faults = {node: dict(points) for node, points in (faults or {}).items()}
        programs = {"program": program} if program else {}
        self.source = Copy(hands, SOURCE, "traveller", "11111111-aaaa", **programs)
        twin = mode == "twin"
        self.target = Copy(hands, TARGET, "traveller-twin" if twin else "traveller", "22222222-bbbb", **programs)
        self.home: Copy | None = None
        self.retries: list[Copy] = []
        self.sessions: dict[str, NodeSession] = {}
        self.armed = False
        self.ended = False
        self._posts: list[subprocess.Popen[str]] = []

    # --- the parts of a sequence ------------------------------------------------------------------------------------

    @property
    def copies(self) -> list[Copy]:
        """Every container that could have run."""
        return [self.source, self.target, *([self.home] if self.home else []), *self.retries]

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
        until("the counter counts", lambda: self.source.last() >= 3, 30)

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
        }
        port = self.session(TARGET).ask(
            "ferry_start", run=self.run, role="target", pod=self.target.pod, containers=["main"], need_bytes=self.need["target"],
            listen={"address": "0.0.0.0", "ports": [7440, 7459]}, tls=target_keys.to_dict(), **common,
        )["port"]  # fmt: skip
        self.session(SOURCE).ask(
            "ferry_start", run=self.run, role="source", pod=self.source.pod, uid=self.source.uid, pod_ip="10.9.9.9",
            containers=[{"name": "main", "id": f"containerd://{self.source.id}"}], need_bytes=self.need["source"],
            peer={"address": ADDRESSES[TARGET], "port": port}, tls=source_keys.to_dict(), tcp="close", **common,
        )  # fmt: skip

    def arm(self) -> None:
        """The arrival is written."""
        self.session(TARGET).ask("arm", run=self.run)
        self.armed = True

    def post(self, copy: Copy | None = None) -> None:
        """What a POST leads to: a kubelet creates and starts the container. Returns at once."""
        copy = copy or self.target
        self._posts.append(
            subprocess.Popen(
                self.hands.command(copy.node, copy.create_line(arriving=self.run)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )

    def create_again(self, node: str = TARGET, *, pod: str = "", uid: str = "") -> str:
        """The kubelet's next attempt, or somebody else's: same names, a new container. Returns the refusal; fails the test without one."""
        copy = Copy(self.hands, node, pod or self.target.pod, uid or self.target.uid, self.target.program)
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

    def carry(self, meanwhile: Callable[[], None] = lambda: None) -> str:
        """The whole way of a controller that loses nothing of its own, up to `committed`, `aborted` or `in_doubt`.

        :param meanwhile: called after the go; what it does disturbs.
        """
        try:
            self.connect()
            self.arm()
            if self.mode == "twin":
                self.post()
            self.go()
            meanwhile()
            if self.mode == "twin":
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

        until(f"an end of run {self.run}", decided, self.deadlines["freeze"] + self.deadlines["idle"])
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
                return bool(record["resumed"]) or record["state"] in ("aborted", "done")

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
        self.target.remove()
        answer = self.ask(TARGET, "surrender")
        assert answer["surrendered"], answer
        self.session(SOURCE).events.clear()
        self.ask(SOURCE, "undo_arm", deadlines=self.deadlines, target_record="aborted")
        self.home = Copy(self.hands, SOURCE, self.target.pod, "33333333-cccc", self.source.program)
        self.post(self.home)
        return self.resumed(SOURCE)

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """End the run on both nodes."""
        self.ask(TARGET, "finish")
        self.ask(SOURCE, "finish")
        self.ended = True

    def clean(self) -> None:
        """Take everything away, whatever state the test left it in."""
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
                process.kill()
                process.communicate()

        def away(node: str) -> None:
            for copy in self.copies:
                if copy.node == node:
                    copy.remove()
            self.hands.run(node, f"rm -rf {LOGS}", check=False)

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
    """What is wrong with the life of one workload that had several bodies (promises P1 and P3); empty when nothing is."""
    wrong = []
    lives: list[tuple[Copy, list[ticks.Tick]]] = []
    starts = 0
    for copy in copies:
        text = copy.text()
        starts += text.count("start pid=")
        wrong += [f"{copy.pod} on {copy.node}: {line}" for line in text.splitlines() if "CORRUPT" in line]
        found = ticks.parse(text)
        if found:
            lives.append((copy, found))
    if starts != 1:
        wrong.append(f"the workload was started {starts} times from its image")
    lives.sort(key=lambda life: life[1][0].realtime)
    for (one, before), (two, after) in itertools.pairwise(lives):
        if before[-1].realtime >= after[0].realtime:
            wrong.append(
                f"two at once: {one.pod} on {one.node} at tick {before[-1].number} after {two.pod} on {two.node} began with {after[0].number}"
            )
    return wrong + ticks.problems([tick for _copy, found in lives for tick in found])


def runs_on(copy: Copy, timeout: float, pages: int = MIB * 256) -> None:
    """Fail unless the workload goes on and finds every page of its memory as it was (promises P2 and P3)."""
    first = copy.last()
    passes = copy.text().count("memory verified")

    def proven() -> bool:
        text = copy.text()
        assert "CORRUPT" not in text, [line for line in text.splitlines() if "CORRUPT" in line]
        return text.count("memory verified") > passes and copy.last() >= first + pages // 16

    try:
        until(f"{copy.pod} on {copy.node} to run on after tick {first} with its memory verified", proven, timeout)
    except AssertionError as error:
        raise AssertionError(f"{error}; it is at tick {copy.last()}") from None
