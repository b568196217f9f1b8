# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""HTTPS to a kubelet with the standard library alone, so that it runs on the node.

The server's certificate is verified in one of two ways, and there is no third: by an authority and the server's name, or by
being one of the certificates that were given (kubelets that sign their own). Keys reach OpenSSL through a memfd.
"""

from __future__ import annotations

import dataclasses
import http.client
import os
import re
import socket
import ssl

from .._common.errors import InvalidInput
from .errors import OutcomeUnknown, Unauthorized, Unreachable, Untrusted
from .request import Answer, NotSent, Request

CONNECT_S = 10.0
_BODY_LIMIT = 64 * 1024
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
_PARTIAL_CHAIN = 0x80000
"""X509_V_FLAG_PARTIAL_CHAIN: a certificate that was given is trusted without its issuer. Has a name from Python 3.10 on."""


def certificates(pem: str) -> list[str]:
    """The certificates of a PEM text; a key beside them, as in the kubelet's own files, is left out."""
    return [found + "\n" for found in _CERTIFICATE.findall(pem)]


@dataclasses.dataclass(frozen=True)
class Trust:
    """What the server must prove. PEM texts, exactly one of them not empty."""

    authorities: str = ""
    pinned: str = ""

    def context(self) -> ssl.SSLContext:
        """:raises InvalidInput: neither or both, or no certificates."""
        if bool(self.authorities) == bool(self.pinned):
            raise InvalidInput(
                "the kubelet's certificate has to be verified by exactly one of kubelet_ca and kubelet_certificate",
                "Give the authority that signed it, or the certificate itself. Verification cannot be switched off.",
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificates, and names
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.pinned:
            context.check_hostname = False  # it must be that certificate, whatever name is in it
            context.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN)
        option = "kubelet_certificate" if self.pinned else "kubelet_ca"
        found = certificates(self.pinned or self.authorities)
        try:
            if not found:
                raise ValueError("there is none in it")
            context.load_verify_locations(cadata="".join(found))
        except (ssl.SSLError, ValueError) as error:
            raise InvalidInput(f"{option} holds no certificate: {error}", "Give it in PEM form.") from error
        return context

    def accept(self, connection: ssl.SSLSocket) -> None:
        """Look at what the server showed.

        :raises Untrusted: it is valid, but not one of those that were given.
        """
        if not self.pinned:
            return
        shown = connection.getpeercert(binary_form=True)
        if shown not in [ssl.PEM_cert_to_DER_cert(found) for found in certificates(self.pinned)]:
            raise Untrusted(
                "the kubelet showed another certificate than the one that was given",
                "Read it anew on the node (/var/lib/kubelet/pki/kubelet.crt or kubelet-server-current.pem): kubelets renew theirs.",
            )


@dataclasses.dataclass(frozen=True)
class Identity:
    """Who asks: a client certificate with its key, a token, or both. PEM texts."""

    certificate: str = ""
    key: str = dataclasses.field(default="", repr=False)
    token: str = dataclasses.field(default="", repr=False)

    def load(self, context: ssl.SSLContext) -> None:
        """:raises InvalidInput: there is nothing, or a certificate without a key that fits."""
        if not self.certificate and not self.token:
            raise InvalidInput(
                "the kubelet asks who one is", "Give kubelet_token, or kubelet_client_cert and kubelet_client_key."
            )
        if not self.certificate:
            return
        descriptor = os.memfd_create("podferry-key", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, f"{self.certificate}\n{self.key}".encode())
            context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise InvalidInput(
                f"the client certificate and its key cannot be used: {error}",
                "Give both in PEM form, the key without a password.",
            ) from error
        finally:
            os.close(descriptor)


def _no_password() -> str:
    """Otherwise OpenSSL asks a terminal, which a module does not have."""
    raise ValueError("the key has a password")


class Kubelet:
    """One kubelet: where it is, who it must be, and who we are."""

    def __init__(self, address: str, port: int, name: str, trust: Trust, identity: Identity) -> None:
        """:raises InvalidInput: certificates or keys that cannot be used."""
        self._where, self._name = (address, port), name
        self._trust, self._token = trust, identity.token.strip()
        if not re.fullmatch(r"[\x21-\x7e]*", self._token):
            raise InvalidInput("the token is not one line of text", "Give the token alone.")
        self._context = trust.context()
        identity.load(self._context)

    def __call__(self, request: Request) -> Answer:
        """Send a request; see ``request.Sender``."""
        connection = http.client.HTTPConnection(self._name, self._where[1])  # it looks for no port in an IPv6 name then
        connection.sock = self.connect()
        connection.sock.settimeout(request.patience_s)
        headers = {"Accept": "application/json", "User-Agent": "podferry.live", "Connection": "close"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request("POST", request.path, headers=headers)
            answered = connection.getresponse()
            return Answer(answered.status, answered.read(_BODY_LIMIT).decode("utf-8", "replace"))
        except ssl.SSLError as error:
            # TLS 1.3: what the server thinks of our certificate is heard only now, before it has read anything.
            if "ALERT" not in (error.reason or ""):
                raise _unknown(error) from error
            raise Unauthorized(
                f"the server refuses the client certificate: {error}",
                "It must be signed by the kubelet's clientCAFile, and be valid now.",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise _unknown(error) from error
        finally:
            connection.close()

    def connect(self) -> ssl.SSLSocket:
        """Connect and verify, and ask nothing.

        :raises NotSent: nobody is there, or the connection broke.
        :raises Untrusted: somebody else is there.
        :raises Unreachable: what is there speaks no TLS that we do.
        """
        where = f"{self._where[0]} port {self._where[1]}"
        try:
            plain = socket.create_connection(self._where, timeout=CONNECT_S)
        except OSError as error:
            raise NotSent(f"{where}: {error}") from error
        try:
            connection = self._context.wrap_socket(plain, server_hostname=self._name)
        except ssl.SSLCertVerificationError as error:
            plain.close()
            raise Untrusted(
                f"the certificate at {where} is not the kubelet's: {error.verify_message or error}",
                f"It was verified for the name {self._name}. Give kubelet_ca the authority that signed it and kubelet_name a name in "
                "it; or kubelet_certificate the certificate itself when the kubelet has signed its own.",
            ) from error
        except ssl.SSLError as error:
            plain.close()
            raise Unreachable(f"no TLS with {where}: {error}", "Check address and port.") from error
        except OSError as error:
            plain.close()
            raise NotSent(f"{where}: {error}") from error
        try:
            self._trust.accept(connection)
        except Untrusted:
            connection.close()
            raise
        return connection


def _unknown(error: Exception) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"the request was sent and no answer came: {str(error) or type(error).__name__}",
        "The checkpoint may have been made, or be under way: look into the checkpoints folder of the kubelet "
        "(/var/lib/kubelet/checkpoints) before you ask again. A larger timeout also makes this side wait longer.",
    )
