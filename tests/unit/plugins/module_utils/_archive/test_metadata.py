# SPDX-License-Identifier: Apache-2.0
"""Whose checkpoint it is, and what it would have an engine do; nothing that it says is relied on."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._archive import metadata
from ansible_collections.podferry.live.plugins.module_utils._archive.errors import (
    DamagedArchive,
    UnsafeArchive,
    WrongCheckpoint,
)
from ansible_collections.podferry.live.plugins.module_utils._archive.metadata import Spec
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput
from doubles import archives

USERDATA = f"/var/lib/containers/storage/overlay-containers/{archives.CONFIG['id']}/userdata"


def changed(**parts: Any) -> dict[str, Any]:
    spec = copy.deepcopy(archives.SPEC)
    for name, value in parts.items():
        if name in ("annotations", "linux"):
            spec[name].update(value)
        else:
            spec[name] = value
    return spec


def podman(**parts: Any) -> dict[str, Any]:
    spec = changed(**parts)
    spec["annotations"] = {"io.container.manager": "libpod", **parts.get("annotations", {})}
    return spec


def test_containerd() -> None:
    found = metadata.describe(archives.CONFIG, Spec(archives.SPEC))
    assert (found.engine, found.container, found.pod, found.namespace, found.uid) == (
        "containerd", "app", "web-0", "shop", archives.UID,
    )  # fmt: skip
    assert found.image == "registry.example.com/app:1" and found.checkpointed.startswith("2026-11-25")


def test_crio() -> None:
    found = metadata.describe(archives.CONFIG, Spec({**archives.SPEC, "annotations": archives.CRIO_NOTES}))
    assert (found.engine, found.container, found.pod, found.namespace) == ("crio", "app", "web-0", "shop")


def test_podman() -> None:
    config = {
        "id": "ab",
        "name": "work",
        "rootfsImageID": "cd",
        "RawImageName": "app",
        "runtime": "runc",
        "createdTime": "0001-01-01T00:00:00Z",
    }
    found = metadata.describe(config, Spec(podman()))
    assert (found.engine, found.container, found.pod, found.image_id, found.requested_image, found.created) == (
        "podman", "work", "", "cd", "app", "",
    )  # fmt: skip


@pytest.mark.parametrize("what", ["container", "namespace", "pod"])
def test_another_one_than_was_asked_for(what: str) -> None:
    found = metadata.describe(archives.CONFIG, Spec(archives.SPEC))
    metadata.check_owner(found, "app", "shop", "web-0")
    metadata.check_owner(found)
    with pytest.raises(WrongCheckpoint, match=what):
        metadata.check_owner(found, **{what: "other"})


def test_an_ordinary_one_asks_for_nothing() -> None:
    assert (
        metadata.asks(
            archives.CONFIG, Spec(archives.SPEC), {"annotations": {"io.kubernetes.container.hash": "1"}}, "containerd"
        )
        == []
    )
    mounts = [{"destination": "/dev/shm", "type": "bind", "source": f"{USERDATA}/shm"}]
    notes = {"org.systemd.property.KillSignal": "15"}
    config = {**archives.CONFIG, "ShmDir": f"{USERDATA}/shm"}
    assert metadata.asks(config, Spec(podman(mounts=mounts, annotations=notes)), None, "podman") == []


ASKS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "device /dev/sda": ({"linux": {"devices": [{"path": "/dev/sda", "type": "b"}]}}, None, "containerd"),
    "hook prestart": ({"hooks": {"prestart": [{"path": "/bin/sh"}], "poststop": []}}, None, "crio"),
    "annotation cdi.k8s.io/gpu": ({}, {"annotations": {"cdi.k8s.io/gpu": "vendor.com/device=all"}}, "containerd"),
    "annotation org.criu.config": ({"annotations": {"org.criu.config": "/tmp/evil"}}, None, "containerd"),
    "annotation run.oci.handler": ({"annotations": {"run.oci.handler": "krun"}}, None, "crio"),
    "unmasked /proc": ({"linux": {"maskedPaths": []}}, None, "crio"),
}
ASKS_PODMAN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mount of /etc at /host": ({"mounts": [{"destination": "/host", "type": "bind", "source": "/etc"}]}, {}),
    "mount of another's": (
        {"mounts": [{"destination": "/x", "type": "bind", "source": USERDATA.replace("ab" * 32, "cd" * 32)}]},
        {},
    ),
    "mount that leads out": ({"mounts": [{"destination": "/x", "type": "bind", "source": f"{USERDATA}/../../.."}]}, {}),
    "logPath": ({}, {"logPath": "/etc/cron.d/x"}),
    "secretsPath": ({}, {"secretsPath": "/root/.ssh"}),
    "privileged": ({}, {"privileged": True}),
    "access to devices": ({"linux": {"resources": {"devices": [{"allow": True, "access": "rwm"}]}}}, {}),
    "the host's network namespace": (
        {"linux": {"namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")]}},
        {},
    ),
}


@pytest.mark.parametrize("expected", ASKS)
def test_what_it_asks_for(expected: str) -> None:
    parts, status, engine = ASKS[expected]
    assert metadata.asks(archives.CONFIG, Spec(changed(**parts)), status, engine) == [expected]


@pytest.mark.parametrize("name", ASKS_PODMAN)
def test_what_podman_would_believe(name: str) -> None:
    parts, config = ASKS_PODMAN[name]
    spec = Spec(podman(**parts))
    (found,) = metadata.asks({**archives.CONFIG, **config}, spec, None, "podman")
    assert found.startswith(name.split(" ")[0])
    if "mounts" in parts:  # who makes a container of it mounts what the new pod says
        assert metadata.asks({**archives.CONFIG, **config}, spec, None, "containerd") == []


def test_what_names_no_engine_may_be_podmans() -> None:
    spec = Spec({**podman(mounts=[{"destination": "/host", "type": "bind", "source": "/etc"}]), "annotations": {}})
    found = metadata.describe({**archives.CONFIG, "privileged": True}, spec)
    asked = metadata.asks({**archives.CONFIG, "privileged": True}, spec, None, found.engine)
    assert found.engine == "" and asked == ["mount of /etc at /host", "privileged"]


@pytest.mark.parametrize(
    "parts",
    [
        {"Hooks": {"prestart": [{"path": "/bin/sh"}]}},
        {"hook\u017f": {"prestart": [{"path": "/bin/sh"}]}},
        {"Mounts": []},
        {"Linux": {}},
        {"Annotations": {}},
        {"Process": {}},
        {"linux": {"Devices": []}},
        {"linux": {"mas\u212aedPaths": []}},
        {"linux": {"NAMESPACES": []}},
        {"linux": {"Resources": {}}},
        {"linux": {"resources": {"Devices": []}}},
        {"linux": {"resources": {"devices": [{"allow": False}, {"Allow": True}]}}},
        {"linux": {"namespaces": [{"Type": "network"}]}},
        {"mounts": [{"destination": "/x", "type": "proc", "Type": "bind", "source": "/"}]},
        {"process": {"Env": []}},
    ],
    ids=lambda parts: next(iter(parts)),
)
def test_keys_that_go_takes_for_others(parts: dict[str, Any]) -> None:
    with pytest.raises(UnsafeArchive, match="but for its case"):
        Spec(changed(**parts))


@pytest.mark.parametrize("key", ["Privileged", "LogPath", "shmdir", "ID", "Secret\u017fPath"])
def test_keys_of_the_description_that_go_takes_for_others(key: str) -> None:
    config = {**archives.CONFIG, key: "x"}
    with pytest.raises(UnsafeArchive, match="but for its case"):
        metadata.describe(config, Spec(archives.SPEC))
    with pytest.raises(UnsafeArchive, match="but for its case"):
        metadata.asks(config, Spec(archives.SPEC), None, "podman")


def test_other_keys_may_be_written_as_they_like() -> None:
    notes = {"Hooks": "a note", "hooks": "another", "ID": "x"}
    spec = Spec(changed(annotations=notes, linux={"Mounts": 1}))
    assert spec.annotations["Hooks"] == "a note"
    with pytest.raises(UnsafeArchive):
        metadata.asks(archives.CONFIG, spec, {"Annotations": {"org.criu.config": "/tmp/evil"}}, "crio")


def test_contradictions_are_damage() -> None:
    with pytest.raises(DamagedArchive):
        metadata.describe(
            archives.CONFIG, Spec({"annotations": {**archives.CRIO_NOTES, "io.kubernetes.cri-o.SandboxName": "k8s"}})
        )
    for wrong in (None, [], "x"):
        with pytest.raises(DamagedArchive):
            Spec(wrong)
        with pytest.raises(DamagedArchive):
            metadata.describe(wrong, Spec({}))


keys = st.sampled_from([
    "annotations", "linux", "mounts", "devices", "hooks", "process", "env", "namespaces", "resources", "maskedPaths", "path", "type", "source",
    "destination", "options", "allow", "id", "name", "runtime", "createdTime", "logPath", "io.container.manager", "io.kubernetes.cri.container-type",
    "io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxName",
])  # fmt: skip
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["libpod", "cri-o", "bind"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)


@given(anything, anything, anything, st.sampled_from(["containerd", "crio", "podman", ""]))
def test_anything_may_stand_there(config: Any, spec: Any, status: Any, engine: str) -> None:
    try:
        parsed = Spec(spec)
        found = metadata.describe(config, parsed)
        assert all(isinstance(value, str) for value in found)
        asked = metadata.asks(config, parsed, status, engine)
        json.dumps([parsed.annotations, parsed.environment(), parsed.mounts(), asked])
    except InvalidInput:
        pass
