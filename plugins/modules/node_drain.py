#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_drain
short_description: Empty a node by moving its running pods
version_added: 0.1.0
description:
  - Cordons a node, moves every pod of it that can move to other nodes with its memory, and leaves or evicts the rest, each with its reason.
  - Every pod moves as M(podferry.live.pod_migrate) moves it, several at the same time within limits. A pod whose move fails before its commit point runs on
    where it was and is tried once more.
  - Without O(target) each pod's node is chosen by requests, taints, selectors and affinity, architecture, processor features, container engine,
    CRIU, memory and images,
    by most free room. A node that is cordoned, or drained itself, is never chosen.
  - Ctrl-C, and O(deadline), cancel what is before its commit point and see the rest through.
  - The node is uncordoned only if this module had cordoned it.
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
      - Progress is shown while it runs, and Ctrl-C stops it in order.
  check_mode:
    support: full
    details:
      - Prints the plan as a table, each decision with its reason, also why another node was not chosen. Touches nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - A node that is cordoned and has nothing left that can move stays as it is. Runs that an earlier drain left in the middle are gone on with.
options:
  node:
    description:
      - The node to empty, as C(kubectl get nodes) shows it.
    type: str
    required: true
  target:
    description:
      - The node that all of them are to go to. Without it each pod's node is chosen.
    type: str
  namespace:
    description:
      - Only pods of this namespace. The default is all.
    type: str
  selector:
    description:
      - Only pods that this label selector takes.
    type: str
  tcp:
    description:
      - What to do about established TCP connections, as in M(podferry.live.pod_migrate).
    type: str
    choices: [close, refuse]
    default: close
  parallel:
    description:
      - How many pods may be under way at the same time. All leave the one node, so it is that node's limit as well.
    type: int
    default: 2
  per_node:
    description:
      - How many of them may go to one target node at the same time.
    type: int
    default: 2
  freezes:
    description:
      - How many of them may be between the start of their ferries and the thaw at the same time. More of them share the processors and the link, and
        stand still the longer for it.
    type: int
    default: 1
  bandwidth:
    description:
      - Cap in MiB/s on what the whole drain sends on average. No freeze is ever made longer by it. The next pod waits until what the last one has
        sent is below the cap,
        and what is sent while a pod still runs is sent no faster.
    type: int
  rest:
    description:
      - What becomes of pods that cannot be moved.
      - V(leave) leaves them.
      - V(evict) evicts those that somebody owns, as far as their disruption budgets allow. What nobody would create again is left.
    type: str
    choices: [leave, evict]
    default: leave
  uncordon:
    description:
      - When to uncordon the node at the end, if this module had cordoned it.
    type: str
    choices: [on_failure, always, never]
    default: on_failure
  deadline:
    description:
      - Seconds after which nothing is begun any more and what is before its commit point is cancelled.
      - The default grows with the pods, 60 s each and 800 s for each GiB, one after the other as far as O(freezes) says.
    type: int
  report:
    description:
      - Path on the controller for the record of the drain as JSON, readable by its owner only. Not written in check mode.
    type: path
  ready_timeout:
    description:
      - Seconds that a moved pod may take to read Ready, after it was thawed.
    type: int
    default: 300
requirements:
  - kubernetes >= 29, < 37 (Python, on the controller)
  - cryptography >= 41 (Python, on the controller)
  - the nodes prepared by P(podferry.live.node#role)
notes:
  - It is an action plugin; this file is its documentation.
  - The nodes are reached as M(podferry.live.pod_migrate) reaches them.
seealso:
  - module: podferry.live.pod_migrate
  - module: podferry.live.pod_migration_cancel
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Say which pod would go where, and why not
  podferry.live.node_drain:
    node: worker-1
  check_mode: true

- name: Empty a node for its maintenance, four pods at a time
  podferry.live.node_drain:
    node: worker-1
    parallel: 4
    bandwidth: 50
    rest: evict
    report: ./worker-1.json
"""

RETURN = r"""
msg:
  description: What became of it, in words; on failure every pod's fate with its remedy.
  returned: always
  type: str
  sample: "node worker-1: drained"
remedy:
  description: What to do about a failure.
  returned: failure
  type: str
report:
  description: The record of the drain. All fields are in C(docs/drain.md).
  returned: when the API could be reached
  type: dict
  contains:
    outcome:
      description: V(drained), V(incomplete), V(cancelled), V(refused), V(planned) or V(failed).
      type: str
    counts:
      description: How many pods had which outcome.
      type: dict
    slowest_freeze:
      description: The moved pod that stood still the longest; null when none moved.
      type: dict
    pods:
      description: Each pod with decision, reason, target, outcome, downtime and its own record of the migration.
      type: list
      elements: dict
    cordoned:
      description: Whether the node was cordoned for the drain (by it, or before).
      type: bool
    uncordoned:
      description: Whether it was uncordoned at the end.
      type: bool
"""
