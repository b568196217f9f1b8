# SPDX-License-Identifier: Apache-2.0
"""Addresses that a network plugin gave a pod are not copied; those that its user chose are not dropped."""

from __future__ import annotations

import json

import pytest

from ansible_collections.podferry.live.plugins.module_utils._plan.addresses import LAST_APPLIED, check_addresses, given
from ansible_collections.podferry.live.plugins.module_utils._plan.manifest import kept_annotations
from ansible_collections.podferry.live.plugins.module_utils._plan.owners import Mode, OwnerChain
from doubles import objects

OVN = "ovn.kubernetes.io/"
GIVEN = {
    f"{OVN}allocated": "true",
    f"{OVN}routed": "true",
    f"{OVN}ip_address": "10.16.0.9",
    f"{OVN}mac_address": "00:00:00:53:6B:B6",
    f"{OVN}cidr": "10.16.0.0/16",
    f"{OVN}gateway": "10.16.0.1",
}


def pod(annotations: dict[str, str]) -> objects.JsonDict:
    return objects.pod(change={"metadata": {"annotations": annotations}})


@pytest.mark.parametrize("mode", ["twin", "successor", "copy"])
def test_what_a_plugin_gave_the_source_is_given_anew(mode: Mode) -> None:
    others = {
        "k8s.ovn.org/pod-networks": "{}",
        "vpc.amazonaws.com/pod-eni": "[]",
        "vpc.amazonaws.com/pod-ips": "10.0.0.1",
        "cni.projectcalico.org/podIPs": "10.0.0.1/32",
    }
    asked = {f"{OVN}logical_switch": "blue", f"{OVN}ip_pool": "10.16.0.9,10.16.0.10", "note": "kept"}
    assert kept_annotations(pod({**GIVEN, **others, **asked}), mode) == asked
    assert check_addresses(pod({**GIVEN, **others, **asked}), mode, OwnerChain()) == []


@pytest.mark.parametrize("key", ["cni.projectcalico.org/ipAddrs", f"{OVN}ip_address", f"{OVN}mac_address"])
def test_what_the_user_chose_goes_with_a_successor_only(key: str) -> None:
    chosen = pod({key: "x"})
    assert kept_annotations(chosen, "successor") == {key: "x"}
    assert check_addresses(chosen, "successor", OwnerChain()) == []
    for mode in ("twin", "copy"):
        (refusal,) = check_addresses(chosen, mode, OwnerChain())
        assert refusal.reason == f"Annotation {key} gives the pod the address x."


def test_of_a_given_address_template_and_applied_manifest_say_who_chose_it() -> None:
    template = {"metadata": {"annotations": {f"{OVN}ip_address": "10.16.0.9"}}}
    chain = OwnerChain(objects.merged(objects.replicaset(), {"spec": {"template": template}}))
    assert [r.code for r in check_addresses(pod(GIVEN), "twin", chain)] == ["fixed_address"]
    applied = pod({**GIVEN, LAST_APPLIED: json.dumps(template)})
    assert [r.code for r in check_addresses(applied, "twin", OwnerChain())] == ["fixed_address"]
    assert kept_annotations(applied, "successor")[f"{OVN}ip_address"] == "10.16.0.9"


@pytest.mark.parametrize("words", ["", "[]", "{", '{"metadata": 1}', '{"metadata": {"annotations": [1]}}'])
def test_an_applied_manifest_that_is_none_says_nothing(words: str) -> None:
    assert given(pod({**GIVEN, LAST_APPLIED: words})) == set(GIVEN)
