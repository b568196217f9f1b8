# SPDX-License-Identifier: Apache-2.0
"""The recordings: requests with this cluster's names in them, and answers compared by shape and by what matters."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

Obj = dict[str, Any]

FACTS = Path(__file__).parents[1] / "fixtures/kubernetes-facts"
_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")
_UID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_ADDRESS = re.compile(r"^\d+\.\d+\.\d+\.\d+$")
_CONTAINER = re.compile(r"^(containerd|cri-o)://[0-9a-f]{64}$")
_IMAGE = re.compile(r"^(\S+@)?sha256:[0-9a-f]{64}$")


_NOT_COMPARED = ("managedFields", "serviceAccount", "serviceAccountName")


class Recording:
    """One file of requests and answers."""

    def __init__(self, name: str, names: dict[str, str]) -> None:
        """:param names: what the recording calls something, to what it is called here; more may be added later."""
        self.steps: dict[str, Obj] = {step["label"]: step for step in json.loads((FACTS / name).read_text())}
        self.names = dict(names)

    def here(self, value: Any) -> Any:
        """A recorded value with this cluster's names."""
        text = json.dumps(value)
        for recorded in sorted(self.names, key=len, reverse=True):
            text = text.replace(recorded, self.names[recorded])
        return json.loads(text)

    def replay(self, cluster: Any, label: str) -> Obj:
        """Send a recorded request and compare the answer; returns it."""
        step = self.steps[label]
        asked = step["request"]
        status, body = cluster.request(
            asked["method"], self.here(asked["path"]), self.here(asked["body"]), asked["content_type"]
        )
        assert status == step["status"], f"{label}: {status} {body}"
        expected, actual = masked(self.here(step["body"])), masked(body)
        assert actual == expected, f"{label}"
        answer: Obj = body
        return answer


def masked(value: Any, key: str = "") -> Any:
    """The value with everything replaced that differs from run to run, but not its kind.

    Also left out: managedFields (the recordings have none), the pod-level ``resources`` of the status (the recorded
    limit is the kubelet's reading of an unlimited cgroup), the dump of the Go structure after a 422's first line, and what the
    ServiceAccount admission puts into a pod (the recorded cluster ran without it).
    """
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in _NOT_COMPARED}
        for name in ("volumes", "volumeMounts"):
            given = [v for v in kept.pop(name, []) if not str(v.get("name")).startswith("kube-api-access-")]
            if given:
                kept[name] = given
        if "phase" in kept and "resources" in kept:
            kept["resources"] = {}
        return {k: masked(v, k) for k, v in kept.items()}
    if isinstance(value, list):
        return [masked(item, key) for item in value]
    if not isinstance(value, str):
        return value
    if key == "resourceVersion":
        return "<revision>" if value.isdigit() else value
    if key == "message":
        return value.partition("\n")[0]
    for pattern, name in (
        (_TIME, "<time>"),
        (_UID, "<uid>"),
        (_ADDRESS, "<address>"),
        (_CONTAINER, "<container>"),
        (_IMAGE, "<image>"),
    ):
        if pattern.match(value):
            return name
    return value


def states(events: list[tuple[str, Obj]]) -> list[tuple[str, str, bool, bool]]:
    """A watch stream of one pod in short: type, phase, ready, terminating; the same twice is one.

    Failed and Succeeded are both the end: whether a workload ends well on SIGTERM is its own affair.
    """
    short: list[tuple[str, str, bool, bool]] = []
    for kind, pod in events:
        conditions = pod["status"].get("conditions") or []
        is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
        phase = "ended" if pod["status"]["phase"] in ("Failed", "Succeeded") else pod["status"]["phase"]
        going = bool(pod.get("deletionTimestamp") or pod.get("metadata", {}).get("deletionTimestamp"))
        state = (kind, phase, is_ready, going)
        if not short or short[-1] != state:
            short.append(state)
    return short


def recorded_stream(name: str, pod: str) -> list[tuple[str, Obj]]:
    """The recorded watch events of a pod."""
    return [(e["type"], e) for e in json.loads((FACTS / name).read_text()) if e["kind"] == "Pod" and e["name"] == pod]
