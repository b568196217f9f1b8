# SPDX-License-Identifier: Apache-2.0
"""A connection that breaks is told as one, and not as a damaged checkpoint."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import PodferryError
from ansible_collections.podferry.live.plugins.module_utils._store import pack
from ansible_collections.podferry.live.plugins.module_utils._store.contract import Denied, Full, Store, open_store
from ansible_collections.podferry.live.plugins.module_utils._store.manifest import Blob
from ansible_collections.podferry.live.plugins.module_utils._store.names import Place
from ansible_collections.podferry.live.plugins.module_utils._store.spool import Spool, no_pulse
from ansible_collections.podferry.live.plugins.module_utils._store.web import Answer, Unreachable, refused

DATA = bytes(4 << 20)
BLOB = Blob("pages.0", "pages", len(DATA), hashlib.sha256(DATA).hexdigest(), "20260101T000000Z-0123456789ab")
PLACE = Place("default", "web-0")


class Server:
    """Answers with DATA, or the half of it."""

    def __init__(self) -> None:
        outer = self
        self.ends = ""
        self.asked = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(DATA)))
                self.end_headers()
                if not outer.ends:
                    self.wfile.write(DATA)
                    return
                self.wfile.write(DATA[: len(DATA) // 2])
                self.close_connection = True
                if outer.ends == "reset":
                    outer.read.wait(5)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                else:
                    self.connection.shutdown(socket.SHUT_RDWR)
                outer.ends = ""

            def log_message(self, *_arguments: Any) -> None:
                return

        self.read = threading.Event()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_arguments: None  # type: ignore[method-assign]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def pulse(self) -> None:
        self.read.set()

    @property
    def store(self) -> Store:
        spec = {"kind": "registry", "url": f"http://127.0.0.1:{self.server.server_address[1]}"}
        return open_store(spec, self.pulse)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    with contextlib.closing(made.server.socket):
        yield made
        made.server.shutdown()


def fetch(store: Store) -> None:
    with Spool(BLOB.size) as spool:
        pack.fetch(lambda blob, sink: store.get(PLACE, blob, sink), BLOB, spool, no_pulse)


@pytest.mark.parametrize("ends", ["reset", "fin"])
def test_an_answer_that_ends_early(server: Server, ends: str) -> None:
    store = server.store
    fetch(store)  # the connection is kept
    server.read.clear()
    server.ends = ends
    with pytest.raises(Unreachable, match="broke in the middle") as caught:
        fetch(store)
    assert "damaged" not in str(caught.value.to_dict())
    assert server.asked == 2, "and it was not asked again with half of it in the sink"
    fetch(store)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, b"", Denied),
        (507, b"", Full),
        (500, b'{"errors":[{"detail":{"Op":"mkdir","Err":28}}]}', Full),
        (503, b"write /data: No space left on device", Full),
        (500, b"oops", PodferryError),
    ],
)
def test_a_refusal_is_told_by_its_kind(status: int, body: bytes, kind: type[PodferryError]) -> None:
    told = refused(Answer(status, {}, body), "https://registry.example/v2/", "an upload")
    assert told.__class__ is kind
