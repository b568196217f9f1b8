#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint_transfer
short_description: Copy a checkpoint to another store or another node
version_added: 0.1.0
description:
  - Copies a checkpoint from one store to another, as the task's host reaches them; or, with O(target), from a store of the task's host to one of
    another node, over a TLS connection with keys of this run only.
  - What is there already does not travel, so a transfer that was interrupted goes on with the next run of the task. Every part is compared with the
    checkpoint's manifest before it is stored; the manifest comes last, so that nobody sees half a checkpoint.
  - Pages that belong to earlier checkpoints of the pod come along. The signature stays what it was; encrypted checkpoints stay encrypted, and no key is needed.
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._store
attributes:
  async:
    description: Supports being used with C(async).
    support: none
    details:
      - The copy goes over sessions that end with the task.
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  pod:
    description:
      - Of which pod the checkpoint was taken.
    type: str
    required: true
  namespace:
    description:
      - Namespace of that pod.
    type: str
    default: default
  checkpoint:
    description:
      - Its id, or V(latest).
    type: str
    default: latest
  to:
    description:
      - Where it shall be. The default is the folder C(/var/lib/podferry/checkpoints) of O(target).
    type: dict
    suboptions:
      kind:
        description:
          - V(path) is a folder on the node (a disk, an NFS mount), V(registry) an OCI registry, V(s3) a bucket.
          - Buckets are listed by the controller, which gives nodes URLs for what they need; all else is done by the nodes.
        type: str
        required: true
        choices: [path, registry, s3]
      path:
        description:
          - The folder of a V(path).
        type: path
      url:
        description:
          - URL of a V(registry).
        type: str
      repository:
        description:
          - Prefix of the repositories in a V(registry).
        type: str
      username:
        description:
          - User at a V(registry).
        type: str
      password:
        description:
          - His password.
        type: str
      ca:
        description:
          - Certificate authority of a V(registry) or V(s3) as PEM text. The default is what the system trusts.
        type: str
      insecure:
        description:
          - Take any certificate, and plain HTTP.
        type: bool
        default: false
      bucket:
        description:
          - Name of the bucket of V(s3).
        type: str
      prefix:
        description:
          - Prefix of the objects in the bucket.
        type: str
      endpoint:
        description:
          - URL of a V(s3) server other than Amazon's. Controller and nodes must reach it under the same.
        type: str
      region:
        description:
          - Region of V(s3).
        type: str
      access_key:
        description:
          - Access key of V(s3). The default is where C(boto3) looks.
        type: str
      secret_key:
        description:
          - Secret key of V(s3).
        type: str
  target:
    description:
      - Name of the node whose own store, a folder, shall have it.
      - The task's host connects to it, to the address and one of the ports that C(podferry_address) (else C(ansible_host)) and C(podferry_ports) of its
        inventory host say.
    type: str
  move:
    description:
      - Remove it from O(store) when it is complete in the other one. Pages that other checkpoints there refer to stay.
      - Every part is read back from the other store before, also what was there already. Two names of one store are refused; check mode does not notice
        those of a link, a mount or a server.
    type: bool
    default: false
  verify_key:
    description:
      - One or several public Ed25519 keys as PEM text. A checkpoint that none of them has signed is not copied.
    type: str
requirements:
  - nodes prepared by role P(podferry.live.node#role)
  - cryptography >= 41 (Python, on the controller), for O(target) and O(verify_key)
  - boto3 >= 1.36 (Python, on the controller), for stores of the kind V(s3)
notes:
  - It is an action plugin; this file is its documentation.
seealso:
  - module: podferry.live.pod_checkpoint
  - module: podferry.live.criu_restore
  - module: podferry.live.checkpoint_prune
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Keep the latest checkpoint outside of the cluster
  podferry.live.checkpoint_transfer:
    pod: redis-0
    namespace: prod
    to:
      kind: s3
      bucket: checkpoints
      region: eu-central-1
  delegate_to: node-a

- name: Bring one from node-a's own store to that of node-b
  podferry.live.checkpoint_transfer:
    pod: redis-0
    namespace: prod
    checkpoint: 20261125T170000Z-0123456789ab
    target: node-b
  delegate_to: node-a
"""

RETURN = r"""
checkpoint:
  description: Id of the checkpoint.
  returned: success
  type: str
  sample: 20261125T170000Z-0123456789ab
bytes:
  description: Bytes that travelled.
  returned: success
  type: int
blobs:
  description: Parts that travelled.
  returned: success
  type: int
present:
  description: Parts that were there already.
  returned: success
  type: int
freed:
  description: Bytes that were freed in O(store) with O(move).
  returned: success
  type: int
msg:
  description: The same in words.
  returned: always
  type: str
remedy:
  description: What can be done about it.
  returned: failure
  type: str
"""
