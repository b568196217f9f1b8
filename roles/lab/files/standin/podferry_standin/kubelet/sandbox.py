# SPDX-License-Identifier: Apache-2.0
"""From a pod to what the runtime is asked for: sandbox and container configurations as the kubelet makes them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from pathlib import Path
from typing import Any

from ..quantities import quantity
from .apiclient import Api, ApiError
from .config import Config
from .cri_messages import new
from .volumes import Volumes, field_value, resource_value

Obj = dict[str, Any]

_POD, _CONTAINER, _NODE = 0, 1, 2  # NamespaceMode
_UNCONFINED, _LOCALHOST = 1, 2  # SecurityProfile.ProfileType
_PROTOCOLS = {"TCP": 0, "UDP": 1, "SCTP": 2}
_PROPAGATION = {"HostToContainer": 1, "Bidirectional": 2}
_MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_REFERENCE = re.compile(r"\$\$|\$\(([^)\s]+)\)")
MIN_SHARES = 2


class ConfigError(Exception):
    """A container that cannot be configured yet: a missing ConfigMap key and the like."""


def labels(pod: Obj) -> dict[str, str]:
    """The labels by which runtime objects are found again."""
    meta = pod["metadata"]
    return {
        "io.kubernetes.pod.name": meta["name"],
        "io.kubernetes.pod.namespace": meta["namespace"],
        "io.kubernetes.pod.uid": meta["uid"],
    }


def cgroup_parent(config: Config, pod: Obj) -> str:
    """The pod's cgroup by QoS class, for the cgroup driver in use."""
    uid, qos = pod["metadata"]["uid"], (pod.get("status") or {}).get("qosClass", "BestEffort")
    level = "" if qos == "Guaranteed" else qos.lower()
    if config.cgroup_driver == "systemd":
        parts = "-".join(part for part in ("kubepods", level) if part)
        middle = f"/{parts}.slice" if level else ""
        return f"/kubepods.slice{middle}/{parts}-pod{uid.replace('-', '_')}.slice"
    return "/".join(part for part in ("/kubepods", level, f"pod{uid}") if part)


def sandbox_config(config: Config, pod: Obj, attempt: int, seen: str) -> Any:
    """PodSandboxConfig: made at RunPodSandbox, and afresh at each CreateContainer with the annotations of that moment."""
    meta, spec = pod["metadata"], pod["spec"]
    context = spec.get("securityContext") or {}
    annotations = {
        **(meta.get("annotations") or {}),
        "kubernetes.io/config.seen": seen,
        "kubernetes.io/config.source": "api",
    }
    ports = [
        new(
            "PortMapping",
            protocol=_PROTOCOLS.get(port.get("protocol", "TCP"), 0),
            container_port=port["containerPort"],
            host_port=port.get("hostPort", 0),
            host_ip=port.get("hostIP", ""),
        )
        for container in spec["containers"]
        for port in container.get("ports") or []
    ]
    security = new("LinuxSandboxSecurityContext", namespace_options=_namespaces(spec), seccomp=new("SecurityProfile"))
    security.privileged = any(
        (c.get("securityContext") or {}).get("privileged", False)
        for c in [*spec["containers"], *(spec.get("initContainers") or [])]
    )
    if "runAsUser" in context:
        security.run_as_user.value = context["runAsUser"]
    if "runAsGroup" in context:
        security.run_as_group.value = context["runAsGroup"]
    security.supplemental_groups.extend(_groups(context))
    return new(
        "PodSandboxConfig",
        metadata=new(
            "PodSandboxMetadata", name=meta["name"], uid=meta["uid"], namespace=meta["namespace"], attempt=attempt
        ),
        hostname="" if spec.get("hostNetwork") else (spec.get("hostname") or meta["name"])[:63],
        log_directory=str(config.log_dir(pod)),
        dns_config=_dns(spec),
        port_mappings=ports,
        labels={**(meta.get("labels") or {}), **labels(pod)},
        annotations=annotations,
        linux=new(
            "LinuxPodSandboxConfig",
            cgroup_parent=cgroup_parent(config, pod),
            security_context=security,
            sysctls={item["name"]: item["value"] for item in context.get("sysctls") or []},
        ),
    )


def _groups(context: Obj) -> list[int]:
    groups = list(context.get("supplementalGroups") or [])
    return [*groups, context["fsGroup"]] if "fsGroup" in context else groups


def _namespaces(spec: Obj) -> Any:
    pid = _NODE if spec.get("hostPID") else _POD if spec.get("shareProcessNamespace") else _CONTAINER
    return new(
        "NamespaceOption",
        network=_NODE if spec.get("hostNetwork") else _POD,
        pid=pid,
        ipc=_NODE if spec.get("hostIPC") else _POD,
    )


def _dns(spec: Obj) -> Any:
    """The node's resolver: there is no cluster DNS, so ClusterFirst falls back to Default; plus what the pod says."""
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    if spec.get("dnsPolicy") != "None":
        for line in _lines(Path("/etc/resolv.conf")):
            name, *values = line.split() or [""]
            if name in found:
                found[name] += values
    extra = spec.get("dnsConfig") or {}
    options = [item["name"] + (f":{item['value']}" if item.get("value") else "") for item in extra.get("options") or []]
    return new(
        "DNSConfig",
        servers=found["nameserver"] + (extra.get("nameservers") or []),
        searches=found["search"] + (extra.get("searches") or []),
        options=found["options"] + options,
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def container_hash(container: Obj) -> str:
    """A short hash of a container's specification."""
    return hashlib.sha256(json.dumps(container, sort_keys=True).encode()).hexdigest()[:8]


class ContainerFactory:
    """Makes ContainerConfigs; it writes /etc/hosts and the termination log a container mounts."""

    def __init__(self, config: Config, api: Api, volumes: Volumes) -> None:
        self._config = config
        self._api = api
        self._volumes = volumes

    def make(self, pod: Obj, container: Obj, attempt: int, image: Any, address: str) -> Any:
        """The configuration of one attempt.

        :param image: the runtime's image
        :param address: the pod's IP, already known
        :raises ConfigError:
        """
        name = container["name"]
        env = self._environment(pod, container, address)
        config = new(
            "ContainerConfig",
            metadata=new("ContainerMetadata", name=name, attempt=attempt),
            image=new("ImageSpec", image=image.id, user_specified_image=container["image"]),
            command=[expand(part, env) for part in container.get("command") or []],
            args=[expand(part, env) for part in container.get("args") or []],
            working_dir=container.get("workingDir", ""),
            envs=[new("KeyValue", key=key, value=value.encode()) for key, value in env.items()],
            mounts=self._mounts(pod, container, address, env),
            labels={**labels(pod), "io.kubernetes.container.name": name},
            annotations={
                "io.kubernetes.container.hash": container_hash(container),
                "io.kubernetes.container.restartCount": str(attempt),
                "io.kubernetes.container.terminationMessagePath": container["terminationMessagePath"],
                "io.kubernetes.container.terminationMessagePolicy": container["terminationMessagePolicy"],
                "io.kubernetes.pod.terminationGracePeriod": str(pod["spec"].get("terminationGracePeriodSeconds", 30)),
            },
            log_path=f"{name}/{attempt}.log",
            stdin=container.get("stdin", False),
            stdin_once=container.get("stdinOnce", False),
            tty=container.get("tty", False),
            linux=new(
                "LinuxContainerConfig",
                resources=self._resources(pod, container),
                security_context=self._security(pod, container, image),
            ),
        )
        if container.get("ports"):
            config.annotations["io.kubernetes.container.ports"] = json.dumps(container["ports"], separators=(",", ":"))
        (self._config.log_dir(pod) / name).mkdir(parents=True, exist_ok=True)
        return config

    def _environment(self, pod: Obj, container: Obj, address: str) -> dict[str, str]:
        env: dict[str, str] = {}
        namespace = pod["metadata"]["namespace"]
        try:
            for source in container.get("envFrom") or []:
                kind, plural = ("configMapRef", "configmaps") if "configMapRef" in source else ("secretRef", "secrets")
                data = self._data(namespace, plural, source[kind])
                env.update({source.get("prefix", "") + key: value for key, value in data.items()})
            for item in container.get("env") or []:
                env[item["name"]] = self._value(pod, container, item, address, env)
        except ApiError as error:
            raise ConfigError(str(error)) from error
        return env

    def _value(self, pod: Obj, container: Obj, item: Obj, address: str, env: dict[str, str]) -> str:
        source = item.get("valueFrom")
        if not source:
            return expand(item.get("value", ""), env)
        if "fieldRef" in source:
            with_address = {
                **pod,
                "status": {**(pod.get("status") or {}), "podIP": address, "hostIP": self._config.address},
            }
            return field_value(with_address, source["fieldRef"]["fieldPath"])
        if "resourceFieldRef" in source:
            return resource_value(container, source["resourceFieldRef"])
        kind, plural = ("configMapKeyRef", "configmaps") if "configMapKeyRef" in source else ("secretKeyRef", "secrets")
        reference = source[kind]
        data = self._data(pod["metadata"]["namespace"], plural, reference)
        if reference["key"] not in data and not reference.get("optional"):
            raise ConfigError(
                f"couldn't find key {reference['key']} in {plural} {pod['metadata']['namespace']}/{reference['name']}"
            )
        return data.get(reference["key"], "")

    def _data(self, namespace: str, plural: str, reference: Obj) -> dict[str, str]:
        try:
            obj = self._api.request("GET", f"/api/v1/namespaces/{namespace}/{plural}/{reference['name']}")
        except ApiError as error:
            if error.code == 404 and reference.get("optional"):
                return {}
            raise
        data = obj.get("data") or {}
        return (
            {key: base64.b64decode(value).decode() for key, value in data.items()}
            if plural == "secrets"
            else dict(data)
        )

    def _mounts(self, pod: Obj, container: Obj, address: str, env: dict[str, str]) -> list[Any]:
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
        mounts = []
        for index, mount in enumerate(container.get("volumeMounts") or []):
            volume = volumes[mount["name"]]
            sub = mount.get("subPath") or expand(mount.get("subPathExpr") or "", env)
            if sub:
                path = self._volumes.sub_path(pod, volume, container["name"], index, sub)
            else:
                path = self._volumes.host_path(pod, volume)
            mounts.append(
                new(
                    "Mount",
                    container_path=mount["mountPath"],
                    host_path=str(path),
                    readonly=mount.get("readOnly", False),
                    propagation=_PROPAGATION.get(mount.get("mountPropagation", ""), 0),
                )
            )
        root = self._config.pod_dir(pod["metadata"]["uid"])
        if not pod["spec"].get("hostNetwork") and all(m.container_path != "/etc/hosts" for m in mounts):
            mounts.append(new("Mount", container_path="/etc/hosts", host_path=str(_hosts(root, pod, address))))
        log = root / "containers" / container["name"] / secrets.token_hex(4)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        log.chmod(0o666)
        mounts.append(new("Mount", container_path=container["terminationMessagePath"], host_path=str(log)))
        return mounts

    def _resources(self, pod: Obj, container: Obj) -> Any:
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        cpu = requests.get("cpu", limits.get("cpu"))
        made = new(
            "LinuxContainerResources", cpu_shares=max(MIN_SHARES, int(quantity(cpu) * 1024)) if cpu else MIN_SHARES
        )
        if "cpu" in limits:
            made.cpu_period, made.cpu_quota = 100000, int(quantity(limits["cpu"]) * 100000)
        if "memory" in limits:
            made.memory_limit_in_bytes = int(quantity(limits["memory"]))
        made.oom_score_adj = _oom_score((pod.get("status") or {}).get("qosClass", "BestEffort"), requests)
        return made

    @staticmethod
    def _security(pod: Obj, container: Obj, image: Any) -> Any:
        mine, of_pod = container.get("securityContext") or {}, pod["spec"].get("securityContext") or {}
        made = new(
            "LinuxContainerSecurityContext",
            namespace_options=_namespaces(pod["spec"]),
            privileged=mine.get("privileged", False),
        )
        made.readonly_rootfs = mine.get("readOnlyRootFilesystem", False)
        made.no_new_privs = mine.get("allowPrivilegeEscalation") is False
        user, group = mine.get("runAsUser", of_pod.get("runAsUser")), mine.get("runAsGroup", of_pod.get("runAsGroup"))
        made.run_as_user.value = user if user is not None else image.uid.value
        if group is not None:
            made.run_as_group.value = group
        made.supplemental_groups.extend(_groups(of_pod))
        capabilities = mine.get("capabilities") or {}
        made.capabilities.add_capabilities.extend(capabilities.get("add") or [])
        made.capabilities.drop_capabilities.extend(capabilities.get("drop") or [])
        made.seccomp.CopyFrom(_profile(mine.get("seccompProfile") or of_pod.get("seccompProfile")))
        apparmor = mine.get("appArmorProfile") or of_pod.get("appArmorProfile")
        if apparmor:
            made.apparmor.CopyFrom(_profile(apparmor))
        if mine.get("procMount") != "Unmasked" and not made.privileged:
            made.masked_paths.extend(_MASKED)
            made.readonly_paths.extend(_READ_ONLY)
        return made


def _profile(given: Obj | None) -> Any:
    kind = (given or {}).get("type", "Unconfined")
    numbers = {"RuntimeDefault": 0, "Unconfined": _UNCONFINED, "Localhost": _LOCALHOST}
    return new("SecurityProfile", profile_type=numbers[kind], localhost_ref=(given or {}).get("localhostProfile", ""))


def _oom_score(qos: str, requests: Obj) -> int:
    if qos == "Guaranteed":
        return -997
    if qos == "BestEffort" or "memory" not in requests:
        return 1000
    total = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal")
    )
    score = 1000 - int(1000 * quantity(requests["memory"]) / total)
    return min(max(score, 3), 999)


def _hosts(root: Path, pod: Obj, address: str) -> Path:
    """The managed hosts file, shared by the containers of the pod."""
    spec, path = pod["spec"], root / "etc-hosts"
    name = spec.get("hostname") or pod["metadata"]["name"]
    lines = ["# Kubernetes-managed hosts file.", "127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    lines += ["fe00::0\tip6-localnet", "fe00::0\tip6-mcastprefix", "fe00::1\tip6-allnodes", "fe00::2\tip6-allrouters"]
    full = (
        f"{name}.{spec['subdomain']}.{pod['metadata']['namespace']}.svc.cluster.local\t"
        if spec.get("subdomain")
        else ""
    )
    lines.append(f"{address}\t{full}{name}")
    aliases = spec.get("hostAliases") or []
    if aliases:
        lines += [
            "",
            "# Entries added by HostAliases.",
            *(f"{item['ip']}\t" + "\t".join(item["hostnames"]) for item in aliases),
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o644)
    return path


def expand(text: str, env: dict[str, str]) -> str:
    """``$(NAME)`` from the environment; ``$$`` is a dollar, unknown names stay."""

    def value(found: re.Match[str]) -> str:
        return "$" if found.group(0) == "$$" else env.get(found.group(1), found.group(0))

    return _REFERENCE.sub(value, text)
