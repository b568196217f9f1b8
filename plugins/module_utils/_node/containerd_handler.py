# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Our handler in containerd's configuration: what would be written, and how to take it out again byte by byte.

containerd 1.x replaces a whole plugin section by an imported file's, so there the handler is one marked block in the main
file. From 2.0 on imports are merged: a file of our own, if the configuration imports a directory, else the block as well. That file
speaks the schema of the main file: one of version 3 imported into one of version 2 makes containerd 2.1 ignore the main one.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import os
import re
import typing as t

from .._common import toml
from .._common.errors import PodferryError
from .._runtime import cri

DROP_IN = "50-podferry.toml"
CHECKPOINT_DROP_IN = "50-podferry-checkpoint.toml"
"""Written by containerd_checkpoint, into the same folder."""
BEGIN = "# BEGIN podferry.live runtime handler (managed by Ansible; playbooks/uninstall.yml removes it)"
END = "# END podferry.live runtime handler"
NEW_FILE = "# podferry.live made this file."
NEW_FOLDER = "# podferry.live made this folder."
MERGES_IMPORTS = [2, 0]
"""The first containerd that merges what it imports."""

# The newline before the block belongs to it: a file whose last line has none is restored, too.
_BLOCK = re.compile(rb"\n" + re.escape(BEGIN).encode() + rb"\n.*?" + re.escape(END).encode() + rb"\n", re.DOTALL)
_OBSOLETE = {"runtime_engine", "runtime_root"}
_DEFAULTS = {"sandbox_mode": "podsandbox", "sandboxer": "podsandbox"}


@dataclasses.dataclass(frozen=True)
class FileChange:
    """A file's bytes before and after; None where there is no file."""

    path: str
    before: bytes | None
    after: bytes | None

    @property
    def needed(self) -> bool:
        """Whether it changes anything."""
        return self.before != self.after

    def diff(self) -> dict[str, str]:
        """The form that Ansible shows."""
        return {
            "before_header": self.path,
            "after_header": self.path,
            "before": (self.before or b"").decode("utf-8", "replace"),
            "after": (self.after or b"").decode("utf-8", "replace"),
        }


@dataclasses.dataclass(frozen=True)
class Situation:
    """What the plan is made from."""

    version: t.Sequence[int]
    """containerd's version."""
    config: cri.CriConfig
    """Its effective configuration."""
    config_path: str
    read: t.Callable[[str], bytes | None]
    """Returns a file's bytes, or None when there is no such file."""
    folder_exists: t.Callable[[str], bool]


def render_handler(plugin: str, like: cri.Handler, program: str, annotations: t.Sequence[str]) -> str:
    """Return our table: the settings of the handler that it stands beside, with our program for its runc."""
    passed = [*(str(entry) for entry in like.settings.get("pod_annotations") or []), *annotations]
    settings = {**like.settings, "pod_annotations": list(dict.fromkeys(passed))}
    settings["options"] = {**(like.settings.get("options") or {}), "BinaryName": program}
    return _render(plugin, cri.HANDLER, settings)


def render_defaults(plugin: str, config: cri.CriConfig) -> str:
    """Return the tables of the handlers that containerd 1.x has only as long as its configuration names none."""
    return "".join(
        _render(plugin, name, handler.settings)
        for name, handler in sorted(config.handlers.items())
        if name != cri.HANDLER
    )


def _render(plugin: str, name: str, settings: t.Mapping[str, t.Any]) -> str:
    """Return one handler's tables; settings that are empty or containerd's own default are left to it."""
    quoted = json.dumps(plugin) if "." in plugin else plugin
    table = f"plugins.{quoted}.containerd.runtimes.{name}"
    meaning = _meaning(settings)
    options = meaning.pop("options", {})
    lines = [f"[{table}]", *(f"  {key} = {_literal(value)}" for key, value in sorted(meaning.items(), key=_type_first))]
    if options:
        lines += [f"  [{table}.options]", *(f"    {key} = {_literal(value)}" for key, value in sorted(options.items()))]
    return "\n".join(lines) + "\n"


def _type_first(setting: tuple[str, t.Any]) -> tuple[bool, str]:
    return setting[0] != "runtime_type", setting[0]


def _meaning(settings: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return a handler's settings without those that are empty or containerd's own default: they mean the same."""
    kept = {
        key: value
        for key, value in settings.items()
        if value and key != "options" and key not in _OBSOLETE and _DEFAULTS.get(key) != value
    }
    options = {key: value for key, value in (settings.get("options") or {}).items() if value}
    return {**kept, "options": options} if options else kept


def _literal(value: t.Any) -> str:
    """A TOML value; JSON's strings, numbers, booleans and arrays are TOML's too."""
    return json.dumps(value, ensure_ascii=False)


def with_block(before: bytes | None, body: str, schema: int) -> bytes:
    """Return the file with our block: in its place if there is one, else at the end.

    :param schema: version line of the file if there is none yet.
    """
    if before is None or f"\n{BEGIN}\n{NEW_FILE}\n".encode() in before:
        body = f"{NEW_FILE}\nversion = {schema}\n{body}"
    block = f"\n{BEGIN}\n{body}{END}\n".encode()
    content = before or b""
    if _BLOCK.search(content):
        return _BLOCK.sub(lambda _found: block, content, count=1)
    return content + block


def without_block(content: bytes | None) -> bytes | None:
    """Return the file as it was before our block; None when there was none."""
    if content is None:
        return None
    found = _BLOCK.search(content)
    if found is None:
        return content
    rest = content[: found.start()] + content[found.end() :]
    ours = f"\n{BEGIN}\n{NEW_FILE}\n".encode() in found.group()
    return None if ours and not rest else rest


def drop_in_path(situation: Situation, name: str = DROP_IN) -> str | None:
    """Return where a drop-in of ours would be read and merged, or None."""
    if list(situation.version[:2]) < MERGES_IMPORTS:
        return None
    for pattern in situation.config.imports:
        absolute = os.path.join(os.path.dirname(situation.config_path), pattern)
        path = os.path.join(os.path.dirname(absolute), name)
        if fnmatch.fnmatch(path, absolute):
            return path
    return None


def schema_of(content: bytes | None, default: int) -> int:
    """Return the schema that a configuration file is written in; a file that says nothing is of version 1."""
    if content is None:
        return default
    head = re.split(rb"^\s*\[", content, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.search(rb"^\s*version\s*=\s*(\d+)", head, re.MULTILINE)
    return int(found.group(1)) if found else 1


def names_handlers(content: bytes | None, plugin: str) -> bool:
    """Whether a configuration file has a table of handlers of its own, which then holds all there are in containerd 1.x.

    :raises toml.TomlError: it is not TOML that we can read.
    """
    document = toml.loads((content or b"").decode("utf-8", "surrogateescape"))
    section = ((document.get("plugins") or {}).get(plugin) or {}).get("containerd") or {}
    return bool(section.get("runtimes"))


def plan(situation: Situation, present: bool, program: str, annotations: t.Sequence[str]) -> list[FileChange]:
    """Return what would change; files that stay as they are are among it.

    :raises PodferryError: there is no runc to stand beside.
    """
    main = situation.read(situation.config_path)
    bare = without_block(main)
    schema = schema_of(bare, situation.config.config_version)
    drop_in = drop_in_path(situation)
    changes = []
    if drop_in is not None:
        old = situation.read(drop_in)
        new = _drop_in(situation, drop_in, schema, program, annotations) if present else None
        changes.append(FileChange(drop_in, old, new))
    after = bare
    if present and drop_in is None:
        plugin = cri.containerd_plugin(schema)
        body = render_handler(plugin, situation.config.default, program, annotations)
        if list(situation.version[:2]) < MERGES_IMPORTS and not names_handlers(bare, plugin):
            body = render_defaults(plugin, situation.config) + body
        if _folder_of_main_is_ours(situation, main):
            body = f"{NEW_FOLDER}\n{body}"
        after = with_block(main, body, schema)
    changes.append(FileChange(situation.config_path, main, after))
    return changes


def _drop_in(situation: Situation, path: str, schema: int, program: str, annotations: t.Sequence[str]) -> bytes:
    body = render_handler(cri.containerd_plugin(schema), situation.config.default, program, annotations)
    folder = f"{NEW_FOLDER}\n" if folder_is_ours(situation, path) else ""
    return f"{BEGIN}\n{folder}version = {schema}\n{body}{END}\n".encode()


def folder_is_ours(situation: Situation, path: str) -> bool:
    """Whether the folder of a drop-in came, or comes, with a file of ours."""
    folder = os.path.dirname(path)
    ours = [situation.read(os.path.join(folder, name)) or b"" for name in (DROP_IN, CHECKPOINT_DROP_IN)]
    return any(NEW_FOLDER.encode() in content for content in ours) or not situation.folder_exists(folder)


def _folder_of_main_is_ours(situation: Situation, main: bytes | None) -> bool:
    """Whether the folder of the main file came, or comes, with that file."""
    if main is None:
        return not situation.folder_exists(os.path.dirname(situation.config_path))
    block = _BLOCK.search(main)
    return block is not None and f"\n{NEW_FOLDER}\n".encode() in block.group()


def made_folder(change: FileChange) -> bool:
    """Whether removing this drop-in should remove its folder, because it came with it."""
    return change.after is None and change.before is not None and NEW_FOLDER.encode() in change.before


def check_effective(before: cri.CriConfig, after: cri.CriConfig, present: bool, program: str) -> None:
    """Check that containerd understood the files as they were meant, and everything else as before.

    :raises PodferryError: it did not.
    """
    # Only a configuration without ours says what the node's own files mean; taking ours away is always right.
    untouched = present and cri.HANDLER not in before.handlers
    changed = differences(before.document, after.document) if untouched else []
    if changed:
        raise PodferryError(
            f"containerd would understand its other settings differently: {', '.join(changed[:5])}",
            "Write what `containerd config dump` shows for them into containerd's configuration, and try again.",
        )
    ours = after.handlers.get(cri.HANDLER)
    if not present:
        if ours is not None:
            raise PodferryError(
                f"containerd still has a handler {cri.HANDLER} after our files are gone",
                "Something else configures it: look for it in the files that containerd imports.",
            )
        return
    if ours is None or ours.program != program or ours.type != cri.RUNC_V2:
        raise PodferryError(
            f"containerd does not see the handler {cri.HANDLER} that was written for it",
            "A later import may replace the section; `containerd config dump` shows what containerd uses.",
        )
    if ours.systemd_cgroup != after.default.systemd_cgroup:
        raise PodferryError(f"handler {cri.HANDLER} and {after.default.name} would use different cgroup drivers")


def _without_ours(document: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return a configuration without our handler and the list of files, flat: dotted name to value.

    What is empty or containerd's own default is left out: it means the same whether it is written or not.
    """
    flat: dict[str, t.Any] = {}

    def walk(table: t.Mapping[str, t.Any], path: tuple[str, ...]) -> None:
        for key, value in table.items():
            if path[-2:] == ("containerd", "runtimes") and key == cri.HANDLER:
                continue
            if isinstance(value, dict):
                walk(value, (*path, key))
            elif value and _DEFAULTS.get(key) != value and (*path, key) != ("imports",):
                flat[".".join((*path, key))] = value

    walk(document, ())
    return flat


def differences(before: t.Mapping[str, t.Any], after: t.Mapping[str, t.Any]) -> list[str]:
    """Return the dotted names of what differs between two configurations, our handler aside."""
    old, new = _without_ours(before), _without_ours(after)
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
