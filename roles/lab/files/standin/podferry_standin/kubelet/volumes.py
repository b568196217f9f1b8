# SPDX-License-Identifier: Apache-2.0
"""Volumes under <root>/pods/<uid>/volumes/<plugin>/<name>, laid out and swapped as the kubelet's atomic writer does."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..quantities import quantity
from . import mounts
from .apiclient import Api, ApiError
from .config import Config

Obj = dict[str, Any]
Files = dict[str, tuple[bytes, int]]  # relative path to content and mode

_PLUGINS = {
    "projected": "kubernetes.io~projected",
    "configMap": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downwardAPI": "kubernetes.io~downward-api",
    "emptyDir": "kubernetes.io~empty-dir",
}
# What a claim may be bound to; hostPath has no directory of its own.
_BOUND_TO = {"nfs": "kubernetes.io~nfs", "local": "kubernetes.io~local-volume"}
_SERVER = "lab"  # of the nfs volumes that the lab's shared folder plays
_ON_TMPFS = {"projected", "secret", "downwardAPI"}
_RENEW_AT = 0.8


class VolumeError(Exception):
    """A volume that cannot be set up yet; the pod waits."""


@dataclass
class Volumes:
    """The volumes of one pod."""

    config: Config
    api: Api
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict)  # path: token, when to renew
    _bound: dict[str, Obj] = field(default_factory=dict)  # PersistentVolumes by the name of the pod's volume

    def host_path(self, pod: Obj, volume: Obj) -> Path:
        """Where a volume is on the node; of a claim only after ``set_up``."""
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        if "persistentVolumeClaim" in volume:
            return self._bound_path(pod, self._bound[volume["name"]])
        if "nfs" in volume:
            return self._directory(pod, _BOUND_TO["nfs"], volume["name"])
        kind = next((name for name in _PLUGINS if name in volume), None)
        if kind is None:
            raise VolumeError(
                f"volume {volume['name']}: this stand-in has no such volumes: {sorted(set(volume) - {'name'})}"
            )
        return self._directory(pod, _PLUGINS[kind], volume["name"])

    def _directory(self, pod: Obj, plugin: str, name: str) -> Path:
        return self.config.pod_dir(pod["metadata"]["uid"]) / "volumes" / plugin / name

    def _bound_path(self, pod: Obj, found: Obj) -> Path:
        if "hostPath" in found["spec"]:
            return Path(found["spec"]["hostPath"]["path"])
        kind = next((name for name in _BOUND_TO if name in found["spec"]), None)
        name = found["metadata"]["name"]
        if kind is None:
            raise VolumeError(f"persistent volume {name}: this stand-in has no such volumes")
        return self._directory(pod, _BOUND_TO[kind], name)

    def sub_path(self, pod: Obj, volume: Obj, container: str, index: int, path: str) -> Path:
        """A part of a volume for one mount of a container: a bind mount of its own, made when it is missing.

        :raises VolumeError: the path leads out of the volume
        """
        root = self.host_path(pod, volume)
        source = (root / path).resolve()
        if not source.is_relative_to(root.resolve()):
            raise VolumeError(f"failed to prepare subPath for volumeMount: {path} is not within the volume")
        if not source.exists():
            source.mkdir(parents=True)
            source.chmod(root.stat().st_mode & 0o7777)
        bound = self._bound.get(volume["name"])
        inner = str(bound["metadata"]["name"] if bound is not None else volume["name"])
        target = self.config.pod_dir(pod["metadata"]["uid"]) / "volume-subpaths" / inner / container / str(index)
        try:
            mounts.bind(source, target)
        except (OSError, subprocess.CalledProcessError) as error:
            raise VolumeError(f"failed to prepare subPath for volumeMount: {error}") from error
        return target

    def set_up(self, pod: Obj) -> None:
        """Make all volumes, or bring their contents up to date.

        :raises VolumeError: something they are made of is missing
        """
        for volume in pod["spec"].get("volumes") or []:
            if "persistentVolumeClaim" in volume:
                self._claimed(pod, volume)
                continue
            path = self.host_path(pod, volume)
            if "hostPath" in volume:
                if volume["hostPath"].get("type") == "DirectoryOrCreate":
                    path.mkdir(parents=True, exist_ok=True)
                continue
            if "nfs" in volume:
                self._nfs(volume["nfs"], path, volume["name"], read_only=volume["nfs"].get("readOnly", False))
                continue
            if "emptyDir" in volume:
                self._empty_dir(path, volume["emptyDir"], (pod["spec"].get("securityContext") or {}).get("fsGroup"))
                continue
            path.mkdir(parents=True, exist_ok=True)
            kind = next(name for name in _PLUGINS if name in volume)
            if kind in _ON_TMPFS:
                mounts.tmpfs(path, None)
            try:
                files = self._files(pod, volume, kind)
            except ApiError as error:
                raise VolumeError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}') from error
            write_atomically(path, files)

    @staticmethod
    def _empty_dir(path: Path, source: Obj, group: int | None) -> None:
        """Open to all, once: afterwards it is the containers' own."""
        fresh = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        if source.get("medium") == "Memory":
            fresh = mounts.tmpfs(path, int(quantity(source["sizeLimit"])) if source.get("sizeLimit") else None)
        if fresh:
            if group is not None:
                os.chown(path, -1, group)
            path.chmod(0o777 if group is None else 0o2777)

    def _claimed(self, pod: Obj, volume: Obj) -> None:
        """Mount what a claim is bound to."""
        if volume["name"] not in self._bound:
            self._bound[volume["name"]] = self._persistent(pod, volume["persistentVolumeClaim"]["claimName"])
        found, source = self._bound[volume["name"]], volume["persistentVolumeClaim"]
        path, spec, name = self._bound_path(pod, found), found["spec"], found["metadata"]["name"]
        if "nfs" in spec:
            read_only = source.get("readOnly", False) or spec["nfs"].get("readOnly", False)
            self._nfs(spec["nfs"], path, name, read_only=read_only)
        elif "local" in spec:
            self._bind(Path(spec["local"]["path"]), path, name, read_only=source.get("readOnly", False))

    def _persistent(self, pod: Obj, claim: str) -> Obj:
        namespace = pod["metadata"]["namespace"]
        try:
            found = self.api.request("GET", f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")
            name = found["spec"].get("volumeName")
            if (found.get("status") or {}).get("phase") != "Bound" or not name:
                raise VolumeError(f"error processing PVC {namespace}/{claim}: PVC is not bound")
            return self.api.request("GET", f"/api/v1/persistentvolumes/{name}")
        except ApiError as error:
            raise VolumeError(f"error processing PVC {namespace}/{claim}: {error}") from error

    def _nfs(self, source: Obj, target: Path, name: str, *, read_only: bool) -> None:
        """The lab has one server, whose export is the shared folder: there is no network file system behind it."""
        if source["server"] != _SERVER or ".." in source["path"].split("/"):
            what = f"{source['server']}:{source['path']}"
            raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : mount failed: {what}: no such server')
        self._bind(self.config.shared / source["path"].lstrip("/"), target, name, read_only=read_only)

    @staticmethod
    def _bind(source: Path, target: Path, name: str, *, read_only: bool) -> None:
        if not source.exists():
            raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : path "{source}" does not exist')
        try:
            mounts.bind(source, target, read_only=read_only)
        except (OSError, subprocess.CalledProcessError) as error:
            raise VolumeError(f'MountVolume.SetUp failed for volume "{name}" : {error}') from error

    @staticmethod
    def tear_down(config: Config, uid: str) -> None:
        """Unmount and remove everything of a pod, its logs too.

        :raises OSError: something cannot be unmounted; then nothing is removed
        """
        root = config.pod_dir(uid)
        mounts.unmount_below(root)
        for directory in (root, *config.logs.glob(f"*_{uid}")):
            shutil.rmtree(directory, ignore_errors=True)

    def _files(self, pod: Obj, volume: Obj, kind: str) -> Files:
        source = volume[kind]
        mode = source.get("defaultMode", 0o644)
        if kind != "projected":
            return self._source(pod, kind, source, mode)
        files: Files = {}
        for part in source.get("sources") or []:
            for name, inner in part.items():
                files.update(self._source(pod, name, inner, mode))
        return files

    def _source(self, pod: Obj, kind: str, source: Obj, mode: int) -> Files:
        namespace = pod["metadata"]["namespace"]
        if kind == "serviceAccountToken":
            return {source["path"]: (self._token(pod, source).encode(), mode)}
        if kind == "downwardAPI":
            return {
                item["path"]: (downward(pod, item).encode(), item.get("mode", mode))
                for item in source.get("items") or []
            }
        name = source.get("name") or source.get("secretName")
        plural = "secrets" if kind == "secret" else "configmaps"
        try:
            obj = self.api.request("GET", f"/api/v1/namespaces/{namespace}/{plural}/{name}")
        except ApiError as error:
            if error.code == 404 and source.get("optional"):
                return {}
            raise
        data = {key: value.encode() for key, value in (obj.get("data") or {}).items()}
        if kind == "secret":
            data = {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
        data.update({key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()})
        if not source.get("items"):
            return {key: (value, mode) for key, value in data.items()}
        files: Files = {}
        for item in source["items"]:
            if item["key"] not in data:
                if source.get("optional"):
                    continue
                raise VolumeError(f"references non-existent {plural} key: {item['key']}")
            files[item["path"]] = (data[item["key"]], item.get("mode", mode))
        return files

    def _token(self, pod: Obj, source: Obj) -> str:
        token, renew = self._tokens.get(source["path"], ("", 0.0))
        if time.monotonic() < renew:
            return token
        meta, seconds = pod["metadata"], int(source.get("expirationSeconds", 3600))
        body: Obj = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        body["spec"] = {
            "audiences": [source["audience"]] if source.get("audience") else [],
            "expirationSeconds": seconds,
        }
        account = pod["spec"].get("serviceAccountName") or "default"
        answer = self.api.request(
            "POST", f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token", body
        )
        token = answer["status"]["token"]
        self._tokens[source["path"]] = (token, time.monotonic() + seconds * _RENEW_AT)
        return str(token)


def downward(pod: Obj, item: Obj) -> str:
    """The value of a downward API item."""
    if "fieldRef" in item:
        return field_value(pod, item["fieldRef"]["fieldPath"])
    reference = item["resourceFieldRef"]
    containers = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
    container = next(c for c in containers if c["name"] == reference["containerName"])
    return resource_value(container, reference)


def resource_value(container: Obj, reference: Obj) -> str:
    """A limit or request, in units of the divisor."""
    group, _separator, name = reference["resource"].partition(".")
    value = ((container.get("resources") or {}).get(group) or {}).get(name, "0")
    divisor = quantity(reference.get("divisor") or "1") or 1
    return str(-int(-quantity(value) // divisor))


def field_value(pod: Obj, path: str) -> str:
    """A field as the downward API shows it."""
    meta, status = pod["metadata"], pod.get("status") or {}
    for name in ("labels", "annotations"):
        values = meta.get(name) or {}
        if path == f"metadata.{name}":
            return "\n".join(f'{key}="{value}"' for key, value in sorted(values.items()))
        if path.startswith(f"metadata.{name}['"):
            return str(values.get(path[len(f"metadata.{name}['") : -2], ""))
    known = {
        "metadata.name": meta["name"],
        "metadata.namespace": meta["namespace"],
        "metadata.uid": meta["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": status.get("podIP", ""),
        "status.hostIP": status.get("hostIP", ""),
    }
    return str(known.get(path, ""))


def write_atomically(directory: Path, files: Files) -> None:
    """Files behind one ``..data`` link to a timestamped directory, switched by one rename; nothing if nothing changed."""
    data = directory / "..data"
    if data.exists() and _read(data.resolve()) == files:
        return
    old = data.resolve() if data.exists() else None
    fresh = directory / time.strftime(f"..%Y_%m_%d_%H_%M_%S.{time.time_ns() % 10**10}", time.gmtime())
    fresh.mkdir(mode=0o755)
    for name, (content, mode) in files.items():
        target = fresh / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)
    link = directory / "..data_tmp"
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(fresh.name)
    os.replace(link, data)
    wanted = {name.partition("/")[0] for name in files}
    for name in wanted:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    for entry in directory.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in wanted:
            entry.unlink()
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _read(directory: Path) -> Files:
    found: Files = {}
    for path in directory.rglob("*"):
        if path.is_file():
            found[str(path.relative_to(directory))] = (path.read_bytes(), path.stat().st_mode & 0o7777)
    return found
