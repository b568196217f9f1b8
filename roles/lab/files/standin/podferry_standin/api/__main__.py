# SPDX-License-Identifier: Apache-2.0
"""Command line: ``pki`` makes keys and the kubeconfig, ``serve`` runs the API server."""

from __future__ import annotations

import argparse
import logging
import ssl
from pathlib import Path

from aiohttp import web

from . import pki
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
    commands = parser.add_subparsers(dest="command", required=True)
    keys = commands.add_parser("pki", help="make what is missing of the keys; prints 'changed' if something was")
    keys.add_argument("--directory", type=Path, required=True)
    keys.add_argument("--address", action="append", default=[], help="an address of the API server")
    keys.add_argument("--node", action="append", default=[], metavar="NAME=ADDRESS")
    keys.add_argument("--server", required=True, help="the URL in the kubeconfig")
    keys.add_argument("--kubeconfig", type=Path, required=True)
    serve = commands.add_parser("serve", help="run until a signal comes")
    serve.add_argument("--pki", type=Path, required=True)
    serve.add_argument("--listen", default="0.0.0.0")
    serve.add_argument("--port", type=int, default=6443)
    serve.add_argument("--state", type=Path, required=True, help="the file objects are kept in over a restart")
    options = parser.parse_args()
    if options.command == "pki":
        nodes = dict(item.split("=", 1) for item in options.node)
        changed = pki.make(options.directory, options.address, nodes)
        changed = pki.write_kubeconfig(options.kubeconfig, options.directory, options.server) or changed
        print("changed" if changed else "ok")
        return
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
