# SPDX-License-Identifier: Apache-2.0
"""The messages of CRI v1 (``runtime.v1``) that a kubelet needs, built at run time: there is no protoc on a node.

Field numbers are those of kubernetes/cri-api ``pkg/apis/runtime/v1/api.proto``; enums travel as int32, fields not
listed are skipped by protobuf as unknown.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "runtime.v1"

# name:number:type, a leading * repeats, map is string to string, a capitalised type is a message
_MESSAGES: dict[str, str] = {
    "VersionRequest": "version:1:string",
    "VersionResponse": "version:1:string runtime_name:2:string runtime_version:3:string runtime_api_version:4:string",
    "StatusRequest": "verbose:1:bool",
    "StatusResponse": "status:1:RuntimeStatus info:2:map *runtime_handlers:3:RuntimeHandler",
    "RuntimeStatus": "*conditions:1:RuntimeCondition",
    "RuntimeCondition": "type:1:string status:2:bool reason:3:string message:4:string",
    "RuntimeHandler": "name:1:string features:2:RuntimeHandlerFeatures",
    "RuntimeHandlerFeatures": "recursive_read_only_mounts:1:bool user_namespaces:2:bool",
    "Int64Value": "value:1:int64",
    "KeyValue": "key:1:string value:2:bytes",
    "DNSConfig": "*servers:1:string *searches:2:string *options:3:string",
    "PortMapping": "protocol:1:int32 container_port:2:int32 host_port:3:int32 host_ip:4:string",
    "Mount": "container_path:1:string host_path:2:string readonly:3:bool selinux_relabel:4:bool propagation:5:int32",
    "NamespaceOption": "network:1:int32 pid:2:int32 ipc:3:int32 target_id:4:string",
    "SecurityProfile": "profile_type:1:int32 localhost_ref:2:string",
    "Capability": "*add_capabilities:1:string *drop_capabilities:2:string *add_ambient_capabilities:3:string",
    "LinuxSandboxSecurityContext": "namespace_options:1:NamespaceOption run_as_user:3:Int64Value run_as_group:8:Int64Value "
    "readonly_rootfs:4:bool *supplemental_groups:5:int64 privileged:6:bool seccomp:9:SecurityProfile apparmor:10:SecurityProfile",
    "LinuxPodSandboxConfig": "cgroup_parent:1:string security_context:2:LinuxSandboxSecurityContext sysctls:3:map "
    "overhead:4:LinuxContainerResources resources:5:LinuxContainerResources",
    "PodSandboxMetadata": "name:1:string uid:2:string namespace:3:string attempt:4:uint32",
    "PodSandboxConfig": "metadata:1:PodSandboxMetadata hostname:2:string log_directory:3:string dns_config:4:DNSConfig "
    "*port_mappings:5:PortMapping labels:6:map annotations:7:map linux:8:LinuxPodSandboxConfig",
    "RunPodSandboxRequest": "config:1:PodSandboxConfig runtime_handler:2:string",
    "RunPodSandboxResponse": "pod_sandbox_id:1:string",
    "StopPodSandboxRequest": "pod_sandbox_id:1:string",
    "StopPodSandboxResponse": "",
    "RemovePodSandboxRequest": "pod_sandbox_id:1:string",
    "RemovePodSandboxResponse": "",
    "PodSandboxStatusRequest": "pod_sandbox_id:1:string verbose:2:bool",
    "PodIP": "ip:1:string",
    "PodSandboxNetworkStatus": "ip:1:string *additional_ips:2:PodIP",
    "PodSandboxStatus": "id:1:string metadata:2:PodSandboxMetadata state:3:int32 created_at:4:int64 network:5:PodSandboxNetworkStatus "
    "labels:7:map annotations:8:map runtime_handler:9:string",
    "PodSandboxStatusResponse": "status:1:PodSandboxStatus info:2:map",
    "PodSandboxFilter": "id:1:string label_selector:3:map",
    "ListPodSandboxRequest": "filter:1:PodSandboxFilter",
    "PodSandbox": "id:1:string metadata:2:PodSandboxMetadata state:3:int32 created_at:4:int64 labels:5:map annotations:6:map runtime_handler:7:string",
    "ListPodSandboxResponse": "*items:1:PodSandbox",
    "ImageSpec": "image:1:string annotations:2:map user_specified_image:18:string runtime_handler:19:string",
    "LinuxContainerResources": "cpu_period:1:int64 cpu_quota:2:int64 cpu_shares:3:int64 memory_limit_in_bytes:4:int64 oom_score_adj:5:int64 "
    "cpuset_cpus:6:string cpuset_mems:7:string",
    "LinuxContainerSecurityContext": "capabilities:1:Capability privileged:2:bool namespace_options:3:NamespaceOption run_as_user:5:Int64Value "
    "run_as_group:12:Int64Value readonly_rootfs:7:bool *supplemental_groups:8:int64 no_new_privs:11:bool *masked_paths:13:string "
    "*readonly_paths:14:string seccomp:15:SecurityProfile apparmor:16:SecurityProfile",
    "LinuxContainerConfig": "resources:1:LinuxContainerResources security_context:2:LinuxContainerSecurityContext",
    "ContainerMetadata": "name:1:string attempt:2:uint32",
    "Device": "container_path:1:string host_path:2:string permissions:3:string",
    "ContainerConfig": "metadata:1:ContainerMetadata image:2:ImageSpec *command:3:string *args:4:string working_dir:5:string *envs:6:KeyValue "
    "*mounts:7:Mount *devices:8:Device labels:9:map annotations:10:map log_path:11:string stdin:12:bool stdin_once:13:bool tty:14:bool "
    "linux:15:LinuxContainerConfig",
    "CreateContainerRequest": "pod_sandbox_id:1:string config:2:ContainerConfig sandbox_config:3:PodSandboxConfig",
    "CreateContainerResponse": "container_id:1:string",
    "StartContainerRequest": "container_id:1:string",
    "StartContainerResponse": "",
    "StopContainerRequest": "container_id:1:string timeout:2:int64",
    "StopContainerResponse": "",
    "RemoveContainerRequest": "container_id:1:string",
    "RemoveContainerResponse": "",
    "ContainerFilter": "id:1:string pod_sandbox_id:3:string label_selector:4:map",
    "ListContainersRequest": "filter:1:ContainerFilter",
    "Container": "id:1:string pod_sandbox_id:2:string metadata:3:ContainerMetadata image:4:ImageSpec image_ref:5:string state:6:int32 "
    "created_at:7:int64 labels:8:map annotations:9:map image_id:10:string",
    "ListContainersResponse": "*containers:1:Container",
    "ContainerStatusRequest": "container_id:1:string verbose:2:bool",
    "ContainerStatus": "id:1:string metadata:2:ContainerMetadata state:3:int32 created_at:4:int64 started_at:5:int64 finished_at:6:int64 "
    "exit_code:7:int32 image:8:ImageSpec image_ref:9:string reason:10:string message:11:string labels:12:map annotations:13:map "
    "*mounts:14:Mount log_path:15:string image_id:17:string",
    "ContainerStatusResponse": "status:1:ContainerStatus info:2:map",
    "ExecSyncRequest": "container_id:1:string *cmd:2:string timeout:3:int64",
    "ExecSyncResponse": "stdout:1:bytes stderr:2:bytes exit_code:3:int32",
    "ExecRequest": "container_id:1:string *cmd:2:string tty:3:bool stdin:4:bool stdout:5:bool stderr:6:bool",
    "ExecResponse": "url:1:string",
    "CheckpointContainerRequest": "container_id:1:string location:2:string timeout:3:int64",
    "CheckpointContainerResponse": "",
    "ImageFilter": "image:1:ImageSpec",
    "ListImagesRequest": "filter:1:ImageFilter",
    "Image": "id:1:string *repo_tags:2:string *repo_digests:3:string size:4:uint64 uid:5:Int64Value username:6:string spec:7:ImageSpec",
    "ListImagesResponse": "*images:1:Image",
    "ImageStatusRequest": "image:1:ImageSpec verbose:2:bool",
    "ImageStatusResponse": "image:1:Image info:2:map",
    "PullImageRequest": "image:1:ImageSpec sandbox_config:3:PodSandboxConfig",
    "PullImageResponse": "image_ref:1:string",
}

_FIELD = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _FIELD.TYPE_STRING,
    "bytes": _FIELD.TYPE_BYTES,
    "bool": _FIELD.TYPE_BOOL,
    "int32": _FIELD.TYPE_INT32,
    "int64": _FIELD.TYPE_INT64,
    "uint32": _FIELD.TYPE_UINT32,
    "uint64": _FIELD.TYPE_UINT64,
}


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="podferry-standin-cri.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in fields.split():
            _add_field(message, name, text)
    return file


def _add_field(message: Any, owner: str, text: str) -> None:
    repeated = text.startswith("*")
    name, number, kind = text.lstrip("*").split(":")
    field = message.field.add(name=name, number=int(number))
    field.label = _FIELD.LABEL_REPEATED if repeated or kind == "map" else _FIELD.LABEL_OPTIONAL
    if kind == "map":
        entry = message.nested_type.add(name="".join(part.capitalize() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        for position, part in enumerate(("key", "value"), start=1):
            entry.field.add(name=part, number=position, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{PACKAGE}.{owner}.{entry.name}"
    elif kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _FIELD.TYPE_MESSAGE, f".{PACKAGE}.{kind}"


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    found = {}
    for name in _MESSAGES:
        descriptor = pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
        if hasattr(message_factory, "GetMessageClass"):
            found[name] = message_factory.GetMessageClass(descriptor)
        else:  # protobuf 3.21, Debian 13
            factory: Any = message_factory.MessageFactory(pool)
            found[name] = factory.GetPrototype(descriptor)
    return found


CLASSES: dict[str, Any] = _classes()


def new(message: str, /, **fields: Any) -> Any:
    """A message of the message."""
    return CLASSES[message](**fields)
