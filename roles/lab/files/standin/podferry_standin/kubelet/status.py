# SPDX-License-Identifier: Apache-2.0
"""From what the runtime says to a pod's status: pure functions, shaped as recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .config import stamp
from .order import is_sidecar
from .states import EXITED, RUNNING

Obj = dict[str, Any]

_NS = 1e9
_UNREADY = "ContainersNotReady"
_OWN = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


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
    before = {
        item["name"]: item for key in ("containerStatuses", "initContainerStatuses") for item in old.get(key) or []
    }
    containers = [container_status(item, view, before) for item in view.containers]
    init = [_init_status(item, view, before) for item in view.init]
    phase = _phase(view, containers, init)
    status: Obj = {
        "observedGeneration": generation,
        "phase": phase,
        "conditions": _conditions(view, containers, init, phase, old, generation),
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


def _init_status(item: ContainerView, view: PodView, before: dict[str, Obj]) -> Obj:
    """One entry of initContainerStatuses: one that ends is ready when it ended well, a sidecar as any container."""
    entry = container_status(item, view, before)
    if not is_sidecar(item.spec):
        entry["ready"] = (entry["state"].get("terminated") or {}).get("exitCode") == 0
    return entry


def container_status(item: ContainerView, view: PodView, before: dict[str, Obj]) -> Obj:
    """One entry of containerStatuses."""
    now, name = item.current, item.spec["name"]
    # containerd answers CREATED while the OCI runtime's create is held: for the kubelet that is still creating.
    shown = now if now is not None and now.state in (RUNNING, EXITED) else None
    known = before.get(name, {})
    if now is None and "terminated" in (known.get("state") or {}) and item.waiting is None:
        return known  # the runtime has forgotten it: what was said of it stays
    state, last = _state(item, shown, view), {}
    finished = item.previous
    if "waiting" in state and shown is not None and shown.state == EXITED:
        finished = shown
    if finished is not None and finished.state == EXITED:
        last = {"terminated": terminated(finished, view.runtime)}
    elif now is None:
        last = known.get("lastState") or {}
    running = "running" in state
    entry: Obj = {
        "name": name,
        "state": state,
        "lastState": last,
        "ready": running and item.probed_ready and item.probed_started,
        "restartCount": _restarts(item, known),
        "image": _image(shown, item.spec),
        "imageID": shown.image_ref if shown is not None else "",
    }
    if shown is not None:
        entry["containerID"] = f"{view.runtime}://{shown.id}"
    entry["started"] = running and item.probed_started
    if shown is not None:
        entry.update(resources=item.spec.get("resources") or {}, user=_user(item.spec, view.pod["spec"]))
    return entry


def _restarts(item: ContainerView, known: Obj) -> int:
    """The number of the latest attempt; what was said before where the runtime knows none."""
    latest = item.current if item.current is not None else item.previous
    return int(latest.metadata.attempt) if latest is not None else int(known.get("restartCount", 0))


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


def _phase(view: PodView, containers: list[Obj], init: list[Obj]) -> str:
    """The phase; a terminating pod whose containers have ended has ended, whatever its restart policy.

    Sidecars keep a pod Running, but how it ends is said by its ordinary containers alone.
    """
    policy = view.pod["spec"].get("restartPolicy", "Always")
    old = str((view.pod.get("status") or {}).get("phase", "Pending"))
    if old in ("Succeeded", "Failed"):
        return old
    pairs = list(zip(view.init, init, strict=True))
    sidecars = [entry for item, entry in pairs if is_sidecar(item.spec)]
    ordinary = [entry for item, entry in pairs if not is_sidecar(item.spec)]
    if policy == "Never" and any(_end(e).get("exitCode", 0) != 0 for e in ordinary if not _runs(e)):
        return "Failed"
    running = any(_runs(entry) for entry in containers + sidecars)
    stopped = [entry for entry in containers if not _runs(entry) and _end(entry)]
    failed = any(_end(entry)["exitCode"] != 0 for entry in stopped)
    if view.terminating and not running:
        return "Failed" if failed or len(stopped) < len(containers) else "Succeeded"
    initializing = any(_runs(entry) or not _end(entry) for entry in ordinary)
    if not any(_runs(entry) or _end(entry) for entry in containers):  # none was started yet
        initializing = initializing or any(not _end(e) and not (_runs(e) and e["started"]) for e in sidecars)
    if initializing or any(not _runs(entry) and not _end(entry) for entry in containers):
        return "Pending"
    if running:
        return "Running"
    if policy == "Always" or (policy == "OnFailure" and failed):
        # One that never got further than a failed start is still Pending, as with the real kubelet.
        return "Pending" if all(_never_ran(entry) for entry in stopped) else "Running"
    return "Failed" if failed else "Succeeded"


def _runs(entry: Obj) -> bool:
    return "running" in entry["state"]


def _end(entry: Obj) -> Obj:
    """How a container that does not run ended the last time; empty if it never ran."""
    end: Obj = entry["state"].get("terminated") or entry["lastState"].get("terminated") or {}
    return end


def _never_ran(entry: Obj) -> bool:
    end = _end(entry)
    return end.get("reason") == "StartError" or "startedAt" not in end


def _ready(view: PodView, containers: list[Obj], init: list[Obj], phase: str, old: Obj) -> tuple[Obj, Obj]:
    """ContainersReady, which sidecars count for, and Ready, which also asks the readiness gates."""
    stay = [entry for item, entry in zip(view.init, init, strict=True) if is_sidecar(item.spec)]
    unready = [item["name"] for item in stay + containers if not item["ready"]]
    if phase == "Failed":
        inside: Obj = {"status": "False", "reason": "PodFailed"}
    elif phase == "Succeeded":
        inside = {"status": "False", "reason": "PodCompleted"}
    elif unready:
        message = f"containers with unready status: [{' '.join(unready)}]"
        inside = {"status": "False", "reason": _UNREADY, "message": message}
    else:
        inside = {"status": "True"}
        lacking = []
        have = {item["type"]: item["status"] for item in old.get("conditions") or []}
        for gate in view.pod["spec"].get("readinessGates") or []:
            name = gate["conditionType"]
            if name not in have:
                lacking.append(f'corresponding condition of pod readiness gate "{name}" does not exist.')
            elif have[name] != "True":
                lacking.append(f'the status of pod readiness gate "{name}" is not "True", but {have[name]}')
        if lacking:
            return inside, {"status": "False", "reason": "ReadinessGatesNotReady", "message": ", ".join(lacking)}
    return inside, inside


def _initialized(view: PodView, containers: list[Obj], init: list[Obj], phase: str) -> Obj:
    if phase == "Succeeded":
        return {"status": "True", "reason": "PodCompleted"}
    if any(_runs(entry) or _end(entry) for entry in containers):
        return {"status": "True"}
    incomplete = [
        entry["name"]
        for item, entry in zip(view.init, init, strict=True)
        if not (entry["started"] if is_sidecar(item.spec) else entry["ready"])
    ]
    if not incomplete:
        return {"status": "True"}
    message = f"containers with incomplete status: [{' '.join(incomplete)}]"
    return {"status": "False", "reason": "ContainersNotInitialized", "message": message}


def _conditions(
    view: PodView, containers: list[Obj], init: list[Obj], phase: str, old: Obj, generation: int
) -> list[Obj]:
    """The kubelet's own conditions, and those of others as they were."""
    inside, ready = _ready(view, containers, init, phase, old)
    wanted: dict[str, Obj] = {
        "PodReadyToStartContainers": {"status": "True" if view.sandbox_ready else "False"},
        "Initialized": _initialized(view, containers, init, phase),
        "Ready": ready,
        "ContainersReady": inside,
        "PodScheduled": {"status": "True"},
    }
    before: dict[str, Obj] = {item["type"]: item for item in old.get("conditions") or []}
    made: list[Obj] = [item for kind, item in before.items() if kind not in wanted]
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


def own_of(made: Obj) -> Obj:
    """What of a status is the kubelet's own word, without times."""
    conditions = [item for item in made["conditions"] if item["type"] in _OWN]
    timeless = [{key: value for key, value in item.items() if key != "lastTransitionTime"} for item in conditions]
    return {**made, "conditions": sorted(timeless, key=lambda item: str(item["type"]))}


def patch_of(made: Obj) -> Obj:
    """The status as a strategic merge patch: conditions of others stay as they wrote them, also meanwhile."""
    own = [{"reason": None, "message": None, **item} for item in made["conditions"] if item["type"] in _OWN]
    order = [{"type": item["type"]} for item in made["conditions"]]
    return {**made, "conditions": own, "$setElementOrder/conditions": order}
