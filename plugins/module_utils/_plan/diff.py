# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A plan for ``--diff``: where the pod is, and where it would be."""

from __future__ import annotations

from typing import Any

from .plan import Plan

_WAYS = {
    "twin": "a twin beside the source",
    "copy": "a copy beside the source, which runs on",
    "successor": "a successor under the same name",
}


def diff(plan: Plan) -> dict[str, Any]:
    """Ansible's diff form: the pod before and after, as small documents."""
    before: dict[str, Any] = {"pod": f"{plan.namespace}/{plan.pod}", "node": plan.source_node, "owner": plan.owner}
    after = dict(before)
    if plan.decision == "move":
        after.update(
            {
                "pod": f"{plan.namespace}/{plan.target_pod}",
                "node": plan.target_node,
                "runtime_class": "podferry",
                "way": _WAYS[plan.mode or "twin"],
                "expected_freeze_ms": round((plan.expected_freeze_s or 0.0) * 1000),
                "memory_mib": round(plan.memory_bytes / 1048576),
                "tcp_connections_closed": plan.connections_closed,
            }
        )
        if plan.statefulset is not None:
            before["owner_object"] = f"UID {plan.owner_uid}"
            after["owner_object"] = "deleted without its pods, then created again with a new UID"
    return {
        "before_header": f"pod {plan.namespace}/{plan.pod}",
        "after_header": f"pod {plan.namespace}/{plan.target_pod or plan.pod}",
        "before": before,
        "after": after,
    }
