#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_migration_cancel
short_description: Stop the migration of a pod
version_added: 0.1.0
description:
  - Finds the migration of a pod that is under way on the nodes of the inventory, whoever began it and on whichever controller, and stops it.
  - Until the commit point the pod then runs on where it was. After it the migration cannot be stopped, only seen through, and the task fails saying so.
  - Waits until the run has ended. When its own controller is gone, what is left of it is cleaned up.
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._attributes.cluster
  - podferry.live._kubernetes_auth
attributes:
  action_group:
    description: Use C(group/podferry.live.podferry) in C(module_defaults) to set the options of the cluster once for all modules of this collection.
    support: full
    membership:
      - podferry.live.podferry
  async:
    description: Supports being used with C(async).
    support: none
    details:
      - It is over in a moment.
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - Without a migration under way nothing changes.
options:
  pod:
    description:
      - The pod that is being moved, by its name on the source or on the target node.
    type: str
    required: true
  namespace:
    description:
      - Namespace of the pod. The default is the namespace of the kubeconfig's context, else V(default).
    type: str
requirements:
  - kubernetes >= 29, < 37 (Python, on the controller)
  - cryptography >= 41 (Python, on the controller)
  - the nodes prepared by P(podferry.live.node#role)
notes:
  - It is an action plugin; this file is its documentation.
  - The nodes are reached as M(podferry.live.pod_migrate) reaches them.
seealso:
  - module: podferry.live.pod_migrate
  - module: podferry.live.node_drain
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Leave the pod where it is
  podferry.live.pod_migration_cancel:
    pod: counter
"""

RETURN = r"""
msg:
  description: What became of it, in words.
  returned: always
  type: str
  sample: "default/counter: cancelled; the pod goes on on worker-1 (run 0123456789ab from worker-1 to worker-2)"
remedy:
  description: What to do when it was too late.
  returned: failure
  type: str
migration:
  description: The migration that was found.
  returned: when the API could be reached
  type: dict
  contains:
    outcome:
      description: V(nothing) under way, V(cancelled) or V(too_late).
      type: str
    run:
      description: Id of the run.
      type: str
    source_node:
      description: Node that the pod is on.
      type: str
    target_node:
      description: Node that it was to go to.
      type: str
    by:
      description: Who began it.
      type: str
    since:
      description: Since when it has been under way.
      type: str
    warnings:
      description: What did not go quite as it should.
      type: list
      elements: str
    silent:
      description: Nodes that could not be asked.
      type: list
      elements: str
"""
