#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: criu_restore
short_description: Restore a checkpoint on a node
version_added: 0.1.0
description:
  - Works on the node that the task's host is. With O(state=armed) it brings a checkpoint from its store into the node's memory, verifies it, and leaves
    an arrival for the runtime handler; the pod of RV(manifest) is then to be created (M(podferry.live.restored_pod) does), and its containers are restored
    instead of started.
  - With O(state=restored) it waits for that, and with O(state=absent) it takes everything of the run from the node again. A restore that has not run is
    given up by it.
  - C(playbooks/restore.yml) is these steps in their order.
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._store
  - podferry.live._store.keys
attributes:
  check_mode:
    support: full
    details:
      - Looks for the checkpoint and compares the node with it.
      - Images that are missing on the node are pulled also in check mode.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details:
      - Each O(state=armed) is another arrival. The other states change nothing when they are there.
options:
  state:
    description:
      - What is to be.
    type: str
    choices: [armed, restored, absent]
    default: armed
  run:
    description:
      - The run that O(state=armed) has returned. With O(state=armed) an id of 12 hexadecimal digits of your own; the default is a random one.
    type: str
  namespace:
    description:
      - Namespace of the pod that the checkpoint was taken of.
    type: str
  pod:
    description:
      - Name of the pod that the checkpoint was taken of.
    type: str
  checkpoint:
    description:
      - Id of the checkpoint, or V(latest).
    type: str
    default: latest
  name:
    description:
      - Name of the new pod. The default is made from the pod's name and the run.
    type: str
  same_name:
    description:
      - The new pod takes the place of the one that the checkpoint was taken of, with its name and its labels. That one must be gone.
      - Otherwise it has none of the labels, so that no Service and no controller takes it for the other.
    type: bool
    default: false
  to_namespace:
    description:
      - Namespace of the new pod. The default is O(namespace).
    type: str
  timeout:
    description:
      - Seconds that O(state=restored) waits.
    type: int
    default: 180
requirements:
  - a node prepared by role P(podferry.live.node#role), with the engine of this collection's version
  - cryptography >= 41 (Python, on the controller), for O(signing_key) and O(verify_key)
  - boto3 >= 1.36 (Python, on the controller), for stores of the kind V(s3)
notes:
  - It is an action plugin; this file is its documentation.
  - An arrival waits 180 seconds for its pod, then it is given up.
  - The state is in the node's memory from O(state=armed) until O(state=absent).
seealso:
  - module: podferry.live.pod_checkpoint
  - module: podferry.live.restored_pod
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Leave the arrival of the last checkpoint
  podferry.live.criu_restore:
    namespace: prod
    pod: redis-0
    name: redis-copy
  register: armed

- name: Create the pod
  podferry.live.restored_pod:
    manifest: "{{ armed.manifest }}"
  # There is no manifest in check mode: it is in the checkpoint, which is not fetched then.
  when: not ansible_check_mode

- name: Wait for the restore
  podferry.live.criu_restore:
    state: restored
    run: "{{ armed.run }}"
"""

RETURN = r"""
run:
  description: Id of the run. In check mode with O(state=armed), one that no node knows.
  returned: always, except when the arguments are wrong
  type: str
checkpoint:
  description: Id of the checkpoint.
  returned: state=armed
  type: str
node:
  description: The node.
  returned: state=armed, except in check mode
  type: str
manifest:
  description: The pod to create.
  returned: state=armed, except in check mode
  type: dict
containers:
  description: The restored containers, with name, id and the process that is first in them.
  returned: state=restored, except in check mode
  type: list
  elements: dict
criu_log:
  description: The last lines of CRIU's log.
  returned: when a restore failed
  type: list
  elements: str
msg:
  description: What was done, or what went wrong.
  returned: always
  type: str
remedy:
  description: What to do about it.
  returned: failure
  type: str
"""
