# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""How long the kubelet waits for the container runtime: a restore has to fit into one of its calls."""

from __future__ import annotations

import re
import typing as t

from .service import Read, Service

DEFAULT_SECONDS = 120.0
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)")
_SETTING = re.compile(r"""^\s*["']?runtimeRequestTimeout["']?\s*:\s*["']?([^"',\s#}]+)""", re.MULTILINE)


def duration(text: str) -> float | None:
    """Return the seconds of a Go duration such as ``2m0s``; None when it is none."""
    if text == "0":
        return 0.0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def setting(config: str) -> float | None:
    """Return ``runtimeRequestTimeout`` of a KubeletConfiguration (YAML or JSON) in seconds; None when it is not set.

    One scalar at the top level: worth no YAML parser on the node, where there may be none.
    """
    found = _SETTING.search(config)
    return duration(found.group(1)) if found else None


def request_timeout(kubelet: Service | None, read: Read, find: t.Callable[[str], list[str]]) -> float | None:
    """Return the running kubelet's runtimeRequestTimeout in seconds; None when no kubelet runs here.

    The order is the kubelet's own: flag, drop-in directory (the last one wins), file, default. A value of 0 means the default.

    :param find: returns the paths that match a shell pattern, sorted.
    """
    if kubelet is None:
        return None
    flag = kubelet.option("--runtime-request-timeout")
    if flag is not None:
        return duration(flag) or DEFAULT_SECONDS
    files = []
    config = kubelet.option("--config")
    folder = kubelet.option("--config-dir")
    if config:
        files.append(config)
    if folder:
        files.extend(find(f"{folder}/*.conf"))
    value = None
    for path in files:
        try:
            found = setting(read(path))
        except OSError:
            continue
        value = value if found is None else found
    return value or DEFAULT_SECONDS
