#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime_class
short_description: The RuntimeClass of podferry
version_added: 0.1.0
description:
  - Makes the RuntimeClass be there whose handler is the one that role P(podferry.live.node#role) registers on the nodes, or removes it.
  - It has no overhead and no scheduling, because both would change the pods that name it.
  - Removing it is refused while pods in the cluster name it. It serves all nodes of the cluster, so it stays while one of them has the handler.
  - Works on the controller, through the Kubernetes API.
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._attributes.cluster
  - podferry.live._kubernetes_auth
attributes:
  check_mode:
    support: full
    details:
      - Creation is tried with a server-side dry run.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Name of the RuntimeClass and of its handler.
    type: str
    default: podferry
  state:
    description:
      - Whether it shall be there. V(unused) changes nothing, and fails while pods on O(nodes) name it.
    type: str
    choices: [present, absent, unused]
    default: present
  nodes:
    description:
      - Names of nodes. With O(state=unused) only pods that are on them count.
    type: list
    elements: str
    default: []
requirements:
  - kubernetes >= 29, < 37 (Python, on the controller)
notes:
  - It is an action plugin; this file is its documentation.
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Make the RuntimeClass be there
  podferry.live.runtime_class:
    kubeconfig: ~/.kube/config
  run_once: true

- name: Refuse when a pod on these nodes uses it
  podferry.live.runtime_class:
    state: unused
    nodes: [worker-1, worker-2]
  run_once: true

- name: Remove it, if no pod uses it
  podferry.live.runtime_class:
    state: absent
  run_once: true
"""

RETURN = r"""
runtime_class:
  description: The RuntimeClass as it is (or in check mode would be) after the task, without the server's own fields; null when there is none.
  returned: success, unless O(state=unused)
  type: dict
pods:
  description: Pods that use the RuntimeClass, as C(namespace/name).
  returned: when O(state=absent) or O(state=unused) is refused
  type: list
  elements: str
"""
