# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""One typed HTTP layer over the ``kubernetes`` client's transport: dictionaries in, dictionaries out.

The generated API classes change between releases of the client and drop fields they do not know; a pod that is
copied must keep every field. So only the client's configuration and its connection pool (TLS, proxy) are used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from .config import AuthOptions, configuration
from .errors import KubeError, KubeUnavailable

JsonDict = dict[str, Any]

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
"""Lists of which each entry has a key, such as conditions, are merged by it."""
_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 15.0


class RestClient:
    """Requests with a timeout each; errors as KubeError (answered) or KubeUnavailable (not answered)."""

    def __init__(self, config: Any, pool: Any) -> None:
        self._config = config
        self._pool = pool

    @classmethod
    def from_options(cls, options: AuthOptions) -> RestClient:
        """Raises KubeSetupError."""
        config = configuration(options)
        from kubernetes.client import ApiClient

        return cls(config, ApiClient(config).rest_client.pool_manager)

    @property
    def host(self) -> str:
        return str(self._config.host)

    @property
    def verifies(self) -> bool:
        """Whether whoever answers has proved to be the API."""
        return self.host.lower().startswith("https://") and bool(self._config.verify_ssl)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
        timeout_s: float = _READ_TIMEOUT_S,
    ) -> JsonDict:
        """One request. ``timeout_s`` bounds the wait for the answer, connecting has its own 5 s."""
        response = self._send(method, path, query, body, content_type, timeout_s, preload=True)
        answer = _decode(response.data)
        if not 200 <= response.status < 300:
            raise _error(response.status, answer)
        return answer

    def stream(self, path: str, *, query: Mapping[str, Any], timeout_s: float) -> Iterator[JsonDict]:
        """Lines of a watch, until the server closes it or ``timeout_s`` passes without a byte (KubeUnavailable)."""
        response = self._send("GET", path, query, None, "application/json", timeout_s, preload=False)
        try:
            if not 200 <= response.status < 300:
                raise _error(response.status, _decode(response.read()))
            pending = b""
            for chunk in _chunks(response):
                pending += chunk
                while b"\n" in pending:
                    line, pending = pending.split(b"\n", 1)
                    if line.strip():
                        yield _decode(line)
        finally:
            # A watch left in the middle cannot go back to the pool: close its socket.
            response.close()

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Mapping[str, Any] | None,
        content_type: str,
        timeout_s: float,
        *,
        preload: bool,
    ) -> Any:
        import urllib3

        url = self.host.rstrip("/") + path
        if query:
            url += "?" + urlencode({key: value for key, value in query.items() if value is not None})
        try:
            return self._pool.request(
                method,
                url,
                body=None if body is None else json.dumps(body).encode(),
                headers=self._headers(content_type if body is not None else None),
                timeout=urllib3.Timeout(connect=min(_CONNECT_TIMEOUT_S, timeout_s), read=timeout_s),
                retries=False,
                redirect=False,
                preload_content=preload,
            )
        except (urllib3.exceptions.HTTPError, OSError) as exc:
            before = isinstance(exc, (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError))
            raise KubeUnavailable(f"{method} {url.split('?')[0]}: {exc}", sent=not before) from exc

    def _headers(self, content_type: str | None) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "podferry.live"}
        if content_type is not None:
            headers["Content-Type"] = content_type
        token = self._config.get_api_key_with_prefix("authorization")
        if token is None and "BearerToken" in (self._config.api_key or {}):
            token = self._config.get_api_key_with_prefix("BearerToken")
        if token is not None:
            headers["Authorization"] = token
        elif self._config.username:
            headers["Authorization"] = self._config.get_basic_auth_token()
        return headers


def _chunks(response: Any) -> Iterator[bytes]:
    import urllib3

    try:
        # read1 semantics: whatever has arrived; stream() would wait until its buffer is full
        if getattr(response, "chunked", False) and response.supports_chunked_reads():
            yield from response.read_chunked(decode_content=True)
        else:
            while True:
                line = response.readline()
                if not line:
                    return
                yield line
    except (urllib3.exceptions.HTTPError, OSError) as exc:
        raise KubeUnavailable(f"watch ended: {exc}") from exc


def _decode(data: bytes) -> JsonDict:
    try:
        value = json.loads(data or b"{}")
    except ValueError:
        return {"message": data.decode("utf-8", "replace")[:2000]}
    return value if isinstance(value, dict) else {"value": value}


def _error(status: int, answer: JsonDict) -> KubeError:
    return KubeError(status, str(answer.get("reason") or ""), str(answer.get("message") or f"HTTP status {status}"))
