# SPDX-License-Identifier: Apache-2.0
"""Who is routed to while a pod moves: the endpoints of its Service, recorded all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from kubernetes import client

from e2e.conftest import Traces
from e2e.support.cluster import Cluster, until
from e2e.support.plays import Plays
from e2e.test_owners import OTHER, template

Seen = list[tuple[float, frozenset[str]]]


@contextmanager
def recorded(cluster: Cluster, service: str) -> Iterator[Seen]:
    """Addresses that the Service sends to, each time that they change: wall clock and what they are then."""
    seen: Seen = []
    stop = threading.Event()
    slices = client.DiscoveryV1Api(cluster.core.api_client)

    def watch() -> None:
        while not stop.is_set():
            listed = slices.list_namespaced_endpoint_slice(
                cluster.namespace, label_selector=f"kubernetes.io/service-name={service}"
            )
            now = frozenset(
                address
                for item in listed.items
                for endpoint in item.endpoints or []
                if endpoint.conditions.ready is not False
                for address in endpoint.addresses
            )
            if not seen or seen[-1][1] != now:
                seen.append((time.time(), now))
            time.sleep(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(10)


def exposed(seen: Seen, address: str, since: float) -> float:
    """Seconds, from ``since`` on, for which the Service sent to an address."""
    ends = [moment for moment, _addresses in seen[1:]] + [time.time()]
    return sum(
        max(0.0, end - max(moment, since))
        for (moment, addresses), end in zip(seen, ends, strict=True)
        if address in addresses
    )


def test_nobody_is_sent_to_the_target_before_its_thaw_nor_to_the_source_after_it(
    plays: Plays, cluster: Cluster, traces: Traces
) -> None:
    name = cluster.name("api")
    # The target is not Ready for some seconds after its thaw, and a kubelet overwrites what others say of its pods every ten.
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "initialDelaySeconds": 11}
    shape = template(name, "http", readinessProbe=probe)
    cluster.core.create_namespaced_service(
        cluster.namespace,
        {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]}},
    )
    cluster.apps.create_namespaced_deployment(
        cluster.namespace,
        {
            "metadata": {"name": name},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": shape},
        },
    )
    try:
        until(
            "two Ready pods",
            lambda: sum(cluster.is_ready(p["metadata"]["name"]) for p in cluster.pods(f"app={name}")) == 2,
            60,
        )
        pod = cluster.pods(f"app={name}")[0]
        source, old = pod["metadata"]["name"], pod["status"]["podIP"]
        with recorded(cluster, name) as seen:
            until("both in the endpoints", lambda: seen and len(seen[-1][1]) == 2, 20)
            report = plays.migrate(source, OTHER[pod["spec"]["nodeName"]]).ok().report
            new = report["target"]["ip"]
            until(
                "the target in the endpoints, the source not", lambda: new in seen[-1][1] and old not in seen[-1][1], 20
            )
        first_sent_to_target = min(moment for moment, addresses in seen if new in addresses)
        assert first_sent_to_target >= report["thawed_at"]
        assert all(addresses for _moment, addresses in seen), seen
        waited = report["until_ready_ms"] / 1000 - report["downtime_ms"] / 1000
        still = exposed(seen, old, report["thawed_at"])
        print(
            f"sent to the frozen source for {still:.2f} s of the {waited:.2f} s from its thaw elsewhere until the target was Ready"
        )
        assert waited > 8
        assert still < 2.0, seen
    finally:
        cluster.apps.delete_namespaced_deployment(name, cluster.namespace)
        cluster.core.delete_namespaced_service(name, cluster.namespace, _preload_content=False)
        until("its pods gone", lambda: not cluster.pods(f"app={name}"), 60)
    traces.assert_none()
