# SPDX-License-Identifier: Apache-2.0
"""Running containers by the files of shim and conmon."""

import json

from ansible_collections.podferry.live.plugins.module_utils._runtime.running import Running, running


def probe(engine: str, state: str, files: dict[str, str], bundles: list[str], alive: set[int]) -> list[Running]:
    def read(path: str) -> str:
        if path not in files:
            raise FileNotFoundError(path)
        return files[path]

    return running(engine, state, read, lambda pattern: bundles, lambda path: int(path.removeprefix("/proc/")) in alive)


def test_containerd() -> None:
    base = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
    files = {
        f"{base}/b/init.pid": "12",
        f"{base}/b/runtime": "/usr/local/libexec/podferry/podferry-runc\n",
        f"{base}/a/init.pid": "11",
        f"{base}/dead/init.pid": "13",
    }
    found = probe(
        "containerd", "/run/containerd", files, [f"{base}/{name}" for name in ("b", "a", "dead", "new")], {11, 12}
    )
    assert found == [Running("a", 11, ""), Running("b", 12, "/usr/local/libexec/podferry/podferry-runc")]


def test_crio() -> None:
    base = "/run/containers/storage/overlay-containers"
    config = json.dumps({"annotations": {"io.kubernetes.cri-o.RuntimeHandler": "podferry"}})
    files = {
        f"{base}/a/userdata/pidfile": "21",
        f"{base}/a/userdata/config.json": config,
        f"{base}/b/userdata/pidfile": "22",
        f"{base}/b/userdata/config.json": "{}",
        f"{base}/c/userdata/pidfile": "",
    }
    bundles = [f"{base}/{name}/userdata" for name in "abc"]
    assert probe("crio", "/run/containers/storage", files, bundles, {21, 22}) == [
        Running("a", 21, "podferry"),
        Running("b", 22, ""),
    ]
