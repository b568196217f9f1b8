# SPDX-License-Identifier: Apache-2.0
"""Kubernetes objects and node answers as they look when everything is fine; tests change what they are about."""

from __future__ import annotations

import copy
from typing import Any

JsonDict = dict[str, Any]

DIGEST = "d" * 64
CONTAINER_ID = "containerd://" + "e" * 64
GIB = 1024**3
MIB = 1024**2


def merged(base: JsonDict, change: JsonDict | None) -> JsonDict:
    """``base`` with ``change`` laid over it, dictionaries deeply, everything else replaced."""
    result = copy.deepcopy(base)
    for key, value in (change or {}).items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def pod(name: str = "counter", node: str = "node-a", change: JsonDict | None = None, **container: Any) -> JsonDict:
    """A running pod with one container, as the API shows it (see tests/fixtures/kubernetes-facts/single_pod.json)."""
    base: JsonDict = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "resourceVersion": "10",
            "creationTimestamp": "2026-11-22T09:20:30Z",
            "labels": {"app": "counter"},
        },
        "spec": {
            "containers": [
                {
                    "name": "c",
                    "image": "localhost/podferry-counter:lab",
                    "args": ["16"],
                    "resources": {},
                    "terminationMessagePath": "/dev/termination-log",
                    "terminationMessagePolicy": "File",
                    "imagePullPolicy": "Never",
                    "volumeMounts": [
                        {
                            "name": "kube-api-access-x7k2p",
                            "readOnly": True,
                            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                        }
                    ],
                    **container,
                }
            ],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default",
            "serviceAccount": "default",
            "nodeName": node,
            "securityContext": {},
            "schedulerName": "default-scheduler",
            "tolerations": [
                {
                    "key": "node.kubernetes.io/not-ready",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 300,
                }
            ],
            "priority": 0,
            "enableServiceLinks": True,
            "preemptionPolicy": "PreemptLowerPriority",
            "volumes": [
                {
                    "name": "kube-api-access-x7k2p",
                    "projected": {
                        "defaultMode": 420,
                        "sources": [
                            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                            {"configMap": {"name": "kube-root-ca.crt"}},
                            {"downwardAPI": {"items": []}},
                        ],
                    },
                }
            ],
        },
        "status": running_status(),
    }
    return merged(base, change)


def running_status(ready: bool = True) -> JsonDict:
    return {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "hostIP": "10.213.0.11",
        "podIP": "10.88.1.4",
        "containerStatuses": [
            {
                "name": "c",
                "ready": ready,
                "restartCount": 0,
                "state": {"running": {"startedAt": "2026-11-22T09:20:30Z"}},
                "image": "localhost/podferry-counter:lab",
                "imageID": "sha256:" + "7" * 64,
                "containerID": CONTAINER_ID,
            }
        ],
    }


def owned(by: JsonDict, name: str = "web-1-abcde") -> JsonDict:
    """A pod of a ReplicaSet."""
    labels = {"app": "web", "pod-template-hash": "1"}
    return pod(name, change={"metadata": {"labels": labels, "ownerReferences": [reference(by)]}})


def replicaset(name: str = "web-1", replicas: int = 1, deployment: str | None = None) -> JsonDict:
    metadata: JsonDict = {"name": name, "namespace": "default", "uid": f"uid-rs-{name}"}
    if deployment:
        metadata["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment, "uid": "uid-d", "controller": True}
        ]
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": metadata,
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web", "pod-template-hash": "1"}}},
        "status": {"replicas": replicas},
    }


def deployment(name: str = "web", replicas: int = 1, change: JsonDict | None = None) -> JsonDict:
    """A Deployment that stands still."""
    base: JsonDict = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "uid": "uid-d", "generation": 2},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 2, "replicas": replicas, "updatedReplicas": replicas},
    }
    return merged(base, change)


REVISION = "web-74fd897d49"


def statefulset(name: str = "web", replicas: int = 2, change: JsonDict | None = None) -> JsonDict:
    """A StatefulSet that stands still (see tests/fixtures/kubernetes-facts/statefulset_orphan.json)."""
    base: JsonDict = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-sts-{name}",
            "resourceVersion": "3254",
            "generation": 1,
            "creationTimestamp": "2026-11-22T09:21:44Z",
            "labels": {"team": "a"},
            "annotations": {"note": "kept"},
        },
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [{k: v for k, v in pod()["spec"]["containers"][0].items() if k != "volumeMounts"}]
                },
            },
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "revisionHistoryLimit": 10,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        },
        "status": {
            "observedGeneration": 1,
            "replicas": replicas,
            "readyReplicas": replicas,
            "currentReplicas": replicas,
            "updatedReplicas": replicas,
            "currentRevision": REVISION,
            "updateRevision": REVISION,
            "collisionCount": 0,
            "availableReplicas": replicas,
        },
    }
    return merged(base, change)


def reference(owner: JsonDict) -> JsonDict:
    """How a pod names its controller."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def ordinal(by: JsonDict, number: int, node: str = "node-a", change: JsonDict | None = None) -> JsonDict:
    """A pod of a StatefulSet."""
    name = f"{by['metadata']['name']}-{number}"
    labels = {
        "app": by["metadata"]["name"],
        "apps.kubernetes.io/pod-index": str(number),
        "controller-revision-hash": REVISION,
        "statefulset.kubernetes.io/pod-name": name,
    }
    made = pod(
        name,
        node,
        {
            "metadata": {"generateName": f"{by['metadata']['name']}-", "ownerReferences": [reference(by)]},
            "spec": {"hostname": name, "subdomain": by["metadata"]["name"]},
        },
    )
    made["metadata"]["labels"] = labels
    return merged(made, change)


def budget(name: str = "web", allowed: int = 1, change: JsonDict | None = None) -> JsonDict:
    """A PodDisruptionBudget over the pods of ``pod()``."""
    base: JsonDict = {
        "metadata": {"name": name, "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "counter"}}},
        "status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1},
    }
    return merged(base, change)


def autoscaler(kind: str, name: str, current: int = 1, desired: int = 1) -> JsonDict:
    """A HorizontalPodAutoscaler."""
    return {
        "metadata": {"name": f"{name}-scaler"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name}},
        "status": {"currentReplicas": current, "desiredReplicas": desired},
    }


def node(name: str, change: JsonDict | None = None) -> JsonDict:
    base: JsonDict = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "labels": {"kubernetes.io/hostname": name}},
        "spec": {},
        "status": {
            "allocatable": {"cpu": "2", "memory": "24683072Ki", "ephemeral-storage": "12342048Ki", "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": f"10.213.0.{11 if name == 'node-a' else 12}"}],
        },
    }
    return merged(base, change)


def runtime_class() -> JsonDict:
    return {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": "podferry"},
        "handler": "podferry",
    }


def facts(change: JsonDict | None = None) -> JsonDict:
    base: JsonDict = {
        "hostname": "node",
        "arch": "x86_64",
        "kernel": "6.12.107+deb13-amd64",
        "cpu_model": "A processor",
        "cpu_flags": ["fpu", "sse2", "avx2"],
        "mem_available": 8 * GIB,
        "cgroup": "v2",
        "criu": {"path": "/usr/sbin/criu", "version": [4, 1, 1], "check_ok": True},
        "runtime": {
            "engine": "containerd",
            "version": "1.7.24",
            "oci": {"family": "runc", "path": "/usr/sbin/runc", "version": [1, 2, 0], "criu": True},
            "handler": True,
            "cgroup_driver": "systemd",
        },
        "engine": DIGEST,
        "python": [3, 13],
        "zstd": True,
        "age": True,
        "apparmor_profiles": ["cri-containerd.apparmor.d"],
        "selinux": "disabled",
        "time_namespaces": True,
        "kubelet": {"runtime_request_timeout_s": 120},
    }
    return merged(base, change)


def inspection(change: JsonDict | None = None) -> JsonDict:
    """Op ``inspect`` for ``pod()``; ``change`` is laid over its one container."""
    container: JsonDict = {
        "name": "c",
        "id": CONTAINER_ID,
        "pid": 4711,
        "status": "running",
        "runtime_handler": "runc",
        "memory_bytes": 64 * MIB,
        "rootfs_upper_bytes": MIB,
        "shm_bytes": 0,
        "pids": 1,
        "processes": [{"pid": 4711, "comm": "counter", "threads": 1, "foreign": False}],
        "tty": False,
        "stdin": False,
        "io_uring": [],
        "devices": [],
        "apparmor": None,
        "selinux": None,
        "seccomp": False,
        "user_namespace": False,
        "sockets": {"listening": [], "established": 0, "bound_to_pod_ip": [], "udp_connected": 0, "unlistable": []},
        "mounts": [
            {"destination": "/etc/hosts", "source": "/var/lib/kubelet/x", "type": "bind", "kind": "kubelet-volume"}
        ],
        "sysv_segments": [],
        "open_volume_files": [],
        "frozen": False,
    }
    return {"containers": [merged(container, change)], "sandbox": {"id": "s", "pid": 1, "netns": "/run/netns/x"}}
