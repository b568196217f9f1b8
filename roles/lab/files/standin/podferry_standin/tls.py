# SPDX-License-Identifier: Apache-2.0
"""TLS from PEM texts: a configuration is one file, so that it is copied to a machine in one step."""

from __future__ import annotations

import ssl
import tempfile


def server(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """For a server that asks clients for certificates and answers those without in HTTP, not by an alert."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    return _identify(context, certificate, key)


def client(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """For a client that shows a certificate."""
    return _identify(ssl.create_default_context(cadata=ca), certificate, key)


def _identify(context: ssl.SSLContext, certificate: str, key: str) -> ssl.SSLContext:
    """OpenSSL takes its own certificate from a file only: one that nobody else can read and that is gone at once."""
    with tempfile.NamedTemporaryFile("w") as pair:
        pair.write(f"{certificate}\n{key}")
        pair.flush()
        context.load_cert_chain(pair.name)
    return context
