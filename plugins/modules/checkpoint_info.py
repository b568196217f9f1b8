#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint_info
short_description: What is in a checkpoint
version_added: 0.1.0
description:
  - Reads a checkpoint archive of the kubelet, of CRI-O, containerd or podman, an image of one, or a checkpoint of this collection, and tells whose it
    is and what is in it. Nothing of it is unpacked to a disk.
  - An archive may come from anybody. One that holds what no engine writes (links, devices, names that lead out of it, a name twice, more than it may)
    is refused, and nothing that it says is carried out.
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._attributes.info_module
options:
  path:
    description:
      - On the task's host, an archive (plain, or compressed with gzip or zstd), an OCI layout folder, a tar of an OCI layout or of C(docker save), or a
        folder with a state of this collection.
    type: path
  reference:
    description:
      - Which image, when O(path) holds several.
    type: str
    default: ""
  store:
    description:
      - A store of this collection, instead of O(path). Only a checkpoint's description and lists are fetched, not its memory.
    type: dict
    suboptions:
      kind:
        description:
          - V(path) is a folder on the task's host, V(registry) an OCI registry that the task's host reaches. Signatures are not looked at.
        type: str
        choices: [path, registry]
        default: path
      path:
        description:
          - The folder of a V(path).
        type: path
        default: /var/lib/podferry/checkpoints
      url:
        description:
          - URL of a V(registry).
        type: str
      repository:
        description:
          - Prefix of the repositories in a V(registry).
        type: str
        default: podferry
      username:
        description:
          - User at a V(registry).
        type: str
        default: ""
      password:
        description:
          - His password.
        type: str
        default: ""
      ca:
        description:
          - Certificate authority of a V(registry) as PEM text. The default is what the system trusts.
        type: str
        default: ""
      insecure:
        description:
          - Take any certificate, and plain HTTP.
        type: bool
        default: false
  namespace:
    description:
      - Namespace of the pod in O(store).
    type: str
  pod:
    description:
      - Name of the pod in O(store).
    type: str
  checkpoint:
    description:
      - Id of the checkpoint in O(store), or V(latest).
    type: str
    default: latest
  identity:
    description:
      - Secret key of age that an encrypted checkpoint in O(store) is read with.
    type: str
    default: ""
  values:
    description:
      - Also return what may be secret. That is the values of environment variables, and of every process the arguments and the environment that are in its
        memory. Use C(no_log=true).
      - Of a checkpoint in O(store) only the values that the pod's specification has.
    type: bool
    default: false
  max_bytes:
    description:
      - Refuse an archive that unpacks to more.
    type: int
    default: 1099511627776
  max_ratio:
    description:
      - Refuse a compressed archive that unpacks to more than this many times its size, and to more than 64 MiB. Memory that is filled with one value
        does that, and so does an archive that shall fill a disk.
    type: int
    default: 1000
requirements:
  - zstd on the task's host, for archives that are compressed with it
seealso:
  - module: podferry.live.checkpoint_image
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Look into a checkpoint of the kubelet
  podferry.live.checkpoint_info:
    path: /var/lib/kubelet/checkpoints/checkpoint-web-0_shop-app-2026-11-25T17:41:44Z.tar
  register: looked

- name: See that it is the one that was meant, and wants nothing of a host
  ansible.builtin.assert:
    that:
      - looked.checkpoint.pod.namespace == 'shop'
      - looked.checkpoint.containers[0].name == 'app'
      - looked.checkpoint.asks_for == []

- name: Look at the last checkpoint of a pod in a store
  podferry.live.checkpoint_info:
    store:
      path: /var/lib/podferry/checkpoints
    namespace: shop
    pod: web-0
"""

RETURN = r"""
checkpoint:
  description: What was found. What the checkpoint does not say is empty.
  returned: success
  type: dict
  contains:
    form:
      description: What O(path) is, V(archive), V(oci-dir), V(oci-archive), V(docker-archive) or V(state), or V(store).
      type: str
    engine:
      description: Who made it, V(containerd), V(crio), V(podman) or empty.
      type: str
    pod:
      description: Name, namespace and UID of the pod.
      type: dict
      sample: {name: web-0, namespace: shop, uid: 0c3a0f1e-55b2-4a4e-9a7c-111111111111}
    created:
      description: When the container (of ours, the pod) was created.
      type: str
    checkpointed:
      description: When the checkpoint was made. podman does not say.
      type: str
    asks_for:
      description: >-
        What an engine would give the container of its host if it restored this checkpoint as its metadata says, such as devices, mounts of podman's, hooks,
        and annotations that engines act on. With RV(checkpoint.engine) empty it is judged as one of podman's. What says that it is of containerd or CRI-O is
        not to be imported into podman.
      type: list
      elements: str
      sample: ["mount of /etc at /host"]
    annotations:
      description: Annotations of the image.
      type: dict
    stored_bytes:
      description: Bytes where it is. Of a checkpoint in a store, what it added to the store.
      type: int
    containers:
      description: The containers. An archive has one.
      type: list
      elements: dict
      contains:
        name:
          description: Name of the container.
          type: str
        id:
          description: Id of the container in its engine.
          type: str
        image:
          description: Name and id of the image that the container was made from, and the name that was asked for.
          type: dict
        runtime:
          description: The OCI runtime.
          type: str
        arch:
          description: Machine architecture of the processes.
          type: str
        bytes:
          description: >-
            Sizes: C(unpacked) of all files, C(checkpoint) of CRIU's images, C(memory) of the pages among them, C(rootfs_diff) of the archive of changed files.
          type: dict
        files:
          description: Number of files.
          type: int
        statistics:
          description: What CRIU measured, in microseconds and pages.
          type: dict
        environment:
          description: Names of environment variables, those that the container was started with.
          type: list
          elements: str
        values:
          description: The variables with their values.
          returned: when O(values=true)
          type: dict
        mounts:
          description: What is mounted where.
          type: list
          elements: dict
        processes:
          description: >-
            The processes, a parent before its children. Each with C(pid), C(parent), number of C(threads), C(command), C(state), C(executable),
            working C(directory), C(root), open C(files) and C(sockets); with O(values=true) also C(arguments) and C(environment), null where they are not in
            the dump.
          type: list
          elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._archive import info, own
from ..module_utils._archive.reader import Checkpoint
from ..module_utils._archive.streams import Limits
from ..module_utils._common.errors import PodferryError

STORE_OPTIONS: dict[str, t.Any] = {
    "kind": {"type": "str", "choices": ["path", "registry"], "default": "path"},
    "path": {"type": "path", "default": "/var/lib/podferry/checkpoints"},
    "url": {"type": "str"},
    "repository": {"type": "str", "default": "podferry"},
    "username": {"type": "str", "default": ""},
    "password": {"type": "str", "default": "", "no_log": True},
    "ca": {"type": "str", "default": ""},
    "insecure": {"type": "bool", "default": False},
}


def inspect(parameters: dict[str, t.Any]) -> dict[str, t.Any]:
    """Whatever it is that the arguments name."""
    path = parameters["path"]
    if not path:
        return own.inspect_stored(
            parameters["store"],
            parameters["namespace"],
            parameters["pod"],
            parameters["checkpoint"],
            identity=parameters["identity"],
            values=parameters["values"],
        )
    if own.is_state(path):
        return own.inspect_folder(path, parameters["values"])
    limits = Limits(parameters["max_bytes"], parameters["max_ratio"])
    return info.inspect(Checkpoint(path, limits, parameters["reference"]), parameters["values"])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path"},
            "reference": {"type": "str", "default": ""},
            "store": {"type": "dict", "options": STORE_OPTIONS, "required_if": [("kind", "registry", ["url"])]},
            "namespace": {"type": "str"},
            "pod": {"type": "str"},
            "checkpoint": {"type": "str", "default": "latest"},
            "identity": {"type": "str", "default": "", "no_log": True},
            "values": {"type": "bool", "default": False},
            "max_bytes": {"type": "int", "default": 1 << 40},
            "max_ratio": {"type": "int", "default": 1000},
        },
        required_one_of=[("path", "store")],
        mutually_exclusive=[("path", "store")],
        required_by={"store": ("namespace", "pod")},
        supports_check_mode=True,
    )
    try:
        found = inspect(module.params)
    except PodferryError as error:
        module.fail_json(msg=f"{error.message}. {error.remedy}".strip(), **error.to_dict())
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(changed=False, checkpoint=found)


if __name__ == "__main__":
    main()
