# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a node could do beyond a plain migration: the kubelet's checkpoint call and what it depends on, CRIU's optional features.

Kept apart from the facts of a migration's preflight: reading this starts the kubelet's and CRIU's programs several times.
"""

from __future__ import annotations

import os
import re
import typing as t

from .._common.errors import PodferryError
from .._runtime import cri, versions
from .._runtime.facts import Probe, Runtime, restart_due
from .._runtime.service import Read, Service

ENGINES = ("containerd", "crio")
FEATURES = ("mem_dirty_track", "pagemap_scan", "uffd", "uffd-noncoop")
"""What ``criu check --feature`` is asked: the first two are pre-copy's, the others post-copy's."""

CHECKPOINT_CALL = {"containerd": [2, 0], "crio": [1, 25]}
"""The first versions whose CRI has CheckpointContainer."""
GATE = "ContainerCheckpoint"
GATE_KNOWN = [1, 25]
GATE_DEFAULT_ON = [1, 30]

KUBELET_DROP_IN = "90-podferry.conf"
"""What role kubelet writes."""

_CRIO_KEYS = ("container_level_enabled", "enable_criu_support")
_CONTAINERD_KEYS = ("enable_criu", "enable_experimental_restore_via_create")


def collect(machine: Probe, engine: str = "", criu: str | None = None) -> dict[str, t.Any]:
    """Return what could be found out; what is missing is null, false or empty, and never an error.

    :param engine: look at this container runtime, instead of at the one that the kubelet uses.
    :param criu: the program that the container runtime finds, None when it finds none.
    """
    kubelet = machine.service("kubelet")
    runtime = Runtime.detect(machine, kubelet) if not engine else None
    if engine:
        running = machine.service(engine)
        runtime = Runtime(machine, engine, running) if running else None
    return {
        "installed": {name: machine.which(name) for name in (*ENGINES, "runc", "crun", "kubelet")},
        "runtime": runtime_abilities(machine, runtime) if runtime else dict(_NO_RUNTIME),
        "kubelet": kubelet_abilities(machine, kubelet),
        "criu": {name: _feature(machine, criu, name) for name in FEATURES},
    }


def _feature(machine: Probe, criu: str | None, name: str) -> bool:
    return criu is not None and machine.run(criu, "check", "--feature", name).code == 0


_NO_RUNTIME: dict[str, t.Any] = {
    "engine": None,
    "version": None,
    "answers": False,
    "restart_safe": False,
    "restart_due": False,
    "files": [],
    "checkpoint_call": False,
    "checkpoint": False,
    "settings": {},
}


def runtime_abilities(machine: Probe, runtime: Runtime) -> dict[str, t.Any]:
    """Return what the container runtime says about checkpoints.

    ``settings`` holds the options about them that this version knows, with their effective values.
    """
    found = dict(_NO_RUNTIME, engine=runtime.engine, answers=runtime.answers(), restart_safe=runtime.restart_safe())
    version = runtime.version()
    found["version"] = versions.dotted(version) if version else None
    found["checkpoint_call"] = version is not None and version[:2] >= CHECKPOINT_CALL[runtime.engine]
    if runtime.engine == "crio":
        found["settings"] = crio_settings(machine.run(runtime.program, "config").stdout)
        found["files"] = runtime.own_files()
    else:
        try:
            config = runtime.config()
        except PodferryError:
            return found
        found["settings"] = containerd_settings(config)
        found["files"] = runtime.own_files(config.imports)
    found["restart_due"] = runtime.restart_due(found["files"])
    found["checkpoint"] = found["checkpoint_call"] and checkpoint_enabled(found["settings"])
    return found


def crio_settings(printed: str) -> dict[str, t.Any]:
    """Read ``crio config``: it prints every option that it knows, those at their default as comments."""
    found: dict[str, t.Any] = {}
    for name in _CRIO_KEYS:
        match = re.search(rf"^[ \t]*(?:#[ \t]*)?{name}[ \t]*=[ \t]*(\S+)[ \t]*$", printed, re.MULTILINE)
        if match:
            word = match.group(1)
            found[name] = {"true": True, "false": False}.get(word, word.strip("\"'"))
    return found


def containerd_settings(config: cri.CriConfig) -> dict[str, t.Any]:
    """Read containerd's effective configuration: it prints every option that it knows."""
    section = (config.document.get("plugins") or {}).get(cri.containerd_plugin(config.config_version)) or {}
    return {name: section[name] for name in _CONTAINERD_KEYS if name in section}


def checkpoint_enabled(settings: t.Mapping[str, t.Any]) -> bool:
    """Whether these options allow a checkpoint; a runtime without such options always does."""
    return settings.get("container_level_enabled") != "none" and not any(
        settings.get(name) is False for name in ("enable_criu_support", "enable_criu")
    )


_NO_KUBELET: dict[str, t.Any] = {
    "version": None,
    "config_dir": None,
    "restart_due": None,
    "checkpoint": None,
    "checkpoint_elsewhere": None,
}


def kubelet_abilities(machine: Probe, kubelet: Service | None) -> dict[str, t.Any]:
    """Return what the running kubelet says about checkpoints, all null when none runs as a systemd service."""
    if kubelet is None:
        return dict(_NO_KUBELET)
    program = kubelet.argv[0] if kubelet.argv and kubelet.argv[0].startswith("/") else machine.which("kubelet")
    version = versions.kubernetes(machine.run(program, "--version").stdout) if program else None
    folder = kubelet.option("--config-dir")
    return {
        "version": versions.dotted(version) if version else None,
        "config_dir": folder,
        "restart_due": restart_due(machine, kubelet, [f"{folder}/{KUBELET_DROP_IN}"] if folder else []),
        "checkpoint": gate(kubelet, version, machine.read, machine.find),
        "checkpoint_elsewhere": gate(kubelet, version, machine.read, lambda pattern: not_ours(machine.find(pattern))),
    }


def not_ours(paths: t.Sequence[str]) -> list[str]:
    """Leave out the kubelet's drop-in that role kubelet writes."""
    return [path for path in paths if os.path.basename(path) != KUBELET_DROP_IN]


def gate(
    kubelet: Service, version: t.Sequence[int] | None, read: Read, find: t.Callable[[str], list[str]]
) -> bool | None:
    """Whether the kubelet has its checkpoint call; None when that cannot be told.

    The order is the kubelet's own: flag, drop-in directory (the last one wins), file, default of its version.
    """
    if version is None:
        return None
    if list(version[:2]) < GATE_KNOWN:
        return False
    flag = re.findall(rf"(?:^|,)\s*{GATE}=(true|false)", kubelet.option("--feature-gates") or "", re.IGNORECASE)
    if flag:
        return str(flag[-1]).lower() == "true"
    config, folder = kubelet.option("--config"), kubelet.option("--config-dir")
    paths = ([config] if config else []) + (find(f"{folder}/*.conf") if folder else [])
    value = None
    for path in paths:
        try:
            found = gate_setting(read(path))
        except OSError:
            continue
        value = value if found is None else found
    return list(version[:2]) >= GATE_DEFAULT_ON if value is None else value


def gate_setting(config: str) -> bool | None:
    """Return the gate in a KubeletConfiguration (YAML or JSON); None when it is not named."""
    found = re.search(rf"""^[^#\n]*\b{GATE}["']?\s*:\s*["']?(true|false)\b""", config, re.MULTILINE)
    return found.group(1) == "true" if found else None
