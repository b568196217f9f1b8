# SPDX-License-Identifier: Apache-2.0
"""From one node's folder to another's, over the connection of a run."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._checkpoint import transfer
from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    InvalidInput,
    LinkLost,
    NotFound,
    PodferryError,
)
from ansible_collections.podferry.live.plugins.module_utils._ferry import tls
from ansible_collections.podferry.live.plugins.module_utils._ferry.link import Link
from ansible_collections.podferry.live.plugins.module_utils._migrate.keys import make_pair
from ansible_collections.podferry.live.plugins.module_utils._store import link, node, pack
from ansible_collections.podferry.live.plugins.module_utils._store.contract import open_store
from ansible_collections.podferry.live.plugins.module_utils._store.manifest import Blob, Manifest, canonical

from .conftest import RUN, Pod, Shop, ask, files, flip, load, save


class Here:
    """A node that is this process."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def call(self, op: str, *, timeout_s: float = 30.0, **arguments: Any) -> Any:
        self.asked.append(op)
        return ask(op, **arguments)


def receiver() -> transfer.Receiver:
    return transfer.Receiver(Here(), "127.0.0.1", (18900, 18999))


def test_from_node_to_node(
    make_shop: Callable[[str], Shop], pod: Pod, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = make_shop("path"), make_shop("path")
    first = save(here, pod, pod.dump())
    state = pod.dump()
    made = save(here, pod, state, first, signature="signed")
    entry = transfer.find(here.shelf, pod.place, "latest", "")
    assert entry.manifest == made

    def copy() -> transfer.Transferred:
        return transfer.transfer(entry, here.shelf, there.shelf, Here(), RUN, receiver=receiver())

    fetched: list[Blob] = []
    real = pack.fetch

    def fetch(get: Any, blob: Blob, *arguments: Any) -> None:
        if len(fetched) == 2:
            raise LinkLost("interrupted")
        fetched.append(blob)
        real(get, blob, *arguments)

    with monkeypatch.context() as patched, pytest.raises(LinkLost):
        patched.setattr(node.packing, "fetch", fetch)
        copy()
    assert there.shelf.entries() == []
    gone(there)
    done = copy()
    assert (done.changed, done.blobs, done.present) == (True, 2, 2)
    (arrived,) = there.shelf.entries()
    assert arrived == entry
    assert load(there, made, tmp_path / "back") == files(state)
    again = copy()
    assert (again.changed, again.bytes) == (False, 0)
    gone(there)


def gone(shop: Shop) -> None:
    """The receiver's thread gives its leases back when it notices the end of the connection."""
    deadline = time.monotonic() + 10
    while shop.shelf.leases() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert shop.shelf.leases() == []


def test_moving(make_shop: Callable[[str], Shop], pod: Pod, tmp_path: Path) -> None:
    here, there = make_shop("path"), make_shop("path")
    state = pod.dump()
    made = save(here, pod, state)
    entry = transfer.find(here.shelf, pod.place, made.id, "")
    done = transfer.transfer(entry, here.shelf, there.shelf, Here(), RUN, receiver=receiver(), move=True)
    assert done.freed == made.bytes["stored"] and here.shelf.entries() == []
    assert load(there, made, tmp_path / "back") == files(state)


def test_what_is_not_there_is_told(make_shop: Callable[[str], Shop], pod: Pod) -> None:
    shop = make_shop("path")
    made = save(shop, pod, pod.dump())
    with pytest.raises(NotFound) as caught:
        transfer.find(shop.shelf, pod.place, f"20200101T000000Z-{RUN}", "")
    assert made.id in caught.value.remedy


@contextlib.contextmanager
def listening(shop: Shop, made: Manifest) -> Iterator[tuple[Any, int]]:
    """A receiver, and the keys to talk to it."""
    mine, other = make_pair(RUN)
    answer = ask(
        "store_listen", store=shop.options, manifest=canonical(made).decode(), keys=other.to_dict(), address="127.0.0.1", ports=[18900, 18999]
    )  # fmt: skip
    yield mine, answer["port"]


def talk(keys: Any, port: int) -> Link:
    return Link(tls.connect(tls.Keys.from_dict(keys.to_dict()), "127.0.0.1", port, 10), 10, "store")


def test_a_stranger_is_not_let_in(make_shop: Callable[[str], Shop], pod: Pod) -> None:
    shop = make_shop("path")
    made = save(shop, pod, pod.dump(), publish=False)
    with listening(shop, made) as (keys, port):
        with socket.create_connection(("127.0.0.1", port)) as scanner:
            scanner.sendall(b"GET / HTTP/1.0\r\n\r\n")
        stranger, _other = make_pair("ffffffffffff")
        with pytest.raises(PodferryError):
            connection = talk(stranger, port)
            connection.send("has", key=made.blobs[0].key)
            connection.message(10.0)
        connection = talk(keys, port)
        connection.send("has", key=made.blobs[0].key)
        assert (connection.message(10.0) or {})["there"] is True
        connection.close()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"kind": "put", "key": "../../etc/passwd", "size": 1}, "does not name"),
        ({"kind": "put", "key": "KEY", "size": 1 << 40}, "more than the manifest"),
        ({"kind": "put", "key": "KEY", "size": -1}, "more than the manifest"),
        ({"kind": "lease", "id": "20200101T000000Z-0123456789ab", "holder": "x"}, "another checkpoint"),
        ({"kind": "lease", "id": "../x", "holder": "x"}, "another checkpoint"),
        ({"kind": "lease", "id": "ID", "holder": "../x"}, "no name of a run"),
        ({"kind": "remove"}, "asks for"),
        ({"kind": "publish"}, "there is no store"),
    ],
)
def test_a_sender_that_is_hostile(
    make_shop: Callable[[str], Shop], pod: Pod, message: dict[str, Any], said: str
) -> None:
    source, shop = make_shop("path"), make_shop("path")
    made = save(source, pod, pod.dump())
    with listening(shop, made) as (keys, port):
        connection = talk(keys, port)
        fields = {
            name: {"KEY": made.blobs[0].key, "ID": made.id}.get(str(value), value) for name, value in message.items()
        }
        connection.send(fields.pop("kind"), **fields)
        answer = connection.message(10.0) or {}
        assert answer["m"] == "error" and said in answer["error"]["message"]
        connection.close()
    assert shop.shelf.entries() == []


def test_other_bytes_than_announced_are_not_stored(make_shop: Callable[[str], Shop], pod: Pod) -> None:
    source, shop = make_shop("path"), make_shop("path")
    made = save(source, pod, pod.dump())
    blob = made.blob("state")
    with listening(shop, made) as (keys, port):
        connection = talk(keys, port)
        connection.send("put", key=blob.key, size=blob.size)
        connection.send_data(bytes(blob.size))
        answer = connection.message(10.0) or {}
        assert "did not arrive" in answer["error"]["message"]
        connection.close()
    assert not open_store(shop.options).has(pod.place, blob)


def test_a_port_must_be_free(make_shop: Callable[[str], Shop], pod: Pod) -> None:
    shop = make_shop("path")
    made = save(shop, pod, pod.dump(), publish=False)
    _mine, other = make_pair(RUN)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = {
            "store": shop.options,
            "manifest": canonical(made).decode(),
            "keys": other.to_dict(),
            "address": "127.0.0.1",
        }
        with pytest.raises(NotFound, match="no port"):
            link.listen({**arguments, "ports": [port, port]})
        with pytest.raises(InvalidInput):
            link.listen({**arguments, "ports": "all"})


def test_the_source_is_checked_too(make_shop: Callable[[str], Shop], pod: Pod) -> None:
    here, there = make_shop("path"), make_shop("path")
    made = save(here, pod, pod.dump())
    entry = transfer.find(here.shelf, pod.place, "latest", "")
    flip(Path(here.options["path"], *pod.place, made.blobs[0].key))
    with pytest.raises(InvalidInput, match="not what was stored"):
        transfer.transfer(entry, here.shelf, there.shelf, Here(), RUN, receiver=receiver())
    assert there.shelf.entries() == [] and threading.active_count() < 20
