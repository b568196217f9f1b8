# SPDX-License-Identifier: Apache-2.0
"""Every field that a pod can have is kept, computed again or refused, never dropped in silence.

The fields come from the Kubernetes client's own models, so a new one fails here until somebody has decided about it. What
happens to a field is seen by giving it a value, not by asking a table.
"""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import V1ObjectMeta, V1PodSpec

from ansible_collections.podferry.live.plugins.module_utils._plan import manifest
from ansible_collections.podferry.live.plugins.module_utils._plan.options import Options
from ansible_collections.podferry.live.plugins.module_utils._plan.owners import Mode
from ansible_collections.podferry.live.plugins.module_utils._plan.plan import Snapshot, plan
from doubles import objects

#: A value for each field that is not what a pod has anyway.
SPEC: dict[str, Any] = {
    "activeDeadlineSeconds": 60,
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "automountServiceAccountToken": False,
    "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1m"}, "limits": {"memory": "64Mi"}}}],
    "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
    "dnsPolicy": "Default",
    "enableServiceLinks": False,
    "ephemeralContainers": [{"name": "debug"}],
    "evictionResponders": [{"name": "r"}],
    "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["x"]}],
    "hostIPC": True,
    "hostNetwork": True,
    "hostPID": True,
    "hostUsers": False,
    "hostname": "h",
    "hostnameOverride": "h.example",
    "imagePullSecrets": [{"name": "x"}],
    "initContainers": [{"name": "i", "image": "i"}],
    "nodeName": "node-a",
    "nodeSelector": {"kubernetes.io/hostname": "node-b"},
    "os": {"name": "linux"},
    "overhead": {"cpu": "1m"},
    "preemptionPolicy": "Never",
    "priority": 7,
    "priorityClassName": "high",
    "readinessGates": [{"conditionType": "lb/ready"}],
    "resourceClaims": [{"name": "gpu"}],
    "resources": {"limits": {"cpu": "1"}},
    "restartPolicy": "Never",
    "runtimeClassName": "podferry",
    "schedulerName": "mine",
    "schedulingGates": [{"name": "g"}],
    "securityContext": {"runAsUser": 1000, "fsGroup": 1000},
    "serviceAccount": "mine",
    "serviceAccountName": "mine",
    "setHostnameAsFQDN": True,
    "shareProcessNamespace": True,
    "subdomain": "sub",
    "terminationGracePeriodSeconds": 7,
    "tolerations": [{"key": "x", "operator": "Exists", "tolerationSeconds": 5, "effect": "NoExecute"}],
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "x", "whenUnsatisfiable": "ScheduleAnyway"}],
    "volumes": [{"name": "v", "configMap": {"name": "x"}}],
    "workloadRef": {"name": "w"},
    "schedulingGroup": {"podGroupName": "g"},
}
META: dict[str, Any] = {
    "annotations": {"note": "kept", "cni.projectcalico.org/ipAddrs": "[]"},
    "creationTimestamp": "2026-01-01T00:00:00Z",
    "deletionGracePeriodSeconds": 0,
    "deletionTimestamp": "2026-01-01T00:00:00Z",
    "finalizers": ["x/y"],
    "generateName": "counter-",
    "generation": 3,
    "labels": {"app": "counter", "tier": "db"},
    "managedFields": [{"manager": "kubectl"}],
    "name": "counter",
    "namespace": "default",
    "ownerReferences": [{"apiVersion": "example.org/v1", "kind": "Thing", "name": "x", "uid": "u", "controller": True}],
    "resourceVersion": "77",
    "selfLink": "/x",
    "uid": "uid-counter",
}
#: Made again for the new pod, and who makes it. Nothing else may differ from the source.
COMPUTED = {
    "nodeName": "the target",
    "runtimeClassName": "podferry",
    "serviceAccount": "an alias of serviceAccountName, by the API",
}
COMPUTED_META = {
    "creationTimestamp": "the API", "deletionGracePeriodSeconds": "refused with deletionTimestamp", "generation": "the API",
    "generateName": "the name is given", "managedFields": "the API", "resourceVersion": "the API", "selfLink": "the API", "uid": "the API",
}  # fmt: skip


def fate(field: str, value: Any, where: str, mode: Mode) -> set[str]:
    """What becomes of a field: of ``kept``, ``computed``, ``refused`` those that hold."""
    pod = objects.pod()
    pod[where][field] = value
    options = Options("counter", "node-b", "default", name="new" if mode == "twin" else "keep")
    target = objects.node("node-b")
    result = plan(Snapshot(run="abcdef012345", own_digest="", pod=pod, target_node=target), options)
    others = plan(Snapshot(run="abcdef012345", own_digest="", pod=objects.pod(), target_node=target), options)
    refused = {r.code for r in result.refusals} - {r.code for r in others.refusals}
    if refused:
        return {"refused"}
    assert result.manifest is not None
    there = result.manifest[where].get(field)
    if where == "metadata" and mode == "twin" and field in ("labels", "finalizers"):
        there = dict(result.final_labels) if field == "labels" else list(result.final_finalizers)  # when it is Ready
    if isinstance(value, dict) and where == "metadata":
        return {"kept"} if value.items() <= there.items() else set()
    if there == value and field not in (COMPUTED if where == "spec" else COMPUTED_META):
        return {"kept"}
    return {"computed"} if field in (COMPUTED if where == "spec" else COMPUTED_META) else set()


@pytest.mark.parametrize("mode", ["successor", "twin"])
@pytest.mark.parametrize("field", sorted(set(V1PodSpec.attribute_map.values()) | set(SPEC)))
def test_every_field_of_a_pod_specification(field: str, mode: Mode) -> None:
    assert field in SPEC, f"PodSpec has a field {field} that nobody has decided about"
    if field == "readinessGates" and mode == "twin":
        assert fate(field, SPEC[field], "spec", mode) == {"refused"}  # of a bare pod; a Deployment's: test_owners
        return
    assert len(fate(field, SPEC[field], "spec", mode)) == 1


@pytest.mark.parametrize("mode", ["successor", "twin"])
@pytest.mark.parametrize("field", sorted(V1ObjectMeta.attribute_map.values()))
def test_every_field_of_the_metadata(field: str, mode: Mode) -> None:
    assert field in META, f"ObjectMeta has a field {field} that nobody has decided about"
    if field == "name" and mode == "twin":
        return  # that is what makes it a twin
    assert len(fate(field, META[field], "metadata", mode)) == 1


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("tolerations", "kept"), ("affinity", "kept"), ("topologySpreadConstraints", "kept"), ("priority", "kept"),
        ("preemptionPolicy", "kept"), ("readinessGates", "kept"), ("hostname", "kept"), ("subdomain", "kept"),
        ("schedulingGates", "refused"), ("resources", "refused"), ("nodeName", "computed"), ("overhead", "refused"),
    ],
)  # fmt: skip
def test_of_some_fields_it_is_known(field: str, wanted: str) -> None:
    assert fate(field, SPEC[field], "spec", "successor") == {wanted}


def test_finalizers() -> None:
    assert fate("finalizers", ["x/y"], "metadata", "successor") == {"refused"}
    assert fate("finalizers", ["x/y"], "metadata", "twin") == {"kept"}


def test_annotations_about_the_one_pod_are_made_again_by_those_who_wrote_them() -> None:
    pod = objects.pod()
    pod["metadata"]["annotations"] = {
        "cni.projectcalico.org/podIP": "10.0.0.1/32",
        "cni.projectcalico.org/containerID": "x",
        "k8s.v1.cni.cncf.io/network-status": "[]",
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
        "controller.kubernetes.io/pod-deletion-cost": "5",
        "note": "kept",
    }
    kept = {"note": "kept", "controller.kubernetes.io/pod-deletion-cost": "5"}
    assert manifest.kept_annotations(pod, "twin") == kept
    assert manifest.kept_annotations(pod, "successor") == {
        **kept,
        "kubectl.kubernetes.io/last-applied-configuration": "{}",
    }
    pod["metadata"]["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": "-2147483647"}
    assert manifest.kept_annotations(pod, "twin") == {}, "ours, from a hand-over"
