# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: may change without notice.
"""Which pod specifications can move: a whitelist. What is not accepted by name is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .containers import check_containers
from .refusals import Refusal, refuse
from .volumes import check_mounts, check_volumes

Obj = Mapping[str, Any]

#: Fields of a pod specification that a migration carries or that have no part in it.
_POD_ACCEPTED = frozenset(
    [
        "affinity",
        "automountServiceAccountToken",
        "containers",
        "dnsConfig",
        "dnsPolicy",
        "enableServiceLinks",
        "hostAliases",
        "hostname",
        "imagePullSecrets",
        "nodeName",
        "nodeSelector",
        "os",
        "preemptionPolicy",
        "priority",
        "priorityClassName",
        "readinessGates",
        "restartPolicy",
        "schedulerName",
        "securityContext",
        "serviceAccount",
        "serviceAccountName",
        "setHostnameAsFQDN",
        "subdomain",
        "terminationGracePeriodSeconds",
        "tolerations",
        "topologySpreadConstraints",
        "volumes",
    ]
)
#: Fields with a rule of their own below.
_POD_RULED = frozenset(
    [
        "ephemeralContainers",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "hostUsers",
        "initContainers",
        "overhead",
        "resourceClaims",
        "runtimeClassName",
        "shareProcessNamespace",
    ]
)
_CONTAINER_ACCEPTED = frozenset(
    [
        "args",
        "command",
        "env",
        "envFrom",
        "image",
        "imagePullPolicy",
        "livenessProbe",
        "name",
        "readinessProbe",
        "resizePolicy",
        "resources",
        "restartPolicy",
        "startupProbe",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "volumeMounts",
        "workingDir",
    ]
)
_CONTAINER_RULED = frozenset(["lifecycle", "ports", "securityContext", "stdin", "stdinOnce", "tty", "volumeDevices"])
_POD_SECURITY_ACCEPTED = frozenset(
    [
        "appArmorProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "runAsGroup",
        "runAsNonRoot",
        "runAsUser",
        "seLinuxChangePolicy",
        "seLinuxOptions",
        "seccompProfile",
        "supplementalGroups",
        "supplementalGroupsPolicy",
    ]
)
_CONTAINER_SECURITY_ACCEPTED = frozenset(
    [
        "allowPrivilegeEscalation",
        "appArmorProfile",
        "capabilities",
        "privileged",
        "procMount",
        "readOnlyRootFilesystem",
        "runAsGroup",
        "runAsNonRoot",
        "runAsUser",
        "seLinuxOptions",
        "seccompProfile",
    ]
)
_RESOURCES_ACCEPTED = frozenset(("limits", "requests", "claims"))
_PLAIN_RESOURCES = frozenset(("cpu", "memory", "ephemeral-storage"))
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_ACCEPTED = frozenset(
    [
        "exec",
        "failureThreshold",
        "grpc",
        "httpGet",
        "initialDelaySeconds",
        "periodSeconds",
        "successThreshold",
        "tcpSocket",
        "terminationGracePeriodSeconds",
        "timeoutSeconds",
    ]
)
_NETWORK_ANNOTATIONS = ("k8s.v1.cni.cncf.io/networks",)
_CRIU_ANNOTATION = "org.criu.config"
#: RuntimeClasses whose handler is plain runc: ours.
_OWN_CLASS = "podferry"


def check_spec(pod: Obj, claims: Mapping[str, Obj | None]) -> list[Refusal]:
    """All that the pod's own specification, and the claims that it names, say against moving it."""
    spec: Obj = pod.get("spec") or {}
    found = _check_pod_fields(spec)
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        found += check_container(container)
    found += check_containers(pod)
    found += check_volumes(spec, claims)
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    if annotations.get(_CRIU_ANNOTATION):
        # runc hands the file it names to CRIU, as root; the one that counts is the handler's own.
        found.append(refuse("spec_field", f"Annotation {_CRIU_ANNOTATION} is not on the list of accepted features."))
    for key in _NETWORK_ANNOTATIONS:
        if annotations.get(key):
            found.append(refuse("extra_networks", f"Annotation {key} attaches further networks: {annotations[key]}."))
    return found


def _check_pod_fields(spec: Obj) -> list[Refusal]:
    found: list[Refusal] = []
    if spec.get("hostNetwork"):
        found.append(refuse("host_network", "hostNetwork is true."))
    if spec.get("hostPID"):
        found.append(refuse("host_pid", "hostPID is true."))
    if spec.get("hostIPC"):
        found.append(refuse("host_ipc", "hostIPC is true."))
    if spec.get("shareProcessNamespace"):
        found.append(refuse("shared_process_namespace", "shareProcessNamespace is true."))
    if spec.get("hostUsers") is False:
        found.append(refuse("user_namespace", "hostUsers is false."))
    if spec.get("resourceClaims"):
        found.append(refuse("device", "The pod has resource claims."))
    if spec.get("runtimeClassName") not in (None, "", _OWN_CLASS):
        found.append(refuse("runtime_class", f"The pod's RuntimeClass is {spec['runtimeClassName']}."))
    if spec.get("overhead"):
        found.append(
            refuse("runtime_class", "The pod has an overhead, which comes from a RuntimeClass other than plain runc.")
        )
    found += _unknown("spec", spec, _POD_ACCEPTED | _POD_RULED)
    found += _check_security("spec.securityContext", spec.get("securityContext") or {}, _POD_SECURITY_ACCEPTED)
    return found


def check_container(container: Obj) -> list[Refusal]:
    """All that one container's specification says against moving it."""
    name = container.get("name")
    where = f"container {name}"
    found: list[Refusal] = []
    lifecycle = container.get("lifecycle") or {}
    found += _unknown(f"{where}: lifecycle", lifecycle, frozenset(("postStart", "preStop", "stopSignal")))
    attached = [field for field in ("tty", "stdin", "stdinOnce") if container.get(field)]
    if attached:
        found.append(refuse("terminal", f"{where} has {' and '.join(attached)} set."))
    for port in container.get("ports") or []:
        if port.get("hostPort"):
            found.append(refuse("host_port", f"{where} takes port {port['hostPort']} of its node."))
    if container.get("volumeDevices"):
        found.append(refuse("device", f"{where} has block devices."))
    found += _check_resources(where, container.get("resources") or {})
    for probe in _PROBES:
        found += _unknown(f"{where}: {probe}", container.get(probe) or {}, _PROBE_ACCEPTED)
    found += _check_security(
        f"{where}: securityContext", container.get("securityContext") or {}, _CONTAINER_SECURITY_ACCEPTED
    )
    found += check_mounts(where, container)
    found += _unknown(where, container, _CONTAINER_ACCEPTED | _CONTAINER_RULED)
    return found


def _check_resources(where: str, resources: Obj) -> list[Refusal]:
    found = _unknown(f"{where}: resources", resources, _RESOURCES_ACCEPTED)
    if resources.get("claims"):
        found.append(refuse("device", f"{where} has resource claims."))
    special = {r for kind in ("limits", "requests") for r in (resources.get(kind) or {}) if r not in _PLAIN_RESOURCES}
    for resource in sorted(special):
        found.append(refuse("device", f"{where} asks for {resource}, a resource of its node."))
    return found


def _check_security(where: str, context: Obj, accepted: frozenset[str]) -> list[Refusal]:
    found: list[Refusal] = []
    if context.get("privileged"):
        found.append(refuse("privileged", f"{where}: privileged is true."))
    if context.get("procMount") not in (None, "", "Default"):
        found.append(
            refuse("spec_field", f"{where}: procMount {context['procMount']} is not on the list of accepted features.")
        )
    if (context.get("seccompProfile") or {}).get("type") == "Localhost":
        profile = context["seccompProfile"].get("localhostProfile")
        found.append(
            refuse("localhost_profile", f"{where}: the seccomp profile {profile} is a file of the source node.")
        )
    return found + _unknown(where, context, accepted)


def _unknown(where: str, fields: Obj, known: frozenset[str]) -> list[Refusal]:
    """A refusal for each field that is set, not empty, and not known."""
    return [
        refuse("spec_field", f"{where}: {name} is not on the list of accepted features.")
        for name, value in sorted(fields.items())
        if name not in known and value not in (None, False, "", [], {})
    ]
