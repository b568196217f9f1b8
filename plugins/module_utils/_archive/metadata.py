# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a checkpoint's own description says: whose it is, and what it would have an engine do.

All of it was written by whoever made the archive. It is shown and compared, never carried out.
"""

from __future__ import annotations

import re
import typing as t

from .._common.errors import InvalidInput
from .._runtime import oci
from .errors import NOT_TRUSTED, DamagedArchive, UnsafeArchive, WrongCheckpoint

CONTAINERD, CRIO, PODMAN = "containerd", "crio", "podman"
_MOST_TEXT = 4096
# Annotations that engines and runtimes act on, instead of keeping them as notes.
_ACTED_ON = (
    "cdi.k8s.io/",
    "org.criu.",
    "org.systemd.property.",
    "run.oci.",
    "io.containers.trace-syscall",
    "module.wasm.",
)
# podman gives these two to every container.
_HARMLESS = ("org.systemd.property.KillSignal", "org.systemd.property.TimeoutStopUSec")
# Where podman itself keeps what it mounts into a container, and writes about it.
_PODMAN_STORAGE = (
    r"(?:/var/lib/containers/storage|/(?:var/)?run/containers/storage|/home/[^/]+/\.local/share/containers/storage|/run/user/\d+/containers)"
    r"/[a-z]+-containers/{identifier}/userdata(?:/.*)?"
)
_PODMAN_PATHS = (
    "ShmDir",
    "staticDir",
    "secretsPath",
    "logPath",
    "conmonPidFile",
    "pid_file",
    "rootfs",
    "sdNotifySocketPath",
)
_NAMESPACES = ("mount", "pid", "ipc", "uts", "network")
_KERNEL_MOUNTS = ("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2")

_Names = t.Mapping[str, t.Any]


def _names(*leaves: str, **inner: _Names) -> _Names:
    return {**{key: {} for key in leaves}, **inner}


# The keys that are looked at, with those of the objects below them (of a list, of each of its items).
_SPEC_NAMES = _names(
    "annotations",
    "hooks",
    mounts=_names("destination", "type", "source", "options"),
    process=_names("env"),
    linux=_names(
        "maskedPaths",
        devices=_names("path"),
        namespaces=_names("type"),
        resources=_names(devices=_names("allow")),
    ),
)
_CONFIG_NAMES = _names(
    "id",
    "name",
    "rootfsImage",
    "rootfsImageID",
    "rootfsImageName",
    "rootfsImageRef",
    "RawImageName",
    "runtime",
    "createdTime",
    "checkpointedTime",
    "privileged",
    *_PODMAN_PATHS,
)
_STATUS_NAMES = _names("annotations")


class Description(t.NamedTuple):
    """A checkpoint's identity; what it does not say is empty."""

    engine: str
    identifier: str
    container: str
    pod: str
    namespace: str
    uid: str
    image: str
    image_id: str
    requested_image: str
    runtime: str
    created: str
    checkpointed: str


class Spec:
    """``spec.dump``: the container's OCI configuration. Parts that have another form than they should count as absent.

    :raises DamagedArchive: it is none. :raises UnsafeArchive: engines would read it otherwise.
    """

    def __init__(self, value: t.Any) -> None:
        if not isinstance(value, dict):
            raise DamagedArchive("spec.dump is no OCI configuration", "Make a new checkpoint.")
        _check_names(value, _SPEC_NAMES, "spec.dump")
        self.value: dict[str, t.Any] = value

    @property
    def annotations(self) -> dict[str, str]:
        """All of them, as text."""
        notes = self.value.get("annotations")
        return {text(key): text(value) for key, value in notes.items()} if isinstance(notes, dict) else {}

    def environment(self) -> dict[str, str]:
        """The environment that the container was started with."""
        process = self.value.get("process")
        words = process.get("env") if isinstance(process, dict) else None
        pairs = [_clean(word).partition("=") for word in words] if isinstance(words, list) else []
        return {name: value for name, _equals, value in pairs}

    def mounts(self) -> list[dict[str, t.Any]]:
        """What is mounted where."""
        found = self.value.get("mounts")
        return [
            {
                "destination": text(item.get("destination")),
                "type": text(item.get("type")),
                "source": text(item.get("source")),
                "options": [text(word) for word in _list(item.get("options"))],
            }
            for item in _list(found)
            if isinstance(item, dict)
        ]

    def part(self, name: str) -> t.Any:
        """Something below ``linux``."""
        linux = self.value.get("linux")
        return linux.get(name) if isinstance(linux, dict) else None


def text(value: t.Any) -> str:
    """A value as text of bounded length that every encoding takes; what is no text, number or truth value becomes empty."""
    if not isinstance(value, (str, int, float)):
        return ""
    return str(value)[:_MOST_TEXT].encode("utf-8", "replace").decode("utf-8")


def _clean(word: t.Any) -> str:
    """Text of any length."""
    return word.encode("utf-8", "replace").decode("utf-8") if isinstance(word, str) else text(word)


def describe(config: t.Any, spec: Spec) -> Description:
    """Whose checkpoint it is.

    :raises DamagedArchive: the description contradicts itself. :raises UnsafeArchive: engines would read it otherwise.
    """
    if not isinstance(config, dict):
        raise DamagedArchive("config.dump is no description of a container", "Make a new checkpoint.")
    _check_names(config, _CONFIG_NAMES, "config.dump")
    notes = spec.annotations
    if notes.get("io.container.manager") == "libpod":
        engine, container, pod, namespace, uid = PODMAN, text(config.get("name")), "", "", ""
    else:
        try:
            owner = oci.identity({"annotations": notes})
        except InvalidInput as error:
            raise DamagedArchive(error.message, "Make a new checkpoint.") from error
        if owner is None:
            engine, container, pod, namespace, uid = "", text(config.get("name")), "", "", ""
        else:
            engine = CONTAINERD if "io.kubernetes.cri.container-type" in notes else CRIO
            container, pod, namespace, uid = owner.container, owner.pod, owner.namespace, owner.uid
    return Description(
        engine=engine,
        identifier=text(config.get("id")),
        container=container,
        pod=pod,
        namespace=namespace,
        uid=uid,
        image=text(config.get("rootfsImageName")),
        image_id=text(config.get("rootfsImageRef") or config.get("rootfsImageID")),
        requested_image=text(config.get("rootfsImage") or config.get("RawImageName")),
        runtime=text(config.get("runtime")),
        created=_when(config.get("createdTime")),
        checkpointed=_when(config.get("checkpointedTime")),
    )


def check_owner(found: Description, container: str = "", namespace: str = "", pod: str = "") -> None:
    """:raises WrongCheckpoint: it is not of the container that was asked for; what is empty is not asked."""
    for what, wanted, is_ in (
        ("container", container, found.container),
        ("namespace", namespace, found.namespace),
        ("pod", pod, found.pod),
    ):
        if wanted and wanted != is_:
            raise WrongCheckpoint(
                f"it is a checkpoint of {what} {is_!r}, not of {wanted!r}",
                "Give the checkpoint of the right container.",
            )


def asks(config: t.Any, spec: Spec, status: t.Any, engine: str) -> list[str]:
    """What an engine would give the container of its node if it took this description at its word.

    podman makes the container exactly as it is described here. containerd and CRI-O take mounts and namespaces from the new pod.
    What names neither of them may be podman's: it restores an archive whoever is said to have made it.

    :raises UnsafeArchive: engines would read it otherwise.
    """
    _check_names(config, _CONFIG_NAMES, "config.dump")
    _check_names(status, _STATUS_NAMES, "status.dump")
    found = [f"device {text(item.get('path'))}" for item in _list(spec.part("devices")) if isinstance(item, dict)]
    hooks = spec.value.get("hooks")
    if isinstance(hooks, dict):
        found += [f"hook {text(kind)}" for kind, items in sorted(hooks.items()) if items]
    masked = spec.part("maskedPaths")
    if masked is not None and "/proc/kcore" not in _list(masked):
        found.append("unmasked /proc")
    if engine not in (CONTAINERD, CRIO):
        found += _asks_podman(config if isinstance(config, dict) else {}, spec)
    notes = dict(spec.annotations)
    if isinstance(status, dict) and isinstance(status.get("annotations"), dict):
        notes.update((str(key), "") for key in status["annotations"])
    acted_on = (key for key in sorted(notes) if key.startswith(_ACTED_ON) and key not in _HARMLESS)
    return found + [f"annotation {key}" for key in acted_on]


def _asks_podman(config: t.Mapping[str, t.Any], spec: Spec) -> list[str]:
    found = []
    own = re.compile(_PODMAN_STORAGE.format(identifier=re.escape(text(config.get("id")) or "-")))
    for mount in spec.mounts():
        if mount["type"] not in _KERNEL_MOUNTS and not _is_own(own, mount["source"]):
            found.append(f"mount of {mount['source']} at {mount['destination']}")
    for key in _PODMAN_PATHS:
        if text(config.get(key)) and not _is_own(own, text(config.get(key))):
            found.append(f"{key} {text(config.get(key))}")
    if config.get("privileged"):
        found.append("privileged")
    resources = spec.part("resources")
    rules = _list(resources.get("devices")) if isinstance(resources, dict) else []
    if any(isinstance(rule, dict) and rule.get("allow") for rule in rules):
        found.append("access to devices")
    separate = {text(item.get("type")) for item in _list(spec.part("namespaces")) if isinstance(item, dict)}
    return found + [f"the host's {kind} namespace" for kind in _NAMESPACES if kind not in separate]


def _check_names(value: t.Any, known: _Names, where: str) -> None:
    """Engines are written in Go, which takes ``Hooks`` for ``hooks``: they would obey what was not seen here.

    :raises UnsafeArchive: a key is one of the known ones but for its case.
    """
    folded = {name.casefold() for name in known}
    for item in value if isinstance(value, list) else [value]:
        for key, inner in item.items() if known and isinstance(item, dict) else ():
            if key in known:
                _check_names(inner, known[key], where)
            elif key.casefold() in folded:
                raise UnsafeArchive(
                    f"{where} has the key {text(key)!r}, which is another but for its case", NOT_TRUSTED
                )


def _is_own(own: re.Pattern[str], path: str) -> bool:
    return own.fullmatch(path) is not None and ".." not in path.split("/")


def _when(value: t.Any) -> str:
    """A time as the engines write it; their zero value is none."""
    moment = text(value)
    return "" if moment.startswith("0001-01-01") else moment


def _list(value: t.Any) -> list[t.Any]:
    return value if isinstance(value, list) else []
