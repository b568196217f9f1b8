# SPDX-License-Identifier: Apache-2.0
"""Reads its configuration as a kubelet does (file, then the folder of drop-ins), says its version and that it is well."""

from __future__ import annotations

import argparse
import http.server
import json
import re
from pathlib import Path

import yaml

parser = argparse.ArgumentParser()
parser.add_argument("--version", action="version", version="Kubernetes v1.29.4")
parser.add_argument("--config", type=Path)
parser.add_argument("--config-dir", type=Path)
options = parser.parse_args()


class Healthz(http.server.BaseHTTPRequestHandler):
    """Answers every question with ok."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")


EFFECTIVE = Path("/run/fake-kubelet.json")
EFFECTIVE.unlink(missing_ok=True)
effective: dict[str, object] = {}
drop_ins = sorted(options.config_dir.glob("*.conf")) if options.config_dir else []
for path in [options.config, *drop_ins]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["kind"] == "KubeletConfiguration", path
    for name, value in document.items():
        merged = {**effective.get(name, {}), **value} if isinstance(value, dict) else value  # type: ignore[dict-item]
        effective[name] = merged
timeout = str(effective.get("runtimeRequestTimeout", "2m"))
assert re.fullmatch(r"([0-9.]+(h|m|s))+", timeout), f"time: missing unit in duration {timeout}"
assert timeout != "999h", "this one does not bear 999h"
EFFECTIVE.write_text(json.dumps(effective), encoding="utf-8")
http.server.HTTPServer(("127.0.0.1", 10248), Healthz).serve_forever()
