# SPDX-License-Identifier: Apache-2.0
"""Each end accepts exactly the other's certificate, and the key has no name in any file system."""

from __future__ import annotations

import builtins
import datetime
import functools
import os
import pathlib
import socket
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput, LinkLost
from ansible_collections.podferry.live.plugins.module_utils._ferry import tls
from ansible_collections.podferry.live.plugins.module_utils._ferry.link import Link


@functools.lru_cache
def pair(number: int) -> tuple[str, str]:
    """Key and certificate; all certificates have the same name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "podferry")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(number)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    cert = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), cert.public_bytes(serialization.Encoding.PEM).decode()


def keys(own: int, peer: int) -> tls.Keys:
    key, cert = pair(own)
    return tls.Keys(key, cert, pair(peer)[1])


def meet(client: tls.Keys, server: tls.Keys) -> tuple[str, str]:
    """What became of both ends: ``ok`` with a message exchanged, or the error's name."""
    ends = {"server": "ok", "client": "ok"}
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                link = Link(tls.accept(server, listener, 5.0), 2.0)
                link.send("hello", back=link.receive())
                link.close()
            except (OSError, LinkLost) as error:
                ends["server"] = type(error).__name__

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            link = Link(tls.connect(client, "127.0.0.1", listener.getsockname()[1], 5.0), 2.0)
            link.send("x")
            assert link.receive() == {"m": "hello", "back": {"m": "x"}}
            link.close()
        except LinkLost:
            ends["client"] = "LinkLost"
        thread.join(10)
    return ends["client"], ends["server"]


def test_the_right_two() -> None:
    assert meet(keys(1, 2), keys(2, 1)) == ("ok", "ok")


def test_a_client_of_another_run() -> None:
    client, server = meet(keys(3, 2), keys(2, 1))
    assert client == "LinkLost" and server != "ok"


def test_a_server_of_another_run() -> None:
    client, server = meet(keys(1, 2), keys(3, 1))
    assert client == "LinkLost" and server != "ok"


def test_a_client_without_a_certificate() -> None:
    import ssl

    with socket.create_server(("127.0.0.1", 0)) as listener:
        refused: list[BaseException] = []

        def serve() -> None:
            try:
                tls.accept(keys(2, 1), listener, 5.0)
            except OSError as error:
                refused.append(error)

        thread = threading.Thread(target=serve)
        thread.start()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with context.wrap_socket(socket.create_connection(listener.getsockname())) as connection:
                connection.recv(1)
        except OSError:
            pass
        thread.join(10)
    assert refused


def test_somebody_who_speaks_no_tls_is_an_oserror_so_that_the_ferry_listens_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
        with pytest.raises(OSError):
            tls.accept(keys(2, 1), listener, 2.0)


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LinkLost, match="cannot be reached"):
        tls.connect(keys(1, 2), "127.0.0.1", port, 1.0)


def test_a_certificate_signed_by_the_peers_key_is_still_another() -> None:
    """The pin is the certificate, not who signed it."""
    import types

    der = __import__("ssl").PEM_cert_to_DER_cert(pair(3)[1])
    closed: list[int] = []
    connection = types.SimpleNamespace(getpeercert=lambda binary_form: der, close=lambda: closed.append(1))
    with pytest.raises(LinkLost, match="another run"):
        tls._pinned(connection, keys(1, 2))  # type: ignore[arg-type]
    assert closed


def test_the_key_is_never_in_a_file_system(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    written: list[object] = []
    real_open, real_os_open = builtins.open, os.open
    monkeypatch.setattr(builtins, "open", lambda *words, **more: (written.append(words), real_open(*words, **more))[1])
    monkeypatch.setattr(os, "open", lambda *words, **more: (written.append(words), real_os_open(*words, **more))[1])
    monkeypatch.chdir(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    tls._context(keys(1, 2), server=True)
    assert written == [] and os.listdir(tmp_path) == []
    assert set(os.listdir("/proc/self/fd")) == before, "the memfd is closed"


def test_the_key_is_not_shown() -> None:
    assert "PRIVATE" not in repr(keys(1, 2))


@pytest.mark.parametrize("missing", ["key", "cert", "peer_cert"])
def test_keys_that_lack_something(missing: str) -> None:
    whole = {"key": "k", "cert": "c", "peer_cert": "p"}
    del whole[missing]
    with pytest.raises(InvalidInput, match=missing):
        tls.Keys.from_dict(whole)
