# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A vault that something is going to be put into: looked at before a pod stands still for it."""

from __future__ import annotations

from .._store import codec
from . import signing
from .vault import Vault


class Depot(Vault):
    """A store with its keys, for who saves."""

    def look(self, namespace: str, pod: str, recipient: str) -> None:
        """See that keys are keys and that the store answers; nothing is written.

        Raises InvalidInput, PodferryError.
        """
        if self._keys.signing_key:
            signing.public_key(self._keys.signing_key)
        if self._keys.verify_key:
            signing.valid_public(self._keys.verify_key)
        codec.valid_recipient(recipient)
        codec.valid_identity(self._keys.identity)
        self._shelf.entries(namespace, pod)
