# SPDX-License-Identifier: Apache-2.0
"""Bring up the lab, migrate a live counter from node-a to node-b, and show its ticks around the switchover."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from kubernetes.client import ApiException

from e2e.support import ticks, workloads
from e2e.support.cluster import Cluster
from e2e.support.lab import Lab

ROOT = Path(__file__).resolve().parents[1]
SHOWN = 5  # ticks on either side of the switchover


def say(text: str) -> None:
    """A heading."""
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}== {text}{plain}", flush=True)


def play(lab: Lab, playbook: str, *flags: str, **variables: Any) -> None:
    """Run a playbook with its output where the user sees it; ends the demo when it fails."""
    plays = lab.plays
    command = plays.command(playbook, variables, flags)
    print(
        f"$ ansible-playbook -i inventories/lab playbooks/{playbook}.yml",
        *(f"-e {k}={v}" for k, v in variables.items()),
        flush=True,
    )
    environment = {
        key: value for key, value in plays.env().items() if key != "ANSIBLE_NOCOLOR" or not sys.stdout.isatty()
    }
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if status:
        sys.exit(f"playbooks/{playbook}.yml ended with status {status}")


def watch(cluster: Cluster, name: str, stop: threading.Event) -> None:
    """Once a second, say where the counter is and how far it has come."""
    while not stop.wait(1.0):
        try:
            seen = ticks.parse(cluster.logs(name))
            print(
                f"    {name} on {cluster.node(name)}: tick {seen[-1].number}" if seen else f"    {name}: no tick yet",
                flush=True,
            )
        except (ApiException, AssertionError):  # it keeps its name: for a moment neither node's pod has a log to show
            print(f"    {name}: between the nodes", flush=True)


def show(log: str, report: dict[str, Any]) -> bool:
    """Print the ticks around the switchover and the verdict; whether it is a good one."""
    seen = ticks.parse(log)
    gap = ticks.switchover(seen)
    at = seen.index(gap.after)
    for index in range(max(0, at - SHOWN), min(len(seen), at + SHOWN)):
        tick = seen[index]
        if index == at:
            print(f"    -------- frozen on node-a, thawed on node-b: {gap.ms:.0f} ms --------")
        moment = (
            time.strftime("%H:%M:%S", time.localtime(tick.realtime / 1e9)) + f".{tick.realtime // 1_000_000 % 1000:03d}"
        )
        print(f"    {'node-a' if index < at else 'node-b'}  tick {tick.number:<6} {moment}")
    wrong = ticks.problems(seen)
    corrupt = "CORRUPT" in log or log.count("start pid=") != 1
    print(
        f"\n{len(seen)} ticks, {seen[0].number} to {seen[-1].number}: "
        + ("none lost, none doubled" if not wrong else "; ".join(wrong))
    )
    print(
        f"memory: {'NOT what was written' if corrupt else 'every page checked is what was written; one start, one process'}"
    )
    if "downtime_ms" in report:
        print(
            f"downtime by the report: {report['downtime_ms']} ms; by the ticks: {gap.ms:.0f} ms (10 ms of it are the counter's own pause)"
        )
    return not wrong and not corrupt


def main() -> int:
    """The demo; 0 when the counter arrived whole."""
    parser = argparse.ArgumentParser(prog="demo/run", description=__doc__)
    parser.add_argument(
        "what", nargs="?", default="up", choices=["up", "down"], help="down: remove the lab (default: up)"
    )
    parser.add_argument(
        "--memory", type=int, default=64, metavar="MIB", help="memory that the counter touches (default: 64)"
    )
    arguments = parser.parse_args()
    lab = Lab(os.environ.get("PODFERRY_LAB", "podferry"), int(os.environ.get("PODFERRY_LAB_PORT", "16443")))
    if arguments.what == "down":
        play(lab, "lab", lab_state="down")
        return 0

    say("A lab: node-a, node-b and a control plane on this machine")
    play(lab, "lab", lab_state="up")
    say("Prepare the nodes: CRIU, the runtime handler, the RuntimeClass")
    play(lab, "bootstrap")

    cluster = Cluster(lab.kubeconfig)
    name = cluster.name("counter")
    say(f"A pod: {name} on node-a, {arguments.memory} MiB touched, a line every 10 ms")
    cluster.create(workloads.counter(name, "node-a", mib=arguments.memory))
    time.sleep(3)

    say(f"Move it to node-b while it runs (its log goes on in between: `kubectl logs -f {name}`)")
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(cluster, name, stop), daemon=True)
    watcher.start()
    report = Path(tempfile.mkdtemp(prefix="podferry-demo-")) / "report.json"
    try:
        play(lab, "migrate", pod=name, target="node-b", report=str(report))
        time.sleep(2)
    finally:
        stop.set()
        watcher.join(5)

    say("Its ticks around the switchover")
    arrived = cluster.moved(name)
    good = show(cluster.logs(arrived), json.loads(report.read_text()) if report.exists() else {})
    here = "" if lab.name == "podferry" else f"PODFERRY_LAB={lab.name} "
    back = f"-e pod={arrived} -e target=node-a"
    print(f"\nThe lab stays up: KUBECONFIG={lab.kubeconfig}; ssh -F {lab.ssh_config} node-a; report: {report}")
    print(f"Move it back:     {here}ansible-playbook -i inventories/lab playbooks/migrate.yml {back}")
    print(f"Take it away:     {here}demo/run down")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
