# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Letting the source run again, by what its journal says. The ferry, its guard and a later session all come here."""

from __future__ import annotations

import typing as t

from .._common.errors import PodferryError
from .._runtime import quota
from .._runtime.cgroup import Cgroup


def run_again(journal: t.Mapping[str, t.Any]) -> list[PodferryError]:
    """Thaw every container of the journal and put back the CPU quotas that the dump had lifted.

    :returns: what went wrong; one container that refuses does not keep the others frozen.
    """
    failed: list[PodferryError] = []
    for item in journal.get("containers") or []:
        try:
            Cgroup.at(str(item["cgroup"])).thaw()
        except PodferryError as error:
            failed.append(error)
    quota.put_back(journal.get("quotas") or {})
    return failed
