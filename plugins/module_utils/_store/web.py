# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""HTTP for stores: blobs in and out of spools, certificates checked, redirects without credentials.

Errors name a URL without its query, because that may be a signature, and never a header.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import typing as t
import urllib.parse

from .._common.errors import InvalidInput, PodferryError
from .contract import Denied, Full
from .spool import BLOCK, Pulse, Spool

TIMEOUT = 60.0
MAX_ANSWER = 8 << 20
"""Bytes of an answer that goes into no spool."""
_NO_ROOM = (b"no space left", b"quota exceeded", b'"err":28', b'"err": 28')
"""What registries say besides 500 when their disk is full; 28 is ENOSPC."""
_REDIRECTS = (301, 302, 303, 307, 308)
Body = t.Union[bytes, Spool]


class Answer(t.NamedTuple):
    """What a server said."""

    status: int
    headers: t.Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Address(t.NamedTuple):
    """Whom to connect to."""

    scheme: str
    host: str
    port: int


def address(url: str) -> Address:
    """:raises InvalidInput: it is no URL of a server."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidInput("the URL of a store cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise InvalidInput("the URL of a store is http:// or https://, and has no user or password in it")
    return Address(parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80))


def shown(url: str) -> str:
    """The URL without what may be secret."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Web:
    """Requests, over connections that are kept.

    :param ca: PEM text of the authorities to trust instead of the node's.
    :param insecure: take any certificate, and plain http from hosts that are not this one.
    """

    def __init__(self, ca: str, insecure: bool, pulse: Pulse) -> None:
        self._pulse = pulse
        self._insecure = insecure
        try:
            self._context = ssl.create_default_context(cadata=ca or None)
        except (ssl.SSLError, ValueError) as error:
            raise InvalidInput("the certificate authority of the store is no PEM text") from error
        if insecure:
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE
        self._open: t.Dict[Address, http.client.HTTPConnection] = {}

    def allowed(self, url: str) -> Address:
        """:raises InvalidInput: it would be plain http to another host."""
        where = address(url)
        if where.scheme == "http" and not self._insecure and where.host not in ("localhost", "127.0.0.1", "::1"):
            raise InvalidInput(
                f"{shown(url)} is not encrypted", "Use https, or set insecure for a network that you trust."
            )
        return where

    def request(
        self,
        method: str,
        url: str,
        headers: t.Mapping[str, str],
        body: Body = b"",
        sink: Spool | None = None,
    ) -> Answer:
        """Ask once. The body of a good answer goes into ``sink``. Redirects are followed, without ``headers`` (GET, HEAD).

        :raises PodferryError: the server cannot be reached.
        """
        answer = self._once(method, url, headers, body, sink)
        for _hop in range(3):
            target = answer.headers.get("location", "")
            if method not in ("GET", "HEAD") or answer.status not in _REDIRECTS or not target:
                break
            before = address(url)
            url = urllib.parse.urljoin(url, target)
            if before.scheme == "https" and address(url).scheme != "https":
                raise InvalidInput(f"{before.host} redirects from https to http")
            answer = self._once(method, url, {}, b"", sink)
        return answer

    def _once(self, method: str, url: str, headers: t.Mapping[str, str], body: Body, sink: Spool | None) -> Answer:
        where = self.allowed(url)
        parts = urllib.parse.urlsplit(url)
        path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        for attempt in (1, 2):
            kept = where in self._open
            connection = self._connection(where)
            began = False
            try:
                self._send(connection, method, path, headers, body)
                response = connection.getresponse()
                began = True
                return self._read(response, url, sink)
            except (http.client.HTTPException, OSError) as error:
                self._forget(where)
                # A connection that the server closed while nobody used it. Of an answer that began the sink has a part.
                stale = isinstance(error, (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError))
                if attempt == 1 and kept and stale and not began:
                    continue
                if began:
                    raise _broken(url) from None
                reason = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or type(error).__name__
                raise Unreachable(
                    f"{shown(url)} cannot be reached: {reason}", "Look at the store's address, certificate and network."
                ) from None
            except BaseException:
                self._forget(where)
                raise
        raise AssertionError("unreachable")

    def _connection(self, where: Address) -> http.client.HTTPConnection:
        if where not in self._open:
            if where.scheme == "https":
                self._open[where] = http.client.HTTPSConnection(
                    where.host, where.port, timeout=TIMEOUT, context=self._context
                )
            else:
                self._open[where] = http.client.HTTPConnection(where.host, where.port, timeout=TIMEOUT)
        return self._open[where]

    def _forget(self, where: Address) -> None:
        with contextlib.suppress(OSError):
            self._open.pop(where).close()

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, headers: t.Mapping[str, str], body: Body
    ) -> None:
        connection.putrequest(method, path)
        for name, value in headers.items():
            connection.putheader(name, value)
        size = len(body) if isinstance(body, bytes) else body.length
        if size or method in ("PUT", "POST"):
            connection.putheader("Content-Length", str(size))
        connection.endheaders()
        for block in [body] if isinstance(body, bytes) else body.blocks():
            if block:
                connection.send(block)
            self._pulse()

    def _read(self, response: http.client.HTTPResponse, url: str, sink: Spool | None) -> Answer:
        headers = {name.lower(): value for name, value in response.getheaders()}
        parts, left = [], MAX_ANSWER
        missing = response.length  # None: in chunks, which the library counts itself
        while True:
            block = response.read(BLOCK)  # nothing for HEAD, but it has to be read before the next request
            if not block:
                break
            if missing is not None:
                missing -= len(block)
            if sink is not None and 200 <= response.status < 300:
                sink.write(block)
            else:
                left -= len(block)
                if left < 0:
                    raise InvalidInput("a store answers with more than a manifest can have")
                parts.append(block)
            self._pulse()
        if missing:  # the library says nothing when the other side ends early
            raise _broken(url)
        return Answer(response.status, headers, b"".join(parts))


class Unreachable(PodferryError):
    """No answer came."""

    kind = "store_unreachable"


def _broken(url: str) -> Unreachable:
    return Unreachable(
        f"{shown(url)}: the connection broke in the middle of an answer", "Look at the network, and try again."
    )


def refused(answer: Answer, url: str, what: str) -> PodferryError:
    """The error for an answer that is not what was hoped for."""
    if answer.status in (401, 403):
        return Denied(f"{shown(url)}: {what} is not permitted ({answer.status})", "Look at user, password and rights.")
    if answer.status == 507 or (answer.status >= 500 and any(word in answer.body.lower() for word in _NO_ROOM)):
        return Full(f"{shown(url)}: the store is full: {what} failed with status {answer.status}")
    return PodferryError(f"{shown(url)}: {what} failed with status {answer.status}", "Look at the store's log.")
