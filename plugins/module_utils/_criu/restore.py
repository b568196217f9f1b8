# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Restoring a container so that it stands frozen: the runtime's command line and CRIU's configuration for it."""

from __future__ import annotations

import os
import typing as t

from .._common.errors import InvalidInput
from .._common.files import write_atomic
from .._runtime.cgroup import ROOT, is_unified

RESTORE_LOG = "restore.log"

# What containerd's shim and conmon give to `create`, by what `restore` of runc (1.1 to 1.5) knows.
_KEPT_WITH_VALUE = {
    "--bundle": "--bundle",
    "-b": "--bundle",
    "--pid-file": "--pid-file",
    "--console-socket": "--console-socket",
}
_KEPT = {"--no-pivot", "--no-subreaper"}
_RUNC_ONLY = _KEPT  # how runc changes root and waits for orphans; crun's restore has no such words
_DROPPED = {"--no-new-keyring"}  # a restored process keeps the keyring situation of its image
_GLOBAL_WITH_VALUE = {"--root", "--log", "--log-format", "--criu", "--rootless"}
_GLOBAL = {"--systemd-cgroup", "--debug"}


def is_crun(runtime: str) -> bool:
    """Whether the program is crun, by its name."""
    return os.path.basename(runtime).startswith("crun")


def cgroup_options(runtime: str, unified: bool) -> list[str]:
    """CRIU's configuration for crun, which names one new root for the cgroups of all hierarchies.

    With v1 a dump also knows the v2 hierarchy that may lie beside, where the container has no cgroup of its own: all of that
    hierarchy would be made again below the container's path. There the root stays the root.
    """
    return ["cgroup-root :/"] if is_crun(runtime) and not unified else []


class CreateCall(t.NamedTuple):
    """A parsed call of ``create``."""

    global_words: t.List[str]
    kept_words: t.List[str]
    bundle: str
    identifier: str
    log: str


def parse_create(words: t.Sequence[str]) -> CreateCall:
    """Understand every word of a call of ``create``.

    :raises InvalidInput: a word that we do not know; restoring without it might mean something else.
    """
    global_words: list[str] = []
    kept: list[str] = []
    values: dict[str, str] = {}
    positional: list[str] = []
    in_command = False
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if not in_command and word in ("create", "run", "state"):
            in_command = True
        elif not word.startswith("-"):
            positional.append(word)
        elif not in_command and name in _GLOBAL_WITH_VALUE:
            values[name] = value if equals else next(rest, "")
            global_words += [name, values[name]]
        elif not in_command and word in _GLOBAL:
            global_words.append(word)
        elif in_command and name in _KEPT_WITH_VALUE:
            name = _KEPT_WITH_VALUE[name]
            values[name] = value if equals else next(rest, "")
            kept += [name, values[name]]
        elif in_command and word in _KEPT:
            kept.append(word)
        elif not (in_command and word in _DROPPED):
            raise InvalidInput(f"the runtime was called with {word!r}, which a restore does not know")
    if len(positional) != 1:
        raise InvalidInput(f"the runtime was called for {positional!r} instead of one container")
    return CreateCall(global_words, kept, values.get("--bundle", os.getcwd()), positional[0], values.get("--log", ""))


def value_of(words: t.Sequence[str], *names: str) -> str:
    """What stands behind an option of a command line, empty when it is not there."""
    for word, following in zip(words, [*words[1:], ""]):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else following
    return ""


def restore_argv(runtime: str, call: CreateCall, images: str, work: str, config: t.Mapping[str, t.Any]) -> list[str]:
    """The restore that stands for a call of ``create``; security labels are those of the target's own config."""
    words = [runtime, *call.global_words, "restore", "--detach", "--image-path", images, "--work-path", work]
    # What is left in the images as connected is to come back so (see tcp.py).
    words += ["--file-locks", "--manage-cgroups-mode", "soft", "--tcp-established"]
    process = config.get("process") or {}
    if process.get("apparmorProfile"):
        words += ["--lsm-profile", f"apparmor:{process['apparmorProfile']}"]
    elif process.get("selinuxLabel"):
        words += ["--lsm-profile", f"selinux:{process['selinuxLabel']}"]
    label = (config.get("linux") or {}).get("mountLabel")
    if label:
        words += ["--lsm-mount-context", str(label)]
    kept = [word for word in call.kept_words if not (is_crun(runtime) and word in _RUNC_ONLY)]
    return [*words, *kept, call.identifier]


def write_arrival(images: str, run_directory: str, name: str, identifier: str) -> None:
    """Tell the action script which container it freezes, and where it puts CRIU meanwhile."""
    if is_unified():
        with open("/proc/self/cgroup", encoding="utf-8") as stream:
            own = [line.strip().split("::", 1)[1] for line in stream if line.startswith("0::")]
        refuge = ROOT + (own[0] if own else "/")
    else:
        refuge = f"{ROOT}/freezer"
    lines = {
        "container": identifier, "run": run_directory, "name": name, "refuge": refuge.rstrip("/"),
        "freezer_mount": f"{ROOT}/freezer", "unified_mount": ROOT,
    }  # fmt: skip
    write_atomic(
        os.path.join(images, "podferry.arrival"), "".join(f"{key}='{value}'\n" for key, value in lines.items())
    )
