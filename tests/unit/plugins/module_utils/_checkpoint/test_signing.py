# SPDX-License-Identifier: Apache-2.0
"""Signatures of manifests, and keys that are none."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._checkpoint import signing
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.signing import NotTrusted
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput


def new_key(algorithm: str = "ed25519") -> str:
    return subprocess.run(
        ["openssl", "genpkey", "-algorithm", algorithm], capture_output=True, text=True, check=True
    ).stdout


KEY, OTHER = new_key(), new_key()
PUBLIC = signing.public_key(KEY)
DOCUMENT = b'{"format":1}'
SIGNATURE = signing.sign(DOCUMENT, KEY)


def test_a_signature_is_that_of_one_document() -> None:
    signing.verify(DOCUMENT, SIGNATURE, PUBLIC)
    signing.verify(DOCUMENT, SIGNATURE, signing.public_key(OTHER) + PUBLIC)
    with pytest.raises(NotTrusted, match="none of the keys"):
        signing.verify(DOCUMENT, SIGNATURE, signing.public_key(OTHER))
    with pytest.raises(NotTrusted, match="not signed"):
        signing.verify(DOCUMENT, "", PUBLIC)


@given(st.binary(max_size=40).filter(lambda data: data != DOCUMENT))
def test_another_document_is_not_believed(document: bytes) -> None:
    with pytest.raises(NotTrusted):
        signing.verify(document, SIGNATURE, PUBLIC)


@given(st.text(max_size=100).filter(lambda text: text != SIGNATURE))
def test_another_signature_is_not_believed(signature: str) -> None:
    with pytest.raises(NotTrusted):
        signing.verify(DOCUMENT, signature, PUBLIC)


@pytest.mark.parametrize("key", ["", "secret words", new_key("x25519"), PUBLIC, KEY.replace("M", "N")])
def test_keys_that_cannot_sign(key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        signing.sign(DOCUMENT, key)
    assert not key or key not in str(caught.value.to_dict())


@pytest.mark.parametrize(
    "keys",
    ["", "words", KEY, PUBLIC.replace("M", "N"), PUBLIC + "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n"],
)
def test_keys_that_cannot_verify(keys: str) -> None:
    with pytest.raises(InvalidInput):
        signing.verify(DOCUMENT, SIGNATURE, keys)


def test_openssl_agrees(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(PUBLIC)
    (tmp_path / "document").write_bytes(DOCUMENT)
    (tmp_path / "signature").write_bytes(base64.b64decode(SIGNATURE))
    words = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-rawin",
        "-inkey",
        "key",
        "-in",
        "document",
        "-sigfile",
        "signature",
    ]
    assert subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode == 0
