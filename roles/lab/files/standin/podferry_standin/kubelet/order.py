# SPDX-License-Identifier: Apache-2.0
"""Which containers of a pod start now, and in which order they stop: pure functions, decided as the kubelet does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .states import CREATED, EXITED, RUNNING

Obj = dict[str, Any]


@dataclass
class Plan:
    """What one pass has to do."""

    start: list[Obj] = field(default_factory=list)  # specifications, in order
    ended: bool = False  # nothing of the pod runs again: what still runs (sidecars) is stopped


def is_sidecar(spec: Obj) -> bool:
    """An init container that stays."""
    return bool(spec.get("restartPolicy") == "Always")


def plan(spec: Obj, latest: Mapping[str, Any], started: Callable[[Obj, Any], bool]) -> Plan:
    """Decide by the latest attempt of each container in the pod's present sandbox.

    :param spec: of the pod
    :param latest: ContainerStatus by name
    :param started: whether a running container has passed its startup probe
    """
    made = Plan()
    initialized, failed = _init(spec, latest, started, made.start)
    if failed:
        return Plan(ended=True)
    if not initialized:
        return made
    policy, kept = spec.get("restartPolicy", "Always"), 0
    for container in spec["containers"]:
        now = latest.get(container["name"])
        if now is not None and now.state == RUNNING:
            kept += 1
        elif now is None or now.state != EXITED or _restarts(policy, now.exit_code):
            made.start.append(container)
            kept += 1
    return made if kept else Plan(ended=True)


def _restarts(policy: str, code: int) -> bool:
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def _init(
    spec: Obj, latest: Mapping[str, Any], started: Callable[[Obj, Any], bool], start: list[Obj]
) -> tuple[bool, bool]:
    """Whether the pod is initialized, and whether it cannot be any more; what has to start is added to ``start``.

    From the last init container back to the first: the last one that was ever created tells how far the pod is, so
    that finished ones do not run again, whatever became of their remains.
    """
    containers = spec.get("initContainers") or []
    running = any(
        now is not None and now.state in (CREATED, RUNNING)
        for now in (latest.get(c["name"]) for c in spec["containers"])
    )
    initialized = running or not containers
    passed = running  # everything before the one that is looked at has been through
    wanted: list[int] = []
    for index in reversed(range(len(containers))):
        container, last = containers[index], index == len(containers) - 1
        now, sidecar = latest.get(container["name"]), is_sidecar(container)
        if now is None:
            if passed and sidecar:
                wanted.append(index)
            continue
        if passed and not sidecar:
            continue
        done = False
        if now.state == RUNNING:
            done = sidecar and started(container, now)
        elif now.state != EXITED or sidecar:
            wanted.append(index)
        elif now.exit_code == 0:
            done = True
        elif spec.get("restartPolicy", "Always") == "Never":
            return False, True
        else:
            wanted.append(index)
        if done and last:
            initialized = True
        elif done and not passed:
            wanted.append(index + 1)
        passed = True
    if containers and not passed:
        wanted.append(0)
    start.extend(containers[index] for index in sorted(set(wanted)))
    return initialized, False


def has_ended(spec: Obj, latest: Mapping[str, Any]) -> bool:
    """Whether a pod that lost its sandbox gets no other: its containers have run, and none of them runs again."""
    policy = spec.get("restartPolicy", "Always")
    if policy == "Never":
        return bool(latest)
    ends = [latest.get(container["name"]) for container in spec["containers"]]
    return policy == "OnFailure" and all(now is not None and now.state == EXITED and now.exit_code == 0 for now in ends)


def stop_groups(spec: Obj, names: set[str]) -> list[set[str]]:
    """The order of the end: ordinary containers together, then sidecars one by one, the last one first."""
    sidecars = [c["name"] for c in reversed(spec.get("initContainers") or []) if is_sidecar(c) and c["name"] in names]
    first = names - set(sidecars)
    return ([first] if first else []) + [{name} for name in sidecars]
