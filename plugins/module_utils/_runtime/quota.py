# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""CPU quotas, lifted for as long as CRIU works inside the container's limits.

CRIU's parasite and restorer run in the container's cgroup: with ``cpu: 100m`` a dump of 0.2 s would take 2 s, and the pod
stands still all that time. What was changed is data, so that a journal can carry it to whoever puts it back.
"""

from __future__ import annotations

import os
import typing as t

from .._common.files import read_text, write_text
from .cgroup import ROOT, is_unified, parse_membership

Quotas = t.Dict[str, str]
"""Quota file -> what stands in it."""


def read(pid: int, root: str = ROOT) -> Quotas:
    """The quotas that bound process ``pid``: its pod's and its container's."""
    try:
        membership = parse_membership(read_text(f"/proc/{pid}/cgroup"))
    except OSError:
        return {}
    return read_files(_files(membership.get("" if is_unified(root) else "cpu", ""), root))


def files_of_config(config: t.Mapping[str, t.Any], root: str = ROOT) -> list[str]:
    """The quota files of a container that is about to be restored, from its OCI config."""
    return _files(cgroup_path(str((config.get("linux") or {}).get("cgroupsPath", ""))), root)


def cgroup_path(cgroups_path: str) -> str:
    """Where ``linux.cgroupsPath`` lies below the hierarchy's root, for the cgroupfs and the systemd driver."""
    parts = cgroups_path.split(":")
    if len(parts) != 3:
        return cgroups_path if cgroups_path.startswith("/") else f"/{cgroups_path}"
    unit, prefix, name = parts
    folders: list[str] = []
    words = unit[: -len(".slice")].split("-") if unit.endswith(".slice") else []
    for count in range(1, len(words) + 1):
        folders.append("-".join(words[:count]) + ".slice")
    return "/" + "/".join([*folders, f"{prefix}-{name}.scope"])


def _files(path: str, root: str) -> list[str]:
    if path.strip("/") == "":
        return []
    base, name = (root, "cpu.max") if is_unified(root) else (f"{root}/cpu", "cpu.cfs_quota_us")
    folders = [path]
    if "pod" in os.path.basename(os.path.dirname(path)):
        folders.append(os.path.dirname(path))
    # The pod's first: version 1 refuses a child that may use more than its parent.
    return [f"{base}{folder}/{name}" for folder in reversed(folders)]


def read_files(files: t.Iterable[str]) -> Quotas:
    """What stands in those of ``files`` that exist and hold a quota."""
    found: Quotas = {}
    for path in files:
        try:
            value = read_text(path).strip()
        except OSError:
            continue
        if value and value.split()[0] not in ("-1", "max"):
            found[path] = value
    return found


def lift(quotas: t.Mapping[str, str]) -> None:
    """Take the quotas away, the pod's before its container's."""
    for path in quotas:
        try:
            write_text(path, "max" if path.endswith("cpu.max") else "-1")
        except OSError:
            continue  # a quota that stays only makes it slower


def put_back(quotas: t.Mapping[str, str]) -> None:
    """Put the quotas back, the container's before its pod's; what is gone needs none."""
    for path in reversed(list(quotas)):
        try:
            write_text(path, quotas[path])
        except OSError:
            continue
