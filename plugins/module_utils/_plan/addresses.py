# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""A pod's addresses in its annotations: those that a network plugin gave it, and those that its user chose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .._kube import predicates
from .owners import Mode, OwnerChain
from .refusals import Refusal, refuse

Obj = Mapping[str, Any]

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: Of Calico, Multus, OVN-Kubernetes, the AWS VPC CNI, Kube-OVN: what the one pod was given. Who finds it believes it.
_GIVEN = (
    "cni.projectcalico.org/containerID", "cni.projectcalico.org/podIP", "k8s.v1.cni.cncf.io/network-status",
    "k8s.v1.cni.cncf.io/networks-status", "k8s.ovn.org/pod-networks", "vpc.amazonaws.com/pod-eni",
    "vpc.amazonaws.com/pod-ips", "ovn.kubernetes.io/allocated", "ovn.kubernetes.io/routed",
)  # fmt: skip
_CHOSEN = frozenset(
    (
        "cni.projectcalico.org/ipAddrs",
        "cni.projectcalico.org/ipAddrsNoIpam",
        "cni.projectcalico.org/floatingIPs",
        "ipam.antrea.io/pod-ips",
    )
)
#: Kube-OVN writes what it gives where its user would have asked for it, and that it has.
_ASKED_OR_GIVEN = frozenset(("ovn.kubernetes.io/ip_address", "ovn.kubernetes.io/mac_address"))
_GIVEN_WITH_THEM = frozenset(("ovn.kubernetes.io/cidr", "ovn.kubernetes.io/gateway"))
_IS_GIVEN = "ovn.kubernetes.io/allocated"


def given(pod: Obj) -> set[str]:
    """Annotations by which a network plugin remembers what it gave this one pod; copied they would be lies."""
    annotations = predicates.annotations_of(pod)
    found = {key for key in annotations if key.startswith(_GIVEN)}
    if annotations.get(_IS_GIVEN) == "true":
        found |= (_ASKED_OR_GIVEN | _GIVEN_WITH_THEM) & annotations.keys() - _applied(annotations).keys()
    return found


def check_addresses(pod: Obj, mode: Mode, chain: OwnerChain) -> list[Refusal]:
    """A twin or a copy is there together with its source: it cannot have an address that is the source's by choice."""
    if mode == "successor":
        return []
    annotations = predicates.annotations_of(pod)
    written = _CHOSEN | (_ASKED_OR_GIVEN & (_of_template(chain).keys() | (annotations.keys() - given(pod))))
    return [
        refuse("fixed_address", f"Annotation {key} gives the pod the address {annotations[key]}.")
        for key in sorted(written & annotations.keys())
    ]


def _of_template(chain: OwnerChain) -> Mapping[str, Any]:
    """Annotations that the pod's owner writes on each of its pods."""
    spec: Obj = (chain.replicaset or chain.statefulset or {}).get("spec") or {}
    return ((spec.get("template") or {}).get("metadata") or {}).get("annotations") or {}


def _applied(annotations: Mapping[str, str]) -> Mapping[str, Any]:
    """The annotations with which ``kubectl apply`` created the pod."""
    try:
        applied = json.loads(annotations.get(LAST_APPLIED, "{}"))
        return dict((applied.get("metadata") or {}).get("annotations") or {})
    except (AttributeError, TypeError, ValueError):
        return {}
