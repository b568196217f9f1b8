# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""The way through the API server's node proxy, with the collection's usual client. Runs on the controller."""

from __future__ import annotations

import json

from .._kube.errors import KubeError, KubeSetupError, KubeUnavailable
from .._kube.rest import RestClient
from .errors import OutcomeUnknown
from .request import Answer, NotSent, Request

ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def insist_on_verification(rest: RestClient) -> None:
    """Raises KubeSetupError when anybody could answer in place of the API server."""
    if not rest.verifies:
        raise KubeSetupError(
            f"the API server at {rest.host} would not be verified",
            "Use https with ca_cert, or with certificate-authority in the kubeconfig. Verification cannot be switched off here.",
        )


class NodeProxy:
    """The kubelet of one node; a ``request.Sender``."""

    def __init__(self, rest: RestClient, node: str) -> None:
        self._rest, self._node = rest, node

    def __call__(self, request: Request) -> Answer:
        """Send a request; see ``request.Sender``."""
        query = {"timeout": request.timeout} if request.timeout else None
        try:
            made = self._rest.request("POST", request.proxied(self._node), query=query, timeout_s=request.patience_s)
        except KubeError as error:
            return Answer(error.status, error.message, error.reason)
        except KubeUnavailable as error:
            if error.sent:
                raise OutcomeUnknown(
                    f"the request was sent and no answer came: {error}",
                    "The checkpoint may have been made, or be under way: look into the checkpoints folder of the kubelet "
                    "(/var/lib/kubelet/checkpoints) before you ask again.",
                ) from error
            raise NotSent(str(error)) from error
        return Answer(200, json.dumps(made))

    def may(self) -> bool:
        """Whether these credentials may use the proxy of this node. Raises KubeError, KubeUnavailable."""
        attributes = {"resource": "nodes", "subresource": "proxy", "name": self._node, "verb": "create"}
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        status = self._rest.request("POST", ACCESS_REVIEWS, body=body).get("status") or {}
        return bool(status.get("allowed"))
