# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What each node can do, as a table for a person: a pure function over what ``node_info`` found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from .compatibility import CRIU_FOR_SOCKETS, kernel_version

COLUMNS = ("checkpoint API", "handler", "pre-copy", "post-copy", "TCP")
_GATE = "ContainerCheckpoint"


class Ability(NamedTuple):
    """One cell: a word, and what a person should know about it."""

    word: str
    reason: str = ""


def abilities(facts: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Ability]:
    """Return what a node can do, by column.

    :param facts: ``facts`` of node_info.
    :param extra: its ``abilities``.
    """
    return {
        "checkpoint API": checkpoint_api(facts, extra),
        "handler": handler(facts),
        "pre-copy": pre_copy(facts, extra),
        "post-copy": post_copy(facts, extra),
        "TCP": tcp(facts),
    }


def checkpoint_api(facts: Mapping[str, Any], extra: Mapping[str, Any]) -> Ability:
    """Whether the kubelet's call makes a checkpoint of a container here."""
    kubelet, runtime = extra["kubelet"], extra["runtime"]
    if kubelet["version"] is None:
        return Ability("no", "no kubelet runs as a systemd service")
    if not kubelet["checkpoint"]:
        return Ability("no", f"the kubelet ({kubelet['version']}) has the feature gate {_GATE} off: role kubelet")
    if not runtime["checkpoint_call"]:
        return Ability("no", f"{_runtime(runtime)} has no checkpoint call")
    if not runtime["checkpoint"]:
        return Ability("no", f"{_runtime(runtime)} has checkpoints switched off: role {runtime['engine']}")
    if not _criu(facts):
        return Ability("no", _no_criu(facts))
    return Ability("yes")


def handler(facts: Mapping[str, Any]) -> Ability:
    """Whether a pod can leave and arrive by the runtime handler."""
    runtime = facts["runtime"]
    if not runtime["handler"] or facts["engine"] is None:
        return Ability("no", "the runtime handler is not installed: playbooks/bootstrap.yml")
    if not runtime["answers"]:
        return Ability("no", f"the CRI of {_runtime(runtime)} does not answer")
    if not _criu(facts):
        return Ability("no", _no_criu(facts))
    return Ability("yes")


def pre_copy(facts: Mapping[str, Any], extra: Mapping[str, Any]) -> Ability:
    """Whether CRIU can follow which pages a running process changes."""
    if not _criu(facts):
        return Ability("no", _no_criu(facts))
    if not extra["criu"].get("mem_dirty_track"):
        return Ability("no", "the kernel does not track changed pages (CONFIG_MEM_SOFT_DIRTY)")
    if not extra["criu"].get("pagemap_scan"):
        return Ability("yes", "without PAGEMAP_SCAN (Linux 6.7): each round reads the page map of all memory")
    return Ability("yes")


def post_copy(facts: Mapping[str, Any], extra: Mapping[str, Any]) -> Ability:
    """Whether memory can follow a process that runs on the target already."""
    if not _criu(facts):
        return Ability("no", _no_criu(facts))
    missing = [name for name in ("uffd", "uffd-noncoop") if not extra["criu"].get(name)]
    if missing:
        return Ability("no", f"`criu check --feature` says no to {' and '.join(missing)} (userfaultfd)")
    return Ability("yes")


def tcp(facts: Mapping[str, Any]) -> Ability:
    """What becomes of network sockets of a pod that leaves this node."""
    if not _criu(facts):
        return Ability("no", _no_criu(facts))
    version, kernel = tuple(facts["criu"]["version"] or ()), str(facts["kernel"])
    if kernel_version(kernel) >= (6, 16) and version < CRIU_FOR_SOCKETS:
        said = ".".join(str(part) for part in version)
        return Ability("no", f"CRIU {said} dumps no network socket on Linux {kernel}: install 4.2 or later")
    return Ability("close", "")


def table(nodes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of all nodes, with the reasons below it.

    :param nodes: host name to what ``node_info`` returned with ``abilities``.
    """
    rows = {name: abilities(found["facts"], found["abilities"]) for name, found in nodes.items()}
    lines = [["node", *COLUMNS], *([name, *(row[column].word for column in COLUMNS)] for name, row in rows.items())]
    widths = [max(len(line[index]) for line in lines) for index in range(len(COLUMNS) + 1)]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    # A reason that several nodes share is said once.
    reasons: dict[str, list[str]] = {}
    for name, row in rows.items():
        for column in COLUMNS:
            if row[column].reason:
                reasons.setdefault(f"{column}: {row[column].reason}", []).append(name)
    text += [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return "\n".join(text)


def _criu(facts: Mapping[str, Any]) -> bool:
    return bool(facts["criu"]["path"] and facts["criu"]["check_ok"])


def _no_criu(facts: Mapping[str, Any]) -> str:
    return str(facts["criu"]["check"] or "criu check fails").splitlines()[0]


def _runtime(runtime: Mapping[str, Any]) -> str:
    name = {"crio": "CRI-O", "containerd": "containerd"}.get(str(runtime["engine"]), "the container runtime")
    return f"{name} {runtime['version']}" if runtime.get("version") else name
