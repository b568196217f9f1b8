# SPDX-License-Identifier: Apache-2.0
"""Label and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from . import errors

Obj = dict[str, Any]
Match = Callable[[Obj], bool]

_SET = re.compile(r"^(\S+)\s+(in|notin)\s+\(([^)]*)\)$")
_PAIR = re.compile(r"^([^=!\s]+)\s*(==|=|!=)\s*(\S*)$")


def labels(text: str | None) -> Match:
    """A predicate over objects from ``a=b,c!=d,e in (f,g),h,!i``; 400 if it cannot be read."""
    checks: list[Match] = []
    for part in _split(text or ""):
        checks.append(_label_check(part))
    return lambda obj: all(check(obj["metadata"].get("labels") or {}) for check in checks)


def _label_check(part: str) -> Match:
    if found := _SET.match(part):
        key, operator, raw = found.groups()
        values = {value.strip() for value in raw.split(",")}
        if operator == "in":
            return lambda have: have.get(key) in values
        return lambda have: have.get(key) not in values
    if found := _PAIR.match(part):
        key, operator, value = found.groups()
        if operator == "!=":
            return lambda have: have.get(key) != value
        return lambda have: have.get(key) == value
    if re.match(r"^!\S+$", part):
        return lambda have: part[1:] not in have
    if re.match(r"^\S+$", part):
        return lambda have: part in have
    raise errors.bad_request(f"unable to parse requirement: {part!r}")


def fields(text: str | None) -> Match:
    """A predicate from ``spec.nodeName=a,status.phase!=Running``; a missing field is the empty string."""
    checks: list[tuple[list[str], bool, str]] = []
    for part in _split(text or ""):
        found = _PAIR.match(part)
        if not found:
            raise errors.bad_request(f"unable to parse field selector: {part!r}")
        path, operator, value = found.groups()
        checks.append((path.split("."), operator != "!=", value))

    def match(obj: Obj) -> bool:
        for path, equal, value in checks:
            here: Any = obj
            for step in path:
                here = here.get(step) if isinstance(here, dict) else None
            if (str("" if here is None else here) == value) is not equal:
                return False
        return True

    return match


def _split(text: str) -> list[str]:
    """Split at commas outside parentheses."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def selects(selector: Obj | None, have: dict[str, str]) -> bool:
    """Whether a ``LabelSelector`` (matchLabels, matchExpressions) selects these labels. An absent one selects nothing."""
    if selector is None:
        return False
    if any(have.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(expression(item, have) for item in selector.get("matchExpressions") or [])


def expression(item: Obj, have: dict[str, str]) -> bool:
    """One ``matchExpressions`` entry of a label selector or of node affinity."""
    value, values = have.get(item["key"]), item.get("values") or []
    outcomes: dict[str, Callable[[], bool]] = {
        "In": lambda: value in values,
        "NotIn": lambda: value not in values,
        "Exists": lambda: value is not None,
        "DoesNotExist": lambda: value is None,
        "Gt": lambda: value is not None and int(value) > int(values[0]),
        "Lt": lambda: value is not None and int(value) < int(values[0]),
    }
    return outcomes[item["operator"]]()
