# SPDX-License-Identifier: Apache-2.0
"""Who a container is: only by what the runtimes write themselves."""

from __future__ import annotations

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from ansible_collections.podferry.live.plugins.module_utils._runtime import oci
from ansible_collections.podferry.live.plugins.module_utils._runtime.container import parse_reference
from ansible_collections.podferry.live.plugins.module_utils._runtime.oci import Identity, identity

UID = "0b9ea9e4-6a52-4d5f-9d2e-3b8b6d1f7c11"
CONTAINERD = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "web",
    "io.kubernetes.cri.sandbox-name": "pod-1",
    "io.kubernetes.cri.sandbox-namespace": "default",
    "io.kubernetes.cri.sandbox-uid": UID,
}
CRIO = {
    "io.kubernetes.cri-o.ContainerType": "container",
    "io.kubernetes.cri-o.SandboxName": f"k8s_pod-1_default_{UID}_0",
    "io.kubernetes.container.name": "web",
}


@pytest.mark.parametrize("notes", [CONTAINERD, CRIO])
def test_a_container(notes: dict[str, str]) -> None:
    assert identity({"annotations": notes}) == Identity("default", "pod-1", UID, "web", False)


@pytest.mark.parametrize("notes", [CONTAINERD, CRIO])
def test_a_sandbox(notes: dict[str, str]) -> None:
    kind = next(key for key in notes if key.lower().replace("-", "").endswith("containertype"))
    found = identity({"annotations": {**notes, kind: "sandbox"}})
    assert found is not None and found.sandbox


@pytest.mark.parametrize("config", [{}, {"annotations": None}, {"annotations": {"podferry.live/arrival": "x"}}])
def test_nobodys(config: dict[str, object]) -> None:
    assert identity(config) is None


def test_what_a_pod_says_of_itself_does_not_count() -> None:
    claim = {
        "io.kubernetes.pod.name": "other",
        "podferry.live/pod": "other",
        "io.kubernetes.cri-o.SandboxName": "k8s_other_other_u_0",
    }
    assert identity({"annotations": {**claim, **CONTAINERD}}) == Identity("default", "pod-1", UID, "web", False)


@pytest.mark.parametrize("name", ["", "k8s_a_b_c", "k8s_a_b_c_0_x", "x8s_a_b_c_0", "k8s_a_b_c_0\n_"])
def test_names_of_sandboxes_that_are_not_crios(name: str) -> None:
    with pytest.raises(InvalidInput, match="sandbox name"):
        identity({"annotations": {**CRIO, "io.kubernetes.cri-o.SandboxName": name}})


def test_mounts_and_namespaces() -> None:
    config = {
        "mounts": [{"destination": "/dev/shm", "source": "/run/sandbox/shm"}, {"destination": "/data", "source": "/v"}],
        "linux": {"namespaces": [{"type": "network", "path": "/proc/1/ns/net"}, {"type": "pid"}]},
    }
    assert oci.mount_source(config, "/dev/shm") == "/run/sandbox/shm" and oci.mount_source(config, "/x") is None
    assert oci.destinations(config) == ["/data", "/dev/shm"] and oci.destinations({}) == []
    assert oci.namespace_path(config, "network") == "/proc/1/ns/net"
    assert oci.namespace_path(config, "pid") is None and oci.namespace_path({}, "pid") is None


@pytest.mark.parametrize("key", ["org.criu.config", "org.criu.anything"])
def test_no_configuration_of_criu(key: str) -> None:
    with pytest.raises(InvalidInput, match="as root"):
        oci.check_trusted({"annotations": {key: "/x"}})
    oci.check_trusted({"annotations": CONTAINERD})


def test_references() -> None:
    assert parse_reference("containerd://" + "a" * 64) == ("containerd", "a" * 64)
    assert parse_reference("cri-o://" + "0" * 64) == ("crio", "0" * 64)
    for text in (
        "",
        "a" * 64,
        "docker://" + "a" * 64,
        "containerd://" + "a" * 63,
        "containerd://../x",
        "containerd://" + "a" * 64 + "\n",
    ):
        with pytest.raises(InvalidInput):
            parse_reference(text)
