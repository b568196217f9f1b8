# SPDX-License-Identifier: Apache-2.0
"""Bodies as kubectl 1.37 sends them."""

from __future__ import annotations

import pytest

from podferry_standin.api import errors, protobuf


def field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return bytes([number << 3, value])
    raw = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2, len(raw)]) + raw


def body(kind: str, raw: bytes) -> bytes:
    return b"k8s\x00" + field(1, field(1, "v1") + field(2, kind)) + field(2, raw)


def test_a_config_map() -> None:
    meta = field(1, "n") + field(2, "") + field(8, b"") + field(11, field(1, "a") + field(2, "b"))
    raw = body("ConfigMap", field(1, meta) + field(2, field(1, "k") + field(2, "v")))
    assert protobuf.decode(raw) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "n", "labels": {"a": "b"}},
        "data": {"k": "v"},
    }


def test_an_eviction() -> None:
    raw = body("Eviction", field(1, field(1, "p")) + field(2, field(1, 0) + field(5, "All")))
    assert protobuf.decode(raw)["deleteOptions"] == {"gracePeriodSeconds": 0, "dryRun": ["All"]}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{}", 400),
        (b"k8s\x00\x0a", 400),
        (body("Job", b""), 415),
        (body("Namespace", field(1, field(1, "n")) + field(2, field(1, "kept by a finalizer"))), 400),
    ],
)
def test_what_is_not_read_is_refused(raw: bytes, code: int) -> None:
    with pytest.raises(errors.ApiError) as refused:
        protobuf.decode(raw)
    assert refused.value.code == code
