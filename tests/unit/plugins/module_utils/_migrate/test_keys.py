# SPDX-License-Identifier: Apache-2.0
"""The keys of a run do what they are for: the ferries' own TLS code accepts them, and nobody else's."""

from __future__ import annotations

import datetime
import socket
import threading

import pytest
from cryptography import x509

from ansible_collections.podferry.live.plugins.module_utils._common.errors import LinkLost
from ansible_collections.podferry.live.plugins.module_utils._ferry import tls
from ansible_collections.podferry.live.plugins.module_utils._migrate.keys import PeerKeys, make_pair


def connect(source: PeerKeys, target: PeerKeys) -> bytes:
    listener = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def serve() -> None:
        try:
            connection = tls.accept(tls.Keys.from_dict(target.to_dict()), listener, 5.0)
            received.append(connection.recv(16))
            connection.close()
        except OSError:
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        connection = tls.connect(tls.Keys.from_dict(source.to_dict()), "127.0.0.1", listener.getsockname()[1], 5.0)
        connection.sendall(b"hello")
        connection.close()
    finally:
        thread.join(10)
        listener.close()
    return b"".join(received)


def test_the_two_ferries_of_a_run_find_each_other() -> None:
    assert connect(*make_pair("0123456789ab")) == b"hello"


def test_a_stranger_is_not_heard() -> None:
    source, target = make_pair("0123456789ab")
    stranger, _other = make_pair("0123456789ab")
    wrong = PeerKeys(stranger.key, stranger.cert, source.peer_cert)
    try:
        assert connect(wrong, target) == b""
    except (LinkLost, OSError):
        pass
    with pytest.raises(LinkLost):
        connect(PeerKeys(source.key, source.cert, stranger.cert), target)


def test_clocks_may_differ_by_a_day() -> None:
    source, _target = make_pair("0123456789ab")
    certificate = x509.load_pem_x509_certificate(source.cert.encode())
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(hours=23)
    assert certificate.not_valid_before_utc < now - day
    assert now + day < certificate.not_valid_after_utc < now + 3 * day


def test_keys_are_not_in_representations() -> None:
    source, _target = make_pair("0123456789ab")
    assert "PRIVATE" not in repr(source)
