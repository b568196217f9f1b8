# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""What an answer means: pure functions over the words of kubelets and API servers.

The kubelet answers in plain text, and tells most things apart only by that text (pkg/kubelet/server/server.go; the words are
the same from 1.25 to 1.36). A container runtime's error comes through it as gRPC prints it.
"""

from __future__ import annotations

import json
import os.path
import re

from .._common.errors import DeadlineExceeded, DumpFailed, InvalidInput, PodferryError
from .errors import (
    BadAnswer,
    Busy,
    ContainerNotFound,
    CriuUnusable,
    Disabled,
    EndpointMissing,
    Forbidden,
    MethodNotAllowed,
    NodeNotFound,
    NotRunning,
    OutcomeUnknown,
    PodNotFound,
    RuntimeUnavailable,
    Unauthorized,
    Unimplemented,
    Unreachable,
    Untrusted,
)
from .request import API, Answer, Request

WORDS = 1000
"""Characters of what the other side said that go into a message."""
UNREACHED = "error trying to reach service"
"""How the API server begins when the node proxy did not get an answer out of the kubelet."""
_NEVER_SENT = re.compile(r"\bdial (tcp|unix)\b|connection refused|no route to host|no such host|TLS handshake timeout")
_UNVERIFIED = re.compile(r"x509:|tls: failed to verify|certificate signed by unknown authority")
_WRAPPED = re.compile(r"checkpointing of \S+ failed \((.*)\)\s*", re.S)
_GRPC = re.compile(r"rpc error: code = (\w+) desc = (.*)", re.S)
_NO_CRIU = (
    "criu binary not found",  # containerd
    "requires at least criu",
    "check for criu failed",  # CRI-O
    "failed to check for criu version",
)
LEAVE = "The container runs on as if nothing had been asked."


def may_be_repeated(answer: Answer) -> bool:
    """Whether the answer proves that nothing was done, and another one may come soon.

    A 503 of the node proxy proves it only when the proxy says that it never got through: it says 503 as well when the kubelet
    was cut off in the middle of a checkpoint.
    """
    if answer.status == 429:
        return True
    return answer.status == 503 and (UNREACHED not in answer.body or bool(_NEVER_SENT.search(answer.body)))


def location(answer: Answer, request: Request, via: str) -> str:
    """Return the path of the archive on the node.

    :raises PodferryError: one type for each thing that can be wrong.
    """
    if answer.status != 200:
        raise explained(answer, request, via)
    try:
        items = json.loads(answer.body)["items"]
        (path,) = (str(item) for item in items)
    except (ValueError, KeyError, TypeError):
        raise BadAnswer(
            f"the answer is not a kubelet's: {_said(answer)}", "Check what listens on the kubelet's port."
        ) from None
    if (
        not os.path.isabs(path)
        or os.path.normpath(path) != path
        or not request.archive.fullmatch(os.path.basename(path))
    ):
        raise BadAnswer(
            f"the kubelet names {path!r} as archive of {request.title}", "Look into the kubelet's log on the node."
        )
    return path


def explained(answer: Answer, request: Request, via: str) -> PodferryError:
    """Return the error that an answer other than 200 stands for."""
    if via == API and answer.reason:
        return _by_api(answer, request)
    status = answer.status
    if status == 401:
        return _unauthorized(via)
    if status == 403:
        return _forbidden(answer, via)
    if status == 404:
        return _not_found(answer, request)
    if status == 405:
        return MethodNotAllowed(
            f"405 for a POST: {_said(answer)}",
            "What listens there is not the kubelet's main port, or a proxy in between lets no POST through: check address and port.",
        )
    if status in (429, 503):
        return _busy(answer, "kubelet")
    if status == 500:
        return _failed(answer, request)
    if status in (502, 504):
        return _unknown(answer)
    return BadAnswer(f"status {status}, which no kubelet gives: {_said(answer)}", "Check address and port.")


def _said(answer: Answer) -> str:
    return answer.body.strip()[:WORDS] or f"status {answer.status} without a word"


def _unauthorized(via: str) -> PodferryError:
    if via == API:
        return Unauthorized(
            "the kubelet does not know the API server (401)",
            "Check the API server's --kubelet-client-certificate against the kubelet's clientCAFile. "
            "The credentials of this task are not what it is about.",
        )
    return Unauthorized(
        "the kubelet does not know the client (401)",
        "A client certificate must be signed by the kubelet's clientCAFile and not have expired; a token needs "
        "authentication.webhook.enabled in the kubelet's configuration, and must not have expired.",
    )


def _forbidden(answer: Answer, via: str) -> PodferryError:
    said = _said(answer)
    if via == API:
        return Forbidden(
            f"the kubelet refuses the API server (403): {said}",
            "The credentials of this task are not what it is about. Give the user in these words `create` on nodes/checkpoint, which "
            "system:kubelet-api-admin does not have: kubectl create clusterrolebinding podferry-checkpoint-apiserver "
            "--clusterrole=podferry-checkpoint-kubelet --user=NAME, after docs/rbac-checkpoint.yml.",
        )
    return Forbidden(
        f"the kubelet refuses the client (403): {said}",
        "It needs `create` on nodes/checkpoint: docs/rbac-checkpoint.yml, ClusterRole podferry-checkpoint-kubelet.",
    )


def _not_found(answer: Answer, request: Request) -> PodferryError:
    said = answer.body.strip()
    if said == "pod does not exist":
        return PodNotFound(
            f"the kubelet has no pod {request.namespace}/{request.pod} (404)",
            "Check name and namespace, and that the task runs on the pod's node: kubectl get pod -o wide.",
        )
    if said == f"container {request.container} does not exist":
        return ContainerNotFound(
            f"pod {request.namespace}/{request.pod} has no container {request.container} (404)",
            "Give a name from spec.containers or spec.initContainers of the pod.",
        )
    if "timeout parameter" in said:
        return InvalidInput(f"the kubelet cannot read timeout={request.timeout} (404)", "Give whole seconds.")
    return EndpointMissing(
        f"the kubelet serves no checkpoints (404): {_said(answer)}",
        "Kubernetes 1.30 and later do, unless the feature gate ContainerCheckpoint is off or enableDebuggingHandlers is false in the "
        "kubelet's configuration; 1.25 to 1.29 need the gate switched on; earlier ones cannot.",
    )


def _busy(answer: Answer, who: str) -> PodferryError:
    return Busy(
        f"the {who} had no time for it ({answer.status}): {_said(answer)}", "Nothing was done. Try again later."
    )


def _unknown(answer: Answer) -> PodferryError:
    return OutcomeUnknown(
        f"the request was passed on and no answer came ({answer.status}): {_said(answer)}",
        "The checkpoint may have been made: look into the checkpoints folder of the kubelet (/var/lib/kubelet/checkpoints) before you ask again.",
    )


def _failed(answer: Answer, request: Request) -> PodferryError:
    """500: the kubelet has one status for everything that its runtime says."""
    said = answer.body.strip()
    if said.startswith("Authorization error"):
        return Forbidden(
            f"the kubelet could not find out whether the client may (500): {said[:WORDS]}",
            "It asks the API server: check that the kubelet reaches it, then try again. Nothing was done.",
        )
    wrapped = _WRAPPED.fullmatch(said)
    inner = wrapped.group(1) if wrapped else said
    grpc = _GRPC.fullmatch(inner)
    code, words = grpc.groups() if grpc else ("", inner)
    return _by_runtime(code, words.strip()[:WORDS], request)


def _by_runtime(code: str, words: str, request: Request) -> PodferryError:
    low = words.lower()
    if code == "Unimplemented":
        return Unimplemented(
            f"the container runtime cannot make checkpoints (500): {words}",
            "The kubelet's checkpoints need containerd 2.0 or CRI-O 1.25 or later (docs/kubelet-checkpoint.md). podferry's own, by "
            "playbooks/checkpoint.yml, need neither.",
        )
    if "disabled by configuration" in low or "support not available" in low:
        return Disabled(
            f"checkpoints are switched off in the container runtime, or it found no criu when it started (500): {words}",
            "Install criu in the PATH of the runtime's service and switch it on: containerd `enable_criu = true`, CRI-O "
            "`enable_criu_support = true` or from 1.37 on `container_level_enabled`; then restart the runtime.",
        )
    if any(one in low for one in _NO_CRIU):
        return CriuUnusable(
            f"the container runtime finds no usable CRIU (500): {words}",
            "Install criu 4.1.1 or later in the PATH of the runtime's service: playbooks/bootstrap.yml does.",
        )
    if code == "DeadlineExceeded" or low == "context deadline exceeded":
        return DeadlineExceeded(
            f"the container runtime had not ended in the time that it may take (500): {words}",
            f"Ask for more seconds with timeout (now {request.timeout or 'the default of the kubelet'}). {LEAVE}",
        )
    if code == "Unavailable":
        return RuntimeUnavailable(
            f"the kubelet does not reach its container runtime (500): {words}",
            "Check the runtime's service on the node. "
            + (
                "Nothing was done."
                if "error while dialing" in low
                else "The checkpoint may have been begun: look before you ask again."
            ),
        )
    if _does_not_run(code, low, request):
        return NotRunning(
            f"{request.title} does not run (500): {words}", "Only running containers can be checkpointed."
        )
    return DumpFailed(
        f"the checkpoint failed (500): {words}",
        f"CRIU's own words are in dump.log in the runtime's folder of the container. {LEAVE}",
    )


def _does_not_run(code: str, low: str, request: Request) -> bool:
    kubelets = not code and low == f"container {request.container} not found"
    return (
        kubelets or code == "NotFound" or "only container_running containers" in low or low.endswith("is not running")
    )


def _by_api(answer: Answer, request: Request) -> PodferryError:
    """An error that the API server gave itself, before or instead of the kubelet."""
    status, said = answer.status, _said(answer)
    if status == 401:
        return Unauthorized(
            "the API server does not know the client (401)", "Check the kubeconfig, its context, or the token's age."
        )
    if status == 403:
        return Forbidden(
            f"the API server refuses (403): {said}",
            "The credentials need `create` on nodes/proxy: docs/rbac-checkpoint.yml, ClusterRole podferry-checkpoint-api. The direct "
            "way (via: kubelet) asks for much less.",
        )
    if status == 404:
        return NodeNotFound(
            f"the API server says (404): {said}", "Set podferry_node_name where the host's name is not the node's."
        )
    if _UNVERIFIED.search(answer.body):
        return Untrusted(
            f"the API server does not trust the kubelet's certificate: {said}",
            "Give the API server the authority of the kubelets (--kubelet-certificate-authority), or the kubelet a certificate of it.",
        )
    if UNREACHED in answer.body and not _NEVER_SENT.search(answer.body):
        return _unknown(answer)
    if UNREACHED in answer.body:
        return Unreachable(
            f"the API server does not reach the kubelet: {said}", "Check the kubelet's service. Nothing was done."
        )
    if status in (429, 503):
        return _busy(answer, "API server")
    if status in (500, 502, 504):
        return _unknown(answer)
    return BadAnswer(f"the API server says ({status}): {said}", "Check the API server's address.")
