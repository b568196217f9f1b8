# SPDX-License-Identifier: Apache-2.0
"""Events of the kubelet, sent by a thread of their own so that no pod waits for them."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any

from .apiclient import Api, ApiError
from .config import stamp

Obj = dict[str, Any]


class Recorder:
    """Queues Events; the same one again within the process counts up."""

    def __init__(self, api: Api, node: str) -> None:
        self._api = api
        self._node = node
        self._queue: queue.Queue[Obj] = queue.Queue(maxsize=1000)
        self._sent: dict[tuple[str, ...], Obj] = {}
        threading.Thread(target=self._run, name="events", daemon=True).start()

    def pod(self, pod: Obj, reason: str, message: str, *, container: str = "", kind: str = "Normal") -> None:
        """About a pod, or one of its containers."""
        meta = pod["metadata"]
        about = {
            "kind": "Pod",
            "namespace": meta["namespace"],
            "name": meta["name"],
            "uid": meta["uid"],
            "apiVersion": "v1",
        }
        about["resourceVersion"] = meta.get("resourceVersion", "")
        if container:
            about["fieldPath"] = f"spec.containers{{{container}}}"
        self._put(about, meta["namespace"], reason, message, kind)

    def node(self, reason: str, message: str) -> None:
        """About the node itself."""
        about = {"kind": "Node", "name": self._node, "uid": self._node}
        self._put(about, "default", reason, message, "Normal")

    def _put(self, about: Obj, namespace: str, reason: str, message: str, kind: str) -> None:
        event: Obj = {
            "metadata": {"namespace": namespace},
            "involvedObject": about,
            "reason": reason,
            "message": message,
        }
        event.update(
            type=kind, source={"component": "kubelet", "host": self._node}, lastTimestamp=stamp(), eventTime=None
        )
        event.update(reportingComponent="kubelet", reportingInstance=self._node)
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(event)

    def _run(self) -> None:
        while True:
            event = self._queue.get()
            with contextlib.suppress(ApiError):
                self._send(event)

    def _send(self, event: Obj) -> None:
        about = event["involvedObject"]
        key = (about.get("uid", ""), about.get("fieldPath", ""), event["reason"], event["message"])
        base = f"/api/v1/namespaces/{event['metadata']['namespace']}/events"
        if known := self._sent.get(key):
            known["count"] += 1
            with contextlib.suppress(ApiError):
                self._api.merge(
                    f"{base}/{known['metadata']['name']}",
                    {"count": known["count"], "lastTimestamp": event["lastTimestamp"]},
                )
                return
        event["metadata"]["name"] = f"{about['name']}.{time.time_ns():x}"
        event.update(firstTimestamp=event["lastTimestamp"], count=1)
        self._sent[key] = self._api.request("POST", base, event)
        while len(self._sent) > 500:
            self._sent.pop(next(iter(self._sent)))
