# SPDX-License-Identifier: Apache-2.0
"""runtimeRequestTimeout, from wherever a kubelet has it."""

from __future__ import annotations

import pytest

from ansible_collections.podferry.live.plugins.module_utils._runtime import kubelet
from ansible_collections.podferry.live.plugins.module_utils._runtime.service import Service


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2m0s", 120.0),
        ("15m", 900.0),
        ("1h30m", 5400.0),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("0", 0.0),
        ("soon", None),
        ("5", None),
    ],
)
def test_go_durations(text: str, seconds: float | None) -> None:
    assert kubelet.duration(text) == seconds


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        ("kind: KubeletConfiguration\nruntimeRequestTimeout: 10m\n", 600.0),
        ('runtimeRequestTimeout: "15m" # long\n', 900.0),
        ('{\n  "a": 1,\n  "runtimeRequestTimeout": "3m0s",\n "b": 2}', 180.0),
        ("# runtimeRequestTimeout: 10m\n", None),
        ("", None),
    ],
)
def test_setting(config: str, seconds: float | None) -> None:
    assert kubelet.setting(config) == seconds


FILES = {
    "/k.yaml": "runtimeRequestTimeout: 3m\n",
    "/zero.yaml": "runtimeRequestTimeout: 0s\n",
    "/d/10.conf": "runtimeRequestTimeout: 4m\n",
    "/d/20.conf": "maxPods: 5\n",
}


@pytest.mark.parametrize(
    ("argv", "seconds"),
    [
        ([], 120.0),
        (["--config", "/k.yaml"], 180.0),
        (["--config=/missing.yaml"], 120.0),
        (["--config=/zero.yaml"], 120.0),
        (["--config=/k.yaml", "--config-dir=/d"], 240.0),
        (["--config=/k.yaml", "--runtime-request-timeout=5m"], 300.0),
    ],
)
def test_order_of_precedence(argv: list[str], seconds: float) -> None:
    def read(path: str) -> str:
        if path not in FILES:
            raise FileNotFoundError(path)
        return FILES[path]

    running = Service("kubelet", 5, ["/usr/bin/kubelet", *argv], "/usr/bin")
    found = kubelet.request_timeout(running, read, lambda pattern: sorted(p for p in FILES if p.startswith("/d/")))
    assert found == seconds


def test_no_kubelet() -> None:
    assert kubelet.request_timeout(None, lambda path: "", lambda pattern: []) is None
