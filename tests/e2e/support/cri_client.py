# SPDX-License-Identifier: Apache-2.0
"""Runs on the workbench: has containerd's CRI checkpoint a container, or make one of a checkpoint's image.

    cri_client.py checkpoint IMAGE ARCHIVE PROGRAM     runs PROGRAM (Python) in a pod shop/web-0, container app; prints the log's last line
    cri_client.py restore IMAGE                        makes a container of IMAGE; prints the first and the last line of its log

Messages are made by hand (runtime/v1/api.proto), so that nothing but Debian's python3-grpcio is needed.
"""

from __future__ import annotations

import pathlib
import sys
import time
from typing import Any

import grpc  # type: ignore[import-untyped, unused-ignore]

LOGS = "/var/log/pods/shop_web-0"
UID = "11111111-2222-3333-4444-555555555555"
LABELS = {"io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.uid": UID}
NODE, OWN = 2, 1


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(**fields: Any) -> bytes:
    parts = []
    for name, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, int):
                parts.append(varint(int(name[1:]) << 3) + varint(value))
            else:
                data = value.encode() if isinstance(value, str) else value
                parts.append(varint(int(name[1:]) << 3 | 2) + varint(len(data)) + data)
    return b"".join(parts)


def pairs(values: dict[str, str]) -> list[bytes]:
    return [message(f1=key, f2=value) for key, value in values.items()]


channel = grpc.insecure_channel("unix:///run/containerd/containerd.sock")


def call(service: str, name: str, request: bytes) -> bytes:
    unary = channel.unary_unary(f"/runtime.v1.{service}Service/{name}")
    return bytes(unary(request, timeout=60))


def first(answer: bytes) -> str:
    """Field 1 of an answer: an id."""
    return answer[2 : 2 + answer[1]].decode()


def main() -> None:
    task, image, *more = sys.argv[1:]
    call("Image", "PullImage", message(f1=message(f1=image)))
    # The machine's own network, so that no CNI is needed.
    namespaces = message(f1=NODE, f2=OWN)
    metadata = message(f1="web-0", f2=UID, f3="shop", f4=0)
    sandbox = message(f1=metadata, f3=LOGS, f6=pairs(LABELS), f8=message(f2=message(f1=namespaces)))
    sandbox_id = first(call("Runtime", "RunPodSandbox", message(f1=sandbox)))
    log = pathlib.Path(LOGS) / "app" / "0.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    try:
        container = message(
            f1=message(f1="app"), f2=message(f1=image, f18=image), f3=["/usr/bin/python3"] if more else [], f4=["-I", "-c", more[1]] if more else [],
            f6=pairs({"SECRET": "hunter2", "EMPTY": ""}) if more else [], f9=pairs({**LABELS, "io.kubernetes.container.name": "app"}),
            f10=pairs({"io.kubernetes.container.hash": "abc"}), f11="app/0.log", f15=message(f2=message(f3=namespaces)),
        )  # fmt: skip
        container_id = first(call("Runtime", "CreateContainer", message(f1=sandbox_id, f2=container, f3=sandbox)))
        call("Runtime", "StartContainer", message(f1=container_id))
        time.sleep(1)
        if task == "checkpoint":
            call("Runtime", "CheckpointContainer", message(f1=container_id, f2=more[0]))
        lines = log.read_text(encoding="utf-8").splitlines()
        print(lines[0])
        print(lines[-1])
    finally:
        call("Runtime", "StopPodSandbox", message(f1=sandbox_id))
        call("Runtime", "RemovePodSandbox", message(f1=sandbox_id))


main()
