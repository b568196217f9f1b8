# SPDX-License-Identifier: Apache-2.0
"""The two kinds of cluster the conformance tests run against, by plain HTTP requests as recorded."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import ssl
import tempfile
import threading
import time
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web
from simulated import NODES, SimulatedKubelets

from podferry_standin.api.controllers import Manager
from podferry_standin.api.http import Server
from podferry_standin.api.registry import Registry
from podferry_standin.api.storage import Store

Obj = dict[str, Any]
PODS = "/api/v1/namespaces/default/pods"
WORKLOADS = tuple(
    f"/apis/apps/v1/namespaces/default/{plural}" for plural in ("deployments", "statefulsets", "replicasets")
)


class Cluster(ABC):
    """A cluster as the tests see it."""

    image = "localhost/app:lab"
    nodes: tuple[str, str] = NODES
    can_hold = False

    @abstractmethod
    def connect(self) -> http.client.HTTPConnection:
        """A new connection to the API."""

    def hold(self, name: str) -> None:
        """Let the OCI runtime's ``create`` of this pod hang, from before the pod is made."""
        raise NotImplementedError

    def release(self, name: str) -> None:
        """Let it go on."""
        raise NotImplementedError

    def close(self) -> None:
        """End what was started for the tests: nothing, for a cluster that was there."""
        return

    def request(self, method: str, path: str, body: Any = None, content_type: str | None = None) -> tuple[int, Any]:
        """Status and parsed body."""
        connection = self.connect()
        try:
            headers = {"Content-Type": content_type or "application/json"} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Obj:
        """What has to be there."""
        status, body = self.request("GET", path)
        assert status == 200, body
        found: Obj = body
        return found

    def items(self, path: str) -> list[Obj]:
        """The items of a list."""
        found: list[Obj] = self.get(path)["items"]
        return found

    def pod(self, name: str) -> Obj | None:
        """A pod of the default namespace, None if it is gone."""
        status, body = self.request("GET", f"{PODS}/{name}")
        return body if status == 200 else None

    def wait_ready(self, name: str) -> Obj:
        """Wait until a pod is Ready."""
        found: Obj = until(lambda: pod if (pod := self.pod(name)) and ready(pod) else None, f"{name} Ready")
        return found

    def wait_gone(self, name: str) -> None:
        """Wait until a pod is gone."""
        until(lambda: self.pod(name) is None, f"{name} gone")

    def watch(self, path: str, resource_version: str) -> Watch:
        """Start to watch."""
        return Watch(self, path, resource_version)

    def clean(self) -> None:
        """Leave nothing in the default namespace."""
        for path in WORKLOADS:
            for item in self.items(path):
                self.request("DELETE", f"{path}/{item['metadata']['name']}", {"propagationPolicy": "Background"})
        for item in self.items(PODS):
            self.request("DELETE", f"{PODS}/{item['metadata']['name']}", {"gracePeriodSeconds": 0})
        until(lambda: not self.items(PODS) and not any(self.items(path) for path in WORKLOADS), "an empty namespace")


def ready(pod: Obj) -> bool:
    """The Ready condition."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or [])


def until(check: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """Wait for something true."""
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return value


class Watch:
    """A watch stream, read by a thread."""

    def __init__(self, cluster: Cluster, path: str, resource_version: str) -> None:
        self.events: list[Obj] = []
        self._connection = cluster.connect()
        query = urllib.parse.urlencode({"watch": "1", "resourceVersion": resource_version, "timeoutSeconds": 100})
        self._connection.request("GET", f"{path}?{query}")
        self._answer = self._connection.getresponse()
        assert self._answer.status == 200
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while line := self._answer.readline():
                self.events.append(json.loads(line))
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            return  # closed by stop()

    def of(self, name: str) -> Iterator[Obj]:
        """The events about one object."""
        return (event for event in list(self.events) if event["object"].get("metadata", {}).get("name") == name)

    def stop(self) -> None:
        """Close the stream."""
        if self._connection.sock is not None:
            self._connection.sock.shutdown(2)
        self._thread.join(5)
        self._connection.close()


class SimulatedCluster(Cluster):
    """The stand-in's API in this process, over HTTP, with kubelets that need no runtime."""

    can_hold = True

    def __init__(self) -> None:
        self.registry = Registry(Store())
        self.kubelets = SimulatedKubelets(self.registry)
        self._loop = asyncio.new_event_loop()
        self._port = 0
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        manager = Manager(self.registry)
        manager.controllers.append(self.kubelets)
        runner = web.AppRunner(Server(self.registry).app(manager), shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self._port = runner.addresses[0][1]
        started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    def connect(self) -> http.client.HTTPConnection:
        """Plain HTTP on the loopback."""
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)

    def call(self, function: Callable[[], Any]) -> None:
        """Run something in the API's own thread."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(function)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(5)

    def hold(self, name: str) -> None:
        """The simulated runtime hangs."""
        self.call(lambda: self.kubelets.held.add(name))

    def release(self, name: str) -> None:
        """It goes on."""
        self.call(lambda: self.kubelets.held.discard(name))
        self.call(self.kubelets.reconcile)

    def close(self) -> None:
        """Stop the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)


class LiveCluster(Cluster):
    """The cluster of a kubeconfig with embedded certificates: the lab with the stand-in, or with a real control plane."""

    image = "localhost/podferry-counter:lab"

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        given, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        parts = urllib.parse.urlsplit(given["server"])
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._tls = ssl.create_default_context(cadata=base64.b64decode(given["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(
                base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
            )
            pair.flush()
            self._tls.load_cert_chain(pair.name)
        names = sorted(node["metadata"]["name"] for node in self.items("/api/v1/nodes"))
        assert len(names) >= 2, "the recordings need two nodes"
        self.nodes = (names[0], names[1])

    def connect(self) -> http.client.HTTPConnection:
        """TLS with the client certificate."""
        return http.client.HTTPSConnection(self._host, self._port, timeout=120, context=self._tls)
