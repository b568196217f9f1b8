# SPDX-License-Identifier: Apache-2.0
"""Calls of the container runtime."""

from __future__ import annotations

from typing import Any

import grpc  # type: ignore[import-untyped, unused-ignore]

from .cri_messages import CLASSES, PACKAGE, new
from .errors import CriError

__all__ = ["Cri", "CriError"]

_IMAGE_CALLS = {"ListImages", "ImageStatus", "PullImage"}


class Cri:
    """One runtime endpoint. Every call has a deadline, as the kubelet's ``runtimeRequestTimeout``."""

    def __init__(self, endpoint: str, timeout: float) -> None:
        self._channel = grpc.insecure_channel(endpoint, options=[("grpc.max_receive_message_length", 64 << 20)])
        self._timeout = timeout

    def call(self, name: str, request: Any, *, extra: float = 0) -> Any:
        """Call and wait.

        :param extra: seconds on top of the deadline, for calls that wait by themselves
        :raises CriError:
        """
        service = "ImageService" if name in _IMAGE_CALLS else "RuntimeService"
        method = self._channel.unary_unary(
            f"/{PACKAGE}.{service}/{name}",
            request_serializer=CLASSES[f"{name}Request"].SerializeToString,
            response_deserializer=CLASSES[f"{name}Response"].FromString,
        )
        try:
            return method(request, timeout=self._timeout + extra)
        except grpc.RpcError as error:
            code = error.code().name
            message = f"rpc error: code = {code.title().replace('_', '')} desc = {error.details()}"
            raise CriError(name, code, message) from error

    def version(self) -> Any:
        """Name and version of the runtime."""
        return self.call("Version", new("VersionRequest", version="v1"))

    def sandboxes(self, uid: str = "") -> list[Any]:
        """Sandboxes of a pod, or all of them; the latest attempt first."""
        selector = {"io.kubernetes.pod.uid": uid} if uid else {}
        request = new("ListPodSandboxRequest", filter=new("PodSandboxFilter", label_selector=selector))
        return sorted(self.call("ListPodSandbox", request).items, key=lambda item: -item.metadata.attempt)

    def sandbox_ip(self, sandbox: str) -> str:
        """The address of a sandbox; empty on the host's network."""
        status = self.call("PodSandboxStatus", new("PodSandboxStatusRequest", pod_sandbox_id=sandbox)).status
        return str(status.network.ip)

    def run_sandbox(self, config: Any, handler: str) -> str:
        """RunPodSandbox."""
        request = new("RunPodSandboxRequest", config=config, runtime_handler=handler)
        return str(self.call("RunPodSandbox", request).pod_sandbox_id)

    def stop_sandbox(self, sandbox: str) -> None:
        """StopPodSandbox."""
        self.call("StopPodSandbox", new("StopPodSandboxRequest", pod_sandbox_id=sandbox))

    def remove_sandbox(self, sandbox: str) -> None:
        """RemovePodSandbox."""
        self.call("RemovePodSandbox", new("RemovePodSandboxRequest", pod_sandbox_id=sandbox))

    def containers(self, uid: str = "") -> list[Any]:
        """Containers of a pod, or all of them."""
        selector = {"io.kubernetes.pod.uid": uid} if uid else {}
        request = new("ListContainersRequest", filter=new("ContainerFilter", label_selector=selector))
        return list(self.call("ListContainers", request).containers)

    def container_status(self, container: str) -> Any:
        """ContainerStatus."""
        return self.call("ContainerStatus", new("ContainerStatusRequest", container_id=container)).status

    def create(self, sandbox: str, config: Any, sandbox_config: Any) -> str:
        """CreateContainer."""
        request = new("CreateContainerRequest", pod_sandbox_id=sandbox, config=config, sandbox_config=sandbox_config)
        return str(self.call("CreateContainer", request).container_id)

    def start(self, container: str) -> None:
        """StartContainer."""
        self.call("StartContainer", new("StartContainerRequest", container_id=container))

    def stop(self, container: str, grace: int) -> None:
        """StopContainer: the runtime waits the grace period (seconds) between its two signals."""
        self.call("StopContainer", new("StopContainerRequest", container_id=container, timeout=grace), extra=grace)

    def remove(self, container: str) -> None:
        """RemoveContainer."""
        self.call("RemoveContainer", new("RemoveContainerRequest", container_id=container))

    def exec_sync(self, container: str, command: list[str], timeout: int) -> Any:
        """ExecSync: stdout, stderr, exit_code."""
        return self.call(
            "ExecSync", new("ExecSyncRequest", container_id=container, cmd=command, timeout=timeout), extra=timeout
        )

    def checkpoint(self, container: str, location: str, timeout: int) -> None:
        """CheckpointContainer. As in the kubelet, a timeout (seconds) counts only when it is longer than the usual deadline."""
        seconds = max(timeout, int(self._timeout))
        request = new("CheckpointContainerRequest", container_id=container, location=location, timeout=seconds)
        self.call("CheckpointContainer", request, extra=seconds - self._timeout)

    def exec_url(
        self, container: str, command: list[str], *, tty: bool, stdin: bool, stdout: bool, stderr: bool
    ) -> str:
        """Where the runtime serves this exec."""
        request = new(
            "ExecRequest", container_id=container, cmd=command, tty=tty, stdin=stdin, stdout=stdout, stderr=stderr
        )
        return str(self.call("Exec", request).url)

    def image(self, name: str) -> Any | None:
        """An image by name, None if it is not there."""
        found = self.call("ImageStatus", new("ImageStatusRequest", image=new("ImageSpec", image=name)))
        return found.image if found.image.id else None

    def images(self) -> list[Any]:
        """All images."""
        return list(self.call("ListImages", new("ListImagesRequest")).images)

    def pull(self, name: str, sandbox_config: Any) -> None:
        """PullImage."""
        self.call(
            "PullImage", new("PullImageRequest", image=new("ImageSpec", image=name), sandbox_config=sandbox_config)
        )
