# SPDX-License-Identifier: Apache-2.0
"""Pod manifests of the lab's images."""

from __future__ import annotations

from typing import Any


def pod(name: str, node: str, image: str, args: list[str] | None = None, **spec: Any) -> dict[str, Any]:
    """A pod with one container `main` of the lab image `podferry-<image>`, on a given node.

    No runtime class: pods need no preparation to be moved. Anything in `spec` goes into the pod's spec; `container` (a dict) is merged into the container.
    """
    container: dict[str, Any] = {
        "name": "main",
        "image": f"localhost/podferry-{image}:lab",
        "imagePullPolicy": "Never",
        **({"args": args} if args else {}),
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}, **spec.pop("metadata", {})},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 2,
            "automountServiceAccountToken": False,
            "containers": [container],
            **spec,
        },
    }


def counter(name: str, node: str, mib: int = 16, **spec: Any) -> dict[str, Any]:
    """A process that touches `mib` MiB, checks and rewrites it all the time, and writes a numbered line every 10 ms."""
    return pod(name, node, "counter", [str(mib)], **spec)


def redis(name: str, node: str, **spec: Any) -> dict[str, Any]:
    """Redis with persistence off: all of its state is memory."""
    return pod(name, node, "redis", **spec)


def http(name: str, node: str, **spec: Any) -> dict[str, Any]:
    """A static HTTP server."""
    return pod(name, node, "http", **spec)


def json_service(name: str, node: str, **spec: Any) -> dict[str, Any]:
    """A JSON service that keeps what it was told in memory."""
    return pod(name, node, "json", **spec)
