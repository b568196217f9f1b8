# SPDX-License-Identifier: Apache-2.0
"""The kubelet part: watches the pods of its node, and the runtime, and gives each pod a worker."""

from __future__ import annotations

import argparse
import logging
import threading
import time
from pathlib import Path
from typing import Any

from .. import tls
from .apiclient import Api, ApiError
from .config import Config
from .cri import Cri, CriError
from .events import Recorder
from .node import NodeReporter
from .pod import Node, PodWorker, remove_cgroup
from .server import serve
from .states import RUNNING
from .volumes import Volumes

Obj = dict[str, Any]
log = logging.getLogger("standin.kubelet")

_RELIST_SECONDS = 0.5
_ORPHAN_ROUNDS = 4  # relists that an unknown sandbox has to be seen in
_ORPHAN_GRACE = 2


class Kubelet:
    """All pods of one node."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.api = Api(config.api, tls.client(config.ca, config.certificate, config.key))
        self.cri = Cri(config.runtime, config.runtime_request_timeout)
        self.events = Recorder(self.api, config.node)
        self._workers: dict[str, PodWorker] = {}
        self._lock = threading.Lock()
        self._listed = False
        self._node: Node | None = None
        self._unknown: dict[str, int] = {}

    def run(self) -> None:
        """Until the process is stopped. Pods keep running then, as with a real kubelet."""
        NodeReporter(self.config, self.api, self.cri, self.events).start()  # also says that the runtime is not there
        self._node = Node(self.config, self.api, self.cri, self.events, self._runtime_name())
        server = serve(self.config, self.cri, self.api, self._pod)
        threading.Thread(target=server.serve_forever, name="server", daemon=True).start()
        threading.Thread(target=self._follow_runtime, name="runtime", daemon=True).start()
        self._follow_pods()

    def _runtime_name(self) -> str:
        while True:
            try:
                return str(self.cri.version().runtime_name)
            except CriError as error:
                log.warning("waiting for the runtime: %s", error)
                time.sleep(1)

    # the API's side

    def _follow_pods(self) -> None:
        query = {"fieldSelector": f"spec.nodeName={self.config.node}"}
        while True:
            try:
                listed = self.api.request("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{self.config.node}")
                self._replace(listed["items"])
                revision = listed["metadata"]["resourceVersion"]
                while True:
                    for event in self.api.watch("/api/v1/pods", query, revision):
                        revision = event["object"]["metadata"]["resourceVersion"]
                        self._handle(event["type"], event["object"])
            except ApiError as error:
                if error.code != 410:
                    log.warning("pods: %s", error)
                    time.sleep(0.5)

    def _pod(self, namespace: str, name: str) -> Obj | None:
        """A pod of this node, by name."""
        with self._lock:
            workers = list(self._workers.values())
        for worker in workers:
            meta = worker.pod["metadata"]
            if worker.is_alive() and (meta["namespace"], meta["name"]) == (namespace, name):
                return worker.pod
        return None

    def _replace(self, pods: list[Obj]) -> None:
        for pod in pods:
            self._handle("MODIFIED", pod)
        with self._lock:
            known = {pod["metadata"]["uid"] for pod in pods}
            missing = [worker for uid, worker in self._workers.items() if uid not in known]
        for worker in missing:
            worker.deleted()
        self._listed = True

    def _handle(self, kind: str, pod: Obj) -> None:
        if kind == "BOOKMARK" or self._node is None:
            return
        uid = pod["metadata"]["uid"]
        with self._lock:
            worker = self._workers.get(uid)
            if worker is None and kind != "DELETED":
                worker = self._workers[uid] = PodWorker(self._node, pod)
                worker.update(pod)
                worker.start()
                return
        if worker is not None:
            if kind == "DELETED":
                worker.deleted(pod)
            else:
                worker.update(pod)

    # the runtime's side

    def _follow_runtime(self) -> None:
        """Wake the workers whose containers changed, and end what the API does not know."""
        before: dict[str, tuple[Any, ...]] = {}
        trouble = ""
        while True:
            time.sleep(_RELIST_SECONDS)
            try:
                now = self._snapshot()
                trouble = ""
            except CriError as error:
                if str(error) != trouble:
                    log.warning("relist: %s", error)
                trouble = str(error)
                continue
            with self._lock:
                for uid in [uid for uid, worker in self._workers.items() if not worker.is_alive()]:
                    del self._workers[uid]
                workers = dict(self._workers)
            for uid in set(now) | set(before):
                if now.get(uid) != before.get(uid) and uid in workers:
                    workers[uid].poke()
            before = now
            if self._listed:
                self._orphans((set(now) | self._on_disk()) - set(workers))

    def _snapshot(self) -> dict[str, tuple[Any, ...]]:
        found: dict[str, list[Any]] = {}
        for sandbox in self.cri.sandboxes():
            found.setdefault(sandbox.labels.get("io.kubernetes.pod.uid", ""), []).append((sandbox.id, sandbox.state))
        for container in self.cri.containers():
            found.setdefault(container.labels.get("io.kubernetes.pod.uid", ""), []).append(
                (container.id, container.state)
            )
        found.pop("", None)
        return {uid: tuple(sorted(items)) for uid, items in found.items()}

    def _on_disk(self) -> set[str]:
        """UIDs of pods that have a directory or logs here."""
        found = {path.name for path in (self.config.root / "pods").glob("*")}
        return found | {path.name.rpartition("_")[2] for path in self.config.logs.glob("*_*_*")}

    def _orphans(self, uids: set[str]) -> None:
        self._unknown = {uid: self._unknown.get(uid, 0) + 1 for uid in uids}
        for uid in [uid for uid, rounds in self._unknown.items() if rounds == _ORPHAN_ROUNDS]:
            threading.Thread(target=self._end_orphan, args=(uid,), name=f"orphan-{uid}", daemon=True).start()

    def _end_orphan(self, uid: str) -> None:
        log.warning("pod %s is not known to the API: it is ended", uid)
        try:
            for container in self.cri.containers(uid):
                if container.state == RUNNING:
                    self.cri.stop(container.id, _ORPHAN_GRACE)
                self.cri.remove(container.id)
            for sandbox in self.cri.sandboxes(uid):
                self.cri.stop_sandbox(sandbox.id)
                self.cri.remove_sandbox(sandbox.id)
            for level in ("", "/burstable", "/besteffort"):
                remove_cgroup(f"/kubepods{level}/pod{uid}")
            Volumes.tear_down(self.config, uid)
        except (CriError, OSError) as error:
            log.warning("ending %s: %s", uid, error)
            self._unknown.pop(uid, None)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="podferry-standin-kubelet", description="A stand-in for the kubelet in podferry's lab"
    )
    parser.add_argument("--config", type=Path, default=Path("/etc/podferry-standin.json"))
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    Kubelet(Config.read(parser.parse_args().config)).run()


if __name__ == "__main__":
    main()
