# SPDX-License-Identifier: Apache-2.0
"""The few request bodies that kubectl sends only as protobuf: ``create namespace|configmap|secret|sa|deployment``, ``drain``.

A schema of field numbers (k8s.io/api ``generated.proto``) and no more: a field that is not listed and not empty is
refused, never dropped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from . import errors

Obj = dict[str, Any]

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

# message: field number to "name:type"; a leading * repeats, a capitalised type is a message
_SCHEMA: dict[str, dict[int, str]] = {
    "Namespace": {1: "metadata:ObjectMeta"},
    "ServiceAccount": {1: "metadata:ObjectMeta", 4: "automountServiceAccountToken:bool"},
    "ConfigMap": {1: "metadata:ObjectMeta", 2: "data:map", 3: "binaryData:bytesmap", 4: "immutable:bool"},
    "Secret": {
        1: "metadata:ObjectMeta",
        2: "data:bytesmap",
        3: "type:string",
        4: "stringData:map",
        5: "immutable:bool",
    },
    "Eviction": {1: "metadata:ObjectMeta", 2: "deleteOptions:DeleteOptions"},
    "DeleteOptions": {
        1: "gracePeriodSeconds:int",
        2: "preconditions:Preconditions",
        3: "orphanDependents:bool",
        4: "propagationPolicy:string",
        5: "*dryRun:string",
    },
    "Preconditions": {1: "uid:string", 2: "resourceVersion:string"},
    "ObjectMeta": {
        1: "name:string",
        2: "generateName:string",
        3: "namespace:string",
        11: "labels:map",
        12: "annotations:map",
    },
    "Deployment": {1: "metadata:ObjectMeta", 2: "spec:DeploymentSpec"},
    "DeploymentSpec": {1: "replicas:int", 2: "selector:LabelSelector", 3: "template:PodTemplateSpec"},
    "LabelSelector": {1: "matchLabels:map"},
    "PodTemplateSpec": {1: "metadata:ObjectMeta", 2: "spec:PodSpec"},
    "PodSpec": {2: "*containers:Container"},
    "Container": {
        1: "name:string",
        2: "image:string",
        3: "*command:string",
        4: "*args:string",
        6: "*ports:ContainerPort",
    },
    "ContainerPort": {1: "name:string", 2: "hostPort:int", 3: "containerPort:int", 4: "protocol:string"},
}


def decode(raw: bytes) -> Obj:
    """The object in a request body.

    :raises ApiError: 415 for a kind that is not in the schema, 400 for what cannot be read
    """
    if not raw.startswith(_MAGIC):
        raise errors.bad_request("the body is not a protobuf of Kubernetes")
    try:
        envelope = dict(_fields(raw[len(_MAGIC) :]))
        kind = {number: value.decode() for number, value in _fields(envelope[1])}
        if kind[2] not in _SCHEMA:
            message = f"this stand-in reads {kind[2]} as JSON only: use a manifest"
            raise errors.ApiError(415, "UnsupportedMediaType", message)
        return {"apiVersion": kind[1], "kind": kind[2], **_message(kind[2], envelope[2])}
    except (IndexError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise errors.bad_request(f"the body cannot be read as protobuf: {error!r}") from error


def _message(name: str, raw: bytes) -> Obj:
    schema = _SCHEMA[name]
    made: Obj = {}
    for number, value in _fields(raw):
        if number not in schema:
            if not _empty(value):
                raise errors.bad_request(
                    f"this stand-in does not read field {number} of {name} from protobuf: use a manifest"
                )
            continue
        field, kind = schema[number].lstrip("*").split(":")
        if kind in ("map", "bytesmap"):
            key, item = _entry(value)
            made.setdefault(field, {})[key] = item.decode() if kind == "map" else base64.b64encode(item).decode()
        elif schema[number].startswith("*"):
            made.setdefault(field, []).append(_value(kind, value))
        elif (read := _value(kind, value)) not in ("", {}):
            made[field] = read
    return made


def _value(kind: str, value: Any) -> Any:
    if kind == "string":
        return value.decode()
    if kind == "bool":
        return bool(value)
    if kind == "int":
        return value - (1 << 64) if value >> 63 else value
    return _message(kind, value)


def _entry(raw: bytes) -> tuple[str, bytes]:
    parts = dict(_fields(raw))
    return parts.get(1, b"").decode(), parts.get(2, b"")


def _empty(value: Any) -> bool:
    """Zero, or a message of nothing but zeros: Go writes those."""
    if not value:
        return True
    if isinstance(value, int):
        return False
    try:
        return all(_empty(item) for _number, item in _fields(value))
    except IndexError:
        return False


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and raw values: an int, or bytes."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        if tag & 7 == 0:
            value, at = _varint(raw, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            size, at = _varint(raw, at)
            if at + size > len(raw):
                raise IndexError("the message is cut off")
            yield tag >> 3, raw[at : at + size]
            at += size
        else:
            raise IndexError(f"wire type {tag & 7}")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
