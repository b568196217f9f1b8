#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_checkpoint
short_description: Take checkpoints of running pods
version_added: 0.1.0
description:
  - Dumps pods on their nodes and stores the states. All containers of a pod are frozen before the first is dumped, and thawed after the last, so that
    a checkpoint is one moment of the whole pod; storing comes after the thaw.
  - The pods run on, whatever happens. Several pods are taken one after the other; each is consistent in itself, not with the others.
  - A checkpoint holds memory, open files, changes of the containers' root file systems, C(emptyDir) volumes and shared memory. It does not hold the files
    of claims and host paths, and its TCP connections with others are closed.
  - A checkpoint can be seen in its store only when it is whole.
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
      - Decides whether each pod can be dumped, looks whether the keys are keys and the store can be reached, and dumps none.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run takes another checkpoint.
options:
  pod:
    description:
      - The pod, or C(deployment/NAME), C(replicaset/NAME) or C(statefulset/NAME) for all pods of an owner.
    type: str
  selector:
    description:
      - Labels of the pods.
    type: str
  all:
    description:
      - All running pods of the namespace.
    type: bool
    default: false
  namespace:
    description:
      - Namespace of the pods. The default is the namespace of the kubeconfig's context, else V(default).
    type: str
  tcp:
    description:
      - V(close) closes established connections in the checkpoint (the pod itself keeps them); V(refuse) refuses a pod that has some.
    type: str
    choices: [close, refuse]
    default: close
  compression:
    description:
      - How the state is compressed.
    type: str
    choices: [zstd, none]
    default: zstd
  incremental:
    description:
      - Do not store pages of memory and blocks of files again that the pod's last checkpoint in this store has.
    type: bool
    default: true
  recipient:
    description:
      - A public key of C(age) (C(age1...)). The state is encrypted for it before it leaves the node's memory.
      - Incremental checkpoints of an encrypted one need O(identity) too, to read which pages the last one has.
    type: str
requirements:
  - kubernetes >= 29, < 37 (Python, on the controller)
  - nodes prepared by role P(podferry.live.node#role)
  - cryptography >= 41 (Python, on the controller), for O(signing_key) and O(verify_key)
  - boto3 >= 1.36 (Python, on the controller), for stores of the kind V(s3)
notes:
  - It is an action plugin; this file is its documentation.
seealso:
  - module: podferry.live.criu_restore
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Take a checkpoint of a pod into its node's own store
  podferry.live.pod_checkpoint:
    pod: redis-0
    namespace: prod

- name: Take checkpoints of all pods of a deployment, encrypted, on a shared mount
  podferry.live.pod_checkpoint:
    pod: deployment/cache
    namespace: prod
    store:
      kind: path
      path: /mnt/checkpoints
    recipient: age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
"""

RETURN = r"""
checkpoints:
  description: One entry for each pod.
  returned: when the pods were found
  type: list
  elements: dict
  contains:
    namespace:
      description: Namespace of the pod.
      type: str
    pod:
      description: Name of the pod.
      type: str
    node:
      description: Node that it runs on.
      type: str
    id:
      description: Id of the checkpoint; the ids of a pod sort by time.
      type: str
    outcome:
      description: V(stored), V(planned) (check mode), V(refused), V(cancelled) or V(failed).
      type: str
    frozen_ms:
      description: How long the pod stood, in milliseconds.
      type: float
    bytes:
      description: Sizes in bytes. C(memory) and C(files) of the pod, and C(stored), what was added to the store.
      type: dict
    parent:
      description: The checkpoint that this one refers to; empty when it stands alone.
      type: str
    connections_closed:
      description: TCP connections that are closed in it.
      type: int
    warnings:
      description: What the checkpoint does not hold.
      type: list
      elements: str
    refusals:
      description: Why the pod cannot be dumped, each with code, title, reason and remedy.
      type: list
      elements: dict
    error:
      description: What went wrong, with type, message, remedy and phase; null when nothing did.
      type: dict
"""
