# SPDX-License-Identifier: Apache-2.0
"""Registries with users, tokens and certificates, one that deletes nothing, and answers that nobody should believe."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.podferry.live.plugins.module_utils._common.errors import (
    InvalidInput,
    PodferryError,
    StateConflict,
)
from ansible_collections.podferry.live.plugins.module_utils._store import node, registry
from ansible_collections.podferry.live.plugins.module_utils._store.contract import Denied, open_store
from ansible_collections.podferry.live.plugins.module_utils._store.manifest import Blob
from ansible_collections.podferry.live.plugins.module_utils._store.web import Unreachable
from services.registry import registry as run_registry

from .conftest import RUN, Pod, RegistryShop, files, load, save


@pytest.mark.parametrize(("auth", "tls"), [("basic", True), ("token", False)])
def test_logging_in(tmp_path: Path, pod: Pod, auth: str, tls: bool) -> None:
    with run_registry(tmp_path / "registry", auth=auth, tls=tls) as spec:
        shop = RegistryShop(spec, tmp_path / "registry/data")
        state = pod.dump()
        made = save(shop, pod, state)
        assert load(shop, made, tmp_path / "back") == files(state)
        assert [entry.manifest for entry in shop.shelf.entries(*pod.place)] == [made]
        with pytest.raises(Denied) as caught:
            node.entries({**spec, "password": "wrong secret"}, *pod.place)
        assert "wrong secret" not in str(caught.value.to_dict())
        with pytest.raises(Denied):
            node.entries({key: value for key, value in spec.items() if key != "password"}, *pod.place)
        if tls:
            stranger = {key: value for key, value in spec.items() if key != "ca"}
            with pytest.raises(Unreachable, match="certificate"):
                node.entries(stranger, *pod.place)
            assert len(node.entries({**stranger, "insecure": True}, *pod.place)) == 1
        assert shop.shelf.remove(pod.place, [made.id]) > 0
        assert shop.shelf.entries(*pod.place) == []


def test_a_registry_that_deletes_nothing(tmp_path: Path, pod: Pod) -> None:
    with run_registry(tmp_path / "registry", delete=False) as spec:
        shop = RegistryShop(spec, tmp_path / "registry/data")
        state = pod.dump()
        made = save(shop, pod, state)
        assert load(shop, made, tmp_path / "back", run="restoring") == files(state)
        with pytest.raises(
            PodferryError
        ) as caught:  # leases of the save and of the load are still there, or it says why
            shop.shelf.remove(pod.place, [made.id])
        assert "in use" in caught.value.message or "DELETE_ENABLED" in caught.value.remedy


def test_the_images_manifest_is_what_tools_expect(make_shop: Callable[[str], Any], pod: Pod) -> None:
    shop = make_shop("registry")
    first = save(shop, pod, pod.dump())
    made = save(shop, pod, pod.dump(), first)
    store = open_store(shop.options)
    assert isinstance(store, registry.RegistryStore)
    answer = store._ask("GET", f"/v2/{store._repository(pod.place)}/manifests/{made.id}", {"Accept": registry._MEDIA})
    image = json.loads(answer.body)
    assert image["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert [layer["digest"] for layer in image["layers"]] == [f"sha256:{blob.sha256}" for blob in made.blobs]
    assert {layer["annotations"]["live.podferry.blob"].split("/")[0] for layer in image["layers"]} == {
        made.id,
        first.id,
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "http://registry.example"}, "not encrypted"),
        ({"url": "ftp://127.0.0.1"}, "http"),
        ({"url": "https://user:secret@127.0.0.1"}, "no user or password"),
        ({"url": "https://127.0.0.1:port"}, "cannot be read"),
        ({"url": "https://127.0.0.1/v2"}, "no path"),
        ({"url": ""}, "needs url"),
        ({"repository": "UPPER"}, "no name of a repository"),
        ({"repository": "a/../b"}, "no name of a repository"),
        ({"ca": "no PEM"}, "PEM"),
        ({"password": 1}, "needs password"),
        ({"kind": "ftp"}, "no store of the kind"),
    ],
)
def test_options_that_are_refused(change: dict[str, Any], said: str) -> None:
    spec = {"kind": "registry", "url": "https://127.0.0.1:1", "username": "ferry", **change}
    with pytest.raises(InvalidInput, match=said) as caught:
        open_store(spec)
    assert "secret" not in str(caught.value.to_dict())


class Hostile:
    """A registry that answers what a test wants."""

    def __init__(self, answers: Callable[[str, str], tuple[int, dict[str, str], bytes]]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer.asked.append((self.command, self.path, self.headers.get("Authorization")))
                length = int(self.headers.get("Content-Length") or 0)
                self.rfile.read(length)
                status, headers, body = answers(self.command, self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

            def log_message(self, *_arguments: Any) -> None:
                return

        outer = self
        self.asked: list[tuple[str, str, str | None]] = []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.spec = {
            "kind": "registry", "url": f"http://127.0.0.1:{self.server.server_address[1]}", "username": "ferry", "password": "hush",
        }  # fmt: skip

    def __enter__(self) -> Hostile:
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_uploads_do_not_go_to_another_host(pod: Pod) -> None:
    def answers(method: str, _path: str) -> tuple[int, dict[str, str], bytes]:
        return (404, {}, b"") if method == "HEAD" else (202, {"Location": "http://127.0.0.2:1/steal"}, b"")

    with Hostile(answers) as hostile, pytest.raises(InvalidInput, match="another host"):
        node.save(hostile.spec, str(pod.dump()), pod.fields())


def test_redirects_get_no_credentials(pod: Pod) -> None:
    with Hostile(lambda _method, _path: (404, {}, b"")) as elsewhere:
        moved = {"Location": f"{elsewhere.spec['url']}/blob?signature=1"}

        def answers(_method: str, _path: str) -> tuple[int, dict[str, str], bytes]:
            if not any(authorization for _m, _p, authorization in hostile.asked):
                return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
            return 307, moved, b""

        with Hostile(answers) as hostile:
            assert node.entries(hostile.spec, *pod.place) == []
            assert any(authorization for _m, _p, authorization in hostile.asked)
        assert elsewhere.asked and all(authorization is None for _m, _p, authorization in elsewhere.asked)


def test_a_blob_may_be_elsewhere(pod: Pod) -> None:
    """Registries that keep blobs in a bucket answer HEAD with a redirect, too."""
    there = {"status": 200}
    blob = Blob("state.0", "state", 3, "a" * 64, f"20260101T000000Z-{RUN}")
    with Hostile(lambda _method, _path: (there["status"], {}, b"abc")) as elsewhere:

        def answers(_method: str, _path: str) -> tuple[int, dict[str, str], bytes]:
            if not any(authorization for _m, _p, authorization in hostile.asked):
                return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
            return 307, {"Location": f"{elsewhere.spec['url']}/blob?signature=1"}, b""

        with Hostile(answers) as hostile:
            store = open_store(hostile.spec)
            assert store.has(pod.place, blob)
            there["status"] = 404
            assert not store.has(pod.place, blob)
        assert {(method, authorization) for method, _p, authorization in elsewhere.asked} == {("HEAD", None)}
    with (
        Hostile(lambda _method, path: (307, {"Location": f"{path}/further"}, b"")) as maze,
        pytest.raises(PodferryError, match="307"),
    ):
        open_store(maze.spec).has(pod.place, blob)
    assert len(maze.asked) == 4


def test_giving_back_one_lease_leaves_the_others(
    make_shop: Callable[[str], Any], pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleting goes by digest: two leases of one second are not to have the same."""
    shop = make_shop("registry")
    made = save(shop, pod, pod.dump())
    store = open_store(shop.options)
    now = time.time()
    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda: now)
        store.lease(pod.place, made.id, "restore-a")
        store.lease(pod.place, made.id, "restore-b")
    store.release(pod.place, made.id, "restore-a")
    assert [lease.holder for lease in shop.shelf.leases(*pod.place)] == ["restore-b"]
    with pytest.raises(StateConflict, match="restore-b"):
        shop.shelf.remove(pod.place, [made.id])


def test_an_answer_without_end_is_cut(pod: Pod) -> None:
    with (
        Hostile(lambda _method, _path: (200, {}, bytes(9 << 20))) as hostile,
        pytest.raises(InvalidInput, match="more than a manifest"),
    ):
        node.entries(hostile.spec, *pod.place)


def test_who_is_challenged_for_ever_gives_up(pod: Pod) -> None:
    with (
        Hostile(lambda _method, _path: (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"")) as hostile,
        pytest.raises(Denied),
    ):
        node.entries(hostile.spec, *pod.place)
    assert len(hostile.asked) == 2


texts = st.text(max_size=20) | st.none() | st.integers() | st.booleans()
objects = st.recursive(
    texts, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
)


@given(
    st.binary(max_size=200)
    | objects.map(lambda value: json.dumps(value).encode())
    | st.fixed_dictionaries(
        {"config": objects, "layers": objects, "annotations": objects, "tags": objects, "token": objects}
    ).map(lambda value: json.dumps(value).encode())
)
def test_answers_are_read_or_refused(data: bytes) -> None:
    for parse in (registry.parse_image, lambda body: registry.parse_list(body, "tags"), registry.parse_token):
        try:
            parse(data)
        except InvalidInput:
            continue


def test_deep_answers() -> None:
    for parse in (registry.parse_image, registry.parse_token):
        with pytest.raises(InvalidInput):
            parse(b'{"a":' * 100000)
