# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What a user gave as hooks, brought to one form; or every reason why it is none, all at once."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from .._common.errors import InvalidInput

KINDS: dict[str, frozenset[str]] = {
    "tasks": frozenset(),
    "command": frozenset(("container", "timeout")),
    "http": frozenset(),
}
"""The kinds, and what may stand beside each in a hook."""
_COMMON = frozenset(("name", "no_log"))
_HTTP = frozenset(("url", "method", "body", "headers", "status", "timeout", "validate_certs", "delegate_to"))
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_EXPECTED = [200, 201, 202, 204]
_COMMAND_TIMEOUT_S = 60
_HTTP_TIMEOUT_S = 30
_LONGEST_S = 86400
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_VALUE = re.compile(r"\$\(podferry_migration\.([^)]*)\)")
_SHORTEST_SECRET = 4  # to hide every "1" of an answer would hide the answer
_SHORTEST_TOKEN = 16  # of a path's parts: the webhooks of chat services carry their secret there
_TITLE = 120


@dataclass(frozen=True)
class Hook:
    """One hook, whole: nothing of it has to be filled in any more."""

    kind: str
    title: str
    """Names it in listings and messages; holds no secret."""
    no_log: bool = False
    tasks: str = ""
    command: list[str] = field(default_factory=list)
    container: str = ""
    timeout: int = 0
    http: dict[str, Any] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)
    """What has to be blotted out of an answer before it is shown."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Surroundings:
    """What hooks are checked against."""

    load_tasks: Callable[[str], Any]
    """The content of a task file. Raises InvalidInput with what is wrong about it."""
    absolute: Callable[[str], str]
    hosts: Collection[str]
    values: Mapping[str, Any]
    """What ``$(podferry_migration.KEY)`` stands for."""


class _Wrong(Exception):
    """A part of a hook is not of its form."""


def parse(variable: str, given: Any, around: Surroundings) -> tuple[list[Hook], list[str]]:
    """The hooks of ``variable`` in their order, and what is wrong about them."""
    try:
        entries = _entries(given)
    except _Wrong as exc:
        return [], [f"{variable} {exc}"]
    hooks, errors = [], []
    for number, entry in enumerate(entries, 1):
        try:
            hooks.append(_hook(entry, around))
        except _Wrong as exc:
            errors.append(f"{variable}, hook {number}: {exc}")
    return hooks, errors


def _entries(given: Any) -> list[Any]:
    if isinstance(given, str):
        if not given.strip():
            return []
        try:
            given = json.loads(given)
        except ValueError as exc:
            raise _Wrong(f"is text, and not JSON: {exc}") from exc
    if given is None:
        return []
    if not isinstance(given, (list, tuple)):
        raise _Wrong(f"is {_a(given)}; it has to be a list of hooks, or such a list as JSON")
    return list(given)


def _hook(entry: Any, around: Surroundings) -> Hook:
    if not isinstance(entry, Mapping):
        raise _Wrong(f"it is {_a(entry)}, not a mapping with one of {', '.join(KINDS)}")
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) != 1:
        found = f"has {' and '.join(kinds)}" if kinds else f"has only {_keys(entry)}" if entry else "is empty"
        raise _Wrong(f"it {found}; it needs exactly one of {', '.join(KINDS)}")
    kind = kinds[0]
    _known(entry, _COMMON | KINDS[kind] | {kind}, f"a hook of kind {kind}")
    name = entry.get("name", "")
    if not isinstance(name, str):
        raise _Wrong(f"name is {_a(name)}, not text")
    no_log = _flag(entry.get("no_log", False), "no_log")
    make = {"tasks": _tasks, "command": _command, "http": _http}[kind]
    words, parts = make(entry, around)
    if no_log and kind != "tasks":
        words = f"{'HTTP call' if kind == 'http' else kind}, hidden by no_log"
    words = words if len(words) <= _TITLE else f"{words[: _TITLE - 3]}..."
    return Hook(kind, f"{name} ({words})" if name else words, no_log=no_log, **parts)


# -- kinds ----------------------------------------------------------------------------------------------------------


def _tasks(entry: Mapping[str, Any], around: Surroundings) -> tuple[str, dict[str, Any]]:
    path = entry["tasks"]
    if not isinstance(path, str) or not path.strip():
        raise _Wrong(f"tasks is {_a(path)}, not the path of a task file")
    path = around.absolute(path)
    try:
        content = around.load_tasks(path)
    except InvalidInput as exc:
        raise _Wrong(exc.message) from exc
    if not isinstance(content, list) or not all(isinstance(task, Mapping) for task in content):
        raise _Wrong(f"{path} is not a list of tasks")
    if not content:
        raise _Wrong(f"{path} holds no task")
    if any("hosts" in task for task in content):
        raise _Wrong(f"{path} is a playbook (it has 'hosts'); give a file of tasks only")
    return f"task file {path}", {"tasks": path}


def _command(entry: Mapping[str, Any], around: Surroundings) -> tuple[str, dict[str, Any]]:
    words = entry["command"]
    if isinstance(words, str):
        raise _Wrong("command is text; give a list of words, such as ['sh', '-c', 'kill -USR1 1']")
    if not isinstance(words, (list, tuple)) or not words or not all(_scalar(word) for word in words):
        raise _Wrong("command is not a list of words")
    words = [_filled(str(word), around, "command") for word in words]
    if not words[0]:
        raise _Wrong("the first word of command, the program, is empty")
    container = entry.get("container") or ""
    if container and not (isinstance(container, str) and _LABEL.fullmatch(container)):
        raise _Wrong(f"container={container!r} is not the name of a container")
    timeout = _seconds(entry.get("timeout", _COMMAND_TIMEOUT_S))
    title = f"command{' in container ' + container if container else ''}: {shlex.join(words)}"
    return title, {"command": words, "container": container, "timeout": timeout}


def _http(entry: Mapping[str, Any], around: Surroundings) -> tuple[str, dict[str, Any]]:
    call = entry["http"]
    if not isinstance(call, Mapping):
        raise _Wrong(f"http is {_a(call)}, not a mapping with url")
    _known(call, _HTTP, "http")
    url, place = _url(call.get("url"), around)
    method = str(call.get("method", "GET")).upper()
    if method not in _METHODS:
        raise _Wrong(f"http: method={method!r} is none of {', '.join(_METHODS)}")
    headers = _headers(call.get("headers") or {}, around)
    host = call.get("delegate_to") or "localhost"
    if host != "localhost" and host not in around.hosts:
        raise _Wrong(f"http: delegate_to={host!r} is not a host of the inventory")
    made = {
        "url": url,
        "method": method,
        "headers": headers,
        "status": _statuses(call.get("status", _EXPECTED)),
        "timeout": _seconds(call.get("timeout", _HTTP_TIMEOUT_S)),
        "validate_certs": _flag(call.get("validate_certs", True), "http: validate_certs"),
        "delegate_to": host,
    }
    body = call.get("body")
    if body is not None:
        made["body"] = _filled_deep(body, around)
        made["body_format"] = "raw" if isinstance(body, str) else "json"
    parts = urlsplit(url)
    secrets = [word for value in headers.values() for word in (value, *value.split())]
    secrets += [
        parts.query,
        *(value for _name, value in parse_qsl(parts.query)),
        parts.username or "",
        parts.password or "",
    ]
    secrets += [unquote(part) for part in parts.path.split("/") if len(part) >= _SHORTEST_TOKEN]
    secrets += _texts(made.get("body"))
    longest_first = sorted({s for s in secrets if len(s) >= _SHORTEST_SECRET}, key=len, reverse=True)
    return f"{method} {place}", {"http": made, "secrets": longest_first}


def _url(given: Any, around: Surroundings) -> tuple[str, str]:
    """The URL, and what of it may be shown: no user, no password, no query, no part of the path that may be a token."""
    if not isinstance(given, str) or not given.strip():
        raise _Wrong("http has no url")
    url = _filled(given.strip(), around, "url")
    if not (url.isascii() and url.isprintable()) or " " in url:
        # Errors about these, further down, would repeat the whole of it.
        raise _Wrong("http: the url has characters in it that have to be percent-encoded")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise _Wrong(f"http: the url cannot be read: {exc}") from exc
    if parts.scheme not in ("http", "https") or not host:
        raise _Wrong("http: the url does not begin with http:// or https:// and a host")
    shown = f"[{host}]" if ":" in host else host
    path = "/".join("…" if len(part) >= _SHORTEST_TOKEN else part for part in parts.path.split("/"))
    return url, f"{parts.scheme}://{shown}{'' if port is None else f':{port}'}{path}"


def _headers(given: Any, around: Surroundings) -> dict[str, str]:
    if not isinstance(given, Mapping) or not all(isinstance(k, str) and _scalar(v) for k, v in given.items()):
        raise _Wrong("http: headers is not a mapping of names to values")
    headers = {name: _filled(str(value), around, "headers") for name, value in given.items()}
    for name, value in headers.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not value.isprintable():
            # The error of the HTTP library would repeat the value.
            raise _Wrong(f"http: header {name!r} has a line end or another character in it that no header may have")
    return headers


def _statuses(given: Any) -> list[int]:
    listed = list(given) if isinstance(given, (list, tuple)) else [given]
    try:
        statuses = [int(str(status)) for status in listed]
    except ValueError:
        statuses = []
    if not statuses or not all(100 <= status < 600 for status in statuses):
        raise _Wrong(f"http: status={given!r} is not an HTTP status, or a list of them")
    return statuses


# -- values ---------------------------------------------------------------------------------------------------------


def _filled(text: str, around: Surroundings, where: str) -> str:
    """Put the migration's values in: for surveys, whose answers Ansible takes for data and no templates."""

    def value(match: re.Match[str]) -> str:
        key = match.group(1)
        if key not in around.values:
            raise _Wrong(
                f"{where}: there is no podferry_migration.{key}; there are {', '.join(sorted(map(str, around.values)))}"
            )
        found = around.values[key]
        return "" if found is None else str(found)

    return _VALUE.sub(value, text)


def _filled_deep(value: Any, around: Surroundings) -> Any:
    if isinstance(value, str):
        return _filled(value, around, "body")
    if isinstance(value, Mapping):
        return {key: _filled_deep(entry, around) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled_deep(entry, around) for entry in value]
    return value


def _texts(value: Any) -> list[str]:
    """Every text in a body."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [text for entry in inner for text in _texts(entry)]


def _seconds(given: Any) -> int:
    try:
        seconds = 0 if isinstance(given, bool) else int(str(given))
    except ValueError:
        seconds = 0
    if not 0 < seconds <= _LONGEST_S:
        raise _Wrong(f"timeout={given!r} is not a number of seconds from 1 to {_LONGEST_S}")
    return seconds


def _flag(given: Any, name: str) -> bool:
    if isinstance(given, bool):
        return given
    if isinstance(given, str) and given.lower() in ("true", "yes", "false", "no"):
        return given.lower() in ("true", "yes")
    raise _Wrong(f"{name} is neither true nor false")


def _known(entry: Mapping[str, Any], known: frozenset[str], what: str) -> None:
    unknown = {key: entry[key] for key in entry if key not in known}
    if unknown:
        raise _Wrong(f"{what} has no {_keys(unknown)}; it may have {', '.join(sorted(known))}")


def _scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _keys(entry: Mapping[Any, Any]) -> str:
    return ", ".join(sorted(map(str, entry)))


def _a(value: Any) -> str:
    """What something is, without what it says: it may be a secret at the wrong place."""
    if value is None or value == "":
        return "empty"
    names = ((bool, "true or false"), (str, "text"), ((int, float), "a number"), (Mapping, "a mapping"))
    return next((name for types, name in names if isinstance(value, types)), "a list")
