# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The containers of a pod as a migration sees them: which are restored, which are not run again, which cannot move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._kube import predicates
from .refusals import Refusal, refuse

Obj = Mapping[str, Any]

_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")


def check_containers(pod: Obj) -> list[Refusal]:
    """What the pod's set of containers says against moving it; their own specifications are checked elsewhere."""
    found: list[Refusal] = []
    spec: Obj = pod.get("spec") or {}
    if spec.get("ephemeralContainers"):
        names = ", ".join(str(c.get("name")) for c in spec["ephemeralContainers"])
        found.append(refuse("ephemeral_containers", f"The pod has ephemeral containers ({names})."))
    for container in predicates.init_containers_of(pod):
        state = predicates.status_of(pod, str(container.get("name"))).get("state") or {}
        if (state.get("terminated") or {}).get("exitCode") != 0:
            found.append(refuse("init_containers", f"Init container {container.get('name')} has not finished."))
    for container in predicates.containers_of(pod):
        if predicates.sidecar(container):
            found += _check_sidecar(container)
        found += _check_post_start(container)
    return found


def _check_sidecar(container: Obj) -> list[Refusal]:
    """The kubelet starts nothing after a sidecar until its startup probe succeeds, and it stands frozen by then."""
    probe = container.get("startupProbe") or {}
    if not probe or probe.get("tcpSocket"):  # the kernel accepts for a frozen process
        return []
    return [refuse("sidecar_probe", f"Sidecar {container.get('name')} has a startupProbe that a frozen process fails.")]


def _check_post_start(container: Obj) -> list[Refusal]:
    """A command is answered by the runtime handler; what the kubelet does by itself, nobody can keep from the target."""
    hook = (container.get("lifecycle") or {}).get("postStart") or {}
    kinds = [kind for kind in _HOOKS if hook.get(kind) is not None]
    if not hook or kinds == ["exec"]:
        return []
    return [refuse("post_start", f"Container {container.get('name')} has a postStart hook of kind {', '.join(kinds)}.")]


def settings(pod: Obj) -> dict[str, Any]:
    """What the target's runtime handler has to know about the pod's containers beside their names."""
    hooks = {
        str(c.get("name")): [
            str(word) for word in ((c["lifecycle"]["postStart"].get("exec") or {}).get("command") or [])
        ]
        for c in predicates.containers_of(pod)
        if (c.get("lifecycle") or {}).get("postStart")
    }
    return {
        "finished": [str(c.get("name")) for c in predicates.init_containers_of(pod)],
        "post_start": hooks,
        "restarts": {name: count for name, count in predicates.restarts(pod).items() if count},
    }


def statuses(pod: Obj) -> list[Obj]:
    """Of all containers that the kubelet makes anew elsewhere: those of finished init containers too, though they do not run again."""
    finished = [predicates.status_of(pod, str(c.get("name"))) for c in predicates.init_containers_of(pod)]
    return [status for status in finished if status] + list(predicates.container_statuses(pod))


def image_of(pod: Obj, container: str) -> str:
    """The image by the name that the kubelet asks for; a status may tell another name of the same image."""
    spec: Obj = pod.get("spec") or {}
    specs = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    asked = next((c.get("image") for c in specs if c.get("name") == container), None)
    return str(asked or predicates.status_of(pod, container).get("image") or "")
