# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Signatures of manifests: Ed25519, over the bytes that are stored.

What `openssl genpkey -algorithm ed25519` makes is a key. The signature is one line of base64, so that `openssl pkeyutl -verify -rawin` can check it too.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from .._common.errors import InvalidInput, PodferryError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class NotTrusted(PodferryError):
    """A checkpoint is not signed by whom the operator trusts."""

    kind = "not_trusted"


def sign(document: bytes, key: str) -> str:
    """Sign with a private key (PEM).

    Raises InvalidInput for a key that is none, PodferryError without the ``cryptography`` package. Neither names anything of the key.
    """
    return base64.b64encode(_private(key).sign(document)).decode("ascii")


def verify(document: bytes, signature: str, keys: str) -> None:
    """Check a signature against one or several public keys (PEM, one after the other).

    Raises NotTrusted when it is of none of them, or when there is no signature.
    """
    from cryptography.exceptions import InvalidSignature

    known = _public(keys)
    if not signature:
        raise NotTrusted(
            "the checkpoint is not signed",
            "Sign with signing_key, or restore without verify_key if you trust the store.",
        )
    try:
        raw = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    for key in known:
        try:
            key.verify(raw, document)
            return
        except InvalidSignature:
            continue
    raise NotTrusted(
        "the checkpoint's signature is of none of the keys in verify_key, or the manifest was changed after it was signed",
        "Do not restore it. Take another checkpoint, or give the key of whom made this one.",
    )


def public_key(key: str) -> str:
    """The public key (PEM) of a private one."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return _private(key).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def valid_public(keys: str) -> None:
    """Raises InvalidInput when there is something else than public keys, as :func:`verify` would."""
    _public(keys)


def _private(text: str) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as exc:
        raise PodferryError(
            f"the Python package 'cryptography' cannot be imported on the controller: {exc}",
            "pip install 'cryptography>=41' for the Python that runs ansible-playbook",
        ) from exc
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidInput(
            "signing_key is no private Ed25519 key in PEM form", "openssl genpkey -algorithm ed25519 makes one."
        )
    return key


def _public(text: str) -> list[Ed25519PublicKey]:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as exc:
        raise PodferryError(
            f"the Python package 'cryptography' cannot be imported on the controller: {exc}",
            "pip install 'cryptography>=41' for the Python that runs ansible-playbook",
        ) from exc
    keys = []
    begin, end = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
    for part in text.split(begin)[1:]:
        try:
            key = load_pem_public_key(f"{begin}{part.partition(end)[0]}{end}\n".encode())
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise InvalidInput("verify_key holds something else than public Ed25519 keys in PEM form")
        keys.append(key)
    if not keys:
        raise InvalidInput("verify_key is no public Ed25519 key in PEM form", "openssl pkey -in KEY -pubout prints it.")
    return keys
