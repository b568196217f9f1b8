# SPDX-License-Identifier: Apache-2.0
"""What prune takes away: by count, age and size; never what is in use, owns pages of what stays, or is the newest."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._checkpoint import prune, retention
from ansible_collections.podferry.live.plugins.module_utils._checkpoint.retention import Policy
from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput, StateConflict
from ansible_collections.podferry.live.plugins.module_utils._store.contract import Entry, Lease
from ansible_collections.podferry.live.plugins.module_utils._store.manifest import Blob, Manifest, canonical
from ansible_collections.podferry.live.plugins.module_utils._store.names import Place

NOW = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)


def identity(days: int) -> str:
    """Of a checkpoint that is so many days old."""
    return f"{NOW - datetime.timedelta(days=days):%Y%m%dT%H%M%SZ}-0123456789ab"


def made(days: int, *owners: int, stored: int = 100, pod: str = "web") -> Manifest:
    """One that refers to pages of those."""
    me = identity(days)
    blobs = [Blob("pages.0", "pages", 1, "0" * 64, identity(owner)) for owner in owners]
    blobs += [Blob(name, name.partition(".")[0], 1, "0" * 64, me) for name in ("index.0", "state.0")]
    return Manifest(
        me, "default", pod, "u", "n", "2026-11-25T00:00:00Z", "pod", ({"name": "a", "image": "b", "image_id": ""},), "", "zstd", "none",
        {}, {"memory": 1, "files": 1, "stored": stored}, tuple(blobs),
    )  # fmt: skip


def gone(manifests: list[Manifest], policy: Policy, in_use: Any = ()) -> list[int]:
    """Ages in days of those that go."""
    used = {(Place("default", "web"), identity(days)) for days in in_use}
    verdicts = retention.decide(manifests, used, policy, NOW)
    assert sorted(v.manifest.id for v in verdicts) == sorted(m.id for m in manifests)
    ages = {m.id: days for days in range(100) for m in manifests if m.id == identity(days)}
    return sorted(ages[v.manifest.id] for v in verdicts if v.remove)


FIVE = [made(days) for days in (5, 4, 3, 2, 1)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), []),
        (Policy(count=2), [3, 4, 5]),
        (Policy(count=9), []),
        (Policy(age=datetime.timedelta(days=3)), [4, 5]),
        (Policy(bytes=300), [4, 5]),
        (Policy(bytes=1), [2, 3, 4, 5]),
        (Policy(bytes=1, at_least=0), [1, 2, 3, 4, 5]),
        (Policy(age=datetime.timedelta(hours=1)), [2, 3, 4, 5]),
        (Policy(age=datetime.timedelta(hours=1), at_least=3), [4, 5]),
        (Policy(count=4, age=datetime.timedelta(days=3), bytes=200), [3, 4, 5]),
    ],
)
def test_limits(policy: Policy, expected: list[int]) -> None:
    assert gone(FIVE, policy) == expected


def test_in_use() -> None:
    assert gone(FIVE, Policy(count=1), in_use=[4]) == [2, 3, 5]
    assert gone(FIVE, Policy(bytes=1), in_use=[4]) == [2, 3, 5]


def test_owners_of_pages() -> None:
    chain = [made(5), made(4, 5), made(3, 5, 4), made(2, 5), made(1, 5, 2)]
    assert gone(chain, Policy(count=1)) == [3, 4]
    assert gone(chain, Policy(bytes=1)) == [3, 4]
    assert gone(chain, Policy(count=1, at_least=0, bytes=1)) == [1, 2, 3, 4, 5]
    assert gone([made(5), made(4, 5), made(1)], Policy(age=datetime.timedelta(days=2)), in_use=[4]) == []


def test_pods_are_counted_each_for_itself() -> None:
    both = [made(2), made(1), made(2, pod="db"), made(1, pod="db")]
    verdicts = retention.decide(both, (), Policy(count=1), NOW)
    assert [(v.manifest.pod, v.manifest.id) for v in verdicts if v.remove] == [
        ("db", identity(2)),
        ("web", identity(2)),
    ]


chains = st.lists(st.tuples(st.sets(st.integers(0, 11), max_size=3), st.integers(0, 300)), min_size=1, max_size=12)
policies = st.builds(
    Policy,
    count=st.none() | st.integers(1, 6),
    age=st.none() | st.integers(1, 12).map(lambda days: datetime.timedelta(days=days)),
    bytes=st.none() | st.integers(1, 1000),
    at_least=st.integers(0, 3),
)


@given(chains, policies, st.sets(st.integers(1, 12), max_size=3))
def test_what_stays_is_whole(shape: list[tuple[set[int], int]], policy: Policy, in_use: set[int]) -> None:
    total = len(shape)
    manifests = [
        made(total - at, *(total - owner for owner in owners if owner < at), stored=stored)
        for at, (owners, stored) in enumerate(shape)
    ]
    left = {m.id for m in manifests} - {identity(days) for days in gone(manifests, policy, in_use)}
    for manifest in manifests:
        if manifest.id in left:
            assert manifest.origins <= left, "pages of it would be nobody's"
    newest = sorted(m.id for m in manifests)[max(0, total - policy.at_least) :] if policy.at_least else []
    assert set(newest) <= left
    assert {identity(days) for days in in_use} & {m.id for m in manifests} <= left
    if policy == Policy():
        assert len(left) == total


def test_the_next_parent() -> None:
    chain = [made(3), made(2, 3), made(1, 3, 2)]
    assert retention.parent_for([], "zstd", "none") == ""
    assert retention.parent_for(chain, "zstd", "none") == identity(1)
    assert retention.parent_for(chain, "none", "none") == ""
    assert retention.parent_for(chain, "zstd", "age") == ""
    assert retention.parent_for(chain, "zstd", "none", longest=3) == "", "a full one is due"


@pytest.mark.parametrize(("text", "hours"), [("36h", 36), ("30d", 720), ("4w", 672), (" 1 d ", 24)])
def test_ages(text: str, hours: int) -> None:
    assert prune.parse_age(text) == datetime.timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "0d", "-1d", "30", "1y", "1d1h", "d", "9999999d"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(InvalidInput):
        prune.parse_age(text)


class Shelf:
    """A store that remembers."""

    def __init__(self, manifests: list[Manifest], busy: str = "") -> None:
        self.there = {m.id: m for m in manifests}
        self.busy = busy
        self.done: list[str] = []

    def entries(self, namespace: str = "", pod: str = "") -> list[Entry]:
        return [Entry(m, "", canonical(m)) for m in self.there.values()]

    def leases(self, namespace: str = "", pod: str = "") -> list[Lease]:
        return []

    def sweep(self, namespace: str = "", pod: str = "", *, dry: bool = False) -> int:
        self.done.append(f"sweep dry={dry}")
        return 7

    def remove(self, place: Place, ids: list[str]) -> int:
        (one,) = ids
        if one == self.busy:
            raise StateConflict("in use")
        self.done.append(one)
        return self.there.pop(one).bytes["stored"]


def test_pruning() -> None:
    shelf: Any = Shelf(list(FIVE), busy=identity(4))
    look = prune.prune(shelf, Policy(count=2), NOW, dry=True)
    assert (look.freed, look.leftovers, look.changed, len(shelf.there)) == (300, 7, True, 5)
    done = prune.prune(shelf, Policy(count=2), NOW)
    assert shelf.done == ["sweep dry=True", "sweep dry=False", identity(3), identity(5)]
    assert (done.freed, done.busy) == (200, [identity(4)])
    assert not prune.Pruned(done.verdicts[-2:], 0, 0).changed
