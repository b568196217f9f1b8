# SPDX-License-Identifier: Apache-2.0
"""Service account tokens: shaped as JWTs, signed with a key of this lab."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

Obj = dict[str, Any]
_DEFAULT_SECONDS = 3600


class Signer:
    """Issues and checks tokens."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def request(self, account: Obj, body: Obj) -> Obj:
        """The answer to a TokenRequest."""
        spec = body.get("spec") or {}
        seconds = int(spec.get("expirationSeconds") or _DEFAULT_SECONDS)
        meta, now = account["metadata"], int(time.time())
        claims = {
            "aud": spec.get("audiences") or ["podferry-standin"],
            "exp": now + seconds,
            "iat": now,
            "iss": "podferry-standin",
            "sub": f"system:serviceaccount:{meta['namespace']}:{meta['name']}",
        }
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + seconds))
        status = {"token": self._sign(claims), "expirationTimestamp": expires}
        answer = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
        return {
            **answer,
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            "spec": spec,
            "status": status,
        }

    def _sign(self, claims: Obj) -> str:
        parts = [_b64(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()), _b64(json.dumps(claims).encode())]
        return ".".join([*parts, self._mac(".".join(parts))])

    def _mac(self, text: str) -> str:
        return _b64(hmac.new(self._key, text.encode(), hashlib.sha256).digest())

    def valid(self, token: str) -> bool:
        """Whether this is a token of ours that has not expired."""
        return self._claims(token) is not None

    def user(self, token: str) -> Obj | None:
        """Whose token this is, as a TokenReview says it; None when it is not valid."""
        claims = self._claims(token)
        if claims is None:
            return None
        namespace = claims["sub"].split(":")[2]
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        return {"username": claims["sub"], "groups": groups}

    def _claims(self, token: str) -> Obj | None:
        text, _separator, mac = token.rpartition(".")
        if not text or not hmac.compare_digest(mac.encode(), self._mac(text).encode()):
            return None
        body = text.partition(".")[2]
        claims: Obj = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return claims if claims["exp"] > time.time() else None


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
