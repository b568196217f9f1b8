# SPDX-License-Identifier: Apache-2.0
"""What the words of kubelets, container runtimes and API servers mean, and which of them allow to ask again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._common.errors import InvalidInput, PodferryError
from ansible_collections.podferry.live.plugins.module_utils._kubelet import answers
from ansible_collections.podferry.live.plugins.module_utils._kubelet.request import API, KUBELET, Answer, Request

FACTS = Path(__file__).resolve().parents[4] / "fixtures/kubernetes-facts/single_pod.json"
REQUEST = Request("default", "rec", "c")


def failed(words: str, code: str = "Unknown") -> Answer:
    """500, as the kubelet passes on what its runtime said."""
    inner = f"rpc error: code = {code} desc = {words}" if code else words
    return Answer(500, f"checkpointing of default/rec/c failed ({inner})")


def api(status: int, reason: str, message: str) -> Answer:
    return Answer(status, message, reason)


KUBELETS: list[tuple[Answer, str]] = [
    (Answer(401, "Unauthorized"), "unauthorized"),
    (Answer(403, "Forbidden (user=u, verb=create, resource=nodes, subresource(s)=[checkpoint])\n"), "forbidden"),
    (Answer(404, "pod does not exist"), "pod_not_found"),
    (Answer(404, "container c does not exist"), "container_not_found"),
    (Answer(404, "cannot parse value of timeout parameter"), "invalid_input"),
    (Answer(404, "404: Page Not Found"), "endpoint_missing"),
    (Answer(404, "404 page not found"), "endpoint_missing"),
    (Answer(405, "405: Method Not Allowed"), "method_not_allowed"),
    (Answer(429, ""), "busy"),
    (Answer(503, ""), "busy"),
    (Answer(500, "Authorization error (user=u, verb=create, resource=nodes, subresource=checkpoint)"), "forbidden"),
    (failed("method CheckpointContainer not implemented", "Unimplemented"), "unimplemented"),
    (failed("unknown method CheckpointContainer for service runtime.v1.RuntimeService", "Unimplemented"), "unimplemented"),
    (failed("criu support is disabled by configuration"), "disabled"),
    (failed("checkpoint/restore support not available"), "disabled"),
    (failed('CRIU binary not found or too old (<31600). Failed to checkpoint container "0": exec: "criu"'), "criu_unusable"),
    (failed("failed to checkpoint container 70: check for CRIU failed to check for criu version: exec: \"criu\""), "criu_unusable"),
    (failed("criu binary not found in shim path or system PATH"), "criu_unusable"),
    (failed("checkpoint/restore requires at least CRIU 31600, current version is 31500"), "criu_unusable"),
    (failed("context deadline exceeded", "DeadlineExceeded"), "deadline"),
    (failed("connection error: desc = \"transport: Error while dialing\"", "Unavailable"), "runtime_unavailable"),
    (failed("container c not found", ""), "container_not_running"),
    (failed('container "0" is in CONTAINER_EXITED state. only CONTAINER_RUNNING containers can be checkpointed'), "container_not_running"),
    (failed("container 0123 is not running"), "container_not_running"),
    (failed('could not find container "0"', "NotFound"), "container_not_running"),
    (failed("checkpointing container \"0\" failed: criu failed: type NOTIFY errno 0\nlog file: dump.log"), "dump_failed"),
    (Answer(500, "something else"), "dump_failed"),
    (Answer(502, ""), "outcome_unknown"),
    (Answer(504, ""), "outcome_unknown"),
    (Answer(302, ""), "bad_answer"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "kind"), KUBELETS, ids=lambda value: str(getattr(value, "body", value))[:40])
def test_each_answer_of_a_kubelet_is_an_error_of_its_own(answer: Answer, kind: str) -> None:
    error = answers.explained(answer, REQUEST, KUBELET)
    assert error.kind == kind
    assert error.message
    assert error.remedy


APIS: list[tuple[Answer, str]] = [
    (api(401, "Unauthorized", "Unauthorized"), "unauthorized"),
    (api(403, "Forbidden", 'nodes "n" is forbidden: User "u" cannot create resource "nodes/proxy"'), "forbidden"),
    (api(404, "NotFound", 'nodes "n" not found'), "node_not_found"),
    (api(429, "TooManyRequests", "Too many requests, please try again later."), "busy"),
    (api(503, "ServiceUnavailable", "the server is currently unable to handle the request"), "busy"),
    (api(503, "ServiceUnavailable", "error trying to reach service: dial tcp 10.0.0.1:10250: connect: connection refused"), "unreachable"),
    (api(503, "ServiceUnavailable", "error trying to reach service: EOF"), "outcome_unknown"),
    (api(503, "ServiceUnavailable", "error trying to reach service: read tcp: connection reset by peer"), "outcome_unknown"),
    (api(503, "ServiceUnavailable", "error trying to reach service: tls: failed to verify certificate: x509: unknown"), "untrusted"),
    (api(504, "Timeout", "request did not complete"), "outcome_unknown"),
    (api(400, "BadRequest", "no"), "bad_answer"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "kind"), APIS, ids=lambda value: str(getattr(value, "body", value))[:60])
def test_each_answer_of_an_api_server_is_an_error_of_its_own(answer: Answer, kind: str) -> None:
    assert answers.explained(answer, REQUEST, API).kind == kind


def test_through_the_proxy_the_remedy_for_the_kubelets_refusals_is_the_api_servers() -> None:
    for status in (401, 403):
        answer = Answer(status, "Unauthorized")
        direct, proxied = (answers.explained(answer, REQUEST, via) for via in (KUBELET, API))
        assert direct.kind == proxied.kind
        assert "credentials of this task are not" in proxied.remedy
        assert "credentials of this task are not" not in direct.remedy


def test_only_what_surely_did_not_run_may_be_repeated() -> None:
    may = {answer.body[:60]: answers.may_be_repeated(answer) for answer, _kind in [*KUBELETS, *APIS] if answer.body}
    assert sorted(body for body, repeated in may.items() if repeated) == [
        "Too many requests, please try again later.",
        "error trying to reach service: dial tcp 10.0.0.1:10250: conn",
        "the server is currently unable to handle the request",
    ]
    assert answers.may_be_repeated(Answer(429, ""))
    assert answers.may_be_repeated(Answer(503, ""))
    assert not answers.may_be_repeated(Answer(500, ""))


def recorded() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(FACTS.read_text())
    return [one for one in listed if "checkpoint/default" in one["request"]["path"]]


def test_the_recorded_answers_are_understood() -> None:
    said = {}
    for one in recorded():
        path = one["request"]["path"].partition("?")[0].split("/")
        via = API if one["request"]["server"] == "apiserver" else KUBELET
        body = one["body"] if isinstance(one["body"], str) else json.dumps(one["body"])
        try:
            made = answers.location(Answer(one["status"], body), Request(*path[-3:]), via)
        except PodferryError as error:
            made = error.kind
        said[one["label"]] = made.split("T09:20")[0]
    archive = "/var/lib/kubelet/checkpoints/checkpoint-rec_default-c-2026-11-22"
    assert said == {
        "kubelet checkpoint": archive,
        "kubelet checkpoint with timeout": archive,
        "kubelet checkpoint, no such container": "container_not_found",
        "kubelet checkpoint, no such pod": "pod_not_found",
        "kubelet checkpoint, GET": "method_not_allowed",
        "kubelet checkpoint, no client certificate": "unauthorized",
        "checkpoint through apiserver proxy": archive,
    }


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        '{"items": []}',
        '{"items": ["/a", "/b"]}',
        '{"items": ["relative/checkpoint-rec_default-c-2026-11-22T09:20:31Z.tar"]}',
        '{"items": ["/x/../checkpoint-rec_default-c-2026-11-22T09:20:31Z.tar"]}',
        '{"items": ["/x/checkpoint-rec_default-d-2026-11-22T09:20:31Z.tar"]}',
        '{"items": ["/etc/shadow"]}',
        '{"items": [{}]}',
    ],
)
def test_an_answer_that_names_no_archive_of_this_container_is_none(body: str) -> None:
    with pytest.raises(PodferryError) as caught:
        answers.location(Answer(200, body), REQUEST, KUBELET)
    assert caught.value.kind == "bad_answer"


def test_an_archive_may_be_named_in_local_time() -> None:
    path = "/data/checkpoints/checkpoint-rec_default-c-2026-11-22T09:20:31+01:00.tar"
    assert answers.location(Answer(200, json.dumps({"items": [path]})), REQUEST, KUBELET) == path


@pytest.mark.parametrize(
    "names",
    [("", "p", "c"), ("n", "../p", "c"), ("n", "p", "c?x=y"), ("n", "P", "c"), ("n", "p", ""), ("n", "p/q", "c")],
)
def test_what_is_no_name_becomes_no_path(names: tuple[str, str, str]) -> None:
    with pytest.raises(InvalidInput):
        Request(*names)
    with pytest.raises(InvalidInput):
        Request("n", "p", "c", -1)


def test_the_paths_are_the_kubelets_and_the_proxys() -> None:
    assert Request("n", "p.x", "c").path == "/checkpoint/n/p.x/c"
    assert Request("n", "p", "c", 20).path == "/checkpoint/n/p/c?timeout=20"
    assert Request("n", "p", "c", 20).proxied("w-1") == "/api/v1/nodes/w-1/proxy/checkpoint/n/p/c"


def test_it_is_waited_longer_than_the_kubelet_waits() -> None:
    assert Request("n", "p", "c").patience_s > 120
    assert Request("n", "p", "c", 20).patience_s > 120
    assert Request("n", "p", "c", 900).patience_s > 900
