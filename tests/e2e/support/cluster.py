# SPDX-License-Identifier: Apache-2.0
"""The lab's cluster as a test sees it: pods in, logs out, through the ordinary Kubernetes client."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes import client, config

_numbers = itertools.count(1)


def until(what: str, condition: Callable[[], Any], timeout: float, every: float = 0.1) -> Any:
    """Return the first true value of `condition` within `timeout` seconds; fail the test, naming `what`, otherwise."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(every)


@dataclass
class Cluster:
    """One namespace of one cluster; remembers what a test created, so that the fixture can remove it."""

    kubeconfig: Path
    namespace: str = "default"
    created: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.core = client.CoreV1Api(config.new_client_from_config(str(self.kubeconfig)))
        self.apps = client.AppsV1Api(self.core.api_client)

    def name(self, prefix: str) -> str:
        """A pod name not used before in this session."""
        return f"{prefix}-{int(time.time()) % 100000}-{next(_numbers)}"

    def create(self, manifest: dict[str, Any], ready: float = 60) -> str:
        """Create a pod and wait until it is Ready (seconds; 0: do not wait). Returns its name."""
        name: str = manifest["metadata"]["name"]
        self.core.create_namespaced_pod(self.namespace, manifest)
        self.created.append(name)
        if ready:
            self.wait_ready(name, ready)
        return name

    def get(self, name: str) -> dict[str, Any] | None:
        """The pod as the API gives it (JSON field names), or None."""
        try:
            pod = self.core.read_namespaced_pod(name, self.namespace)
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise
        plain: dict[str, Any] = self.core.api_client.sanitize_for_serialization(pod)
        return plain

    def pods(self, selector: str = "") -> list[dict[str, Any]]:
        """All pods, or those a label selector takes."""
        listed = self.core.list_namespaced_pod(self.namespace, label_selector=selector)
        return [self.core.api_client.sanitize_for_serialization(pod) for pod in listed.items]

    def is_ready(self, name: str) -> bool:
        """Whether the pod has the condition Ready."""
        pod = self.get(name)
        if pod is None:
            return False
        return any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in pod.get("status", {}).get("conditions", [])
        )

    def nodes_ready(self) -> bool:
        """Whether every node is Ready."""
        listed = [node.status.conditions or [] for node in self.core.list_node().items]
        return all(any(c.type == "Ready" and c.status == "True" for c in conditions) for conditions in listed)

    def node(self, name: str) -> str:
        """The node a pod is on."""
        pod = self.get(name)
        assert pod, f"pod {name} is gone"
        node: str = pod["spec"]["nodeName"]
        return node

    def wait_ready(self, name: str, timeout: float = 60) -> None:
        """Wait until the pod is Ready."""
        try:
            until(f"pod {name} Ready", lambda: self.is_ready(name), timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {(self.get(name) or {}).get('status')}") from None

    def wait_gone(self, name: str, timeout: float = 60) -> None:
        """Wait until the API no longer knows the pod."""
        until(f"pod {name} gone", lambda: self.get(name) is None, timeout)

    def delete(self, name: str, grace: int = 0) -> None:
        """Delete a pod; a missing one is fine."""
        try:
            self.core.delete_namespaced_pod(name, self.namespace, grace_period_seconds=grace)
        except client.ApiException as error:
            if error.status != 404:
                raise

    def logs(self, name: str, container: str | None = None) -> str:
        """The pod's whole log, as `kubectl logs` prints it."""
        response = self.core.read_namespaced_pod_log(name, self.namespace, container=container, _preload_content=False)
        text: str = response.data.decode("utf-8", "replace")
        return text

    def pod_ip(self, name: str) -> str:
        """The pod's address (only reachable inside the lab)."""
        pod = self.get(name)
        assert pod, f"pod {name} is gone"
        address: str = pod["status"]["podIP"]
        return address

    def moved(self, source: str) -> str:
        """The name of the pod that was made from `source`: a twin that carries podferry.live/moved-from, or the same name."""
        wanted = f"{self.namespace}/{source}"
        for pod in self.pods():
            if pod["metadata"].get("annotations", {}).get("podferry.live/moved-from", "").split(" ")[0] == wanted:
                name: str = pod["metadata"]["name"]
                if name not in self.created:
                    self.created.append(name)
                return name
        return source

    def clean(self) -> None:
        """Delete what this session created, and wait for it."""
        for name in self.created:
            self.delete(name)
        for name in self.created:
            self.wait_gone(name, 30)
        self.created.clear()
