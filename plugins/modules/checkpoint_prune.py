#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint_prune
short_description: Remove checkpoints that are too many, too old or too large
version_added: 0.1.0
description:
  - Removes checkpoints from a store by number, by age and by size, each of them counted per pod. One that exceeds any of the limits that are given goes.
  - Never removed are checkpoints that somebody uses just now (is restoring, copying or building upon), those that own pages of another one that stays, and
    the newest O(at_least) of every pod.
  - What was begun and never finished goes as well, once whoever wrote it has been silent for 15 minutes (in a bucket, 6 hours).
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._store
attributes:
  async:
    description: Supports being used with C(async).
    support: none
    details:
      - It is over in a moment.
  check_mode:
    support: full
    details:
      - Says what would go, and why.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  namespace:
    description:
      - Only checkpoints of pods of this namespace. A V(registry) that does not list its repositories needs O(namespace) and O(pod).
    type: str
  pod:
    description:
      - Only checkpoints of this pod. Needs O(namespace), which must not be empty then.
    type: str
  count:
    description:
      - So many of each pod stay, the newest.
    type: int
  age:
    description:
      - Older ones go. A number with V(h), V(d) or V(w), such as V(30d).
    type: str
  bytes:
    description:
      - So much may all checkpoints of a pod store together, such as V(20G). The oldest go first.
    type: bytes
  at_least:
    description:
      - So many of each pod stay whatever the limits say.
    type: int
    default: 1
requirements:
  - nodes prepared by role P(podferry.live.node#role)
  - boto3 >= 1.36 (Python, on the controller), for stores of the kind V(s3)
notes:
  - It is an action plugin; this file is its documentation.
  - A registry frees the space with its own garbage collection, and has to allow that manifests are deleted.
seealso:
  - module: podferry.live.pod_checkpoint
  - module: podferry.live.checkpoint_transfer
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: A week of checkpoints, and no more than 20 GiB for each pod
  podferry.live.checkpoint_prune:
    age: 7d
    bytes: 20G
  delegate_to: node-a

- name: The last five of each pod in a bucket
  podferry.live.checkpoint_prune:
    store:
      kind: s3
      bucket: checkpoints
      region: eu-central-1
    count: 5
"""

RETURN = r"""
removed:
  description: Checkpoints that are gone, or would go (check mode).
  returned: success
  type: list
  elements: dict
  contains: &checkpoint
    namespace:
      description: Namespace of its pod.
      type: str
    pod:
      description: Name of its pod.
      type: str
    checkpoint:
      description: Its id.
      type: str
    stored:
      description: Bytes that it had added to the store.
      type: int
    reason:
      description: Why it goes, or stays.
      type: str
kept:
  description: Checkpoints that stay.
  returned: success
  type: list
  elements: dict
  contains: *checkpoint
freed:
  description: Bytes that were freed with them; in check mode at most so many.
  returned: success
  type: int
leftovers:
  description: Bytes of what was never finished, or needed by nobody any more.
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
