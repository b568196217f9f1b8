#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint_import
short_description: Make a checkpoint of an archive of the kubelet's
version_added: 0.1.0
description:
  - Puts an archive of a container that lies on the task's host (of the kubelet, CRI-O, containerd or podman, or an OCI image of one) into a store, as a
    checkpoint that C(playbooks/restore.yml) brings back like any other. The archive stays.
  - An archive does not hold the pod. It is read from the cluster, or given. An archive that says it is of another pod, of an earlier one of that name, or of
    another image than the pod has, is refused.
  - Only a pod with one container can come back from an archive. Connections that leave it are closed.
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._attributes.cluster
  - podferry.live._store
  - podferry.live._store.keys
  - podferry.live._kubernetes_auth
attributes:
  check_mode:
    support: full
    details:
      - Looks for the archive and the pod; the archive is not read.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run makes another checkpoint.
options:
  path:
    description:
      - The archive on the task's host.
    type: path
    required: true
  container:
    description:
      - The container that it has to be of.
    type: str
    required: true
  pod:
    description:
      - The pod, in the cluster. One of O(pod) and O(definition) is needed.
    type: str
  namespace:
    description:
      - Namespace of O(pod), or of an O(definition) that names none.
    type: str
    default: default
  definition:
    description:
      - The pod as the API had it, of one container, with C(metadata), C(spec) and, for the image's digest, C(status).
    type: dict
  compression:
    description:
      - How the state is compressed.
    type: str
    choices: [zstd, none]
    default: zstd
  incremental:
    description:
      - Do not store pages of memory again that the pod's last checkpoint in this store has.
    type: bool
    default: true
  recipient:
    description:
      - A public key of C(age). The state is encrypted for it.
    type: str
requirements:
  - a node prepared by role P(podferry.live.node#role), the one that the archive was made on
  - kubernetes >= 29, < 37 (Python, on the controller), for O(pod)
  - cryptography >= 41 (Python, on the controller), for O(signing_key) and O(verify_key)
  - boto3 >= 1.36 (Python, on the controller), for stores of the kind V(s3)
notes:
  - It is an action plugin; this file is its documentation.
seealso:
  - module: podferry.live.kubelet_checkpoint
  - module: podferry.live.criu_restore
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Have the kubelet make an archive
  podferry.live.kubelet_checkpoint:
    namespace: prod
    pod: redis-0
    container: redis
  register: archive

- name: Keep it as a checkpoint
  podferry.live.checkpoint_import:
    path: "{{ archive.path }}"
    namespace: prod
    pod: redis-0
    container: redis
"""

RETURN = r"""
checkpoint:
  description: Id of the checkpoint.
  returned: success, except in check mode
  type: str
bytes:
  description: Sizes in bytes, as M(podferry.live.pod_checkpoint) returns them.
  returned: success, except in check mode
  type: dict
connections_closed:
  description: TCP connections that are closed in it.
  returned: success, except in check mode
  type: int
msg:
  description: What was done, or what went wrong.
  returned: always
  type: str
remedy:
  description: What to do about it.
  returned: failure
  type: str
"""
