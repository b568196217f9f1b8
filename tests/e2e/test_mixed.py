# SPDX-License-Identifier: Apache-2.0
"""A mixed set of workloads moves in random order, a random fault in every third migration; no acknowledged write is lost or doubled.

PODFERRY_MIXED says how many migrations (200 for the whole of it), PODFERRY_SEED repeats a run.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from e2e.conftest import Traces
from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster, until
from e2e.support.faultpoints import faults
from e2e.support.lab import Lab
from e2e.support.plays import Plays
from e2e.test_containers import numbers, python, whole
from e2e.test_owners import OTHER, stateful, template
from e2e.test_witness import FAULTS

MIGRATIONS = int(os.environ.get("PODFERRY_MIXED", "10"))
PRODUCER = """
import time
with open("/shared/lines", "a") as file:
    for number in range(1 << 40):
        file.write(f"{number}\\n"); file.flush()
        print("made", number, flush=True)
        time.sleep(0.02)
"""
CONSUMER = """
import time
while True:
    try:
        file = open("/shared/lines")
        break
    except OSError:
        time.sleep(0.05)
number = 0
while True:
    line = file.readline()
    if not line.endswith("\\n"):
        time.sleep(0.01); file.seek(file.tell() - len(line)) if line else None
        continue
    assert int(line) == number, (line, number)
    print("took", number, flush=True)
    number += 1
"""


class Workload:
    """One thing that moves, and what it has acknowledged."""

    acknowledged = 0
    """Writes that a client was told of."""

    def __init__(self, cluster: Cluster, lab: Lab, name: str) -> None:
        self.cluster, self.lab, self.name = cluster, lab, name

    def pods(self) -> list[dict[str, Any]]:
        """Its living pods."""
        found = self.cluster.pods(f"app={self.name}")
        return [p for p in found if not p["metadata"].get("deletionTimestamp")]

    def write(self) -> None:
        """Make it acknowledge something."""

    def check(self) -> None:
        """Everything acknowledged is there, once."""

    def ask(self, *command: str) -> str:
        return self.lab.ssh("control-host", *command, timeout=60).stdout.strip()

    def address(self) -> str:
        (pod,) = self.pods()
        return str(pod["status"]["podIP"])


class Ticking(Workload):
    """Counters: their lines are their account."""

    def check(self) -> None:
        for pod in self.pods():
            ticks.assert_unbroken(self.cluster.logs(pod["metadata"]["name"]))


class Redis(Workload):
    def write(self) -> None:
        for _turn in range(3):
            self.acknowledged += 1
            assert int(self.ask("redis-cli", "-h", self.address(), "incr", "seq")) == self.acknowledged
            self.ask("redis-cli", "-h", self.address(), "rpush", "list", str(self.acknowledged))

    def check(self) -> None:
        found = self.ask("redis-cli", "-h", self.address(), "lrange", "list", "0", "-1").split()
        assert [int(word) for word in found] == list(range(1, self.acknowledged + 1))


class Json(Workload):
    def write(self) -> None:
        self.acknowledged += 1
        self.ask(
            "curl",
            "-sf",
            "--max-time",
            "5",
            "-X",
            "PUT",
            "-d",
            str(self.acknowledged),
            f"http://{self.address()}:8080/seq",
        )

    def check(self) -> None:
        answer = json.loads(self.ask("curl", "-sf", "--max-time", "5", f"http://{self.address()}:8080/seq"))
        assert int(answer["value"]) == self.acknowledged


class Http(Workload):
    def check(self) -> None:
        self.ask("curl", "-sf", "--max-time", "5", "-o", "/dev/null", f"http://{self.address()}:8080/")


class Pair(Workload):
    """Two containers with a file between them."""

    def check(self) -> None:
        (pod,) = self.pods()
        log = self.cluster.logs(pod["metadata"]["name"], "consumer")
        whole(log, "took", 1)
        before = len(numbers(log, "took"))
        until(
            "the consumer goes on",
            lambda: len(numbers(self.cluster.logs(pod["metadata"]["name"], "consumer"), "took")) > before,
            20,
        )


@contextmanager
def a_mixed_set(cluster: Cluster, lab: Lab) -> Iterator[list[Workload]]:
    """Counter, Redis, HTTP server, JSON service, two containers with a shared volume, StatefulSet of two, Deployment of three."""
    with ExitStack() as opened:
        found: list[Workload] = []
        for kind, made in (
            (Ticking, workloads.counter),
            (Redis, workloads.redis),
            (Http, workloads.http),
            (Json, workloads.json_service),
        ):
            found.append(kind(cluster, lab, cluster.create(made(cluster.name(kind.__name__.lower()), "node-a"))))
        pair = workloads.pod(cluster.name("pair"), "node-b", "counter")
        mount = {"volumeMounts": [{"name": "shared", "mountPath": "/shared"}]}
        pair["spec"]["containers"] = [python("producer", PRODUCER, **mount), python("consumer", CONSUMER, **mount)]
        pair["spec"]["volumes"] = [{"name": "shared", "emptyDir": {}}]
        found.append(Pair(cluster, lab, cluster.create(pair)))
        found.append(Ticking(cluster, lab, opened.enter_context(stateful(cluster))))
        name = cluster.name("web")
        cluster.apps.create_namespaced_deployment(
            cluster.namespace,
            {"metadata": {"name": name}, "spec": {"replicas": 3, "selector": {"matchLabels": {"app": name}},
                                                  "template": template(name, "counter", ["4"])}},
        )  # fmt: skip
        opened.callback(until, "the Deployment's pods gone", lambda: not cluster.pods(f"app={name}"), 60)
        opened.callback(cluster.apps.delete_namespaced_deployment, name, cluster.namespace)
        until(
            "three Ready pods",
            lambda: sum(cluster.is_ready(p["metadata"]["name"]) for p in cluster.pods(f"app={name}")) == 3,
            90,
        )
        found.append(Ticking(cluster, lab, name))
        yield found


@pytest.mark.timeout(60 + 25 * MIGRATIONS)
def test_a_mixed_set_in_random_order(lab: Lab, plays: Plays, cluster: Cluster, traces: Traces) -> None:
    seed = int(os.environ.get("PODFERRY_SEED", str(time.time_ns() % 100_000)))
    print(f"PODFERRY_SEED={seed}")
    dice = random.Random(seed)
    outcomes: Counter[str] = Counter()
    freezes: list[float] = []
    whole_runs: list[float] = []
    with a_mixed_set(cluster, lab) as found:
        for number in range(MIGRATIONS):
            one = found[number] if number < len(found) else dice.choice(found)
            one.write()
            pod = dice.choice(one.pods())
            name, here = pod["metadata"]["name"], pod["spec"]["nodeName"]
            # The name of a pod that nobody owns may go or stay; its owner decides about the others'.
            way = "auto" if pod["metadata"].get("ownerReferences") else dice.choice(["keep", "new"])
            point = ""
            if number % 3 == 2:
                role = dice.choice(["source", "target"])
                point = dice.choice(FAULTS[role])
                with faults(lab, here if role == "source" else OTHER[here], {point: dice.choice(["kill", "error"])}):
                    result = plays.migrate(name, OTHER[here], name=way)
            else:
                result = plays.migrate(name, OTHER[here], name=way).ok()
            report = result.report or {}
            outcome = str(report.get("outcome"))
            if outcome == "in_doubt":
                plays.migrate(name, OTHER[here], name=way)
            outcomes[outcome] += 1
            if outcome == "finished" and not point:
                freezes.append(float(report["downtime_ms"]))
                whole_runs.append(float(report["total_ms"]))
            print(f"{number + 1}: {name} by {way}, {point or 'no fault'}: {outcome}, downtime {report.get('downtime_ms')} ms, "
                  f"in all {report.get('total_ms')} ms", flush=True)  # fmt: skip
            wanted = {"Ticking": len(one.pods())}.get(type(one).__name__, 1)
            until(
                f"{name} at rest after {point or 'no fault'} ({outcome})",
                lambda one=one, wanted=wanted: (
                    len(p := one.pods()) >= wanted and all(cluster.is_ready(x["metadata"]["name"]) for x in p)
                ),
                60,
            )
            one.check()
        for one in found:
            one.check()
        for pod in [pod for one in found for pod in one.pods() if not pod["metadata"].get("ownerReferences")]:
            cluster.created.append(pod["metadata"]["name"])  # after several moves nobody else knows its name
    print(f"{MIGRATIONS} migrations, {sum(one.acknowledged for one in found)} acknowledged writes: {dict(outcomes)}")
    for what, times in (("downtime", freezes), ("in all", whole_runs)):
        early, late = thirds(times)
        print(f"{what}: median {statistics.median(times):.0f} ms, slowest {max(times):.0f} ms; "
              f"median of the first third {early:.0f} ms, of the last {late:.0f} ms")  # fmt: skip
        if MIGRATIONS >= 100:  # fewer say nothing about it
            assert late <= 1.5 * early + 200, f"migrations become slower: {what}"
    assert outcomes["finished"] >= MIGRATIONS // 2
    cluster.clean()
    traces.assert_none(60)


def thirds(times: list[float]) -> tuple[float, float]:
    """The medians of the first and of the last third."""
    count = len(times) // 3 or 1
    return statistics.median(times[:count]), statistics.median(times[-count:])
