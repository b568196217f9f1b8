# SPDX-License-Identifier: Apache-2.0
"""Against a real HTTPS server: who is trusted, who we say we are, and what is asked for again."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput, PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kubelet.client import Identity, Kubelet, Trust
from ansible_collections.podferry.live.plugins.module_utils._kubelet.errors import (
    OutcomeUnknown,
    Unauthorized,
    Unreachable,
    Untrusted,
)
from ansible_collections.podferry.live.plugins.module_utils._kubelet.request import KUBELET, NotSent, Request
from ansible_collections.podferry.live.plugins.module_utils._kubelet.take import Taken, take
from doubles.authority import Authority
from doubles.kubelet import SILENCE, FakeKubelet

AUTHORITY, CLIENTS, STRANGERS = Authority(), Authority("clients"), Authority("strangers")
SERVER = AUTHORITY.sign("kubelet", "node-a", "10.0.0.1", "fd00::a", "::1")
CLIENT = CLIENTS.sign("podferry")
ME = Identity(CLIENT.cert, CLIENT.key)
REQUEST = Request("n", "p", "c", 20)
PATH = "/var/lib/kubelet/checkpoints/checkpoint-p_n-c-2026-11-22T09:20:31Z.tar"
MADE = (200, json.dumps({"items": [PATH]}))


@pytest.fixture
def server() -> Iterator[FakeKubelet]:
    with FakeKubelet(SERVER, CLIENTS.pem, [MADE]) as running:
        yield running


def client(server: FakeKubelet, trust: Trust | None = None, identity: Identity = ME, name: str = "node-a") -> Kubelet:
    return Kubelet("127.0.0.1", server.port, name, trust or Trust(authorities=AUTHORITY.pem), identity)


def asked(client: Kubelet, retries: int = 3) -> tuple[Taken, list[float]]:
    pauses: list[float] = []
    return take(client, REQUEST, KUBELET, retries=retries, clock=lambda: 0.0, sleep=pauses.append), pauses


def test_one_post_with_a_client_certificate(server: FakeKubelet) -> None:
    taken, pauses = asked(client(server))
    assert (taken.path, taken.attempts, pauses) == (PATH, 1, [])
    (request,) = server.asked
    assert (request.method, request.path, request.client) == ("POST", "/checkpoint/n/p/c?timeout=20", "podferry")
    assert "authorization" not in request.headers


def test_a_token_instead(server: FakeKubelet) -> None:
    asked(client(server, identity=Identity(token="secret\n")))
    (request,) = server.asked
    assert (request.headers["authorization"], request.client) == ("Bearer secret", "")


@pytest.mark.parametrize(
    ("name", "host"), [("node-a", "node-a"), ("10.0.0.1", "10.0.0.1"), ("fd00::a", "[fd00::a]"), ("::1", "[::1]")]
)
def test_the_name_may_be_an_address(server: FakeKubelet, name: str, host: str) -> None:
    asked(client(server, name=name))
    (request,) = server.asked
    assert request.headers["host"] == f"{host}:{server.port}"


@pytest.mark.parametrize(
    ("trust", "name"),
    [
        (Trust(authorities=STRANGERS.pem), "node-a"),
        (Trust(authorities=AUTHORITY.pem), "node-b"),
        (Trust(authorities=AUTHORITY.pem), "127.0.0.1"),
        (Trust(pinned=AUTHORITY.sign("kubelet", "node-a").cert), "node-a"),
        (Trust(pinned=STRANGERS.sign("kubelet", "node-a").cert), "node-a"),
        (Trust(pinned=AUTHORITY.pem), "node-a"),
    ],
    ids=["other authority", "other name", "address not in it", "other of the same authority", "stranger", "authority as pin"],
)  # fmt: skip
def test_who_is_not_the_kubelet_is_asked_nothing(server: FakeKubelet, trust: Trust, name: str) -> None:
    with pytest.raises(Untrusted) as caught:
        asked(client(server, trust, name=name))
    assert server.asked == []
    assert caught.value.remedy


def test_an_expired_certificate_is_none() -> None:
    old = AUTHORITY.sign("kubelet", "node-a", days=-1)
    for trust in (Trust(authorities=AUTHORITY.pem), Trust(pinned=old.cert)):
        with FakeKubelet(old, CLIENTS.pem, [MADE]) as server, pytest.raises(Untrusted, match="expired"):
            asked(client(server, trust))


def test_a_pinned_certificate_counts_whatever_name_is_in_it(server: FakeKubelet) -> None:
    asked(client(server, Trust(pinned=SERVER.cert), name="any"))
    # As in kubelet-server-current.pem and kubelet.crt: the key beside it, other certificates before and after.
    asked(client(server, Trust(pinned=STRANGERS.pem + SERVER.cert + SERVER.key + AUTHORITY.pem), name="any"))
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "trust", [Trust(), Trust(AUTHORITY.pem, SERVER.cert), Trust(authorities="none"), Trust(pinned=SERVER.key)]
)
def test_verification_cannot_be_left_out(server: FakeKubelet, trust: Trust) -> None:
    with pytest.raises(InvalidInput):
        client(server, trust)


@pytest.mark.parametrize(
    "identity",
    [
        Identity(),
        Identity(key=CLIENT.key),
        Identity(CLIENT.cert, SERVER.key),
        Identity(CLIENT.cert),
        Identity("x", "y"),
        Identity(token="a\r\nHost: b"),
    ],
)
def test_who_one_is_must_be_whole(server: FakeKubelet, identity: Identity) -> None:
    with pytest.raises(InvalidInput) as caught:
        client(server, identity=identity)
    assert CLIENT.key not in str(caught.value)


def test_secrets_are_not_in_the_text_of_an_identity() -> None:
    assert "k3y" not in repr(Identity("c", "k3y", "k3y"))


@pytest.mark.parametrize("status", [429, 503])
def test_busy_is_asked_again_with_growing_pauses(server: FakeKubelet, status: int) -> None:
    server.answers[:] = [(status, ""), (status, ""), MADE]
    taken, pauses = asked(client(server))
    assert (taken.attempts, pauses, len(server.asked)) == (3, [1.0, 2.0], 3)


def test_busy_for_good(server: FakeKubelet) -> None:
    server.answers[:] = [(503, "later")]
    with pytest.raises(PodferryError) as caught:
        asked(client(server), retries=2)
    assert (caught.value.kind, len(server.asked)) == ("busy", 3)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500, 502, 504])
def test_no_other_status_is_asked_for_again(server: FakeKubelet, status: int) -> None:
    server.answers[:] = [(status, "no"), MADE]
    with pytest.raises(PodferryError):
        asked(client(server))
    assert len(server.asked) == 1


def test_a_request_without_an_answer_is_not_repeated(server: FakeKubelet) -> None:
    server.answers[:] = [None, MADE]
    with pytest.raises(OutcomeUnknown) as caught:
        asked(client(server))
    assert len(server.asked) == 1
    assert "may have been made" in caught.value.remedy


def test_a_request_that_is_not_answered_in_time_is_not_repeated(server: FakeKubelet) -> None:
    class Impatient(Request):
        patience_s = 0.2  # type: ignore[assignment]

    server.answers[:] = [SILENCE, MADE]
    with pytest.raises(OutcomeUnknown, match="timed out"):
        take(client(server), Impatient("n", "p", "c"), KUBELET, retries=3, clock=lambda: 0.0, sleep=lambda _s: None)
    assert len(server.asked) == 1


def test_refused_is_asked_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    absent = Kubelet("127.0.0.1", port, "node-a", Trust(authorities=AUTHORITY.pem), ME)
    with pytest.raises(NotSent):
        absent.connect()
    pauses: list[float] = []
    with pytest.raises(Unreachable, match="3 times"):
        take(absent, REQUEST, KUBELET, retries=2, clock=lambda: 0.0, sleep=pauses.append)
    assert pauses == [1.0, 2.0]


def test_a_kubelet_that_comes_back_is_asked(server: FakeKubelet) -> None:
    tries = iter([NotSent("refused"), None])
    real = client(server)

    def send(request: Request) -> object:
        error = next(tries)
        if error:
            raise error
        return real(request)

    taken = take(send, REQUEST, KUBELET, retries=3, clock=lambda: 0.0, sleep=lambda _s: None)  # type: ignore[arg-type]
    assert (taken.attempts, len(server.asked)) == (2, 1)


def test_a_client_that_is_refused_in_the_handshake_is_not_asked_again() -> None:
    """No kubelet does that. Whether the alert is heard before the connection is gone is a race in TLS 1.3."""
    other = STRANGERS.sign("somebody")
    with FakeKubelet(SERVER, CLIENTS.pem, [MADE], insist=True) as server:
        with pytest.raises((Unauthorized, OutcomeUnknown)):
            asked(client(server, identity=Identity(other.cert, other.key)))
        assert server.asked == []


def test_what_speaks_no_tls_is_no_kubelet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection = listener.accept()[0]
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        plain = Kubelet("127.0.0.1", listener.getsockname()[1], "node-a", Trust(authorities=AUTHORITY.pem), ME)
        with pytest.raises(Unreachable):
            plain(REQUEST)
        thread.join()


@pytest.mark.parametrize("body", ["nothing", "{}", '{"items": ["/etc/shadow"]}'])
def test_nonsense_is_not_believed(server: FakeKubelet, body: str) -> None:
    server.answers[:] = [(200, body)]
    with pytest.raises(PodferryError) as caught:
        asked(client(server))
    assert caught.value.kind == "bad_answer"
