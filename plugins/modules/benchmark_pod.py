#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: benchmark_pod
short_description: Make and remove the pod whose migration a benchmark measures
version_added: 0.1.0
description:
  - Creates a pod that touches a given amount of memory and writes a line every 10 ms, or removes it and returns the widest pause that
    it saw itself.
  - This is an action plugin; it runs on the controller.
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._attributes.cluster
  - podferry.live._kubernetes_auth
attributes:
  check_mode:
    support: partial
    details:
      - Nothing is read in check mode, the prediction is always a change.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the pod.
    type: str
    required: true
  namespace:
    description:
      - Its namespace.
    type: str
    default: default
  state:
    description:
      - V(present) makes the pod and waits until it counts. One of that name with another node, image, program or memory is a reason to fail.
      - V(absent) reads its log and removes it. If there is no log to read, which is worth a warning, it is removed nevertheless.
    type: str
    choices: [present, absent]
    default: present
  node:
    description:
      - Node to start it on; needed with O(state=present).
    type: str
  image:
    description:
      - Image with C(python3) in it, present on the node or pullable.
    type: str
    default: localhost/podferry-counter:lab
  mib:
    description:
      - How much memory it touches, in MiB.
    type: int
    default: 64
  timeout:
    description:
      - Seconds until it must count.
    type: int
    default: 120
requirements:
  - kubernetes >= 29, < 37 (Python, on the controller)
seealso:
  - module: podferry.live.node_benchmark
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Start a counter of 256 MiB
  podferry.live.benchmark_pod:
    name: counter
    node: node-a
    mib: 256

- name: Remove it and see how long it stood still
  podferry.live.benchmark_pod:
    name: counter
    state: absent
  register: counter
"""

RETURN = r"""
gap:
  description: The widest pause that the pod saw; null unless a pod was removed whose log could be read and has two ticks.
  returned: success
  type: dict
  contains:
    before:
      description: The last tick before it.
      type: int
    after:
      description: The first tick after it.
      type: int
    downtime_ms:
      description: The pause, less the 10 ms between two ticks.
      type: float
    lost:
      description: Ticks that are missing.
      type: int
    doubled:
      description: Ticks that were written twice.
      type: int
"""
