#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubelet_checkpoint
short_description: Have the kubelet checkpoint one container
version_added: 0.1.0
description:
  - Asks the kubelet for a checkpoint of one running container (C(POST /checkpoint/NAMESPACE/POD/CONTAINER)), and says where on the node the
    archive is, its size and its digest. The container stands still meanwhile and runs on afterwards.
  - Run it on the node that the pod is on, as root. The archive never leaves that node.
  - With O(via=api) the controller asks the API server, whose node proxy asks the kubelet; credentials stay on the controller. They need the
    right to use the whole kubelet API (C(create) on C(nodes/proxy)), which is as good as root on the node.
  - With O(via=kubelet) the node asks its own kubelet. The credentials are on the node for the time of the call, in memory if Ansible is set to
    C(pipelining), else in its temporary folder; they need no more than C(create) on C(nodes/checkpoint), which can be limited to one node.
  - The container runtime must have the call. Which ones have it is in C(docs/kubelet-checkpoint.md).
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._attributes.cluster
  - podferry.live._kubernetes_auth
attributes:
  check_mode:
    support: partial
    details:
      - With O(via=api) looks at pod, container, node and rights.
      - With O(via=kubelet) connects to the kubelet and verifies its certificate. Pod, container and rights are not looked at, because the kubelet
        says nothing of them without making a checkpoint.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run makes an archive. Nothing removes the earlier ones.
options:
  namespace:
    description:
      - Namespace of the pod. The default is V(default); with O(via=api) it is that of the kubeconfig's context, if it names one.
    type: str
  pod:
    description:
      - Name of the pod.
    type: str
    required: true
  container:
    description:
      - Name of the container, an init container or an ephemeral one among them. Required with O(via=kubelet), and for pods with several containers.
    type: str
  via:
    description:
      - V(api) goes through the node proxy of the API server, from the controller.
      - V(kubelet) goes to the kubelet's own port, from the node.
    type: str
    choices: [api, kubelet]
    default: api
  timeout:
    description:
      - Seconds that the container runtime may take. V(0) leaves it to the kubelet.
      - The kubelet takes the larger of this and its own C(runtimeRequestTimeout) (2 minutes unless configured), so it can only be made longer.
      - The module waits 15 seconds more than that. Give the kubelet's own value when it was configured longer.
    type: int
    default: 0
  retries:
    description:
      - How often to ask again when nothing can have happened, that is when there was no connection, or the answer was 429 or 503. The first pause is a
        second, and each one is twice as long as the one before.
      - A request that was sent and not answered is never repeated.
    type: int
    default: 3
  kubelet_address:
    description:
      - Where the kubelet listens, seen from the node.
    type: str
    default: 127.0.0.1
  kubelet_port:
    description:
      - Its port.
    type: int
    default: 10250
  kubelet_name:
    description:
      - The name, or the address, that must be in the kubelet's certificate. The default is the node's name.
    type: str
  kubelet_ca:
    description:
      - The authorities that may have signed the kubelet's certificate. PEM, or the path of a PEM file on the node.
      - With O(via=kubelet) exactly one of this and O(kubelet_certificate) is required. There is no way not to verify.
    type: str
  kubelet_certificate:
    description:
      - The kubelet's own certificate, for kubelets that sign theirs themselves. PEM, or the path of a PEM file on the node, such as
        V(/var/lib/kubelet/pki/kubelet.crt). Of several in it, the kubelet must show one; keys are not looked at.
      - The name in it does not matter then; its dates do.
    type: str
  kubelet_client_cert:
    description:
      - Client certificate. PEM, or the path of a PEM file on the node.
    type: str
  kubelet_client_key:
    description:
      - Its key. PEM, or the path of a PEM file on the node.
    type: str
  kubelet_token:
    description:
      - Bearer token, for instance of C(kubectl create token). The kubelet must have C(authentication.webhook.enabled).
    type: str
  archive:
    description:
      - The path that the API server's answer names. The action plugin of the same name fills it in; it cannot be given.
    type: str
requirements:
  - root on the node
  - Kubernetes 1.25 or later; up to 1.29 with the feature gate C(ContainerCheckpoint)
  - containerd 2.0 or later, or CRI-O 1.25 or later, with CRIU
  - kubernetes >= 29, < 37 (Python, on the controller), with O(via=api)
notes:
  - It runs as an action plugin with a module of the same name.
  - An archive is the whole memory of the container's processes, in clear text. It is root's alone (mode 0600; a container runtime that leaves it
    otherwise is corrected) and stays until somebody removes it.
  - C(proxy) does not matter to O(via=kubelet).
seealso:
  - module: podferry.live.pod_migrate
    description: Moves a whole pod, without leaving an archive.
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Checkpoint through the API server, on the pod's node
  podferry.live.kubelet_checkpoint:
    namespace: prod
    pod: web-0
    container: app
  become: true
  register: made

- name: Ask the node's own kubelet, with a token that may do nothing else
  podferry.live.kubelet_checkpoint:
    namespace: prod
    pod: web-0
    container: app
    via: kubelet
    kubelet_ca: /etc/kubernetes/pki/ca.crt
    kubelet_token: "{{ lookup('ansible.builtin.pipe', 'kubectl -n podferry create token podferry-checkpoint --duration=10m') }}"
  become: true

- name: A kubelet that has signed its own certificate, and a client certificate from the controller
  podferry.live.kubelet_checkpoint:
    namespace: prod
    pod: web-0
    container: app
    via: kubelet
    timeout: 300
    kubelet_certificate: /var/lib/kubelet/pki/kubelet.crt
    kubelet_client_cert: "{{ lookup('ansible.builtin.file', 'podferry.crt') }}"
    kubelet_client_key: "{{ lookup('ansible.builtin.file', 'podferry.key') }}"
  become: true
"""

RETURN = r"""
path:
  description: The archive, on the node.
  returned: success, outside check mode
  type: str
  sample: /var/lib/kubelet/checkpoints/checkpoint-web-0_prod-app-2026-11-25T17:40:31Z.tar
size:
  description: Its size in bytes.
  returned: success, outside check mode
  type: int
  sample: 18350080
sha256:
  description: Its SHA-256, computed on the node.
  returned: success, outside check mode
  type: str
duration:
  description: Seconds that the call took, from the request to the answer. The container stood still for most of it.
  returned: success, outside check mode
  type: float
  sample: 0.474
attempts:
  description: How often it was asked for; all but the last were without effect.
  returned: success, outside check mode
  type: int
  sample: 1
tightened:
  description: Whether others than root could read or write the archive, and cannot any more.
  returned: success, outside check mode
  type: bool
node:
  description: The node.
  returned: success
  type: str
  sample: worker-1
container:
  description: The container.
  returned: success
  type: str
  sample: app
type:
  description:
    - What is wrong, to decide by. The message and RV(remedy) are for people.
    - V(unreachable), V(busy), V(untrusted), V(unauthorized), V(forbidden), V(pod_elsewhere), V(pod_not_found), V(container_not_found),
      V(container_not_running), V(node_not_found), V(endpoint_missing), V(method_not_allowed), V(unimplemented), V(disabled),
      V(criu_unusable), V(invalid_input), V(kubernetes). Nothing was done.
    - V(dump_failed), V(deadline). It was tried, and the container runs on.
    - V(outcome_unknown), V(runtime_unavailable), V(bad_answer). It may have been made.
    - V(bad_archive). It was made, and RV(path) is not what it should be.
  returned: failure
  type: str
  sample: unimplemented
remedy:
  description: What can be done about it.
  returned: failure
  type: str
"""

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._common.errors import InvalidInput, PodferryError
from ..module_utils._kubelet import archive
from ..module_utils._kubelet.client import Identity, Kubelet, Trust
from ..module_utils._kubelet.errors import Unreachable
from ..module_utils._kubelet.request import KUBELET, NotSent, Request
from ..module_utils._kubelet.take import take


def pem(value: str | None, option: str) -> str:
    """Return PEM text, or what is in the file that a value names.

    :raises InvalidInput: there is no such file.
    """
    if not value or "-----BEGIN" in value:
        return value or ""
    try:
        with open(value, encoding="utf-8") as stream:
            return stream.read()
    except (OSError, ValueError) as error:
        # Never the value: somebody may have given a key in another form.
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidInput(
            f"{option} is neither PEM nor a readable file on the node: {reason}", "Give either."
        ) from None


def kubelet(params: t.Mapping[str, t.Any]) -> Kubelet:
    """Return the client of the node's own kubelet."""
    trust = Trust(*(pem(params[name], name) for name in ("kubelet_ca", "kubelet_certificate")))
    identity = Identity(
        pem(params["kubelet_client_cert"], "kubelet_client_cert"),
        pem(params["kubelet_client_key"], "kubelet_client_key"),
        params["kubelet_token"] or "",
    )
    return Kubelet(params["kubelet_address"], params["kubelet_port"], params["kubelet_name"], trust, identity)


def found(path: str, request: Request) -> dict[str, t.Any]:
    """Return what is known of an archive that lies here."""
    made = archive.examine(path)
    archive.outlast_name(path, request, time.time, time.sleep)
    return {"path": path, "size": made.size, "sha256": made.sha256, "tightened": made.tightened}


def run(module: AnsibleModule) -> dict[str, t.Any]:
    """Make a checkpoint, or look at the one that the controller had made."""
    params = module.params
    request = Request(params["namespace"] or "", params["pod"], params["container"] or "", params["timeout"])
    if params["archive"]:
        return {"changed": True, **found(params["archive"], request)}
    client = kubelet(params)
    if module.check_mode:
        try:
            client.connect().close()
        except NotSent as error:
            raise Unreachable(f"no connection: {error}", "Check the service, the address and the port.") from error
        return {"changed": True}
    taken = take(client, request, KUBELET, retries=params["retries"], clock=time.monotonic, sleep=time.sleep)
    result = {"changed": True, "path": taken.path, "duration": round(taken.duration_s, 3), "attempts": taken.attempts}
    try:
        result.update(found(taken.path, request))
    except PodferryError as error:
        module.fail_json(msg=f"{error.message}. {error.remedy}".strip(), **error.to_dict(), **result)
    return result


# For the controller alone: the action plugin keeps them.
KUBE: dict[str, dict[str, t.Any]] = {
    "kubeconfig": {"type": "raw"},
    "context": {"type": "str"},
    "host": {"type": "str"},
    "api_key": {"type": "str", "no_log": True},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "validate_certs": {"type": "bool", "aliases": ["verify_ssl"]},
    "ca_cert": {"type": "path", "aliases": ["ssl_ca_cert"]},
    "client_cert": {"type": "path", "aliases": ["cert_file"]},
    "client_key": {"type": "path", "aliases": ["key_file"], "no_log": False},
    "proxy": {"type": "str"},
    "no_proxy": {"type": "str"},
}
ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "namespace": {"type": "str"},
    "pod": {"type": "str", "required": True},
    "container": {"type": "str"},
    "via": {"type": "str", "choices": ["api", "kubelet"], "default": "api"},
    "timeout": {"type": "int", "default": 0},
    "retries": {"type": "int", "default": 3},
    "kubelet_address": {"type": "str", "default": "127.0.0.1"},
    "kubelet_port": {"type": "int", "default": 10250},
    "kubelet_name": {"type": "str"},
    # A key may lie beside each of these certificates, as in the kubelet's own files.
    "kubelet_ca": {"type": "str", "no_log": True},
    "kubelet_certificate": {"type": "str", "no_log": True},
    "kubelet_client_cert": {"type": "str", "no_log": True},
    "kubelet_client_key": {"type": "str", "no_log": True},
    "kubelet_token": {"type": "str", "no_log": True},
    "archive": {"type": "str"},
    **KUBE,
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except PodferryError as error:
        module.fail_json(msg=f"{error.message}. {error.remedy}".strip(), **error.to_dict())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
