# SPDX-License-Identifier: Apache-2.0
"""Who a client is, and what it may: the kubelet's authentication by certificate and webhook, and its authorisation by webhook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .apiclient import Api, ApiError

Obj = dict[str, Any]
_TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_BEARER = "bearer "


@dataclass(frozen=True)
class User:
    """Name and groups."""

    name: str
    groups: tuple[str, ...] = ()


def of_certificate(certificate: Obj | None) -> User | None:
    """The user of a verified client certificate, as ``ssl`` gives it: CN is the name, O the groups."""
    parts = [pair for part in (certificate or {}).get("subject", ()) for pair in part]
    names = [value for key, value in parts if key == "commonName"]
    if not names:
        return None
    return User(names[0], tuple(value for key, value in parts if key == "organizationName"))


class Access:
    """Asks the API, as ``authentication.webhook`` and ``authorization.mode: Webhook`` do. It keeps no answers."""

    def __init__(self, api: Api, node: str) -> None:
        self._api, self._node = api, node

    def user(self, certificate: Obj | None, authorization: str) -> User | None:
        """Who asks; None: nobody that is known."""
        known = of_certificate(certificate)
        if known is not None or not authorization.lower().startswith(_BEARER):
            return known
        review = {"spec": {"token": authorization[len(_BEARER) :].strip()}}
        try:
            status = self._api.request("POST", _TOKENS, review)["status"]
        except ApiError:
            return None
        if not status.get("authenticated"):
            return None
        return User(status["user"]["username"], tuple(status["user"].get("groups") or ()))

    def may(self, user: User, verb: str, subresource: str) -> bool:
        """Whether a user may do this to the node.

        :raises ApiError: it cannot be found out
        """
        attributes = {
            "verb": verb,
            "version": "v1",
            "resource": "nodes",
            "subresource": subresource,
            "name": self._node,
        }
        review = {"spec": {"user": user.name, "groups": list(user.groups), "resourceAttributes": attributes}}
        return bool(self._api.request("POST", _ACCESS, review)["status"].get("allowed"))
