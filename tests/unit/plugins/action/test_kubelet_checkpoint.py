# SPDX-License-Identifier: Apache-2.0
"""The documented arguments, the way through the API server with a fake one, and what reaches the node."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
import urllib3
import yaml

from ansible_collections.podferry.live.plugins.doc_fragments import _kubernetes_auth
from ansible_collections.podferry.live.plugins.module_utils._kube.errors import KubeSetupError
from ansible_collections.podferry.live.plugins.module_utils._kube.rest import RestClient
from ansible_collections.podferry.live.plugins.module_utils._kubelet.errors import OutcomeUnknown
from ansible_collections.podferry.live.plugins.module_utils._kubelet.proxy import NodeProxy, insist_on_verification
from ansible_collections.podferry.live.plugins.module_utils._kubelet.request import Answer, NotSent, Request
from ansible_collections.podferry.live.plugins.modules import kubelet_checkpoint
from ansible_collections.podferry.live.plugins.plugin_utils._kube_arguments import KUBE_ARGUMENTS

REQUEST = Request("n", "p", "c", 20)


def test_arguments_are_those_that_are_documented() -> None:
    auth = yaml.safe_load(_kubernetes_auth.ModuleDocFragment.DOCUMENTATION)["options"]
    documented = {**yaml.safe_load(kubelet_checkpoint.DOCUMENTATION)["options"], **auth}
    assert kubelet_checkpoint.KUBE == KUBE_ARGUMENTS
    assert set(kubelet_checkpoint.ARGUMENTS) == set(documented)
    for name, option in kubelet_checkpoint.ARGUMENTS.items():
        for key in ("type", "elements", "default", "choices", "required", "aliases"):
            assert option.get(key) == documented[name].get(key), f"{name}: {key}"


def test_every_error_has_its_place_in_the_documentation() -> None:
    from ansible_collections.podferry.live.plugins.module_utils._kubelet import errors

    kinds = {cls.kind for cls in vars(errors).values() if isinstance(cls, type) and hasattr(cls, "kind")} - {"error"}
    text = " ".join(yaml.safe_load(kubelet_checkpoint.RETURN)["type"]["description"])
    assert [kind for kind in kinds if f"V({kind})" not in text] == []


class Pool:
    """urllib3's pool manager, as far as it is used."""

    def __init__(self, outcome: Any) -> None:
        self.outcome, self.asked = outcome, []  # type: ignore[var-annotated]

    def request(self, method: str, url: str, **options: Any) -> Any:
        self.asked.append((method, url, options["timeout"].read_timeout, options["retries"]))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Config:
    host = "https://api:6443"
    verify_ssl: bool = True
    api_key: Mapping[str, str] = MappingProxyType({})
    username = None

    def get_api_key_with_prefix(self, _name: str) -> None:
        return None


class Response:
    def __init__(self, status: int, body: str) -> None:
        self.status, self.data = status, body.encode()


def proxied(outcome: Any) -> tuple[NodeProxy, Pool]:
    pool = Pool(outcome)
    return NodeProxy(RestClient(Config(), pool), "worker-1"), pool


def test_the_proxy_of_the_pods_node_is_asked_once_and_waited_for() -> None:
    proxy, pool = proxied(Response(200, '{"items": ["/a"]}'))
    answer = proxy(REQUEST)
    assert (answer.status, json.loads(answer.body)) == (200, {"items": ["/a"]})
    assert pool.asked == [
        ("POST", "https://api:6443/api/v1/nodes/worker-1/proxy/checkpoint/n/p/c?timeout=20", REQUEST.patience_s, False)
    ]


def test_errors_of_the_kubelet_and_of_the_api_server_are_told_apart() -> None:
    plain, _pool = proxied(Response(404, "pod does not exist"))
    assert plain(REQUEST) == Answer(404, "pod does not exist")
    status = {"kind": "Status", "reason": "NotFound", "message": 'nodes "worker-1" not found'}
    own, _pool = proxied(Response(404, json.dumps(status)))
    assert own(REQUEST) == Answer(404, 'nodes "worker-1" not found', "NotFound")


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (urllib3.exceptions.ConnectTimeoutError("late"), NotSent),
        (urllib3.exceptions.NewConnectionError(None, "refused"), NotSent),  # type: ignore[arg-type]
        (urllib3.exceptions.ReadTimeoutError(None, "", "late"), OutcomeUnknown),  # type: ignore[arg-type]
        (urllib3.exceptions.ProtocolError("Connection aborted."), OutcomeUnknown),
        (ConnectionResetError("reset"), OutcomeUnknown),
    ],
)
def test_only_without_a_connection_nothing_was_sent(outcome: Exception, error: type[Exception]) -> None:
    proxy, _pool = proxied(outcome)
    with pytest.raises(error):
        proxy(REQUEST)


@pytest.mark.parametrize(("host", "verify"), [("https://api", False), ("http://api", True)])
def test_an_api_server_that_would_not_be_verified_is_not_asked(host: str, verify: bool) -> None:
    config = Config()
    config.host, config.verify_ssl = host, verify
    with pytest.raises(KubeSetupError):
        insist_on_verification(RestClient(config, Pool(None)))
    insist_on_verification(RestClient(Config(), Pool(None)))


def test_a_key_that_is_no_pem_is_not_shown() -> None:
    with pytest.raises(Exception, match="kubelet_client_key is neither") as caught:
        kubelet_checkpoint.pem("/nowhere/k3y", "kubelet_client_key")
    assert "k3y" not in str(caught.value)


def test_what_may_hold_a_key_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PEM text can have the key beside the certificate; AnsibleModule writes its arguments to the node's syslog."""
    taken: list[str] = []

    def pem(_value: None, option: str) -> str:
        taken.append(option)
        return ""

    monkeypatch.setattr(kubelet_checkpoint, "pem", pem)
    monkeypatch.setattr(kubelet_checkpoint, "Kubelet", lambda *_arguments: None)
    kubelet_checkpoint.kubelet(dict.fromkeys(kubelet_checkpoint.ARGUMENTS))
    assert len(taken) == 4
    for name in [*taken, "kubelet_token"]:
        assert kubelet_checkpoint.ARGUMENTS[name]["no_log"] is True, name
