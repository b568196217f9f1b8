# SPDX-License-Identifier: Apache-2.0
"""Command line: run the API server until a signal comes."""

from __future__ import annotations

import argparse
import logging
import ssl
from pathlib import Path

from aiohttp import web

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
    parser.add_argument(
        "--pki", type=Path, required=True, help="a directory with ca.crt, apiserver.crt, apiserver.key, token.key"
    )
    parser.add_argument("--listen", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=6443)
    parser.add_argument("--state", type=Path, required=True, help="the file objects are kept in over a restart")
    options = parser.parse_args()
    _serve(options.pki, options.listen, options.port, options.state)


def _serve(keys: Path, listen: str, port: int, state: Path) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(keys / "ca.crt"))
    tls.load_cert_chain(keys / "apiserver.crt", keys / "apiserver.key")
    tls.verify_mode = ssl.CERT_OPTIONAL  # without a certificate: 401 in HTTP, as the real one, not a TLS alert
    to_kubelets = ssl.create_default_context(cafile=str(keys / "ca.crt"))
    to_kubelets.load_cert_chain(keys / "apiserver.crt", keys / "apiserver.key")
    store = Store(state)
    registry = Registry(store)
    server = Server(
        registry, kubelet_tls=to_kubelets, signer=Signer((keys / "token.key").read_bytes()), require_identity=True
    )
    manager = Manager(registry, ca=(keys / "ca.crt").read_text())
    try:
        web.run_app(server.app(manager), host=listen, port=port, ssl_context=tls, print=None, shutdown_timeout=1)
    finally:
        store.close()


if __name__ == "__main__":
    main()
