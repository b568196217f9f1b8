# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Which checkpoints to keep: a pure decision by count, age and size.

Never removed: one that somebody uses just now, one that owns pages of another that stays, and the newest ones of every pod (``at_least``).
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from .._store.manifest import Manifest
from .._store.names import Place

Key = tuple[Place, str]


@dataclass(frozen=True)
class Policy:
    """What is too much. None: any amount is fine."""

    count: int | None = None
    """Checkpoints of one pod."""
    age: datetime.timedelta | None = None
    bytes: int | None = None
    """What all checkpoints of one pod store together."""
    at_least: int = 1
    """So many of each pod stay in any case."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of one checkpoint, and why."""

    manifest: Manifest
    remove: bool
    reason: str


def decide(
    manifests: Iterable[Manifest], in_use: Collection[Key], policy: Policy, now: datetime.datetime
) -> list[Verdict]:
    """A verdict for each checkpoint, pod by pod, oldest first."""
    by_pod: dict[Place, list[Manifest]] = {}
    for manifest in manifests:
        by_pod.setdefault(manifest.place, []).append(manifest)
    verdicts: list[Verdict] = []
    for place in sorted(by_pod):
        chosen = sorted(by_pod[place], key=lambda manifest: manifest.id)
        verdicts += _pod(chosen, {name for where, name in in_use if where == place}, policy, now)
    return verdicts


def _pod(
    manifests: Sequence[Manifest], in_use: Collection[str], policy: Policy, now: datetime.datetime
) -> list[Verdict]:
    safe = (
        {manifest.id for manifest in manifests[max(0, len(manifests) - policy.at_least) :]}
        if policy.at_least > 0
        else set()
    )
    why: dict[str, str] = {}
    for number, manifest in enumerate(reversed(manifests)):
        if policy.count is not None and number >= policy.count:
            why[manifest.id] = f"more than {policy.count} of this pod are newer or as new"
        elif policy.age is not None and now - _created(manifest) > policy.age:
            why[manifest.id] = f"older than {_days(policy.age)}"
    stay = [
        manifest for manifest in manifests if manifest.id not in why or manifest.id in safe or manifest.id in in_use
    ]
    stay = _with_owners(manifests, stay)
    if policy.bytes is not None:
        stay = _shrink(stay, safe | set(in_use), policy.bytes, why)
    kept = {manifest.id for manifest in stay}
    owners = {origin for manifest in stay for origin in manifest.origins}
    return [_verdict(manifest, kept, owners, safe, in_use, why) for manifest in manifests]


def _with_owners(manifests: Sequence[Manifest], stay: Sequence[Manifest]) -> list[Manifest]:
    """Those that stay, and those that own pages of one of them. An index names owners directly, so one step is enough for pages; what is kept
    for its pages must itself be whole, so its owners stay as well."""
    by_id = {manifest.id: manifest for manifest in manifests}
    kept = {manifest.id for manifest in stay}
    todo = list(kept)
    while todo:
        for origin in by_id[todo.pop()].origins:
            if origin in by_id and origin not in kept:
                kept.add(origin)
                todo.append(origin)
    return [manifest for manifest in manifests if manifest.id in kept]


def _shrink(stay: Sequence[Manifest], fixed: Collection[str], most: int, why: dict[str, str]) -> list[Manifest]:
    """Drop the oldest that no other one needs, until what is left stores no more than ``most`` bytes."""
    left = list(stay)
    while sum(manifest.bytes["stored"] for manifest in left) > most:
        needed = {origin for manifest in left for origin in manifest.origins} | set(fixed)
        oldest = next((manifest for manifest in left if manifest.id not in needed), None)
        if oldest is None:
            break
        why[oldest.id] = f"the checkpoints of this pod store more than {most} bytes"
        left.remove(oldest)
    return left


def _verdict(
    manifest: Manifest,
    kept: Collection[str],
    owners: Collection[str],
    safe: Collection[str],
    in_use: Collection[str],
    why: dict[str, str],
) -> Verdict:
    if manifest.id not in kept:
        return Verdict(manifest, True, why[manifest.id])
    if manifest.id not in why:
        return Verdict(manifest, False, "within the limits")
    if manifest.id in in_use:
        return Verdict(manifest, False, "in use just now")
    if manifest.id in safe:
        return Verdict(manifest, False, "one of the newest of its pod")
    if manifest.id in owners:
        return Verdict(manifest, False, "a later one refers to its pages")
    return Verdict(manifest, False, "within the limits")


def _created(manifest: Manifest) -> datetime.datetime:
    """When it was made, by its id: that is what orders checkpoints, and it is always there."""
    try:
        return datetime.datetime.strptime(manifest.id[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:  # 61 seconds, or the 30th of February: from nobody of ours, and of no age
        return datetime.datetime.max.replace(tzinfo=datetime.UTC)


def _days(age: datetime.timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours / 24:g} days" if hours >= 48 else f"{hours:g} hours"


def parent_for(entries: Sequence[Manifest], compression: str, encryption: str, longest: int = 16) -> str:
    """The id of the checkpoint that the next one of the same pod is best made against; empty: a full one is due.

    ``longest``: so many checkpoints may own pages of one before a full one is made, because what owns pages cannot be removed.
    """
    if not entries:
        return ""
    newest = max(entries, key=lambda manifest: manifest.id)
    fits = (newest.compression, newest.encryption) == (compression, encryption)
    return newest.id if fits and len(newest.origins) + 1 < longest else ""
