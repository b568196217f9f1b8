# SPDX-License-Identifier: Apache-2.0
"""Debian's docker-registry: open, with users, with tokens, with TLS."""

from __future__ import annotations

import base64
import contextlib
import datetime
import http.server
import ipaddress
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from services.process import free_port, running

PROGRAM = "/usr/bin/docker-registry"
USER, PASSWORD = "ferry", "a secret of the tests"
# bcrypt of PASSWORD
_HTPASSWD = "ferry:$2y$05$abcdefghijklmnopqrstuuBdd/beQLOhD0XcgJ2wlY1HK2zpY9SJe\n"


def certificate(folder: Path, name: str) -> tuple[Path, Path, Any]:
    """A self-signed certificate for 127.0.0.1; returns the paths of certificate and key, and the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=12))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = folder / f"{name}.crt", folder / f"{name}.key"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return cert_path, key_path, key


@contextlib.contextmanager
def registry(folder: Path, *, auth: str = "", tls: bool = False, delete: bool = True) -> Iterator[dict[str, Any]]:
    """Run one. ``auth``: nothing, ``basic`` or ``token``. Yields the specification of a store in it."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    spec: dict[str, Any] = {"kind": "registry", "url": f"http{'s' * tls}://127.0.0.1:{port}", "repository": "podferry"}
    config: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": delete}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    with contextlib.ExitStack() as opened:
        if tls:
            cert, key_path, _key = certificate(folder, "registry")
            config["http"]["tls"] = {"certificate": str(cert), "key": str(key_path)}
            spec["ca"] = cert.read_text()
        if auth:
            spec |= {"username": USER, "password": PASSWORD}
        if auth == "basic":
            (folder / "htpasswd").write_text(_HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
        if auth == "token":
            realm, bundle = opened.enter_context(token_service(folder))
            config["auth"] = {
                "token": {"realm": realm, "service": "tests", "issuer": "tests", "rootcertbundle": str(bundle)}
            }
        (folder / "config.yml").write_text(json.dumps(config))
        opened.enter_context(running([PROGRAM, "serve", str(folder / "config.yml")], port, folder / "log"))
        yield spec


@contextlib.contextmanager
def token_service(folder: Path) -> Iterator[tuple[str, Path]]:
    """Gives tokens to USER with PASSWORD; yields its URL and the certificate that they are signed with."""
    cert, _path, key = certificate(folder, "tokens")
    der = base64.b64encode(x509.load_pem_x509_certificate(cert.read_bytes()).public_bytes(serialization.Encoding.DER))
    wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != wanted:
                self.send_error(401)
                return
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            access = []
            for scope in query.get("scope", []):
                kind, name, actions = scope.split(":")
                access.append({"type": kind, "name": name, "actions": actions.split(",")})
            now = int(datetime.datetime.now().timestamp())
            claims = {
                "iss": "tests", "sub": USER, "aud": query["service"][0], "access": access, "jti": "1",
                "iat": now - 5, "nbf": now - 5, "exp": now + 60,
            }  # fmt: skip
            text = f"{part({'typ': 'JWT', 'alg': 'ES256', 'x5c': [der.decode()]})}.{part(claims)}"
            r, s = utils.decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
            signature = base64.urlsafe_b64encode(r.to_bytes(32, "big") + s.to_bytes(32, "big")).rstrip(b"=").decode()
            body = json.dumps({"token": f"{text}.{signature}"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/token", cert
    finally:
        server.shutdown()
        server.server_close()
