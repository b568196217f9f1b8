# SPDX-License-Identifier: Apache-2.0
"""Where a pod's volumes lie, from the mounts of a container."""

from __future__ import annotations

import pathlib

from ansible_collections.podferry.live.plugins.module_utils._runtime import volumes

UID = "4c1f"
PODS = "/data/kubelet/pods"


def config(*mounts: tuple[str, str, str]) -> dict[str, object]:
    return {"mounts": [{"destination": place, "source": source, "options": [mode]} for place, source, mode in mounts]}


def test_the_pods_folder() -> None:
    assert volumes.pod_directory(config(("/etc/hosts", f"{PODS}/{UID}/etc-hosts", "rw")), UID) == f"{PODS}/{UID}"
    other = config(("/etc/hosts", "/var/hosts", "rw"), ("/x", f"{PODS}/{UID}/volumes/kubernetes.io~secret/s", "ro"))
    assert volumes.pod_directory(other, UID) == f"{PODS}/{UID}"
    assert volumes.pod_directory(config(("/etc/hosts", f"{PODS}/another/etc-hosts", "rw")), UID) is None
    assert volumes.empty_dirs(config(), UID) == []


def test_empty_dirs_also_of_those_that_no_container_has_mounted(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "pods" / UID / "volumes/kubernetes.io~empty-dir"
    (folder / "scratch").mkdir(parents=True)
    found = volumes.empty_dirs(config(("/etc/hosts", f"{tmp_path}/pods/{UID}/etc-hosts", "rw")), UID)
    assert found == [volumes.EmptyDir("scratch", str(folder / "scratch"), False)]


def test_those_that_the_kubelet_fills() -> None:
    place = f"{PODS}/{UID}/volumes/kubernetes.io~"
    seen = config(("/c", f"{place}configmap/c", "ro"), ("/t", f"{place}projected/t", "ro"), ("/e", f"{place}empty-dir/e", "rw"),
                  ("/n", f"{place}nfs/n", "rw"), ("/h", "/srv", "rw"))  # fmt: skip
    assert volumes.kubelet_volumes(seen, UID) == {"/c": f"{place}configmap/c", "/t": f"{place}projected/t"}


def test_those_that_other_nodes_mount(tmp_path: pathlib.Path) -> None:
    place = f"{PODS}/{UID}/volumes/kubernetes.io~"
    table = tmp_path / "mountinfo"
    table.write_text(
        f"1 0 0:1 / {place}nfs/n rw - nfs4 server:/ rw\n2 0 0:2 / {place}projected/t rw - tmpfs tmpfs rw\n"
        f"3 0 0:3 / {place}csi/pv/mount rw - fuse.ceph x rw\n4 0 0:4 / / rw - ext4 /dev/x rw\n"
    )
    seen = config(("/n", f"{place}nfs/n", "rw"), ("/ns", f"{place}nfs/n/inner", "rw"), ("/t", f"{place}projected/t", "rw"),
                  ("/v", f"{place}csi/pv/mount", "rw"), ("/r", f"{place}csi/pv/mount", "ro"), ("/e", f"{place}empty-dir/e", "rw"))  # fmt: skip
    assert volumes.shared(seen, UID, str(table)) == [f"{place}csi/pv/mount", f"{place}nfs/n"]
