# SPDX-License-Identifier: Apache-2.0
"""One pod on this node: a thread that makes the runtime agree with the API, until the pod is gone from both."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import order, status
from .apiclient import Api, ApiError
from .config import Config, stamp
from .cri import Cri, CriError
from .events import Recorder
from .probes import Prober
from .sandbox import ConfigError, ContainerFactory, cgroup_parent, sandbox_config
from .states import CREATED, EXITED, RUNNING, SANDBOX_READY
from .volumes import VolumeError, Volumes

Obj = dict[str, Any]
log = logging.getLogger("standin.pod")

_RESYNC_SECONDS = 30.0
_RETRY_SECONDS = 2.0
_RECONCILE_SECONDS = (
    10.0  # what others write into a pod's status is overwritten this often, as by the kubelet's status manager
)
_MINIMUM_GRACE = 2  # seconds a container always gets between the two signals, as in the kubelet
_BACKOFF_FORGET = 600.0
_MESSAGE_BYTES = 4096


@dataclass
class Node:
    """What the pods of a node share."""

    config: Config
    api: Api
    cri: Cri
    events: Recorder
    runtime: str  # containerd | cri-o, as in container IDs


@dataclass
class Backoff:
    """How long a container that ended has to wait."""

    delay: float = 0.0
    until: float = 0.0

    def next(self, first: float, last: float) -> None:
        """After another end."""
        now = time.monotonic()
        if now - self.until > _BACKOFF_FORGET:
            self.delay = 0.0
        self.until = now + self.delay
        self.delay = min(last, self.delay * 2 or first)


class PodWorker:
    """The life of one pod, by UID."""

    def __init__(self, node: Node, pod: Obj) -> None:
        self.name = f"pod-{pod['metadata']['name']}"
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self._node = node
        self._volumes = Volumes(node.config, node.api)
        self._factory = ContainerFactory(node.config, node.api, self._volumes)
        self._seen = stamp()
        self._wake = threading.Event()
        self._terminate = threading.Event()
        self._gone = False  # from the API
        self._grace: int | None = None
        self._backoff: dict[str, Backoff] = {}
        self._waiting: dict[str, tuple[str, str]] = {}
        self._probers: dict[str, Prober] = {}  # by container id
        self._address = ""
        self._said: Obj = {}  # of the status, what is ours
        self._reconcile = 0.0
        self._overwritten = False  # by somebody else, in the API
        self._ends: dict[str, Any] = {}  # ContainerStatus by id of what has ended
        self._places: dict[str, str] = {}  # sandbox by container

    # what others call

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether there is anything left to do for this pod on this node."""
        return self._thread.is_alive()

    def update(self, pod: Obj) -> None:
        """The API has a new version of the pod."""
        self.pod = pod
        if "deletionTimestamp" in pod["metadata"]:
            self._grace = pod["metadata"].get("deletionGracePeriodSeconds")
            self._terminate.set()
        self._wake.set()

    def deleted(self, pod: Obj | None = None) -> None:
        """The API has the pod no longer."""
        self._gone = True
        self.update(pod or self.pod)
        self._terminate.set()
        self._wake.set()

    def poke(self) -> None:
        """Something changed in the runtime."""
        self._wake.set()

    # the thread

    def _run(self) -> None:
        """Sync until the pod terminates, then take it down."""
        while not self._terminate.is_set():
            delay = _RETRY_SECONDS
            try:
                delay = self._sync()
            except (CriError, VolumeError, ApiError, ConfigError) as error:
                log.warning("%s: %s", self.name, error)
            except Exception:
                log.exception("%s", self.name)
            self._wake.wait(delay)
            self._wake.clear()
        while True:
            try:
                self._take_down()
                return
            except (CriError, ApiError, OSError) as error:
                log.warning("%s: taking down: %s", self.name, error)
                time.sleep(1)

    def _sync(self) -> float:
        """One pass; returns the seconds until the next is wanted at the latest.

        As with the kubelet nothing interrupts it: a pod that is deleted while a container of it is created is taken down after that.
        """
        pod = self.pod
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return _RESYNC_SECONDS
        self._volumes_up(pod)
        sandbox = self._sandbox(pod)
        if sandbox is None:
            self._end(pod)
            return _RESYNC_SECONDS
        self._report(sandbox_ready=True)
        self._address = self._node.cri.sandbox_ip(sandbox.id) or self._node.config.address
        delay = self._containers(pod, sandbox)
        if delay is None:
            self._end(pod)
            return _RESYNC_SECONDS
        self._report(sandbox_ready=True)
        return min(delay, max(0.1, self._reconcile - time.monotonic())) if self._overwritten else delay

    def _volumes_up(self, pod: Obj) -> None:
        root = self._node.config.pod_dir(self.uid)
        for directory in (root / "volumes", root / "containers", self._node.config.log_dir(pod)):
            directory.mkdir(parents=True, exist_ok=True)
        try:
            self._volumes.set_up(pod)
        except VolumeError as error:
            self._node.events.pod(pod, "FailedMount", str(error), kind="Warning")
            self._report(sandbox_ready=False)
            raise

    def _sandbox(self, pod: Obj) -> Any:
        """The Ready sandbox; a new one if there is none, after what is left of an old one is stopped.

        None if the pod has ended: no other is wanted.
        """
        cri, found = self._node.cri, self._node.cri.sandboxes(self.uid)
        if found and found[0].state == SANDBOX_READY:
            return found[0]
        if not found:
            self._report(sandbox_ready=False)
        elif order.has_ended(pod["spec"], {name: have[0] for name, have in self._latest().items()}):
            return None
        for old in found:
            for container in cri.containers(self.uid):
                if container.pod_sandbox_id == old.id and container.state == RUNNING:
                    cri.stop(container.id, _MINIMUM_GRACE)
            cri.stop_sandbox(old.id)
        attempt = found[0].metadata.attempt + 1 if found else 0
        if found:
            self._node.events.pod(pod, "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
        try:
            cri.run_sandbox(sandbox_config(self._node.config, pod, attempt, self._seen), self._handler(pod))
        except CriError as error:
            message = f"Failed to create pod sandbox: {error.message}"
            self._node.events.pod(pod, "FailedCreatePodSandBox", message, kind="Warning")
            raise
        return cri.sandboxes(self.uid)[0]

    def _handler(self, pod: Obj) -> str:
        name = pod["spec"].get("runtimeClassName")
        if not name:
            return ""
        return str(self._node.api.request("GET", f"/apis/node.k8s.io/v1/runtimeclasses/{name}")["handler"])

    def _latest(self) -> dict[str, list[Any]]:
        """ContainerStatus of each container's attempts, the latest first. What has ended does not change any more."""
        found: dict[str, list[Any]] = {}
        known, self._ends, self._places = self._ends, {}, {}
        for item in sorted(self._node.cri.containers(self.uid), key=lambda c: (-c.metadata.attempt, -c.created_at)):
            with contextlib.suppress(CriError):
                have = known.get(item.id) or self._node.cri.container_status(item.id)
                if have.state == EXITED:
                    self._ends[item.id] = have
                self._places[item.id] = item.pod_sandbox_id
                found.setdefault(item.metadata.name, []).append(have)
        return found

    def _containers(self, pod: Obj, sandbox: Any) -> float | None:
        """Start what has to run, one after another; the seconds until the next look, None when the pod has ended."""
        attempts, delay, spec = self._latest(), _RESYNC_SECONDS, pod["spec"]
        # Those of an earlier sandbox count as restarts, and no more: the pod begins again with its init containers.
        here = {name: have[0] for name, have in attempts.items() if self._places[have[0].id] == sandbox.id}
        for container in [*filter(order.is_sidecar, spec.get("initContainers") or []), *spec["containers"]]:
            now = here.get(container["name"])
            if now is not None and now.state == RUNNING:
                self._waiting.pop(container["name"], None)
                self._watch(container, now)
        plan = order.plan(spec, here, self._has_started)
        if plan.ended:
            return None
        for container in plan.start:  # all of them, also when the pod begins to terminate meanwhile: as the kubelet
            delay = min(delay, self._start(pod, sandbox, container, attempts.get(container["name"]) or []))
        self._drop_old(attempts)
        return delay

    def _has_started(self, spec: Obj, running: Any) -> bool:
        prober = self._probers.get(running.id)
        return prober.started if prober is not None else "startupProbe" not in spec

    def _end(self, pod: Obj) -> None:
        """Nothing runs again: sidecars are stopped, and the sandbox."""
        for container in list(self._probers):
            self._forget(container)
        self._waiting.clear()
        self._stop_containers(pod, pod["spec"].get("terminationGracePeriodSeconds", 30))
        for sandbox in self._node.cri.sandboxes(self.uid):
            self._node.cri.stop_sandbox(sandbox.id)
        self._report(sandbox_ready=False)

    def _drop_old(self, attempts: dict[str, list[Any]]) -> None:
        """Keep one dead container a name, as the kubelet's garbage collection."""
        for have in attempts.values():
            for old in have[2:]:
                with contextlib.suppress(CriError):
                    self._node.cri.remove(old.id)

    # starting

    def _start(self, pod: Obj, sandbox: Any, spec: Obj, have: list[Any]) -> float:
        """Start the next attempt of a container, or wait for its backoff."""
        name, config = spec["name"], self._node.config
        if have and have[0].state == CREATED:  # an attempt that another kubelet process left half way
            with contextlib.suppress(CriError):
                self._node.cri.remove(have[0].id)
            have = have[1:]
        backoff = self._backoff.setdefault(name, Backoff())
        if have or backoff.delay:
            left = backoff.until - time.monotonic()
            if left > 0:
                if name not in self._waiting or self._waiting[name][0] not in ("ErrImageNeverPull", "ErrImagePull"):
                    message = f"back-off {int(max(1, backoff.delay / 2))}s restarting failed container={name} pod={self._full_name(pod)}"
                    self._waiting[name] = ("CrashLoopBackOff", message)
                    text = f"Back-off restarting failed container {name} in pod {self._full_name(pod)}"
                    self._node.events.pod(pod, "BackOff", text, container=name, kind="Warning")
                return left
        if have:
            self._forget(have[0].id)
        backoff.next(config.backoff_first, config.backoff_last)
        try:
            self._launch(pod, sandbox, spec, self._attempt(pod, name, have))
        except _Refused as refusal:
            self._waiting[name] = (refusal.reason, refusal.message)
            if refusal.event:
                self._node.events.pod(pod, "Failed", refusal.event, container=name, kind="Warning")
            return max(0.1, backoff.until - time.monotonic())
        self._waiting.pop(name, None)
        return 0.0

    def _full_name(self, pod: Obj) -> str:
        return f"{pod['metadata']['name']}_{pod['metadata']['namespace']}({self.uid})"

    def _attempt(self, pod: Obj, name: str, have: list[Any]) -> int:
        """After an attempt that the runtime still knows comes the next number; else the log files tell."""
        if have:
            return int(have[0].metadata.attempt) + 1
        numbers = [
            int(p.name.partition(".")[0])
            for p in (self._node.config.log_dir(pod) / name).glob("*.log")
            if p.name[0].isdigit()
        ]
        return max(numbers) + 1 if numbers else 0

    def _launch(self, pod: Obj, sandbox: Any, spec: Obj, attempt: int) -> None:
        name, events, cri = spec["name"], self._node.events, self._node.cri
        image = self._image(pod, spec, sandbox_config(self._node.config, pod, sandbox.metadata.attempt, self._seen))
        try:
            config = self._factory.make(pod, spec, attempt, image, self._address)
        except (ConfigError, VolumeError) as error:
            raise _Refused("CreateContainerConfigError", str(error), f"Error: {error}") from error
        # The annotations as they are now, not as they were when the sandbox was made.
        afresh = sandbox_config(self._node.config, self.pod, sandbox.metadata.attempt, self._seen)
        try:
            container = cri.create(sandbox.id, config, afresh)
        except CriError as error:
            raise _Refused("CreateContainerError", error.message, f"Error: {error.message}") from error
        events.pod(pod, "Created", "Container created", container=name)
        try:
            cri.start(container)
        except CriError as error:
            raise _Refused("RunContainerError", error.message, f"Error: {error.message}") from error
        events.pod(pod, "Started", "Container started", container=name)
        hook = (spec.get("lifecycle") or {}).get("postStart")
        if hook:
            self._hook(pod, hook, container, "PostStart", name)

    def _image(self, pod: Obj, spec: Obj, config: Any) -> Any:
        cri, name, policy = self._node.cri, spec["image"], spec.get("imagePullPolicy", "IfNotPresent")
        found = cri.image(name)
        if found is not None and policy != "Always":
            message = f'Container image "{name}" already present on machine and can be accessed by the pod'
            self._node.events.pod(pod, "Pulled", message, container=spec["name"])
            return found
        if policy == "Never":
            message = f'Container image "{name}" is not present with pull policy of Never'
            self._node.events.pod(pod, "ErrImageNeverPull", message, container=spec["name"], kind="Warning")
            raise _Refused("ErrImageNeverPull", message, "Error: ErrImageNeverPull")
        self._node.events.pod(pod, "Pulling", f'Pulling image "{name}"', container=spec["name"])
        try:
            cri.pull(name, config)
        except CriError as error:
            message = f'Failed to pull image "{name}": {error.message}'
            self._node.events.pod(pod, "Failed", message, container=spec["name"], kind="Warning")
            raise _Refused("ErrImagePull", error.message, "Error: ErrImagePull") from error
        self._node.events.pod(pod, "Pulled", f'Successfully pulled image "{name}"', container=spec["name"])
        return cri.image(name)

    def _hook(self, pod: Obj, hook: Obj, container: str, kind: str, name: str) -> None:
        try:
            if "exec" in hook:
                self._node.cri.exec_sync(container, hook["exec"]["command"], 0)
            elif "sleep" in hook:
                self._terminate.wait(hook["sleep"]["seconds"]) if kind == "PostStart" else time.sleep(
                    hook["sleep"]["seconds"]
                )
        except CriError as error:
            self._node.events.pod(pod, f"Failed{kind}Hook", str(error), container=name, kind="Warning")

    # probes

    def _watch(self, spec: Obj, running: Any) -> None:
        if running.id in self._probers:
            return

        def failed(kind: str, output: str, kill: bool) -> None:
            self._node.events.pod(
                self.pod,
                "Unhealthy",
                f"{kind.capitalize()} probe failed: {output}",
                container=spec["name"],
                kind="Warning",
            )
            if kill and not self._terminate.is_set():
                message = f"Container {spec['name']} failed {kind} probe, will be restarted"
                self._node.events.pod(self.pod, "Killing", message, container=spec["name"])
                self._forget(running.id)
                grace = spec[f"{kind}Probe"].get(
                    "terminationGracePeriodSeconds", self.pod["spec"].get("terminationGracePeriodSeconds", 30)
                )
                with contextlib.suppress(CriError):
                    self._node.cri.stop(running.id, max(_MINIMUM_GRACE, grace))

        self._probers[running.id] = Prober(spec, running.id, self._address, self._node.cri, self.poke, failed)

    def _forget(self, container: str) -> None:
        prober = self._probers.pop(container, None)
        if prober is not None:
            prober.stop()

    # status

    def _view(self, *, sandbox_ready: bool, terminating: bool) -> status.PodView:
        attempts = self._latest()
        running = {item.id for have in attempts.values() for item in have if item.state == RUNNING}
        for container in [container for container in self._probers if container not in running]:
            self._forget(container)

        def view(spec: Obj) -> status.ContainerView:
            have = attempts.get(spec["name"]) or []
            current = have[0] if have else None
            item = status.ContainerView(
                spec, current, have[1] if len(have) > 1 else None, self._waiting.get(spec["name"])
            )
            prober = self._probers.get(current.id) if current is not None else None
            if prober is not None:
                item.probed_ready, item.probed_started = prober.ready, prober.started
            else:
                item.probed_ready, item.probed_started = "readinessProbe" not in spec, "startupProbe" not in spec
            if current is not None and current.state == EXITED and not current.message:
                current.message = _last_words(spec, current)
            return item

        spec = self.pod["spec"]
        return status.PodView(
            self.pod,
            self._node.config.address,
            self._node.runtime,
            self._address,
            sandbox_ready,
            terminating,
            [view(item) for item in spec["containers"]],
            [view(item) for item in spec.get("initContainers") or []],
        )

    def _report(self, *, sandbox_ready: bool, terminating: bool = False) -> None:
        """Write the status if it says something new."""
        if self._gone:
            return
        made = status.build(self._view(sandbox_ready=sandbox_ready, terminating=terminating))
        if made == self.pod.get("status"):
            self._overwritten = False
            return
        said = status.own_of(made)
        if said == self._said:  # somebody else has written over it: that is put right, but not at once
            if not self._overwritten:
                self._overwritten, now = True, time.monotonic()
                self._reconcile = now - now % _RECONCILE_SECONDS + _RECONCILE_SECONDS
            if time.monotonic() < self._reconcile:
                return
        self._said, self._overwritten = said, False
        meta = self.pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        try:
            self.pod = {
                **self.pod,
                "status": self._node.api.strategic(
                    path, {"metadata": {"uid": self.uid}, "status": status.patch_of(made)}
                )["status"],
            }
        except ApiError as error:
            self._said = {}
            if error.code not in (404, 409):
                raise

    # the end

    def _take_down(self) -> None:
        """Stop, report, delete, remove. Deleted with grace 0 means: gone from the API already, only the node is cleaned."""
        cri, pod = self._node.cri, self.pod
        for container in list(self._probers):
            self._forget(container)
        grace = self._grace if self._grace is not None else pod["spec"].get("terminationGracePeriodSeconds", 30)
        ready = any(item.state == SANDBOX_READY for item in cri.sandboxes(self.uid))
        with contextlib.suppress(ApiError):
            self._report(sandbox_ready=ready)
        self._stop_containers(pod, grace)
        for sandbox in cri.sandboxes(self.uid):
            cri.stop_sandbox(sandbox.id)
        if not self._gone:
            self._report(sandbox_ready=False, terminating=True)
            self._delete(pod)
        self._clean(pod)

    def _stop_containers(self, pod: Obj, grace: float) -> None:
        """All that run: ordinary ones at once, then sidecars one by one, all within one grace period."""
        running = [item for item in self._node.cri.containers(self.uid) if item.state in (CREATED, RUNNING)]
        end = time.monotonic() + grace
        for names in order.stop_groups(pod["spec"], {item.metadata.name for item in running}):
            group = [item for item in running if item.metadata.name in names]
            with ThreadPoolExecutor(len(group)) as pool:
                list(pool.map(lambda item: self._stop(pod, item, end), group))

    def _stop(self, pod: Obj, item: Any, end: float) -> None:
        """preStop and the signals, until ``end`` on the monotonic clock."""
        name, spec = item.metadata.name, pod["spec"]
        self._node.events.pod(pod, "Killing", f"Stopping container {name}", container=name)
        known = [*spec["containers"], *(spec.get("initContainers") or [])]
        container: Obj = next((c for c in known if c["name"] == name), {})
        if hook := (container.get("lifecycle") or {}).get("preStop"):
            self._hook(pod, hook, item.id, "PreStop", name)
        self._node.cri.stop(item.id, max(_MINIMUM_GRACE, round(end - time.monotonic())))

    def _delete(self, pod: Obj) -> None:
        meta = pod["metadata"]
        body = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": self.uid},
        }
        try:
            self._node.api.request("DELETE", f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}", body)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    def _clean(self, pod: Obj) -> None:
        for container in self._node.cri.containers(self.uid):
            self._node.cri.remove(container.id)
        for sandbox in self._node.cri.sandboxes(self.uid):
            self._node.cri.remove_sandbox(sandbox.id)
        Volumes.tear_down(self._node.config, self.uid)
        remove_cgroup(cgroup_parent(self._node.config, pod))


class _Refused(Exception):
    """A start that failed: the waiting reason, its message, and the Event's text."""

    def __init__(self, reason: str, message: str, event: str) -> None:
        super().__init__(message)
        self.reason, self.message, self.event = reason, message, event


def _last_words(spec: Obj, ended: Any) -> str:
    """The termination message, from the file the container may have written."""
    path = spec.get("terminationMessagePath")
    for mount in ended.mounts:
        if mount.container_path == path:
            with contextlib.suppress(OSError):
                return Path(mount.host_path).read_bytes()[:_MESSAGE_BYTES].decode(errors="replace")
    return ""


def remove_cgroup(parent: str) -> None:
    """Remove a pod's empty cgroup from every hierarchy."""
    if parent.endswith(".slice"):
        subprocess.run(["systemctl", "stop", parent.rpartition("/")[2]], check=False, capture_output=True)
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    for where in [fields[1] for fields in mounts if fields[2] in ("cgroup", "cgroup2")]:
        path = Path(where + parent)
        for directory in [*sorted((p for p in path.rglob("*") if p.is_dir()), reverse=True), path]:
            with contextlib.suppress(OSError):
                directory.rmdir()
