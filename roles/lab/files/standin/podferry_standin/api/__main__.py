# SPDX-License-Identifier: Apache-2.0
"""Command line: run the API server until a signal comes."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from aiohttp import web

from .. import tls
from .controllers import Manager
from .http import Server
from .registry import Registry
from .storage import Store
from .tokens import Signer


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        prog="podferry-standin-api", description="A stand-in for the Kubernetes API in podferry's lab"
    )
    parser.add_argument("--config", type=Path, required=True, help="JSON with ca, certificate, key (PEM) and token_key")
    parser.add_argument("--listen", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=6443)
    parser.add_argument("--state", type=Path, required=True, help="the file objects are kept in over a restart")
    parser.add_argument("--shared", type=Path, help="the folder that all machines of the lab share")
    options = parser.parse_args()
    _serve(json.loads(options.config.read_text()), options.listen, options.port, options.state, options.shared)


def _serve(config: dict[str, str], listen: str, port: int, state: Path, shared: Path | None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    identity = (config["ca"], config["certificate"], config["key"])
    store = Store(state)
    registry = Registry(store)
    signer = Signer(config["token_key"].encode())
    server = Server(registry, kubelet_tls=tls.client(*identity), signer=signer, require_identity=True)
    app = server.app(Manager(registry, ca=config["ca"], shared=shared))
    try:
        web.run_app(app, host=listen, port=port, ssl_context=tls.server(*identity), print=None, shutdown_timeout=0.2)
    finally:
        store.close()


if __name__ == "__main__":
    main()
