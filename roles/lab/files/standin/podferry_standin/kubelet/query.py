# SPDX-License-Identifier: Apache-2.0
"""Reading the query of a request to the kubelet."""

from __future__ import annotations


def flag(query: dict[str, list[str]], key: str) -> bool:
    """A truth value in a query as Kubernetes reads it: older Python clients write ``True``."""
    return (query.get(key) or ["false"])[0].lower() not in ("false", "0")
