# SPDX-License-Identifier: Apache-2.0
"""What the API server asks a node's kubelet for: logs, exec, and the node proxy."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import aiohttp
from aiohttp import web

from . import errors
from .registry import Registry
from .resources import NODES, PODS

Obj = dict[str, Any]
_SKIP = {"transfer-encoding", "content-length", "connection", "server", "date"}
_V4, _V5 = "v4.channel.k8s.io", "v5.channel.k8s.io"
_CLOSE_SIGNAL = 255


class Unreached(errors.ApiError):
    """The kubelet gave no answer."""

    def __init__(self, error: Exception) -> None:
        super().__init__(502, "BadGateway", f"error trying to reach the kubelet: {error}")


class NodeProxy:
    """Requests to kubelets, with the API server's own client certificate."""

    def __init__(self, registry: Registry, tls: ssl.SSLContext | None) -> None:
        self._registry = registry
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def close(self, _app: web.Application) -> None:
        """Close connections that are kept open."""
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls or True), timeout=timeout
            )
        return self._session

    def _address(self, node: str) -> str:
        status = self._registry.get(NODES, "", node).get("status") or {}
        address = next((a["address"] for a in status.get("addresses") or [] if a["type"] == "InternalIP"), None)
        if address is None:
            raise errors.ApiError(502, "BadGateway", f"node {node} has no address")
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port", 10250)
        return f"https://{address}:{port}"

    def _container(self, pod: Obj, wanted: str) -> str:
        name, names = pod["metadata"]["name"], [c["name"] for c in pod["spec"]["containers"]]
        known = names + [c["name"] for c in pod["spec"].get("initContainers") or []]
        if wanted and wanted not in known:
            raise errors.bad_request(f"container {wanted} is not valid for pod {name}")
        if not wanted and len(names) > 1:
            raise errors.bad_request(
                f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]"
            )
        return wanted or names[0]

    async def log(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        """``pods/log``: 400 while there is no container to read from."""
        pod = self._registry.get(PODS, namespace, name)
        container = self._container(pod, request.query.get("container", ""))
        node = pod["spec"].get("nodeName")
        if not node:
            raise errors.bad_request(f"pod {name} does not have a host assigned")
        status = pod.get("status") or {}
        known = [*(status.get("containerStatuses") or []), *(status.get("initContainerStatuses") or [])]
        entry: Obj = next((item for item in known if item["name"] == container), {})
        if "containerID" not in entry:
            reason = ((entry.get("state") or {}).get("waiting") or {}).get("reason", "ContainerCreating")
            raise errors.bad_request(f'container "{container}" in pod "{name}" is waiting to start: {reason}')
        query = {key: value for key, value in request.query.items() if key != "container"}
        return await self._pass(request, f"{self._address(node)}/containerLogs/{namespace}/{name}/{container}", query)

    async def forward(self, request: web.Request, node: str, rest: str) -> web.StreamResponse:
        """``nodes/proxy``: 503 when no answer comes, whether the request was sent or not, as the API server does."""
        address = self._address(node)
        try:
            return await self._pass(request, f"{address}/{rest}", dict(request.query))
        except Unreached as error:
            cause = error.__cause__
            where = address.removeprefix("https://")
            words = f"dial tcp {where}: {cause}" if isinstance(cause, aiohttp.ClientConnectorError) else repr(cause)
            raise errors.ApiError(503, "ServiceUnavailable", f"error trying to reach service: {words}") from error

    async def _pass(self, request: web.Request, url: str, query: Obj) -> web.StreamResponse:
        try:
            async with self._client().request(request.method, url, params=query, data=await request.read()) as answer:
                kept = {key: value for key, value in answer.headers.items() if key.lower() not in _SKIP}
                response = web.StreamResponse(status=answer.status, headers=kept)
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except aiohttp.ClientError as error:
            raise Unreached(error) from error

    async def exec(self, request: web.Request, namespace: str, name: str) -> web.StreamResponse:
        """``pods/exec`` over WebSocket; the runtime speaks v4, kubectl v5: they differ in how stdin is closed."""
        pod = self._registry.get(PODS, namespace, name)
        container = self._container(pod, request.query.get("container", ""))
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise errors.bad_request("exec needs a WebSocket here")
        query = [(key, value) for key, value in request.query.items() if key != "container"]
        url = f"{self._address(pod['spec']['nodeName'])}/exec/{namespace}/{name}/{container}"
        try:
            far = await self._client().ws_connect(url, params=query, protocols=(_V4,), max_msg_size=0)
        except aiohttp.ClientError as error:
            raise errors.ApiError(502, "BadGateway", f"error trying to reach the kubelet: {error}") from error
        near = web.WebSocketResponse(protocols=(_V5, _V4), max_msg_size=0)
        await near.prepare(request)
        tasks = [asyncio.ensure_future(_pump(near, far)), asyncio.ensure_future(_pump(far, near))]
        try:
            await tasks[1]
        finally:
            tasks[0].cancel()
            await far.close()
            await near.close()
        return near


async def _pump(source: Any, sink: Any) -> None:
    async for message in source:
        if message.type == aiohttp.WSMsgType.BINARY:
            if message.data[:1] == bytes([_CLOSE_SIGNAL]):
                continue
            await sink.send_bytes(message.data)
        elif message.type == aiohttp.WSMsgType.TEXT:
            await sink.send_str(message.data)
