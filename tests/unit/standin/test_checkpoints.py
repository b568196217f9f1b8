# SPDX-License-Identifier: Apache-2.0
"""The stand-in's checkpoint call says what the recorded kubelet said, and lets in whom the RBAC manifests of docs/ let in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from podferry_standin.api import access, errors
from podferry_standin.api.controllers import Manager
from podferry_standin.api.registry import Registry
from podferry_standin.api.resources import BY_KIND, BY_NAME
from podferry_standin.api.storage import Store
from podferry_standin.api.tokens import Signer
from podferry_standin.kubelet.access import Access, User, of_certificate
from podferry_standin.kubelet.apiclient import ApiError
from podferry_standin.kubelet.checkpoints import Checkpoints, Refused
from podferry_standin.kubelet.errors import CriError

ROOT = Path(__file__).resolve().parents[3]
FACTS = ROOT / "tests/fixtures/kubernetes-facts/single_pod.json"
Obj = dict[str, Any]


@pytest.fixture
def registry() -> Registry:
    """A cluster to which both manifests were applied."""
    made = Registry(Store())
    Manager(made).settle()
    for name in ("rbac.yml", "rbac-checkpoint.yml"):
        for one in yaml.safe_load((ROOT / "docs" / name).read_text())["items"]:
            resource = BY_KIND[one["apiVersion"], one["kind"]]
            try:
                made.create(resource, one["metadata"].get("namespace", ""), one)
            except errors.ApiError as error:
                assert error.code == 409 and one["kind"] == "Namespace", one
    return made


class Loopback:
    """The API without HTTP."""

    def __init__(self, registry: Registry, signer: Signer) -> None:
        self.registry, self.signer, self.away = registry, signer, False

    def request(self, _method: str, path: str, body: Obj) -> Obj:
        if self.away:
            raise ApiError(0, "refused")
        if path.endswith("tokenreviews"):
            return access.review_token(self.signer, body)
        return access.review_access(self.registry, body)


class FakeCri:
    def __init__(self) -> None:
        self.made: list[tuple[str, str, int]] = []
        self.errors: list[CriError] = []

    def checkpoint(self, container: str, location: str, timeout: int) -> None:
        self.made.append((container, location, timeout))
        for error in self.errors:
            raise error


class Node:
    """A node whose only pod is the recorded one."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.signer, self.cri = Signer(b"key"), FakeCri()
        self.api = Loopback(registry, self.signer)
        self.access = Access(self.api, "node-a")  # type: ignore[arg-type]
        pod = {"spec": {"containers": [{"name": "c"}, {"name": "ended"}]}}
        self.checkpoints = Checkpoints(
            self.cri,
            self.access,
            folder,
            lambda namespace, name: pod if (namespace, name) == ("default", "rec") else None,
            lambda _namespace, _pod, name: SimpleNamespace(id="1") if name == "c" else None,
        )

    def token(self, account: str) -> str:
        meta = {"metadata": {"namespace": "podferry", "name": account}}
        token: str = self.signer.request(meta, {})["status"]["token"]
        return f"Bearer {token}"

    def post(self, path: str, *, certificate: Obj | None = None, authorization: str = "") -> tuple[int, Any]:
        parts, _mark, query = path.removeprefix("/checkpoint/").partition("?")
        try:
            self.checkpoints.admit(self.access.user(certificate, authorization), "create")
            namespace, pod, container = parts.split("/")
            timeouts = re.findall(r"timeout=([^&]*)", query)
            return 200, json.loads(self.checkpoints.take(namespace, pod, container, timeouts))
        except Refused as refused:
            return refused.status, refused.words


MASTER = {"subject": ((("organizationName", "system:masters"),), (("commonName", "admin"),))}


@pytest.fixture
def node(registry: Registry, tmp_path: Path) -> Node:
    return Node(registry, tmp_path / "checkpoints")


def test_recorded_answers(node: Node, tmp_path: Path) -> None:
    replayed = 0
    for one in json.loads(FACTS.read_text()):
        request = one["request"]
        if not request["path"].startswith("/checkpoint/") or request["method"] != "POST":
            continue
        status, said = node.post(request["path"], certificate=MASTER if request["client_cert"] else None)
        wanted = one["body"]
        if status == 200:
            (made,), (recorded,) = said["items"], wanted["items"]
            times = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
            assert re.sub(times, "T", Path(made).name) == re.sub(times, "T", Path(recorded).name)
            said = wanted
        assert (status, said) == (one["status"], wanted), one["label"]
        replayed += 1
    assert replayed == 5
    assert (tmp_path / "checkpoints").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/checkpoint/default/rec/c?timeout=x", 404, "cannot parse value of timeout parameter"),
        (
            "/checkpoint/default/rec/c?timeout=-1",
            500,
            "checkpointing of default/rec/c failed (CheckpointContainer requires",
        ),
        ("/checkpoint/default/rec/ended", 500, "checkpointing of default/rec/ended failed (container ended not found)"),
    ],
)
def test_what_a_real_kubelet_said_in_the_lab(node: Node, path: str, status: int, words: str) -> None:
    found, said = node.post(path, certificate=MASTER)
    assert found == status
    assert said.startswith(words)


def test_the_runtimes_words_are_passed_on(node: Node) -> None:
    words = "rpc error: code = Unimplemented desc = method CheckpointContainer not implemented"
    node.cri.errors.append(CriError("CheckpointContainer", "UNIMPLEMENTED", words))
    assert node.post("/checkpoint/default/rec/c", certificate=MASTER) == (
        500,
        f"checkpointing of default/rec/c failed ({words})",
    )


def test_only_the_account_for_it_may(node: Node) -> None:
    path = "/checkpoint/default/rec/c"
    assert node.post(path, authorization=node.token("podferry-checkpoint"))[0] == 200
    for account in ("podferry", "podferry-checkpoint-api", "other"):
        assert node.post(path, authorization=node.token(account)) == (
            403,
            f"Forbidden (user=system:serviceaccount:podferry:{account}, verb=create, resource=nodes, subresource(s)=[checkpoint])\n",
        )
    for nobody in ("", "Bearer junk", "Bearer jünk", "Basic eA==", node.token("podferry-checkpoint") + "x"):
        assert node.post(path, authorization=nobody) == (401, "Unauthorized")
    assert node.post(path, certificate={"subject": ((("commonName", "x"),),)})[0] == 403
    assert len(node.cri.made) == 1


def test_rights_on_some_nodes_only(node: Node, registry: Registry) -> None:
    role = registry.get(BY_NAME["clusterroles"], "", "podferry-checkpoint-kubelet")
    for names, status in ((["node-b"], 403), (["node-a", "node-b"], 200)):
        registry.modify(
            BY_NAME["clusterroles"], role, lambda have, names=names: have["rules"][0].update(resourceNames=names)
        )
        authorization = node.token("podferry-checkpoint")
        assert node.post("/checkpoint/default/rec/c", authorization=authorization)[0] == status


def test_an_api_that_is_away_lets_nobody_in(node: Node) -> None:
    token = node.token("podferry-checkpoint")
    node.api.away = True
    assert node.post("/checkpoint/default/rec/c", authorization=token) == (401, "Unauthorized")
    status, said = node.post("/checkpoint/default/rec/c", certificate=MASTER)
    assert (status, said[:19]) == (500, "Authorization error")


def test_users_of_certificates() -> None:
    assert of_certificate(MASTER) == User("admin", ("system:masters",))
    assert of_certificate(None) is None
    assert of_certificate({"subject": ()}) is None


def may(registry: Registry, account: str, verb: str, resource: str, namespace: str = "", **more: str) -> bool:
    group, _colon, plural = resource.rpartition(":")
    name, _slash, sub = plural.partition("/")
    attributes = {"verb": verb, "group": group, "resource": name, "subresource": sub, "namespace": namespace, **more}
    return access.allowed(
        registry, {"user": f"system:serviceaccount:podferry:{account}", "resourceAttributes": attributes}
    )


def test_the_manifests_allow_what_they_are_for_and_no_more(registry: Registry) -> None:
    """The same questions were asked of a real API server (docs/security.md)."""
    yes = [
        ("podferry", "create", "pods", "default"),
        ("podferry", "delete", "apps:statefulsets", "default"),
        ("podferry", "get", "nodes", ""),
        ("podferry-checkpoint", "create", "nodes/checkpoint", ""),
        ("podferry-checkpoint-api", "create", "nodes/proxy", ""),
        ("podferry-checkpoint-api", "get", "pods", "default"),
    ]
    no = [
        ("podferry", "create", "pods", "kube-system"),
        ("podferry", "create", "pods/exec", "default"),
        ("podferry", "get", "secrets", "default"),
        ("podferry", "list", "nodes", ""),
        ("podferry", "create", "nodes/checkpoint", ""),
        ("podferry", "create", "nodes/proxy", ""),
        ("podferry-checkpoint", "create", "nodes/proxy", ""),
        ("podferry-checkpoint", "get", "nodes/checkpoint", ""),
        ("podferry-checkpoint", "get", "pods", "default"),
        ("podferry-checkpoint-api", "create", "nodes/checkpoint", ""),
        ("podferry-checkpoint-api", "get", "pods", "kube-system"),
        ("podferry-checkpoint-api", "get", "nodes/proxy", ""),
    ]
    assert [one for one in yes if not may(registry, *one)] == []
    assert [one for one in no if may(registry, *one)] == []
    assert may(registry, "podferry", "get", "node.k8s.io:runtimeclasses", name="podferry")
    assert not may(registry, "podferry", "get", "node.k8s.io:runtimeclasses", name="other")
