# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""A static HTTP server on port 8080; ``/readyz`` answers as soon as it serves."""

import functools
import http.server
import os
import signal

ROOT = "/srv/www"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files below ROOT, and the readiness path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path != "/readyz":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("", 8080), functools.partial(Handler, directory=ROOT)).serve_forever()
