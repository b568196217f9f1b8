# SPDX-License-Identifier: Apache-2.0
"""JSON patch, JSON merge patch, and strategic merge patch for the lists that this API has."""

from __future__ import annotations

import copy
from typing import Any

from . import errors

Obj = dict[str, Any]

# Merge keys of the lists that are maps; lists not named here are replaced.
_MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "port"),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
    "addresses": ("type",),
    "taints": ("key",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "secrets": ("name",),
}
_SETS = {"finalizers"}


def apply(current: Obj, patch: Any, content_type: str) -> Obj:
    """The patched copy of ``current``.

    :raises ApiError: 400 for a patch that cannot be applied, 415 for a kind of patch that does not exist.
    """
    if content_type == "application/json-patch+json":
        return json_patch(current, patch)
    if not isinstance(patch, dict):
        raise errors.bad_request("the patch is not an object")
    if content_type in ("application/merge-patch+json", "application/apply-patch+yaml"):
        merged: Obj = merge(current, patch)
        return merged
    if content_type == "application/strategic-merge-patch+json":
        return strategic(current, patch)
    raise errors.ApiError(
        415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {content_type}"
    )


def merge(current: Any, patch: Any) -> Any:
    """RFC 7386: maps merge, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return copy.deepcopy(result)


def json_patch(current: Obj, operations: Any) -> Obj:
    """RFC 6902. A failing ``test`` is 422, as the API server has it."""
    if not isinstance(operations, list):
        raise errors.bad_request("a JSON patch is a list of operations")
    document: Any = copy.deepcopy(current)
    for operation in operations:
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            message = f"the server rejected our request due to an error in our request: {operation}: {error!r}"
            raise errors.ApiError(422, "Invalid", message, {}) from error
    if not isinstance(document, dict):
        raise errors.bad_request("the patch does not leave an object")
    return document


def _operate(document: Any, operation: Obj) -> Any:
    op, path = operation["op"], _pointer(operation["path"])
    if op == "test":
        if _at(document, path) != operation.get("value"):
            raise ValueError("test failed")
        return document
    if op in ("move", "copy"):
        source = _pointer(operation["from"])
        value = copy.deepcopy(_at(document, source))
        if op == "move":
            _remove(document, source)
        _add(document, path, value)
        return document
    if op == "remove":
        _remove(document, path)
    elif op == "replace":
        if not path:
            return copy.deepcopy(operation["value"])
        _at(document, path)
        _remove(document, path)
        _add(document, path, operation["value"])
    elif op == "add":
        if not path:
            return copy.deepcopy(operation["value"])
        _add(document, path, operation["value"])
    else:
        raise ValueError(f"unknown operation {op}")
    return document


def _pointer(text: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _at(document: Any, path: list[str]) -> Any:
    for step in path:
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


def _add(document: Any, path: list[str], value: Any) -> None:
    parent, last = _at(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else int(last), copy.deepcopy(value))
    else:
        parent[last] = copy.deepcopy(value)


def _remove(document: Any, path: list[str]) -> None:
    parent, last = _at(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        del parent[int(last)]
    else:
        del parent[last]


def strategic(current: Any, patch: Obj) -> Obj:
    """Kubernetes' own: as a merge patch, but lists with a merge key merge by it."""
    result: Obj = copy.deepcopy(current) if isinstance(current, dict) else {}
    if patch.get("$patch") == "replace":
        return {key: copy.deepcopy(value) for key, value in patch.items() if key != "$patch"}
    if "$retainKeys" in patch:
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            result[field] = [item for item in result.get(field) or [] if item not in value]
        elif key.startswith("$"):
            continue  # $setElementOrder comes last, $retainKeys is done
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = strategic(result.get(key), value)
        elif isinstance(value, list):
            result[key] = _merge_list(key, result.get(key) or [], value)
        else:
            result[key] = value
    for key, order in patch.items():
        field = key.partition("/")[2]
        if key.startswith("$setElementOrder/") and isinstance(result.get(field), list):
            result[field] = _ordered(field, result[field], order)
    return result


def _ordered(field: str, items: list[Any], order: list[Any]) -> list[Any]:
    """The items in the patch's order; those it does not know keep their place before what came after them."""
    key = next(
        (k for k in _MERGE_KEYS.get(field, ()) if all(isinstance(i, dict) and k in i for i in items + order)), None
    )

    def name(item: Any) -> Any:
        return item[key] if key is not None else item

    wanted = [name(item) for item in order]
    if any(isinstance(value, dict | list) for value in wanted):
        return items
    places = {name(item): index for index, item in enumerate(items)}
    listed = [items[places[value]] for value in wanted if value in places]
    for item in [item for item in items if name(item) not in wanted]:
        later = (i for i, have in enumerate(listed) if places[name(have)] > places[name(item)])
        listed.insert(next(later, len(listed)), item)
    return listed


def _merge_list(field: str, current: list[Any], patch: list[Any]) -> list[Any]:
    if field in _SETS:
        return current + [item for item in patch if item not in current]
    keys = _MERGE_KEYS.get(field, ())
    key = next((k for k in keys if any(isinstance(item, dict) and k in item for item in patch)), None)
    if key is None or any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [copy.deepcopy(item) for item in patch if not (isinstance(item, dict) and item.get("$patch"))]
    result = list(current)
    for item in patch:
        index = next((i for i, have in enumerate(result) if have.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            if index is not None:
                del result[index]
        elif index is None:
            result.append(strategic({}, item))
        else:
            result[index] = strategic(result[index], item)
    return result
