# SPDX-License-Identifier: Apache-2.0
"""Claims and volumes: the API's side, and the kubelet's without a real mount."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulated import SimulatedKubelets

from podferry_standin.api import errors
from podferry_standin.api.controllers import Manager
from podferry_standin.api.registry import Registry
from podferry_standin.api.resources import BY_NAME, PODS
from podferry_standin.api.storage import Store
from podferry_standin.kubelet import mounts
from podferry_standin.kubelet.config import Config
from podferry_standin.kubelet.volumes import VolumeError, Volumes

Obj = dict[str, Any]
CLAIMS, VOLUMES, CLASSES = BY_NAME["persistentvolumeclaims"], BY_NAME["persistentvolumes"], BY_NAME["storageclasses"]
MERGE = "application/merge-patch+json"


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    registry = Registry(Store())
    made = Manager(registry, shared=tmp_path)
    made.controllers.append(SimulatedKubelets(registry))
    made.settle()
    return made


def claim(name: str, kind: str | None = "lab-shared", size: str = "1Gi", **spec: Any) -> Obj:
    body: Obj = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": size}}, **spec}
    if kind is not None:
        body["storageClassName"] = kind
    return {"metadata": {"name": name}, "spec": body}


def volume(name: str, size: str = "1Gi", **spec: Any) -> Obj:
    body = {"capacity": {"storage": size}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"], **spec}
    if not {"nfs", "hostPath", "local"} & set(spec):
        body["nfs"] = {"server": "lab", "path": f"/{name}"}
    return {"metadata": {"name": name}, "spec": body}


def user(name: str, *claims: str, **spec: Any) -> Obj:
    volumes = [{"name": f"v-{item}", "persistentVolumeClaim": {"claimName": item}} for item in claims]
    return {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i:1"}], "volumes": volumes, **spec},
    }


def refused(call: Callable[[], Any]) -> errors.ApiError:
    with pytest.raises(errors.ApiError) as caught:
        call()
    return caught.value


def test_a_claim_of_the_shared_class_gets_a_folder_and_takes_it_along(manager: Manager, tmp_path: Path) -> None:
    registry = manager.registry
    registry.create(CLAIMS, "default", claim("data"))
    manager.settle()
    bound = registry.get(CLAIMS, "default", "data")
    made = registry.get(VOLUMES, "", bound["spec"]["volumeName"])
    assert bound["status"] == {"phase": "Bound", "accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"}}
    assert made["status"]["phase"] == "Bound" and made["spec"]["nfs"]["server"] == "lab"
    assert made["metadata"]["name"] == f"pvc-{bound['metadata']['uid']}" and made["spec"]["accessModes"] == [
        "ReadWriteMany"
    ]
    folder = tmp_path / made["spec"]["nfs"]["path"].lstrip("/")
    assert folder.is_dir() and folder.stat().st_mode & 0o777 == 0o777
    (folder / "file").touch()
    registry.delete(CLAIMS, "default", "data")
    manager.settle()
    assert registry.store.list(CLAIMS) == [] and registry.store.list(VOLUMES) == [] and not folder.exists()


def test_a_claim_in_use_outlives_its_deletion(manager: Manager) -> None:
    registry = manager.registry
    registry.create(CLAIMS, "default", claim("data"))
    registry.create(PODS, "default", user("p", "data"))
    manager.settle()
    assert registry.get(PODS, "default", "p")["spec"]["nodeName"]
    registry.delete(CLAIMS, "default", "data")
    manager.settle()
    assert "deletionTimestamp" in registry.get(CLAIMS, "default", "data")["metadata"]
    registry.delete(PODS, "default", "p", {"gracePeriodSeconds": 0})
    manager.settle()
    assert registry.store.list(CLAIMS) == []


def test_a_pod_waits_for_its_claims(manager: Manager) -> None:
    registry = manager.registry

    def why() -> str:
        manager.settle()
        return str(registry.get(PODS, "default", "p")["status"]["conditions"][0].get("message", ""))

    registry.create(PODS, "default", user("p", "data"))
    assert why() == '0/2 nodes are available: persistentvolumeclaim "data" not found.'
    registry.create(CLAIMS, "default", claim("data", kind="none-such"))
    assert why() == "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    registry.create(VOLUMES, "", volume("v", storageClassName="none-such"))
    manager.settle()
    assert registry.get(PODS, "default", "p")["spec"]["nodeName"]


def test_the_smallest_volume_that_will_do(manager: Manager) -> None:
    registry = manager.registry
    for name, size in (("big", "9Gi"), ("right", "2Gi"), ("small", "500Mi")):
        registry.create(VOLUMES, "", volume(name, size))
    registry.create(VOLUMES, "", volume("other-class", "1Gi", storageClassName="x"))
    registry.create(CLAIMS, "default", claim("data", kind=""))
    manager.settle()
    assert registry.get(CLAIMS, "default", "data")["spec"]["volumeName"] == "right"
    assert registry.get(VOLUMES, "", "big")["status"]["phase"] == "Available"
    registry.create(CLAIMS, "default", claim("named", kind="", volumeName="big"))
    manager.settle()
    assert registry.get(CLAIMS, "default", "named")["status"]["phase"] == "Bound"
    registry.delete(CLAIMS, "default", "data")
    manager.settle()
    assert registry.get(VOLUMES, "", "right")["status"]["phase"] == "Released", "its policy is Retain"


def test_the_default_class_is_for_claims_that_name_none(manager: Manager) -> None:
    registry = manager.registry
    assert "storageClassName" not in registry.create(CLAIMS, "default", claim("a", kind=None))["spec"]
    mark = {"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}
    registry.patch(CLASSES, "", "lab-shared", mark, MERGE)
    assert registry.create(CLAIMS, "default", claim("b", kind=None))["spec"]["storageClassName"] == "lab-shared"
    assert registry.create(CLAIMS, "default", claim("c", kind=""))["spec"]["storageClassName"] == ""


def test_what_a_claim_and_a_volume_must_say(manager: Manager) -> None:
    registry = manager.registry
    assert refused(lambda: registry.create(CLAIMS, "default", claim("a", accessModes=[]))).code == 422
    assert refused(lambda: registry.create(VOLUMES, "", volume("v", hostPath={"path": "/x"}, nfs={}))).code == 422
    registry.create(CLAIMS, "default", claim("a"))
    manager.settle()
    change = {"spec": {"accessModes": ["ReadWriteOnce"]}}
    assert refused(lambda: registry.patch(CLAIMS, "default", "a", change, MERGE)).code == 422


def test_a_local_volume_ties_the_pod_to_its_node(manager: Manager) -> None:
    registry = manager.registry
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["nodeb"]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
    registry.create(VOLUMES, "", volume("v", local={"path": "/x"}, nodeAffinity=affinity))
    registry.create(CLAIMS, "default", claim("data", kind=""))
    registry.create(PODS, "default", user("p", "data"))
    manager.settle()
    assert registry.get(PODS, "default", "p")["spec"]["nodeName"] == "nodeb"


# the kubelet's side


class Answers:
    """The API as far as a claim needs it."""

    def __init__(self, *objects: Obj) -> None:
        self.objects = {item["metadata"]["name"]: item for item in objects}

    def request(self, _method: str, path: str, _body: Obj | None = None) -> Obj:
        found: Obj = self.objects[path.rpartition("/")[2]]
        return found


@pytest.fixture
def binds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """Bind mounts that were asked for."""
    made: list[tuple[str, str, bool]] = []
    monkeypatch.setattr(
        mounts, "bind", lambda source, target, read_only=False: made.append((str(source), str(target), read_only))
    )
    return made


def node(tmp_path: Path) -> Config:
    return Config(
        "n", "10.0.0.1", "", "", "", "", root=tmp_path / "kubelet", logs=tmp_path / "logs", shared=tmp_path / "shared"
    )


def running(*volumes: Obj, **spec: Any) -> Obj:
    return {"metadata": {"uid": "u", "namespace": "default", "name": "p"}, "spec": {"volumes": list(volumes), **spec}}


BOUND = {**claim("data"), "status": {"phase": "Bound"}}
BOUND["spec"] = {**BOUND["spec"], "volumeName": "pv"}


def test_a_claim_is_mounted_where_the_kubelet_mounts_it(tmp_path: Path, binds: list[tuple[str, str, bool]]) -> None:
    (tmp_path / "shared/pv").mkdir(parents=True)
    made = Volumes(node(tmp_path), Answers(BOUND, volume("pv")))  # type: ignore[arg-type]
    source = {"name": "v", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}}
    made.set_up(running(source))
    target = f"{tmp_path}/kubelet/pods/u/volumes/kubernetes.io~nfs/pv"
    assert binds == [(f"{tmp_path}/shared/pv", target, True)]
    assert str(made.host_path(running(source), source)) == target


def test_volumes_that_cannot_be_mounted_make_the_pod_wait(tmp_path: Path, binds: list[tuple[str, str, bool]]) -> None:
    source = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    unbound = {**BOUND, "status": {"phase": "Pending"}}
    elsewhere, outside = (
        volume("pv", nfs={"server": "x", "path": "/"}),
        volume("pv", nfs={"server": "lab", "path": "/../x"}),
    )
    for objects in ((unbound,), (BOUND, elsewhere), (BOUND, outside), (BOUND, volume("pv"))):
        with pytest.raises(VolumeError):
            Volumes(node(tmp_path), Answers(*objects)).set_up(running(source))  # type: ignore[arg-type]
    assert binds == []


def test_a_part_of_a_volume_is_a_mount_of_its_own(tmp_path: Path, binds: list[tuple[str, str, bool]]) -> None:
    made, source = Volumes(node(tmp_path), Answers()), {"name": "v", "emptyDir": {}}  # type: ignore[arg-type]
    pod = running(source)
    made.set_up(pod)
    root = made.host_path(pod, source)
    assert root.stat().st_mode & 0o7777 == 0o777
    target = made.sub_path(pod, source, "main", 2, "a/b")
    assert str(target) == f"{tmp_path}/kubelet/pods/u/volume-subpaths/v/main/2" and (root / "a/b").is_dir()
    assert binds == [(f"{root}/a/b", str(target), False)]
    (root / "out").symlink_to("/etc")
    with pytest.raises(VolumeError):
        made.sub_path(pod, source, "main", 0, "out")


def test_an_empty_dir_is_opened_once(tmp_path: Path) -> None:
    made, source = Volumes(node(tmp_path), Answers()), {"name": "v", "emptyDir": {}}  # type: ignore[arg-type]
    pod = running(source, securityContext={"fsGroup": 0})
    made.set_up(pod)
    root = made.host_path(pod, source)
    assert root.stat().st_mode & 0o7777 == 0o2777
    root.chmod(0o700)
    made.set_up(pod)
    assert root.stat().st_mode & 0o7777 == 0o700, "afterwards it is the containers' own"


def test_nothing_is_removed_while_something_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = node(tmp_path)
    inside = config.pod_dir("u") / "volumes/kubernetes.io~nfs/pv"
    inside.mkdir(parents=True)
    (inside / "precious").touch()
    monkeypatch.setattr(mounts, "below", lambda _root: [str(inside)])
    monkeypatch.setattr(mounts.subprocess, "run", lambda *_args, **_more: None)
    with pytest.raises(OSError, match="still mounted"):
        Volumes.tear_down(config, "u")
    assert (inside / "precious").exists()
