# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Keys of one run: each ferry gets a key of its own and the other's certificate, and trusts nothing else."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field

from .errors import PodferryError

_VALID = datetime.timedelta(hours=12)
_SKEW = datetime.timedelta(hours=24)
"""Clocks of nodes may differ from the controller's; the keys die with the run, not by their dates."""


@dataclass(frozen=True)
class PeerKeys:
    """PEM texts for one ferry."""

    key: str = field(repr=False)
    cert: str
    peer_cert: str

    def to_dict(self) -> dict[str, str]:
        return {"key": self.key, "cert": self.cert, "peer_cert": self.peer_cert}


def make_pair(run: str) -> tuple[PeerKeys, PeerKeys]:
    """Keys for (source, target). Raises PodferryError when the ``cryptography`` package is missing."""
    source_key, source_cert = _make(f"podferry-{run}-source")
    target_key, target_cert = _make(f"podferry-{run}-target")
    return PeerKeys(source_key, source_cert, target_cert), PeerKeys(target_key, target_cert, source_cert)


def _make(name: str) -> tuple[str, str]:
    """A fresh EC P-256 key and its self-signed certificate."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID
    except ImportError as exc:
        raise PodferryError(
            f"the Python package 'cryptography' cannot be imported on the controller: {exc}",
            "pip install 'cryptography>=41' for the Python that runs ansible-playbook",
            "prepare",
        ) from exc
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _SKEW + _VALID)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return pem.decode(), cert.public_bytes(serialization.Encoding.PEM).decode()
