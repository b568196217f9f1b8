# SPDX-License-Identifier: Apache-2.0
"""What the container runtime may answer, for those who do not speak gRPC themselves."""

from __future__ import annotations


class CriError(Exception):
    """A refused or failed call: gRPC code name and the runtime's words."""

    def __init__(self, call: str, code: str, message: str) -> None:
        super().__init__(f"{call}: {message}")
        self.code = code
        self.message = message
