# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""How long things take, from bytes: budgets and deadlines grow with the size of the pod."""

from __future__ import annotations

from dataclasses import asdict, dataclass

MIB = 1024 * 1024

_FIXED_S = 0.4  # runc's and CRIU's own time for the smallest pod (DESIGN section 3: 16 MiB through runc 196 + 156 ms)
_DUMP_BYTES_S = 300 * MIB  # 1 GiB: 3.0 s
_RESTORE_BYTES_S = 500 * MIB  # 1 GiB: 1.8 s
_LINK_BYTES_S = 100 * MIB  # a 1 Gbit/s link
_LAY_BYTES_S = 100 * MIB  # files that lie on the target's disk, into their place
_VERIFY_BYTES_S = 200 * MIB  # digests on a busy machine: a ferry may be silent for as long
_SLOWEST_LINK_BYTES_S = 2 * MIB  # deadlines only: below this a migration is given up
_SLOWEST_WORK_BYTES_S = 20 * MIB  # deadlines only: dump and restore on a machine that is very busy


def freeze_s(need_bytes: int, containers: int = 1) -> float:
    """Expected seconds from freeze to thaw for a stop-and-copy of this size."""
    return (
        _FIXED_S * max(containers, 1)
        + need_bytes / _DUMP_BYTES_S
        + need_bytes / _LINK_BYTES_S
        + need_bytes / _RESTORE_BYTES_S
    )


def inside_create_s(need_bytes: int, *, tree_bytes: int = 0, containers: int = 1, twin: bool) -> float:
    """Expected seconds that the target's first ``create`` call takes: a twin's contains dump and transfer of all."""
    files = tree_bytes / _LAY_BYTES_S
    if twin:
        return freeze_s(need_bytes, containers) + files
    return files + _FIXED_S / 2 + need_bytes / _RESTORE_BYTES_S


@dataclass(frozen=True)
class Deadlines:
    """Seconds after which a step is given up. The ferries get the same numbers under the same names."""

    idle: float
    """Both ferries prepared, waiting for the controller's ``go``."""
    claim: float
    """From the POST of the target pod until its runtime has called ``create``."""
    freeze: float
    """From the freeze until the commit; then the source runs again."""
    restore: float
    """From the claim (and the last byte) until the container stands frozen."""
    settle: float
    """From the commit until the target says that it runs."""
    silence: float
    """Without a word from the other ferry until it counts as lost."""

    @property
    def decided(self) -> float:
        """From ``go`` until the source ferry must have reported its end, with time for its own clean-up."""
        return self.claim + self.freeze + self.settle + 15.0

    @property
    def restored(self) -> float:
        """From a successor's POST until it must run."""
        return self.claim + self.restore + self.settle

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def deadlines(
    need_bytes: int,
    *,
    runtime_request_timeout_s: float | None = None,
    probe_budget_s: float | None = None,
    twin: bool = True,
) -> Deadlines:
    """Deadlines for a pod of this size.

    What happens inside the target's ``create`` stays below its kubelet's timeout; the freeze stays below what the
    pod's probes survive.
    """
    inside_create = 0.8 * (runtime_request_timeout_s or 120.0)
    work = 20.0 + need_bytes / _SLOWEST_WORK_BYTES_S
    freeze = 2 * work + need_bytes / _SLOWEST_LINK_BYTES_S
    if twin:
        freeze = min(freeze, inside_create)
    if probe_budget_s is not None:
        freeze = min(freeze, max(probe_budget_s, 1.0))
    return Deadlines(
        idle=120.0,
        claim=30.0,
        freeze=freeze,
        restore=min(work, inside_create),
        settle=10.0,
        silence=6.0 + need_bytes / _VERIFY_BYTES_S,
    )
