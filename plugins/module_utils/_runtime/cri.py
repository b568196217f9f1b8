# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a node's CRI runtime is configured to do, read from what the runtime itself says its configuration is."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from .._common import toml
from .._common.errors import NotFound

HANDLER = "podferry"
"""Name of our runtime handler, and of the RuntimeClass."""

RUNC_V2 = "io.containerd.runc.v2"
_CONTAINERD_PLUGINS = {1: "cri", 2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
_CRIO_DEFAULT_ROOT = "/run/runc"


@dataclasses.dataclass(frozen=True)
class Handler:
    """One entry of the runtime's table of handlers."""

    name: str
    type: str
    program: str
    """Path or name of the OCI runtime, or "" for the default of its type (runc)."""
    root: str
    """Where the OCI runtime keeps its state, or "" for the default of its type."""
    systemd_cgroup: bool
    settings: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    """The entry as it is configured."""


@dataclasses.dataclass(frozen=True)
class CriConfig:
    """The effective configuration, as far as it concerns us."""

    engine: str
    """"containerd" or "crio"."""
    config_version: int
    """Schema of containerd's configuration (2 or 3); 0 for CRI-O."""
    state_dir: str
    imports: t.Sequence[str]
    default_name: str
    handlers: t.Mapping[str, Handler]
    document: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    """All of it."""

    @property
    def candidates(self) -> list[Handler]:
        """Handlers whose containers podferry's own could equal, the best first: the default one, then ``runc``, then ``crun``.

        :raises NotFound: there is none.
        """
        kind = RUNC_V2 if self.engine == "containerd" else "oci"
        names = dict.fromkeys((self.default_name, "runc", "crun"))
        found = [self.handlers[name] for name in names if name in self.handlers and self.handlers[name].type == kind]
        if found:
            return found
        raise NotFound(
            f"{self.engine} has no handler that runs runc or crun (its default is {self.default_name!r})",
            "Add a handler named runc to the configuration of the container runtime.",
        )

    @property
    def default(self) -> Handler:
        """The first of the candidates.

        :raises NotFound: there is none.
        """
        return self.candidates[0]

    def updated(self, newer: CriConfig) -> CriConfig:
        """Return this with the handlers of ``newer`` on top, and with ours only if ``newer`` has it."""
        kept = {name: handler for name, handler in self.handlers.items() if name != HANDLER}
        return dataclasses.replace(self, handlers={**kept, **newer.handlers})


def containerd_plugin(version: int) -> str:
    """Return the name of the plugin whose section holds the handlers in a configuration of this version.

    :raises NotFound: an unknown version.
    """
    if version not in _CONTAINERD_PLUGINS:
        raise NotFound(f"containerd's configuration has version {version}, which is not known", "Use version 2 or 3.")
    return _CONTAINERD_PLUGINS[version]


def parse_containerd(dump: str) -> CriConfig:
    """Read ``containerd config dump`` (versions 2 and 3 of the schema).

    :raises toml.TomlError: it is not TOML.
    :raises NotFound: an unknown version.
    """
    document = toml.loads(dump)
    version = int(document.get("version", 1))
    plugin = (document.get("plugins") or {}).get(containerd_plugin(version)) or {}
    section = plugin.get("containerd") or {}
    handlers = {}
    for name, settings in (section.get("runtimes") or {}).items():
        options = settings.get("options") or {}
        handlers[name] = Handler(
            name=name,
            type=str(settings.get("runtime_type", "")),
            program=str(options.get("BinaryName", "")),
            root=str(options.get("Root", "")),
            systemd_cgroup=bool(options.get("SystemdCgroup", False)),
            settings=settings,
        )
    return CriConfig(
        engine="containerd",
        config_version=version,
        state_dir=str(document.get("state") or "/run/containerd"),
        imports=[str(entry) for entry in document.get("imports") or []],
        default_name=str(section.get("default_runtime_name") or "runc"),
        handlers=handlers,
        document=document,
    )


def parse_crio(text: str) -> CriConfig:
    """Read ``crio status config``, or ``crio config`` where defaults are comments.

    :raises toml.TomlError: it is not TOML.
    """
    crio = toml.loads(_without_log_lines(text)).get("crio") or {}
    section = crio.get("runtime") or {}
    systemd = str(section.get("cgroup_manager") or "systemd") == "systemd"
    handlers = {
        name: Handler(
            name=name,
            type=str(settings.get("runtime_type") or "oci"),
            program=str(settings.get("runtime_path") or ""),
            root=str(settings.get("runtime_root") or _CRIO_DEFAULT_ROOT),
            systemd_cgroup=systemd,
            settings=settings,
        )
        for name, settings in (section.get("runtimes") or {}).items()
    }
    return CriConfig(
        engine="crio",
        config_version=0,
        state_dir=str(crio.get("runroot") or "/run/containers/storage"),
        imports=[],
        default_name=str(section.get("default_runtime") or "runc"),
        handlers=handlers,
    )


def _without_log_lines(text: str) -> str:
    return re.sub(r"^(?:INFO|WARN|time=).*$", "", text, flags=re.MULTILINE)
