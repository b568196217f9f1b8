# SPDX-License-Identifier: Apache-2.0
"""HTTP: paths to resources, verbs to the registry, errors to ``Status``."""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from . import access, discovery, errors, nodeproxy, protobuf, scale, tables, tokens
from .controllers import Manager
from .registry import Registry
from .resources import BY_NAME, BY_PATH, REVIEWS, Resource
from .watch import watch

Obj = dict[str, Any]
_JSON = "application/json"
_TRUE = ("1", "true", "True")


@dataclass(frozen=True)
class Target:
    """What a path names."""

    resource: Resource
    namespace: str
    name: str
    subresource: str
    rest: str


def parse(path: str) -> Target:
    """The resource, object and subresource of a path; 404 for anything else."""
    parts = [part for part in path.split("/") if part]
    if parts[:1] == ["api"] and len(parts) >= 3:
        group, version, parts = "", parts[1], parts[2:]
    elif parts[:1] == ["apis"] and len(parts) >= 4:
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        raise errors.unknown_path()
    namespace = ""
    if parts[0] == "namespaces" and len(parts) >= 3 and (group, version, parts[2]) in BY_PATH:
        namespace, parts = parts[1], parts[2:]
    resource = BY_PATH.get((group, version, parts[0]))
    if resource is None or (namespace and not resource.namespaced):
        raise errors.unknown_path()
    name, subresource = (parts[1:2] or [""])[0], (parts[2:3] or [""])[0]
    if subresource and subresource not in resource.subresources:
        raise errors.unknown_path()
    return Target(resource, namespace, name, subresource, "/".join(parts[3:]))


class Server:
    """The HTTP side of one registry."""

    def __init__(
        self,
        registry: Registry,
        *,
        kubelet_tls: ssl.SSLContext | None = None,
        signer: tokens.Signer | None = None,
        require_identity: bool = False,
    ) -> None:
        self.registry = registry
        self.signer = signer or tokens.Signer(b"unit tests")
        self.require_identity = require_identity
        self.proxy = nodeproxy.NodeProxy(registry, kubelet_tls)

    def app(self, manager: Manager | None = None) -> web.Application:
        """The aiohttp application; a manager's controllers run as long as it does."""
        app = web.Application(middlewares=[self._errors, self._identity], client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        if manager is not None:
            app.cleanup_ctx.append(manager.running)
        app.on_cleanup.append(self.proxy.close)
        return app

    @web.middleware
    async def _errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except errors.ApiError as error:
            retry = (error.details or {}).get("retryAfterSeconds")
            headers = {"Retry-After": str(retry)} if retry else None
            return web.json_response(error.status(), status=error.code, headers=headers)

    @web.middleware
    async def _identity(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Everybody with a certificate of the lab's authority, or a token of ours, may do everything."""
        open_paths = ("/healthz", "/livez", "/readyz", "/version")
        if self.require_identity and request.path not in open_paths:
            bearer = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
            certificate = request.transport.get_extra_info("peercert") if request.transport else None
            if not certificate and not self.signer.valid(bearer):
                raise errors.ApiError(401, "Unauthorized", "Unauthorized")
        return await handler(request)

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        path = request.path.rstrip("/") or "/"
        static = self._static(path)
        if static is not None:
            return static
        target = parse(path)
        if target.name:
            return await self._object(request, target)
        return await self._collection(request, target)

    @staticmethod
    def _static(path: str) -> web.Response | None:
        if path in ("/healthz", "/livez", "/readyz"):
            return web.Response(text="ok")
        parts = path.strip("/").split("/")
        answer: Obj | None = None
        if path == "/version":
            answer = discovery.version()
        elif path == "/api":
            answer = discovery.core_versions()
        elif path == "/apis":
            answer = discovery.group_list()
        elif path == "/openapi/v3":
            answer = discovery.openapi_index()
        elif path.startswith("/openapi/v3/"):
            answer = discovery.openapi(path.removeprefix("/openapi/v3/"))
        elif len(parts) == 2:
            answer = discovery.resource_list("", parts[1]) if parts[0] == "api" else discovery.group(parts[1])
        elif len(parts) == 3 and parts[0] == "apis":
            answer = discovery.resource_list(parts[1], parts[2])
        return None if answer is None else web.json_response(answer)

    async def _collection(self, request: web.Request, target: Target) -> web.StreamResponse:
        if request.method == "GET":
            if request.query.get("watch") in _TRUE:
                return await watch(self.registry.store, request, target.resource, target.namespace)
            return self._list(request, target)
        if request.method == "POST":
            body = await _body(request)
            if target.resource.plural in REVIEWS:
                return web.json_response(self._review(target.resource.plural, body), status=201)
            _same_kind(target.resource, body)
            created = self.registry.create(target.resource, target.namespace, body, dry_run=_dry_run(request, body))
            return web.json_response(created, status=201)
        if request.method == "DELETE":
            options = await _body(request, optional=True)
            found = self.registry.list(
                target.resource,
                target.namespace,
                request.query.get("labelSelector", ""),
                request.query.get("fieldSelector", ""),
            )
            for item in found:
                meta = item["metadata"]
                self.registry.delete(
                    target.resource, meta.get("namespace", ""), meta["name"], _options(request, options)
                )
            return web.json_response(self._listing(target.resource, found))
        raise _not_allowed()

    def _review(self, plural: str, body: Obj) -> Obj:
        if plural == "tokenreviews":
            return access.review_token(self.signer, body)
        if plural == "subjectaccessreviews":
            return access.review_access(self.registry, body)
        return {**body, "status": {"allowed": True}}

    def _list(self, request: web.Request, target: Target) -> web.Response:
        items = self.registry.list(
            target.resource,
            target.namespace,
            request.query.get("labelSelector", ""),
            request.query.get("fieldSelector", ""),
        )
        if tables.wanted(request):
            include = request.query.get("includeObject", "Metadata")
            return web.json_response(
                tables.table(target.resource, items, str(self.registry.store.revision), include=include)
            )
        return web.json_response(self._listing(target.resource, items))

    def _listing(self, resource: Resource, items: list[Obj]) -> Obj:
        bare = [{key: value for key, value in item.items() if key not in ("kind", "apiVersion")} for item in items]
        meta = {"resourceVersion": str(self.registry.store.revision)}
        return {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": meta, "items": bare}

    async def _object(self, request: web.Request, target: Target) -> web.StreamResponse:
        if target.subresource == "log":
            return await self.proxy.log(request, target.namespace, target.name)
        if target.subresource == "exec":
            return await self.proxy.exec(request, target.namespace, target.name)
        if target.subresource == "proxy":
            return await self.proxy.forward(request, target.name, target.rest)
        if target.subresource in ("binding", "eviction", "token") and request.method == "POST":
            return self._action(target, await _body(request), request)
        if target.subresource == "scale":
            return await self._scale(request, target)
        if request.method == "GET":
            if request.query.get("watch") in _TRUE:
                return await watch(self.registry.store, request, target.resource, target.namespace, target.name)
            obj = self.registry.get(target.resource, target.namespace, target.name)
            if tables.wanted(request):
                include = request.query.get("includeObject", "Metadata")
                return web.json_response(
                    tables.table(target.resource, [obj], obj["metadata"]["resourceVersion"], include=include)
                )
            return web.json_response(obj)
        return await self._write(request, target)

    async def _write(self, request: web.Request, target: Target) -> web.Response:
        resource, namespace, name = target.resource, target.namespace, target.name
        sub = "status" if target.subresource == "status" else ""
        manager = request.query.get("fieldManager") or request.headers.get("User-Agent", "").partition("/")[0]
        if request.method == "PUT":
            body = await _body(request)
            _same_kind(resource, body)
            return web.json_response(
                self.registry.update(
                    resource, namespace, name, body, subresource=sub, dry_run=_dry_run(request), manager=manager
                )
            )
        if request.method == "PATCH":
            change = await _body(request, patch=True)
            done = self.registry.patch(
                resource,
                namespace,
                name,
                change,
                request.content_type,
                subresource=sub,
                dry_run=_dry_run(request),
                manager=manager,
            )
            return web.json_response(done)
        if request.method == "DELETE":
            options = _options(request, await _body(request, optional=True))
            return web.json_response(
                self.registry.delete(resource, namespace, name, options, dry_run=_dry_run(request, options))
            )
        raise _not_allowed()

    def _action(self, target: Target, body: Obj, request: web.Request) -> web.Response:
        dry_run = _dry_run(request, body.get("deleteOptions") or body)
        if target.subresource == "binding":
            self.registry.bind(target.namespace, target.name, body["target"]["name"])
        elif target.subresource == "eviction":
            named = (body.get("metadata") or {}).get("name", target.name)
            if named != target.name:
                raise errors.bad_request(f"name in URL does not match name in Eviction object: {named}, {target.name}")
            self.registry.evict(target.namespace, target.name, body.get("deleteOptions"), dry_run=dry_run)
        else:
            account = self.registry.get(BY_NAME["serviceaccounts"], target.namespace, target.name)
            return web.json_response(self.signer.request(account, body), status=201)
        return web.json_response(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}, status=201
        )

    async def _scale(self, request: web.Request, target: Target) -> web.Response:
        obj = self.registry.get(target.resource, target.namespace, target.name)
        if request.method == "GET":
            return web.json_response(scale.of(obj))
        body = await _body(request, patch=True)
        wanted = scale.changed(obj, body, request.content_type if request.method == "PATCH" else "")
        done = self.registry.modify(target.resource, obj, lambda have: have["spec"].update(replicas=wanted))
        return web.json_response(scale.of(done))


async def _body(request: web.Request, *, optional: bool = False, patch: bool = False) -> Any:
    raw = await request.read()
    if not raw and optional:
        return {}
    if request.content_type == protobuf.CONTENT_TYPE:
        return protobuf.decode(raw)
    if not patch and request.content_type not in (_JSON, "application/octet-stream", "text/plain"):
        message = f"the body of the request was in an unknown format - accepted media types include: {_JSON}"
        raise errors.ApiError(415, "UnsupportedMediaType", message)
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise errors.bad_request(f"the body of the request is not JSON: {error}") from error
    if not patch and not isinstance(body, dict):
        raise errors.bad_request("the body of the request is not an object")
    return body


def _same_kind(resource: Resource, body: Obj) -> None:
    given = (body.get("apiVersion") or resource.api_version, body.get("kind") or resource.kind)
    if given != (resource.api_version, resource.kind):
        message = f"the API version in the data ({given[0]}, {given[1]}) does not match the expected API version ({resource.api_version}, {resource.kind})"
        raise errors.bad_request(message)


def _dry_run(request: web.Request, options: Obj | None = None) -> bool:
    return request.query.get("dryRun") == "All" or "All" in ((options or {}).get("dryRun") or [])


def _options(request: web.Request, body: Obj) -> Obj:
    options = dict(body)
    if "gracePeriodSeconds" in request.query:
        options.setdefault("gracePeriodSeconds", int(request.query["gracePeriodSeconds"]))
    if "propagationPolicy" in request.query:
        options.setdefault("propagationPolicy", request.query["propagationPolicy"])
    return options


def _not_allowed() -> errors.ApiError:
    return errors.ApiError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {}
    )
