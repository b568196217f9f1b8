# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""TLS between the two ferries: keys of this run, each end accepts exactly the other's certificate.

The private key reaches OpenSSL through a memfd, so it never has a name in any file system.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import ssl
import typing as t

from .._common.errors import InvalidInput, LinkLost


@dataclasses.dataclass(frozen=True)
class Keys:
    """PEM texts: our key and certificate, and the only certificate that the peer may show."""

    key: str = dataclasses.field(repr=False)
    cert: str
    peer_cert: str

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any]) -> Keys:
        """:raises InvalidInput: a part is missing."""
        try:
            return cls(str(data["key"]), str(data["cert"]), str(data["peer_cert"]))
        except KeyError as error:
            raise InvalidInput(f"the run's TLS keys lack {error}") from error


def _context(keys: Keys, server: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the certificate itself is pinned, names mean nothing here
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=keys.peer_cert)
    descriptor = os.memfd_create("podferry-key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, (keys.cert + keys.key).encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


def _pinned(connection: ssl.SSLSocket, keys: Keys) -> ssl.SSLSocket:
    if connection.getpeercert(binary_form=True) != ssl.PEM_cert_to_DER_cert(keys.peer_cert):
        connection.close()
        raise LinkLost("the other end showed a certificate of another run")
    return connection


def connect(keys: Keys, address: str, port: int, timeout: float) -> ssl.SSLSocket:
    """Connect to the target ferry; ``timeout`` in seconds.

    :raises LinkLost: nobody answers there, or not with the certificate of this run.
    """
    try:
        plain = socket.create_connection((address, port), timeout=timeout)
        _tune(plain)
        return _pinned(_context(keys, server=False).wrap_socket(plain), keys)
    except (OSError, ValueError) as error:
        raise LinkLost(
            f"the target's ferry cannot be reached at {address} port {port}: {error}",
            "Allow TCP from the source node to that port (podferry_ports), or set podferry_address for the target's host.",
        ) from error


def accept(keys: Keys, listener: socket.socket, timeout: float) -> ssl.SSLSocket:
    """Take the source ferry's connection; ``timeout`` in seconds.

    :raises OSError: whoever came does not belong to this run; listen on.
    """
    listener.settimeout(timeout)
    plain, _address = listener.accept()
    plain.settimeout(timeout)
    _tune(plain)
    try:
        return _pinned(_context(keys, server=True).wrap_socket(plain, server_side=True), keys)
    except LinkLost as error:
        raise OSError(error.message) from error


def _tune(connection: socket.socket) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5000)  # ms until unanswered data breaks it
