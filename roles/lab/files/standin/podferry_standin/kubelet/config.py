# SPDX-License-Identifier: Apache-2.0
"""Settings, the paths a real kubelet uses, and small conversions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Obj = dict[str, Any]


@dataclass(frozen=True)
class Config:
    """Read from one JSON file; times in seconds, ca, certificate and key as PEM."""

    node: str
    address: str
    api: str
    ca: str
    certificate: str
    key: str
    runtime: str = "unix:///run/containerd/containerd.sock"
    root: Path = Path("/var/lib/kubelet")
    logs: Path = Path("/var/log/pods")
    port: int = 10250
    cgroup_driver: str = "cgroupfs"
    runtime_request_timeout: float = 120.0
    heartbeat: float = 4.0
    backoff_first: float = 1.0
    backoff_last: float = 30.0

    @classmethod
    def read(cls, path: Path) -> Config:
        """From a file; unknown names are an error."""
        raw = json.loads(path.read_text())
        for name in ("root", "logs"):
            if name in raw:
                raw[name] = Path(raw[name])
        return cls(**raw)

    def pod_dir(self, uid: str) -> Path:
        """Where everything of a pod lives."""
        return self.root / "pods" / uid

    def log_dir(self, pod: Obj) -> Path:
        """Where the logs of a pod live."""
        meta = pod["metadata"]
        return self.logs / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"


def stamp(moment: float | None = None) -> str:
    """RFC 3339, whole seconds; now or a UNIX time."""
    when = datetime.now(UTC) if moment is None else datetime.fromtimestamp(moment, UTC)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


_UNITS = {
    "Ki": 1 << 10,
    "Mi": 1 << 20,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "m": 1e-3,
}


def quantity(text: str | int | float) -> float:
    """A Kubernetes quantity as a number."""
    text = str(text)
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return float(text[: -len(unit)]) * factor
    return float(text)


def flag(query: dict[str, list[str]], key: str) -> bool:
    """A truth value in a query as Kubernetes reads it: older Python clients write ``True``."""
    return (query.get(key) or ["false"])[0].lower() not in ("false", "0")
