# SPDX-License-Identifier: Apache-2.0
"""The HTTP layer over a real server: headers, errors, streams, silence."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._kube.config import (
    AuthOptions,
    configuration,
    context_namespace,
)
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import (
    KubeError,
    KubeSetupError,
    KubeUnavailable,
)
from ansible_collections.podferry.live.plugins.module_utils._kube.rest import MERGE_PATCH, RestClient


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str, dict[str, str], Any]]

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.seen.append((self.command, self.path, dict(self.headers), body))
        if self.path.startswith("/watch"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for line in (b'{"type": "ADDED", "n": 1}\n{"type": "MOD', b'IFIED", "n": 2}\n'):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                time.sleep(0.05)
            if self.path == "/watch/hang":
                time.sleep(1.0)
                self.close_connection = True
                return
            self.wfile.write(b"0\r\n\r\n")
            return
        if self.path == "/slow":
            time.sleep(1.0)
        missing = self.path == "/missing"
        answer = {"kind": "Status", "reason": "NotFound", "message": "nope"} if missing else {"ok": True}
        data = json.dumps(answer).encode()
        self.send_response(404 if missing else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.seen = []
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def rest(server: ThreadingHTTPServer) -> RestClient:
    return RestClient.from_options(AuthOptions(host=f"http://127.0.0.1:{server.server_address[1]}", api_key="secret"))


def test_request(rest: RestClient) -> None:
    assert rest.request("PATCH", "/x", body={"a": 1}, content_type=MERGE_PATCH, query={"q": "1", "none": None}) == {
        "ok": True
    }
    ((method, path, headers, body),) = Handler.seen
    assert (method, path, body) == ("PATCH", "/x?q=1", {"a": 1})
    assert headers["Content-Type"] == MERGE_PATCH
    assert headers["Authorization"] == "Bearer secret"


def test_errors_are_the_apis_words(rest: RestClient) -> None:
    with pytest.raises(KubeError, match="nope") as caught:
        rest.request("GET", "/missing")
    assert caught.value.not_found
    assert caught.value.reason == "NotFound"


def test_every_request_has_a_timeout(rest: RestClient) -> None:
    begun = time.monotonic()
    with pytest.raises(KubeUnavailable):
        rest.request("GET", "/slow", timeout_s=0.1)
    assert time.monotonic() - begun < 0.9


def test_nobody_there() -> None:
    with pytest.raises(KubeUnavailable):
        RestClient.from_options(AuthOptions(host="http://127.0.0.1:1")).request("GET", "/x", timeout_s=1)


def test_stream_gives_lines_as_they_come(rest: RestClient) -> None:
    assert [e["n"] for e in rest.stream("/watch", query={}, timeout_s=5)] == [1, 2]


def test_a_stream_that_falls_silent_ends(rest: RestClient) -> None:
    with pytest.raises(KubeUnavailable):
        list(rest.stream("/watch/hang", query={}, timeout_s=0.3))


# -- options ----------------------------------------------------------------------------------------------------------

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "a",
    "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443"}}],
    "users": [{"name": "u", "user": {"token": "t"}}],
    "contexts": [
        {"name": "a", "context": {"cluster": "c", "user": "u"}},
        {"name": "b", "context": {"cluster": "c", "user": "u", "namespace": "prod"}},
    ],
}  # fmt: skip


def test_kubeconfig_as_a_dictionary() -> None:
    made = configuration(AuthOptions(kubeconfig=KUBECONFIG))
    assert made.host == "https://127.0.0.1:6443"
    assert context_namespace(AuthOptions(kubeconfig=KUBECONFIG)) == "default"
    assert context_namespace(AuthOptions(kubeconfig=KUBECONFIG, context="b")) == "prod"


def test_environment_as_in_kubernetes_core() -> None:
    environ = {"K8S_AUTH_HOST": "https://h", "K8S_AUTH_VERIFY_SSL": "false", "K8S_AUTH_API_KEY": "from-env"}
    options = AuthOptions.from_params({"api_key": "given"}, environ)
    assert (options.host, options.validate_certs, options.api_key) == ("https://h", False, "given")


def test_secrets_are_not_in_representations() -> None:
    assert "hush" not in repr(AuthOptions(api_key="hush", password="hush"))


def test_what_cannot_be_read_has_a_remedy() -> None:
    for options in (AuthOptions(kubeconfig="/nowhere"), AuthOptions(kubeconfig=KUBECONFIG, context="z")):
        with pytest.raises(KubeSetupError) as caught:
            configuration(options)
        assert caught.value.remedy
