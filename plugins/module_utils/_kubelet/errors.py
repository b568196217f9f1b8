# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What can become of a request for a checkpoint. The remedies that depend on the way taken are given where it is known."""

from __future__ import annotations

from .._common.errors import PodferryError


class Untrusted(PodferryError):
    """The certificate that the server showed is not one that we were told to trust."""

    kind = "untrusted"


class Unreachable(PodferryError):
    """No connection: refused, reset or silent before the request was sent, so nothing has happened."""

    kind = "unreachable"


class Unauthorized(PodferryError):
    """401: the server does not know who we are."""

    kind = "unauthorized"


class Forbidden(PodferryError):
    """403: it knows, and we may not."""

    kind = "forbidden"


class EndpointMissing(PodferryError):
    """404, and not about the pod: this kubelet serves no checkpoints."""

    kind = "endpoint_missing"


class PodNotFound(PodferryError):
    """404: the kubelet has no such pod."""

    kind = "pod_not_found"


class ContainerNotFound(PodferryError):
    """404: the pod's specification has no such container."""

    kind = "container_not_found"


class NodeNotFound(PodferryError):
    """404: the API server has no such node."""

    kind = "node_not_found"


class PodElsewhere(PodferryError):
    """The pod is not on the node that the task runs on."""

    kind = "pod_elsewhere"


class NotRunning(PodferryError):
    """The container is there and does not run."""

    kind = "container_not_running"


class MethodNotAllowed(PodferryError):
    """405: what listens there is no kubelet, or lets no POST through."""

    kind = "method_not_allowed"


class Unimplemented(PodferryError):
    """500: the container runtime does not have the call."""

    kind = "unimplemented"


class Disabled(PodferryError):
    """500: the container runtime has the call, and its configuration says no."""

    kind = "disabled"


class CriuUnusable(PodferryError):
    """500: the container runtime finds no CRIU, or one that is too old."""

    kind = "criu_unusable"


class RuntimeUnavailable(PodferryError):
    """500: the kubelet does not reach its container runtime."""

    kind = "runtime_unavailable"


class Busy(PodferryError):
    """429 or 503, again and again."""

    kind = "busy"


class OutcomeUnknown(PodferryError):
    """The request was sent and no answer came: the checkpoint may have been made."""

    kind = "outcome_unknown"


class BadAnswer(PodferryError):
    """An answer that no kubelet gives."""

    kind = "bad_answer"


class BadArchive(PodferryError):
    """The archive that the answer names is not there, or is not what it should be."""

    kind = "bad_archive"
