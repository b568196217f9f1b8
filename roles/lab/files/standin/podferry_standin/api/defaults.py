# SPDX-License-Identifier: Apache-2.0
"""What the API server fills in, as recorded."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

Obj = dict[str, Any]

NOT_READY_SECONDS = 300
_META_ORDER = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
)


def timestamp(moment: datetime | None = None) -> str:
    """RFC 3339 in UTC with whole seconds, as ``metav1.Time``."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def order_metadata(meta: Obj) -> Obj:
    """The order kube-apiserver writes metadata in; empty maps and lists are left out."""
    return {key: meta[key] for key in _META_ORDER if meta.get(key) not in (None, {}, [], "")}


def pod_spec(spec: Obj) -> None:
    """Defaults that a pod template gets as well."""
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        _container(container)
    for volume in spec.get("volumes", []):
        _volume(volume)
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    if spec.get("serviceAccountName"):
        spec.setdefault("serviceAccount", spec["serviceAccountName"])


def _container(container: Obj) -> None:
    image = container.get("image", "")
    tag = image.rpartition("/")[2].partition(":")[2]
    policy = "Always" if "@" not in image and tag in ("", "latest") else "IfNotPresent"
    for port in container.get("ports", []):
        port.setdefault("protocol", "TCP")
    for env in container.get("env", []):
        if field := env.get("valueFrom", {}).get("fieldRef"):
            field.setdefault("apiVersion", "v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(name):
            _probe(probe)
    resources = container.setdefault("resources", {})
    for key, value in (resources.get("limits") or {}).items():
        resources.setdefault("requests", {}).setdefault(key, value)
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("imagePullPolicy", policy)


def _probe(probe: Obj) -> None:
    if http := probe.get("httpGet"):
        http.setdefault("path", "/")
        http.setdefault("scheme", "HTTP")
    for key, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        probe.setdefault(key, value)


def _volume(volume: Obj) -> None:
    for kind in ("configMap", "secret", "downwardAPI", "projected"):
        if source := volume.get(kind):
            source.setdefault("defaultMode", 0o644)
    items = list((volume.get("downwardAPI") or {}).get("items") or [])
    for source in (volume.get("projected") or {}).get("sources") or []:
        if token := source.get("serviceAccountToken"):
            token.setdefault("expirationSeconds", 3600)
        items += (source.get("downwardAPI") or {}).get("items") or []
    for item in items:
        if field := item.get("fieldRef"):
            field.setdefault("apiVersion", "v1")
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    if set(volume) == {"name"}:
        volume["emptyDir"] = {}


def pod(obj: Obj) -> None:
    """Defaults of a pod, its tolerations and priority from admission included."""
    spec = obj["spec"]
    pod_spec(spec)
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(
            item.get("key") in (key, None) and item.get("effect") in ("NoExecute", None) for item in tolerations
        ):
            tolerations.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": NOT_READY_SECONDS}
            )
    spec.setdefault("enableServiceLinks", True)


def pod_status(status: Obj) -> None:
    """Times of conditions are said also when there is none."""
    for condition in status.get("conditions") or []:
        condition.setdefault("lastProbeTime", None)
        condition.setdefault("lastTransitionTime", None)


def qos_class(spec: Obj) -> str:
    """Guaranteed, Burstable or BestEffort."""
    guaranteed, anything = True, False
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        resources = container.get("resources") or {}
        requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
        anything = anything or bool(requests or limits)
        for name in ("cpu", "memory"):
            if name not in limits or requests.get(name, limits[name]) != limits[name]:
                guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def deployment(obj: Obj) -> None:
    """Defaults of a Deployment."""
    spec = obj["spec"]
    spec.setdefault("replicas", 1)
    pod_spec(spec["template"]["spec"])
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)


def replicaset(obj: Obj) -> None:
    """Defaults of a ReplicaSet."""
    obj["spec"].setdefault("replicas", 1)
    pod_spec(obj["spec"]["template"]["spec"])


def statefulset(obj: Obj) -> None:
    """Defaults of a StatefulSet."""
    spec = obj["spec"]
    spec.setdefault("replicas", 1)
    pod_spec(spec["template"]["spec"])
    spec.setdefault("podManagementPolicy", "OrderedReady")
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    spec.setdefault("revisionHistoryLimit", 10)
    for template in spec.get("volumeClaimTemplates") or []:
        template.setdefault("kind", "PersistentVolumeClaim")
        template.setdefault("apiVersion", "v1")
        template["spec"].setdefault("volumeMode", "Filesystem")
        template.setdefault("status", {"phase": "Pending"})
    policy = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    policy.setdefault("whenDeleted", "Retain")
    policy.setdefault("whenScaled", "Retain")


def service(obj: Obj) -> None:
    """Defaults of a Service; the cluster address is the registry's."""
    spec = obj["spec"]
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("internalTrafficPolicy", "Cluster")
    for port in spec.get("ports", []):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port["port"])


def namespace(obj: Obj) -> None:
    """Defaults of a Namespace."""
    obj["metadata"].setdefault("labels", {}).setdefault("kubernetes.io/metadata.name", obj["metadata"]["name"])
    obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])


def secret(obj: Obj) -> None:
    """A Secret's type, and stringData folded into data."""
    import base64

    obj.setdefault("type", "Opaque")
    for key, value in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()


def storage_class(obj: Obj) -> None:
    """Defaults of a StorageClass."""
    obj.setdefault("reclaimPolicy", "Delete")
    obj.setdefault("volumeBindingMode", "Immediate")


def claim(obj: Obj) -> None:
    """Defaults of a PersistentVolumeClaim; its class is admission's."""
    obj["spec"].setdefault("volumeMode", "Filesystem")


def volume(obj: Obj) -> None:
    """Defaults of a PersistentVolume."""
    spec = obj["spec"]
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")
    if "hostPath" in spec:
        spec["hostPath"].setdefault("type", "")


DEFAULTS = {
    "pods": pod,
    "deployments": deployment,
    "replicasets": replicaset,
    "statefulsets": statefulset,
    "services": service,
    "namespaces": namespace,
    "secrets": secret,
    "storageclasses": storage_class,
    "persistentvolumeclaims": claim,
    "persistentvolumes": volume,
}

INITIAL_STATUS: dict[str, Obj] = {
    "deployments": {},
    "replicasets": {"replicas": 0},
    "statefulsets": {"replicas": 0, "availableReplicas": 0},
    "services": {"loadBalancer": {}},
    "namespaces": {"phase": "Active"},
    "poddisruptionbudgets": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0},
    "resourcequotas": {},
    "persistentvolumeclaims": {"phase": "Pending"},
    "persistentvolumes": {"phase": "Pending"},
    "daemonsets": {"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0},
    "jobs": {},
}
