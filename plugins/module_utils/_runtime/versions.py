# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Versions out of what programs print about themselves."""

from __future__ import annotations

import re
import typing as t

Version = list[int]
"""Numbers from the most significant on: 4.1.1 is [4, 1, 1]."""

_DOTTED = r"v?(\d+(?:\.\d+)+)"


def _after(prefix: str, text: str) -> Version | None:
    match = re.search(prefix + _DOTTED, text, re.MULTILINE)
    return [int(part) for part in match.group(1).split(".")] if match else None


def runc(text: str) -> Version | None:
    """``runc --version``; None when it is another runtime (crun prints ``crun version``)."""
    return _after(r"^runc version ", text)


def crun(text: str) -> Version | None:
    """``crun --version``; None when it is another runtime."""
    return _after(r"^crun version ", text)


def criu(text: str) -> Version | None:
    """``criu --version``."""
    return _after(r"^Version: ", text)


def containerd(text: str) -> Version | None:
    """``containerd --version``: ``containerd github.com/containerd/containerd/v2 2.1.9 …``."""
    return _after(r"^containerd \S+ ", text)


def crio(text: str) -> Version | None:
    """``crio --version``: ``crio version 1.33.2`` or a line ``Version: 1.33.2``."""
    return _after(r"^(?:crio version |Version: +)", text)


def kubernetes(text: str) -> Version | None:
    """``kubelet --version``: ``Kubernetes v1.36.2``."""
    return _after(r"^Kubernetes ", text)


def kernel_release(text: str) -> Version | None:
    """``/proc/sys/kernel/osrelease``: the upstream numbers in front."""
    return _after(r"^", text)


def dotted(version: t.Sequence[int]) -> str:
    """[4, 1, 1] as a person writes it."""
    return ".".join(str(number) for number in version)
