# SPDX-License-Identifier: Apache-2.0
"""The control socket: a ferry must notice that its controller is gone, also when nobody says anything."""

from __future__ import annotations

import select
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import NotFound, StateConflict
from ansible_collections.podferry.live.plugins.module_utils._ferry.control import Client, Message, Peer, Server


def next_of(server: Server) -> tuple[Peer, Message | None]:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        select.select([server.wake], [], [], 0.1)
        item = server.next()
        if item is not None:
            return item
    raise AssertionError("nothing came within 5 s")


def test_a_session_that_closes_is_noticed_although_its_reader_waits(tmp_path: Path) -> None:
    """A reader that waits for the next event holds the stream: closing must wake it, not wait for it."""
    server = Server(str(tmp_path / "control"))
    client = Client(str(tmp_path / "control"))
    client.send({"op": "subscribe", "id": 1})
    peer, request = next_of(server)
    assert request == {"op": "subscribe", "id": 1}
    peer.subscribed = True
    reader = threading.Thread(target=client.receive, daemon=True)
    reader.start()
    time.sleep(0.1)
    assert server.controlled()

    closer = threading.Thread(target=client.close, daemon=True)
    closer.start()
    closer.join(5)

    assert not closer.is_alive(), "close() waits for the reader"
    assert next_of(server) == (peer, None)
    assert not server.controlled()


def test_answers_and_refusals_come_back(tmp_path: Path) -> None:
    server = Server(str(tmp_path / "control"))

    def serve() -> None:
        for _request in range(2):
            peer, request = next_of(server)
            assert request is not None
            if request["op"] == "good":
                peer.answer(request, {"x": 1})
            else:
                peer.refuse(request, StateConflict("no"))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    client = Client(str(tmp_path / "control"), timeout=5)
    assert client.ask({"op": "good", "id": 1}) == {"x": 1}
    with pytest.raises(StateConflict, match="no"):
        client.ask({"op": "bad", "id": 2})
    client.close()
    thread.join(5)


def test_a_ferry_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Client(str(tmp_path / "nothing"))
