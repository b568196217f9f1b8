# SPDX-License-Identifier: Apache-2.0
"""The decision: every refusal has a case that provokes it and nothing else, and a plain pod has none."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.podferry.live.plugins.module_utils._plan.facts import NodeFacts, PodInspection
from ansible_collections.podferry.live.plugins.module_utils._plan.options import Options
from ansible_collections.podferry.live.plugins.module_utils._plan.owners import OwnerChain
from ansible_collections.podferry.live.plugins.module_utils._plan.plan import ImageState, Plan, Snapshot, plan
from ansible_collections.podferry.live.plugins.module_utils._plan.refusals import CATALOGUE
from doubles import objects

ROOT = Path(__file__).resolve().parents[5]
OPTIONS = Options(pod="counter", target="node-b", namespace="default")
COPY = replace(OPTIONS, source_policy="keep_running")
RUN = "abcdef012345"
PROBE = {"httpGet": {"path": "/", "port": 80}, "failureThreshold": 1, "periodSeconds": 5, "timeoutSeconds": 1}


def snapshot(**changes: Any) -> Snapshot:
    base = Snapshot(
        run=RUN,
        own_digest=objects.DIGEST,
        pod=objects.pod(),
        source_node=objects.node("node-a"),
        target_node=objects.node("node-b"),
        runtime_class=objects.runtime_class(),
        inventory={"node-a": ["node-a"], "node-b": ["node-b"]},
        source_facts=NodeFacts.parse(objects.facts()),
        target_facts=NodeFacts.parse(objects.facts()),
        inspection=PodInspection.parse(objects.inspection()),
        images=(ImageState("c", "localhost/podferry-counter:lab", present=True),),
    )
    return replace(base, **changes)


def spec(change: dict[str, Any]) -> Snapshot:
    return snapshot(pod=objects.pod(change={"spec": change}))


def container(**fields: Any) -> Snapshot:
    return snapshot(pod=objects.pod(**fields))


def annotated(annotations: dict[str, str]) -> Snapshot:
    return snapshot(pod=objects.pod(change={"metadata": {"annotations": annotations}}))


def volume(**kind: Any) -> Snapshot:
    return spec({"volumes": [{"name": "v", **kind}]})


def source(change: dict[str, Any]) -> Snapshot:
    return snapshot(source_facts=NodeFacts.parse(objects.facts(change)))


def target(change: dict[str, Any]) -> Snapshot:
    return snapshot(target_facts=NodeFacts.parse(objects.facts(change)))


def inside(change: dict[str, Any]) -> Snapshot:
    return snapshot(inspection=PodInspection.parse(objects.inspection(change)))


def claimed(mode: str, **fields: Any) -> Snapshot:
    claim = {"spec": {"accessModes": [mode], **fields}, "status": {"accessModes": [mode]}}
    seen = volume(persistentVolumeClaim={"claimName": "x"})
    return replace(seen, claims={"x": claim})


def zonal(zone: str) -> Snapshot:
    """A claim whose volume is to be had in one zone, and a target in zone 1."""
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}
    found = {"pv": {"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [term]}}}}}
    seen = claimed("ReadWriteMany", volumeName="pv")
    return replace(seen, volumes=found, target_node=objects.node("node-b", {"metadata": {"labels": {"zone": "1"}}}))


def sidecar(**fields: Any) -> Snapshot:
    """A pod with a sidecar beside its container."""
    seen = pair({}, {})
    pod = dict(seen.pod or {})
    *containers, last = pod["spec"]["containers"]
    pod["spec"] = {
        **pod["spec"],
        "containers": containers,
        "initContainers": [{**last, "restartPolicy": "Always", **fields}],
    }
    return replace(seen, pod=pod)


def pair(one: dict[str, Any], other: dict[str, Any]) -> Snapshot:
    """Two containers, of which the node tells something."""
    found = [objects.inspection(change)["containers"][0] for change in (one, other)]
    found[1].update(name="d", id="containerd://" + "d" * 64)
    pod = objects.pod()
    pod["spec"]["containers"].append({**pod["spec"]["containers"][0], "name": "d"})
    status = pod["status"]["containerStatuses"]
    status.insert(0, {**status[0], "name": "d", "containerID": found[1]["id"]})
    return snapshot(pod=pod, inspection=PodInspection.parse({"containers": found}))


def files(size: int) -> PodInspection:
    """A pod with so many bytes in an emptyDir."""
    return PodInspection.parse({**objects.inspection(), "volumes": [{"name": "v", "bytes": size}]})


def owned(kind: str = "ReplicaSet", chain: OwnerChain | None = None, api: str = "apps/v1", **rs: Any) -> Snapshot:
    owner = {**objects.replicaset(**rs), "kind": kind, "apiVersion": api}
    return snapshot(pod=objects.owned(owner), chain=chain or OwnerChain(owner))


def in_set(change: dict[str, Any] | None = None, pod: dict[str, Any] | None = None, **more: Any) -> Snapshot:
    """A pod of a StatefulSet, which is changed."""
    owner = objects.statefulset(change=change)
    return snapshot(**{"pod": objects.ordinal(owner, 1, change=pod), "chain": OwnerChain(statefulset=owner), **more})


def node_b(change: dict[str, Any]) -> Snapshot:
    return snapshot(target_node=objects.node("node-b", change))


CLAIMS_THAT_GO = {
    "volumeClaimTemplates": [{"metadata": {"name": "d"}}],
    "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete"},
}
SPREAD = {
    "maxSkew": 1,
    "topologyKey": "zone",
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": {"matchLabels": {"app": "counter"}},
}

Case = tuple[str, Callable[[], Snapshot], Options]

CASES: list[tuple[str, Snapshot, Options]] = [
    ("pod_missing", snapshot(pod=None), OPTIONS),
    ("pod_missing", snapshot(pod=None, elsewhere=["prod"]), OPTIONS),
    ("pod_ambiguous", snapshot(pod=None, matches=[objects.pod("a"), objects.pod("b")]), replace(OPTIONS, pod="app=x")),
    ("pod_not_running", snapshot(pod=objects.pod(change={"status": {"phase": "Pending"}})), OPTIONS),
    ("pod_not_running", snapshot(pod=objects.pod(change={"metadata": {"deletionTimestamp": "now"}})), OPTIONS),
    ("pod_unassigned", spec({"nodeName": None}), OPTIONS),
    ("target_missing", snapshot(target_node=None), OPTIONS),
    ("target_not_ready", node_b({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}), OPTIONS),
    ("target_unschedulable", node_b({"spec": {"unschedulable": True}}), OPTIONS),
    ("target_taint", node_b({"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}}), OPTIONS),
    ("target_affinity", spec({"nodeSelector": {"kubernetes.io/hostname": "node-a"}}), OPTIONS),
    ("target_capacity", container(resources={"requests": {"memory": "64Gi"}}), OPTIONS),
    ("target_capacity", node_b({"status": {"allocatable": {"pods": "0"}}}), OPTIONS),
    ("source_not_ready", snapshot(source_node=objects.node("node-a", {"status": {"conditions": []}})), OPTIONS),
    ("node_not_in_inventory", snapshot(inventory={"node-a": ["node-a"]}), OPTIONS),
    ("node_ambiguous_in_inventory", snapshot(inventory={"node-a": ["node-a"], "node-b": ["x", "y"]}), OPTIONS),
    ("node_unreachable", snapshot(session_errors={"node-b": "Connection refused"}), OPTIONS),
    ("migration_under_way", snapshot(runs_alive=["Run 1 moves it."]), OPTIONS),
    ("name_taken", snapshot(name_holder=objects.pod("counter-mabcd")), replace(OPTIONS, name="new")),
    ("owner", owned("Rollout", api="argoproj.io/v1alpha1"), OPTIONS),
    ("owner", owned("StatefulSet", api="apps.kruise.io/v1beta1"), OPTIONS),
    ("owner", owned("ReplicationController", api="v1"), OPTIONS),
    ("owner", in_set({"metadata": {"ownerReferences": [{"kind": "Postgres", "name": "db"}]}}), OPTIONS),
    ("owners_several", snapshot(pod=objects.pod(change={"metadata": {"ownerReferences": [
        objects.reference(objects.replicaset()), {"kind": "Thing", "name": "x", "uid": "u"}]}}),
        chain=OwnerChain(objects.replicaset())), OPTIONS),
    ("owner_job", owned("Job", api="batch/v1"), OPTIONS),
    ("owner_daemonset", owned("DaemonSet"), OPTIONS),
    ("owner_gone", owned(chain=OwnerChain()), OPTIONS),
    ("owner_gone", in_set(chain=OwnerChain()), OPTIONS),
    ("owner_gone", in_set({"metadata": {"deletionTimestamp": "now"}}), OPTIONS),
    ("owner_not_stable", in_set({"status": {"replicas": 1, "updatedReplicas": 1}}), OPTIONS),
    ("owner_not_stable", in_set({"metadata": {"generation": 2}}), OPTIONS),
    ("deletion_cost", snapshot(pod=objects.owned(objects.replicaset()), chain=OwnerChain(objects.replicaset()), siblings=[
        objects.merged(objects.owned(objects.replicaset(), "web-1-other"), {"metadata": {"annotations": {
            "controller.kubernetes.io/pod-deletion-cost": "-2147483648"}}})]), OPTIONS),
    ("new_with_statefulset", in_set(), replace(OPTIONS, name="new")),
    ("statefulset_away", in_set(pod={"metadata": {"ownerReferences": None}}, chain=OwnerChain()), OPTIONS),
    ("statefulset_revision", in_set({"status": {"updateRevision": "web-2", "updatedReplicas": 1}}), OPTIONS),
    ("statefulset_claims", in_set({"spec": CLAIMS_THAT_GO}), OPTIONS),
    ("statefulset_finalizers", in_set({"metadata": {"finalizers": ["x/y"]}}), OPTIONS),
    ("statefulset_size", in_set({"metadata": {"annotations": {"long": "x" * 65536}}}), OPTIONS),
    ("disruption_budget", snapshot(budgets=[objects.budget(allowed=0)]), OPTIONS),
    ("readiness_gates", spec({"readinessGates": [{"conditionType": "lb/ready"}]}), replace(OPTIONS, name="new")),
    ("admission", in_set(owner_dry_run_error="forbidden"), OPTIONS),
    ("target_pod_affinity", spec({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}]}}}), OPTIONS),
    ("target_topology_spread", spec({"topologySpreadConstraints": [SPREAD]}), OPTIONS),
    ("owner_not_stable", owned(chain=OwnerChain(objects.merged(objects.replicaset(), {"status": {"replicas": 2}}))), OPTIONS),
    ("keep_with_copy", snapshot(), replace(OPTIONS, name="keep", source_policy="keep_running")),
    ("copy_same_node", snapshot(pod=objects.pod(node="node-b"), source_node=objects.node("node-b")), COPY),
    ("keep_with_replicaset", owned(), replace(OPTIONS, name="keep")),
    ("static_pod", snapshot(pod=objects.pod(change={"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}})), OPTIONS),
    ("init_containers", spec({"initContainers": [{"name": "i", "image": "i"}]}), OPTIONS),
    ("ephemeral_containers", spec({"ephemeralContainers": [{"name": "debug"}]}), OPTIONS),
    ("sidecar_probe", sidecar(startupProbe=PROBE), OPTIONS),
    ("post_start", container(lifecycle={"postStart": {"httpGet": {"port": 80}}}), OPTIONS),
    ("post_start", container(lifecycle={"postStart": {"sleep": {"seconds": 5}}}), OPTIONS),
    ("terminal", container(tty=True), OPTIONS),
    ("terminal", container(stdin=True), OPTIONS),
    ("terminal", inside({"tty": True}), OPTIONS),
    ("host_network", spec({"hostNetwork": True}), OPTIONS),
    ("host_pid", spec({"hostPID": True}), OPTIONS),
    ("host_ipc", spec({"hostIPC": True}), OPTIONS),
    ("host_port", container(ports=[{"containerPort": 80, "hostPort": 80}]), OPTIONS),
    ("host_path", volume(hostPath={"path": "/data"}), OPTIONS),
    ("host_path", inside({"mounts": [{"destination": "/d", "source": "/data", "kind": "hostpath"}]}), OPTIONS),
    ("shared_process_namespace", spec({"shareProcessNamespace": True}), OPTIONS),
    ("user_namespace", spec({"hostUsers": False}), OPTIONS),
    ("privileged", container(securityContext={"privileged": True}), OPTIONS),
    ("device", container(resources={"limits": {"nvidia.com/gpu": "1"}}), OPTIONS),
    ("device", container(volumeDevices=[{"name": "v", "devicePath": "/dev/x"}]), OPTIONS),
    ("device", spec({"resourceClaims": [{"name": "gpu"}]}), OPTIONS),
    ("device", inside({"devices": ["/dev/fuse"]}), OPTIONS),
    ("runtime_class", spec({"runtimeClassName": "gvisor"}), OPTIONS),
    ("runtime_class", inside({"runtime_handler": "runsc"}), OPTIONS),
    ("crun_old", inside({"runtime_handler": "crun"}), OPTIONS),
    ("crun_old", target({"runtime": {"oci": {"family": "crun", "version": [1, 8, 1], "criu": False}}}), OPTIONS),
    ("volume", volume(emptyDir={"medium": "HugePages"}), OPTIONS),
    ("volume", volume(persistentVolumeClaim={"claimName": "x"}), OPTIONS),
    ("volume_access", claimed("ReadWriteOnce"), OPTIONS),
    ("volume_access", claimed("ReadWriteOncePod"), OPTIONS),
    ("volume_affinity", zonal("2"), OPTIONS),
    ("volume_affinity", claimed("ReadWriteMany", volumeName="pv"), OPTIONS),  # it may not be read
    ("device", claimed("ReadWriteMany", volumeMode="Block"), OPTIONS),
    ("volume", volume(somethingNew={"x": 1}), OPTIONS),
    ("volume", volume(projected={"sources": [{"podCertificate": {}}]}), OPTIONS),
    ("volume_mount", container(volumeMounts=[{"name": "v", "mountPath": "/x", "mountPropagation": "Bidirectional"}]), OPTIONS),
    ("fixed_address", annotated({"cni.projectcalico.org/ipAddrs": '["10.0.0.1"]'}), replace(OPTIONS, name="new")),
    ("fixed_address", annotated({"ovn.kubernetes.io/ip_address": "10.0.0.1"}), replace(OPTIONS, name="new")),
    ("fixed_address", annotated({"ipam.antrea.io/pod-ips": "10.0.0.1"}), COPY),
    ("localhost_profile", spec({"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": "p"}}}), OPTIONS),
    ("extra_networks", snapshot(pod=objects.pod(change={"metadata": {"annotations": {"k8s.v1.cni.cncf.io/networks": "n"}}})), OPTIONS),
    ("spec_field", spec({"somethingNew": {"x": 1}}), OPTIONS),
    ("spec_field", spec({"activeDeadlineSeconds": 60}), OPTIONS),
    ("spec_field", spec({"securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}}), OPTIONS),
    (
        "spec_field",
        snapshot(pod=objects.pod(change={"metadata": {"annotations": {"org.criu.config": "/x"}}})),
        OPTIONS,
    ),
    ("spec_field", container(restartPolicyRules=[{"action": "Restart"}]), OPTIONS),
    ("container_engine", target({"runtime": {"engine": ""}}), OPTIONS),
    ("engine_annotation", snapshot(
        pod=objects.pod(change={"metadata": {"annotations": {"io.kubernetes.cri-o.ShmSize": "1Gi"}}}),
        target_facts=NodeFacts.parse(objects.facts({"runtime": {"engine": "crio"}})),
    ), OPTIONS),
    ("engine_missing", target({"engine": None}), OPTIONS),
    ("engine_missing", snapshot(without_engine=["node-b"], target_facts=None), OPTIONS),
    ("engine_version", target({"engine": "0" * 64}), OPTIONS),
    ("handler_missing", target({"runtime": {"handler": False}}), OPTIONS),
    ("runtime_class_missing", snapshot(runtime_class=None), OPTIONS),
    ("runtime_class_missing", snapshot(runtime_class={**objects.runtime_class(), "handler": "kata"}), OPTIONS),
    ("runtime_class_missing", snapshot(runtime_class={**objects.runtime_class(), "overhead": {"podFixed": {}}}), OPTIONS),
    ("criu_old", source({"criu": {"version": [4, 1, 0]}}), OPTIONS),
    ("criu_old", target({"criu": {"check_ok": False}}), OPTIONS),
    ("no_age", target({"age": False}), replace(OPTIONS, through=True)),
    ("runc_old", target({"runtime": {"oci": {"version": [1, 1, 15]}}}), OPTIONS),
    ("cgroup_version", target({"cgroup": "v1"}), OPTIONS),
    ("architecture", target({"arch": "aarch64"}), OPTIONS),
    ("cpu_features", target({"cpu_flags": ["fpu", "sse2"]}), OPTIONS),
    ("kernel_older", target({"kernel": "6.12.90-amd64"}), OPTIONS),
    ("finalizers", snapshot(pod=objects.pod(change={"metadata": {"finalizers": ["x/y"]}})), OPTIONS),
    ("time_namespaces", target({"time_namespaces": False}), OPTIONS),
    ("image_missing", snapshot(images=[ImageState("c", "x", present=False, error="Never")]), OPTIONS),
    ("security_profile", inside({"apparmor": "my-profile (enforce)"}), OPTIONS),
    ("security_profile", inside({"selinux": "system_u:system_r:container_t:s0:c1,c2"}), OPTIONS),
    ("memory", target({"mem_available": 100 * objects.MIB}), OPTIONS),
    ("memory", source({"mem_available": 100 * objects.MIB}), OPTIONS),
    ("disk", snapshot(
        inspection=files(5 * objects.GIB), source_facts=NodeFacts.parse(objects.facts({"disk_available": objects.GIB})),
    ), OPTIONS),
    ("freeze_too_long", snapshot(
        inspection=PodInspection.parse(objects.inspection({"memory_bytes": 2 * objects.GIB})),
        target_facts=NodeFacts.parse(objects.facts({"kubelet": {"runtime_request_timeout_s": 5}})),
    ), OPTIONS),
    ("liveness", container(livenessProbe=PROBE), OPTIONS),
    ("not_in_runtime", snapshot(inspection=PodInspection(())), OPTIONS),
    ("not_in_runtime", inside({"id": "containerd://" + "f" * 64}), OPTIONS),
    ("not_in_runtime", inside({"status": "stopped"}), OPTIONS),
    ("frozen", inside({"frozen": True}), OPTIONS),
    ("rootfs", inside({"rootfs_upper_bytes": -1}), OPTIONS),
    (
        "criu_old",
        snapshot(
            source_facts=NodeFacts.parse(objects.facts({"kernel": "6.16.1"})),
            target_facts=NodeFacts.parse(objects.facts({"kernel": "6.16.1"})),
            inspection=PodInspection.parse(objects.inspection({"sockets": {"listening": ["tcp 0.0.0.0:80"]}})),
        ),
        OPTIONS,
    ),
    ("exec_process", inside({"processes": [{"pid": 9, "comm": "sh", "foreign": True}]}), OPTIONS),
    ("io_uring", inside({"io_uring": ["node"]}), OPTIONS),
    ("sysv_ipc", pair({"sysv_segments": ["7"]}, {"sysv_segments": ["3", "7"]}), OPTIONS),
    ("unix_socket", snapshot(inspection=PodInspection.parse(
        {**objects.inspection({}), "unix_problems": ["socket /s is open in containers a and b at once"]})), OPTIONS),
    ("user_ns_inside", inside({"user_namespace": True}), OPTIONS),
    ("tcp_established", inside({"sockets": {"established": 3}}), replace(OPTIONS, tcp="refuse")),
    ("socket_pod_ip", inside({"sockets": {"bound_to_pod_ip": ["tcp 10.88.1.4:80"]}}), OPTIONS),
    ("udp_connected", inside({"sockets": {"udp_connected": 1}}), OPTIONS),
    ("socket_unlistable", inside({"sockets": {"unlistable": ["packet"]}}), OPTIONS),
    ("open_volume_file", inside({"open_volume_files": ["/etc/hosts"]}), OPTIONS),
    ("admission", snapshot(dry_run_error="exceeded quota: q"), replace(OPTIONS, name="new")),
]  # fmt: skip

#: Known only by trying, in a real run (tests of _migrate).
ONLY_BY_TRYING = {"ferry_unreachable"}
ONLY_IN_PLACEMENT = {"target_pod_affinity", "no_target"}
"""Found where a node is chosen, see test_placement.py."""


def codes(result: Plan) -> list[str]:
    return [r.code for r in result.refusals]


@pytest.mark.parametrize(("code", "seen", "options"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)])
def test_refused_for_one_reason(code: str, seen: Snapshot, options: Options) -> None:
    result = plan(seen, options)
    assert result.decision == "refused"
    assert codes(result) == [code]
    refusal = result.refusals[0]
    assert refusal.reason.endswith(".")
    assert refusal.remedy
    assert refusal.planned == CATALOGUE[code].planned


def test_every_refusal_has_a_case() -> None:
    assert {code for code, _seen, _options in CASES} | ONLY_BY_TRYING | ONLY_IN_PLACEMENT == set(CATALOGUE)


def test_a_plain_pod_moves() -> None:
    result = plan(snapshot(), OPTIONS)
    assert (result.decision, result.refusals, result.mode, result.target_pod) == ("move", (), "successor", "counter")
    assert result.need_bytes > 65 * objects.MIB


def test_a_pod_of_a_deployment_gets_a_twin() -> None:
    rs = objects.replicaset(deployment="web")
    result = plan(snapshot(pod=objects.owned(rs), chain=OwnerChain(rs, objects.deployment())), OPTIONS)
    assert (result.decision, result.mode, result.owner) == ("move", "twin", "Deployment web")
    assert result.target_pod == "web-1-abcde-mabcd"
    assert result.owner_uid == "uid-rs-web-1"


def test_several_containers_sidecars_and_finished_init_containers_move() -> None:
    assert plan(pair({}, {}), OPTIONS).refusals == ()
    assert plan(sidecar(startupProbe={"tcpSocket": {"port": 80}}), OPTIONS).refusals == ()
    done = {"name": "i", "state": {"terminated": {"exitCode": 0}}}
    seen = snapshot(
        pod=objects.pod(
            change={
                "spec": {"initContainers": [{"name": "i", "image": "i"}]},
                "status": {"initContainerStatuses": [done]},
            }
        )
    )
    assert plan(seen, OPTIONS).refusals == ()


def test_the_image_that_is_there_is_not_pulled_again() -> None:
    init = {"name": "i", "image": "i", "imagePullPolicy": "Always"}
    seen = sidecar(imagePullPolicy="Always")
    pod = dict(seen.pod or {})
    pod["spec"]["initContainers"].append(init)
    made = (plan(replace(seen, pod=pod), OPTIONS).manifest or {})["spec"]
    assert {c["imagePullPolicy"] for c in made["initContainers"]} == {"IfNotPresent"}


def test_a_copy_has_a_name_of_its_own_and_nothing_that_a_selector_sees() -> None:
    for seen in (snapshot(), owned("Job")):
        result = plan(seen, COPY)
        assert (result.decision, result.mode, result.owner_uid) == ("move", "copy", None)
        assert result.target_pod.endswith("-cabcd")
        meta = (result.manifest or {})["metadata"]
        assert set(meta["labels"]) == {"podferry.live/run"}
        assert "podferry.live/copied-from" in meta["annotations"]
        assert "podferry.live/moved-from" not in meta["annotations"]
        assert result.final_labels == {}


def test_volumes_that_are_carried_or_shared() -> None:
    for mode in ("ReadWriteMany", "ReadOnlyMany"):
        assert plan(claimed(mode), OPTIONS).refusals == ()
    assert plan(zonal("1"), OPTIONS).refusals == ()
    for found in (None, {"spec": {"nodeAffinity": None}}, {"spec": {"nodeAffinity": {}}}):
        seen = replace(claimed("ReadWriteMany", volumeName="pv"), volumes={"pv": found})
        assert plan(seen, OPTIONS).refusals == ()
    for kind in ({"emptyDir": {}}, {"emptyDir": {"medium": "Memory"}}, {"nfs": {"server": "s", "path": "/"}}):
        assert plan(volume(**kind), OPTIONS).refusals == ()


def test_files_are_copied_before_the_freeze_when_it_is_worth_it() -> None:
    small = plan(inside({"rootfs_upper_bytes": 100}), OPTIONS)
    large = plan(snapshot(inspection=files(10 * objects.GIB)), OPTIONS)
    assert small.stage_bytes == 0
    assert large.stage_bytes > 10 * objects.GIB
    assert large.need_bytes < 5 * objects.GIB


def test_all_reasons_at_once_in_the_catalogues_order() -> None:
    seen = snapshot(
        pod=objects.pod(change={"spec": {"hostNetwork": True, "hostPID": True}}, tty=True),
        target_node=objects.node("node-b", {"spec": {"unschedulable": True}}),
        target_facts=NodeFacts.parse(objects.facts({"arch": "aarch64", "criu": {"version": [3, 19]}})),
    )
    found = codes(plan(seen, OPTIONS))
    assert found == ["target_unschedulable", "terminal", "host_network", "host_pid", "criu_old", "architecture"]
    assert found == sorted(found, key=list(CATALOGUE).index)


def test_already_there() -> None:
    result = plan(snapshot(pod=objects.pod(node="node-b")), OPTIONS)
    assert (result.decision, result.changed, result.target_pod) == ("already_there", False, "counter")


def test_its_twin_is_already_there() -> None:
    twin = objects.pod(
        "counter-m1234",
        "node-b",
        {"metadata": {"annotations": {"podferry.live/moved-from": "default/counter uid-counter node-a"}}},
    )
    for seen in (snapshot(moved_to=twin), snapshot(pod=None, moved_to=twin)):
        result = plan(seen, OPTIONS)
        assert (result.decision, result.target_pod) == ("already_there", "counter-m1234")


def test_moved_elsewhere_names_the_pod() -> None:
    twin = objects.pod(
        "counter-m1234",
        "node-c",
        {"metadata": {"annotations": {"podferry.live/moved-from": "default/counter u node-a"}}},
    )
    (refusal,) = plan(snapshot(pod=None, moved_to=twin), OPTIONS).refusals
    assert refusal.code == "pod_missing"
    assert "pod=counter-m1234" in refusal.remedy


def test_a_successors_quota_counts_its_source_too() -> None:
    full = "exceeded quota: q, requested: pods=1,requests.cpu=500m, used: pods=3,requests.cpu=2, limited: pods=3,requests.cpu=2200m"
    for error in (
        "pods x is forbidden: exceeded quota: q",
        full,
        "exceeded quota: q, requested: a=1, used: a=?, limited: a=1",
    ):
        result = plan(snapshot(dry_run_error=error), OPTIONS)
        assert result.decision == "move"
        assert any("quota" in w for w in result.warnings)


def test_a_quota_that_was_lowered_has_no_place_for_a_successor() -> None:
    lowered = 'pods "x" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=1, used: pods=3,requests.cpu=2, limited: pods=3,requests.cpu=1500m'
    (refusal,) = plan(snapshot(dry_run_error=lowered), OPTIONS).refusals
    assert refusal.code == "admission"
    assert "Even without the source" in refusal.reason


@pytest.mark.parametrize(
    "fields",
    [
        {"livenessProbe": {"httpGet": {"port": 80}}},  # 3 x 10 s
        {"livenessProbe": {"tcpSocket": {"port": 80}, "failureThreshold": 1}},
        {"livenessProbe": {"exec": {"command": ["true"]}, "failureThreshold": 1, "periodSeconds": 1}},
        {"lifecycle": {"stopSignal": "SIGUSR1"}},
        {"securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}},
        {"env": [{"name": "A", "value": "b"}], "envFrom": [{"configMapRef": {"name": "x"}}]},
        {"volumeMounts": [{"name": "v", "mountPath": "/x", "mountPropagation": "None", "readOnly": True}]},
        {"ports": [{"containerPort": 80, "protocol": "TCP"}]},
        {"volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "y"}]},
        {"lifecycle": {"preStop": {"sleep": {"seconds": 5}}, "postStart": {"exec": {"command": ["x"]}}}},
    ],
)  # fmt: skip
def test_accepted_container_features(fields: dict[str, Any]) -> None:
    assert plan(container(**fields), OPTIONS).refusals == ()


@pytest.mark.parametrize(
    "change",
    [
        {"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x"]}]},
        {"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}},
        {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}},
        {"runtimeClassName": "podferry"},
        {"hostUsers": True, "hostNetwork": False, "shareProcessNamespace": False},
        {"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "x", "whenUnsatisfiable": "ScheduleAnyway"}]},
        {"readinessGates": [{"conditionType": "lb/ready"}]},
        {"imagePullSecrets": [{"name": "x"}], "priorityClassName": "high"},
        {"volumes": [{"name": "v", "configMap": {"name": "x"}}, {"name": "w", "secret": {"secretName": "y"}}]},
    ],
)
def test_accepted_pod_features(change: dict[str, Any]) -> None:
    assert plan(spec(change), OPTIONS).refusals == ()


def test_the_recorded_pod_is_acceptable() -> None:
    import json

    recorded = json.loads((ROOT / "tests/fixtures/kubernetes-facts/single_pod.json").read_text())
    pod = next(e for e in recorded if e["label"] == "get pod running")["body"]
    ids = {"c": pod["status"]["containerStatuses"][0]["containerID"]}
    seen = snapshot(
        pod=pod,
        inspection=PodInspection.parse(objects.inspection({"id": ids["c"]})),
        inventory={"nodea": ["a"], "node-b": ["b"]},
    )
    assert plan(seen, replace(OPTIONS, pod="rec")).refusals == ()


def test_the_page_of_refusals_says_what_the_code_says() -> None:
    """docs/refusals.md: one row a refusal, in the same order, with the same words."""
    page = (ROOT / "docs/refusals.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \| (planned|no) \|$", page, re.MULTILINE)
    wanted = [(code, k.title, k.remedy, "planned" if k.planned else "no") for code, k in CATALOGUE.items()]
    assert rows == [(c, t.replace("|", "\\|"), r.replace("|", "\\|"), p) for c, t, r, p in wanted]
