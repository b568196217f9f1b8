# SPDX-License-Identifier: Apache-2.0
"""From what the runtime says to a pod's status: pure functions, shaped as recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .config import stamp
from .states import EXITED, RUNNING

Obj = dict[str, Any]

_NS = 1e9
_UNREADY = "ContainersNotReady"


@dataclass
class ContainerView:
    """What is known of one container: the runtime's latest attempt, the one before, and why it waits."""

    spec: Obj
    current: Any | None = None  # ContainerStatus
    previous: Any | None = None
    waiting: tuple[str, str] | None = None  # reason, message
    probed_ready: bool = True
    probed_started: bool = True


@dataclass
class PodView:
    """What is known of one pod."""

    pod: Obj
    node_address: str
    runtime: str
    address: str = ""
    sandbox_ready: bool = False
    terminating: bool = False
    containers: list[ContainerView] = field(default_factory=list)
    init: list[ContainerView] = field(default_factory=list)


def build(view: PodView) -> Obj:
    """The whole status. Times of conditions stay while the conditions do."""
    old = view.pod.get("status") or {}
    generation = view.pod["metadata"].get("generation", 1)
    containers = [container_status(item, view) for item in view.containers]
    init = [container_status(item, view) for item in view.init]
    phase = _phase(view)
    status: Obj = {
        "observedGeneration": generation,
        "phase": phase,
        "conditions": _conditions(view, containers, phase, old, generation),
        "hostIP": view.node_address,
        "hostIPs": [{"ip": view.node_address}],
    }
    # Before a container runs the address stays unsaid, as recorded; afterwards it stays, also at the end.
    address = view.address if any("containerID" in item for item in containers + init) else ""
    address = address or old.get("podIP", "")
    if address:
        status.update(podIP=address, podIPs=[{"ip": address}])
    status["startTime"] = old.get("startTime") or stamp()
    if init:
        status["initContainerStatuses"] = init
    status.update(
        containerStatuses=containers, qosClass=old.get("qosClass", "BestEffort"), resources=old.get("resources", {})
    )
    return status


def container_status(item: ContainerView, view: PodView) -> Obj:
    """One entry of containerStatuses."""
    now, name = item.current, item.spec["name"]
    # containerd answers CREATED while the OCI runtime's create is held: for the kubelet that is still creating.
    shown = now if now is not None and now.state in (RUNNING, EXITED) else None
    state, last = _state(item, shown, view), {}
    finished = item.previous
    if "waiting" in state and shown is not None and shown.state == EXITED:
        finished = shown
    if finished is not None and finished.state == EXITED:
        last = {"terminated": terminated(finished, view.runtime)}
    running = "running" in state
    entry: Obj = {
        "name": name,
        "state": state,
        "lastState": last,
        "ready": running and item.probed_ready and item.probed_started,
        "restartCount": now.metadata.attempt
        if now is not None
        else (finished.metadata.attempt if finished is not None else 0),
        "image": _image(shown, item.spec),
        "imageID": shown.image_ref if shown is not None else "",
    }
    if shown is not None:
        entry["containerID"] = f"{view.runtime}://{shown.id}"
    entry["started"] = running and item.probed_started
    if shown is not None:
        entry.update(resources=item.spec.get("resources") or {}, user=_user(item.spec, view.pod["spec"]))
    return entry


def _image(shown: Any | None, spec: Obj) -> str:
    name = shown.image.image if shown is not None else ""
    return str(spec["image"] if not name or name.startswith("sha256:") else name)


def _user(spec: Obj, pod: Obj) -> Obj:
    """Containerd before 2.0 does not report it: from the specification."""
    mine, of_pod = spec.get("securityContext") or {}, pod.get("securityContext") or {}
    user = mine.get("runAsUser", of_pod.get("runAsUser", 0))
    group = mine.get("runAsGroup", of_pod.get("runAsGroup", 0))
    groups = sorted(
        {group, *(of_pod.get("supplementalGroups") or []), *([of_pod["fsGroup"]] if "fsGroup" in of_pod else [])}
    )
    return {"linux": {"uid": user, "gid": group, "supplementalGroups": groups}}


def _state(item: ContainerView, shown: Any | None, view: PodView) -> Obj:
    if shown is not None and shown.state == RUNNING:
        return {"running": {"startedAt": stamp(shown.started_at / _NS)}}
    if item.waiting is not None and not view.terminating:
        reason, message = item.waiting
        return {"waiting": {"reason": reason, **({"message": message} if message else {})}}
    if shown is not None:
        return {"terminated": terminated(shown, view.runtime)}
    return {"waiting": {"reason": "PodInitializing" if view.init else "ContainerCreating"}}


def terminated(status: Any, runtime: str) -> Obj:
    """A ``terminated`` state."""
    ended: Obj = {
        "exitCode": status.exit_code,
        "reason": status.reason or ("Completed" if status.exit_code == 0 else "Error"),
    }
    if status.message:
        ended["message"] = status.message
    if status.started_at > 0:
        ended["startedAt"] = stamp(status.started_at / _NS)
    ended.update(finishedAt=stamp(status.finished_at / _NS), containerID=f"{runtime}://{status.id}")
    return ended


def _phase(view: PodView) -> str:
    """The phase; a terminating pod whose containers have ended has ended, whatever its restart policy."""
    policy = view.pod["spec"].get("restartPolicy", "Always")
    states = [item.current for item in view.containers]
    old = str((view.pod.get("status") or {}).get("phase", "Pending"))
    if old in ("Succeeded", "Failed"):
        return old
    if any(item is not None and item.state == RUNNING for item in states):
        return "Running"
    ended = [item for item in states if item is not None and item.state == EXITED]
    if len(ended) < len(states) and not view.terminating:
        started = bool(ended) or any(item.previous is not None for item in view.containers)
        return "Running" if started else "Pending"
    failed = any(item.exit_code != 0 for item in ended)
    if view.terminating:
        return "Failed" if failed or len(ended) < len(states) else "Succeeded"
    if policy == "Always" or (policy == "OnFailure" and failed):
        # One that never got further than a failed start is still Pending, as with the real kubelet.
        return "Pending" if all(item.reason == "StartError" or not item.started_at for item in ended) else "Running"
    return "Failed" if failed else "Succeeded"


def _conditions(view: PodView, containers: list[Obj], phase: str, old: Obj, generation: int) -> list[Obj]:
    unready = [item["name"] for item in containers if not item["ready"]]
    initialized = all(
        item.current is not None and item.current.state == EXITED and item.current.exit_code == 0 for item in view.init
    )
    ready: Obj = {"status": "True"}
    if phase == "Failed":
        ready = {"status": "False", "reason": "PodFailed"}
    elif phase == "Succeeded":
        ready = {"status": "False", "reason": "PodCompleted"}
    elif unready:
        ready = {
            "status": "False",
            "reason": _UNREADY,
            "message": f"containers with unready status: [{' '.join(unready)}]",
        }
    waiting_init: Obj = {"status": "True"}
    if not initialized:
        names = " ".join(item.spec["name"] for item in view.init)
        waiting_init = {
            "status": "False",
            "reason": "ContainersNotInitialized",
            "message": f"containers with incomplete status: [{names}]",
        }
    wanted: dict[str, Obj] = {
        "PodReadyToStartContainers": {"status": "True" if view.sandbox_ready else "False"},
        "Initialized": waiting_init,
        "Ready": ready,
        "ContainersReady": ready,
        "PodScheduled": {"status": "True"},
    }
    before: dict[str, Obj] = {item["type"]: item for item in old.get("conditions") or []}
    made: list[Obj] = []
    for kind, value in wanted.items():
        have = before.get(kind, {})
        since = have.get("lastTransitionTime") if have.get("status") == value["status"] else None
        made.append(
            {
                "type": kind,
                "observedGeneration": generation,
                "status": value["status"],
                "lastProbeTime": None,
                "lastTransitionTime": since or stamp(),
                **{key: value[key] for key in ("reason", "message") if key in value},
            }
        )
    return made
