# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Which pods a request for checkpoints means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._kube import predicates
from .._migrate.errors import PodferryError
from .._migrate.gather import resolve
from .._migrate.ports import Tools
from .._plan.options import Options

Obj = Mapping[str, Any]


def select(tools: Tools, options: Options, *, selector: str, everything: bool) -> list[Obj]:
    """One pod (by name or owner), those under a label selector, or all of the namespace that run.

    Raises PodferryError when there is none; KubeError, KubeUnavailable when the API fails.
    """
    if selector or everything:
        pods = tools.cluster.list_pods(options.namespace, label_selector=selector)
        running = [p for p in pods if predicates.running(p) and not predicates.terminating(p)]
        if not running:
            what = f"with the labels {selector}" if selector else ""
            raise PodferryError(
                f"no pod {what} runs in namespace {options.namespace}".replace("  ", " "), "Check both."
            )
        return sorted(running, key=predicates.name_of)
    if not options.pod:
        raise PodferryError("which pod is not said", "Give pod=NAME, selector=LABELS or all=true.")
    question = resolve(options, tools)
    if question.pod is not None:
        return [question.pod]
    if question.matches:
        return list(question.matches)
    raise PodferryError(f"there is no pod {options.pod} in namespace {options.namespace}", "Check name and namespace.")
