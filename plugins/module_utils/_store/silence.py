# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A store that does not answer: an NFS server that went away, a disk that is dying.

Every question to it may take as long as the mount's timeout. So who was told so once asks nothing more: what is left
there is invisible, its leases go stale, and the next removal sweeps it.
"""

from __future__ import annotations

import errno

_ERRORS = (errno.ETIMEDOUT, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH)


def silent(error: BaseException | None) -> bool:
    """Whether this error, or one that it came from, says that the store does not answer."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _ERRORS:
            return True
        error = error.__cause__ or error.__context__
    return False
