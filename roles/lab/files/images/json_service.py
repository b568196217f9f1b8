# Copyright: (c) 2026, The podferry.live authors
# SPDX-License-Identifier: Apache-2.0
"""A JSON service on port 8080 whose state is nowhere but in its memory.

``GET /readyz`` says ok. ``GET /`` gives everything, ``GET /<key>`` one value, ``PUT /<key>`` stores the body.
Every answer has the number of requests so far and the service's pid and time of start, so that a restart shows.
"""

import http.server
import json
import os
import signal
import threading
import time

STARTED = time.time()
STATE: dict = {}
REQUESTS = 0
LOCK = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    """See the module."""

    protocol_version = "HTTP/1.1"

    def _answer(self, status: int, content: dict) -> None:
        body = json.dumps({**content, "pid": os.getpid(), "started": STARTED}).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        global REQUESTS
        key = self.path.lstrip("/")
        if key == "readyz":
            self._answer(200, {"ok": True})
            return
        with LOCK:
            REQUESTS += 1
            requests, state = REQUESTS, dict(STATE)
        if not key:
            self._answer(200, {"requests": requests, "state": state})
        elif key in state:
            self._answer(200, {"requests": requests, "value": state[key]})
        else:
            self._answer(404, {"requests": requests, "error": f"no {key}"})

    def do_PUT(self) -> None:
        global REQUESTS
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            value = json.loads(body)
        except ValueError as error:
            self._answer(400, {"error": str(error)})
            return
        with LOCK:
            REQUESTS += 1
            STATE[self.path.lstrip("/")] = value
            requests = REQUESTS
        self._answer(200, {"requests": requests, "value": value})

    def log_message(self, *_: object) -> None:
        """Quiet: what it prints is not what it is for."""


signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
