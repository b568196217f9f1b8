#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_migrate
short_description: Move a running pod to another node
version_added: 0.1.0
description:
  - Moves a running Kubernetes pod to another node with its memory, open files and root file system, and thaws it there at the next instruction.
  - What can be read without stopping the pod is checked before anything is touched. All reasons against a move are told at once, each with its remedy.
  - Until the commit point every failure, Ctrl-C included, leaves the pod running where it was. After it the run ends as C(finished), as C(undone), or,
    when nobody can know, as C(in_doubt); running the task again goes on with an earlier run that has not come to its end.
  - A pod that nobody owns is replaced by a successor of the same name. A pod of a ReplicaSet (or Deployment) gets a twin with a new name, which the
    ReplicaSet adopts in the place of the source.
  - Works on the controller, through the Kubernetes API and one connection to each of the two nodes, which have to be in the inventory.
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
      - Progress is shown while it runs, and Ctrl-C cancels it in order.
  check_mode:
    support: full
    details:
      - Says what would happen and why not, after a server-side dry run of the target pod. Whether a missing image can be pulled, and whether the ferry's
        port can be reached, is known only to a real run, which stops before it has touched the pod.
  diff_mode:
    support: full
    details:
      - Shows where the pod is and where it would be.
  idempotent:
    support: full
    details:
      - A pod that is on the target, or whose twin is, stays as it is.
options:
  pod:
    description:
      - The pod to move, by its name.
      - Or C(deployment/NAME), C(replicaset/NAME), C(statefulset/NAME) or a label selector such as C(app=web), when exactly one running pod fits.
    type: str
    required: true
  target:
    description:
      - Name of the node to move it to, as C(kubectl get nodes) shows it.
    type: str
    required: true
  namespace:
    description:
      - Namespace of the pod. The default is the namespace of the kubeconfig's context, else V(default).
    type: str
  name:
    description:
      - Whether the moved pod keeps its name.
      - V(auto) keeps the name of a pod that nobody or a StatefulSet owns, and gives a pod of a ReplicaSet a new one.
      - V(keep) costs one deletion and one creation through the API inside the downtime, and is refused for a pod of a ReplicaSet.
      - V(new) creates the target pod beside the source; nothing of the control plane is inside the downtime then. It is
        refused for a pod of a StatefulSet.
    type: str
    choices: [auto, keep, new]
    default: auto
  tcp:
    description:
      - What to do about established TCP connections, which cannot follow the pod to its new IP.
      - With V(close) the program finds them closed after the move; listening sockets go on.
      - With V(refuse) a pod that has any is not moved.
    type: str
    choices: [close, refuse]
    default: close
  source_policy:
    description:
      - What becomes of the source.
      - With V(freeze) it stands still from the freeze on and ends when the target is ready.
      - With V(keep_running) it runs on as soon as it is dumped, and a copy of it runs on the target, under a name of its own, with none
        of its labels and without an owner. Source and copy go apart from RV(report.diverged_at) on. Each run makes another copy.
    type: str
    choices: [freeze, keep_running]
    default: freeze
  transfer:
    description:
      - A store that both nodes reach; the state of the freeze goes through it instead of the ferries' own connection, encrypted with a key of this run.
      - Its files are removed at the end. The nodes still need the connection for all else that they tell each other, and C(age).
      - Files are then not copied before the freeze, but all in it.
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
  report:
    description:
      - Path on the controller for the record of the migration as JSON, readable by its owner only. Not written in check mode.
    type: path
  stop_after:
    description:
      - How far to go.
      - V(preflight) goes on with an earlier run that has not come to its end, then only says, as check mode does, whether the pod can be moved now.
        The outcome is V(planned) when it can, and V(finished) when the earlier run has brought it to the target. For what has to happen between
        that answer and the move, such as hooks.
    type: str
    choices: [preflight, end]
    default: end
  ready_timeout:
    description:
      - Seconds that the moved pod may take to read Ready, after it was thawed.
    type: int
    default: 300
requirements:
  - kubernetes >= 29, < 37 (Python, on the controller)
  - cryptography >= 41 (Python, on the controller)
  - both nodes prepared by P(podferry.live.node#role)
notes:
  - It is an action plugin; this file is its documentation.
  - Variables of the inventory hosts that stand for the nodes. C(podferry_node_name) is the node's name, when it is not the host's.
    C(podferry_address) is the address at which the node's ferry listens, when it is not the node's InternalIP.
    C(podferry_ports) is the range of TCP ports for it, C(17900-17999) when not set.
  - A StatefulSet is deleted without its pods before its pod is frozen, and created again when the moved pod runs. It gets a new UID. A Deployment
    or ReplicaSet that is being rolled out or scaled is waited for, 15 seconds at most; in check mode it is not waited for.
  - The nodes are reached by their own connection variables, over C(ssh) or C(local). Every user but root becomes root, unless C(ansible_become) is false.
seealso:
  - module: podferry.live.node_info
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Say what would happen and why not
  podferry.live.pod_migrate:
    pod: counter
    target: worker-2
  check_mode: true
  diff: true

- name: Move a pod that keeps its name
  podferry.live.pod_migrate:
    pod: counter
    target: worker-2

- name: Move a pod of a StatefulSet, which keeps its name and ordinal
  podferry.live.pod_migrate:
    pod: db-1
    namespace: prod
    target: worker-2

- name: Move the only pod of a Deployment, unless somebody is connected to it
  podferry.live.pod_migrate:
    pod: deployment/shop
    namespace: prod
    target: worker-2
    tcp: refuse
    report: ./shop.json
    kubeconfig: ~/.kube/prod
"""

RETURN = r"""
msg:
  description: What became of it, in words; on failure all reasons with their remedies.
  returned: always
  type: str
  sample: "default/counter: moved from worker-1 to worker-2 as counter"
remedy:
  description: What to do about a failure.
  returned: failure
  type: str
plan:
  description: What was decided, and on what numbers. Null when the run only went on with an earlier one.
  returned: when the API could be reached
  type: dict
  contains:
    decision:
      description: V(move), V(already_there) or V(refused).
      type: str
    refusals:
      description: Reasons against the move; empty when there are none.
      type: list
      elements: dict
      contains:
        code:
          description: Name of the reason, as in C(docs/refusals.md).
          type: str
        reason:
          description: The reason in this case.
          type: str
        remedy:
          description: What to do about it.
          type: str
        planned:
          description: Whether a later release is meant to lift it.
          type: bool
    warnings:
      description: What the move changes for others.
      type: list
      elements: str
    namespace:
      description: Namespace of the pod.
      type: str
    pod:
      description: Name of the pod.
      type: str
    source_node:
      description: Node that it is on.
      type: str
    target_node:
      description: Node that it is to be on.
      type: str
    target_pod:
      description: Name that it would have there.
      type: str
    mode:
      description: V(twin) or V(successor).
      type: str
    owner:
      description: What the pod belongs to.
      type: str
    tcp:
      description: As asked for.
      type: str
    need_bytes:
      description: Memory that the dump may take on each node.
      type: int
    stage_bytes:
      description: Disk that copies of the pod's files may take on each node before the freeze; 0 when there are none.
      type: int
    memory_bytes:
      description: Memory of the pod's processes.
      type: int
    expected_freeze_ms:
      description: Estimate of the downtime.
      type: int
    connections_closed:
      description: Established TCP connections that would be closed.
      type: int
report:
  description: The record of the migration. All fields are in C(docs/report.md).
  returned: when the API could be reached
  type: dict
  contains:
    run:
      description: Id of the run.
      type: str
    outcome:
      description: V(finished), V(undone), V(cancelled), V(in_doubt), V(refused), V(already_there) or V(planned).
      type: str
    diverged_at:
      description: Wall clock of the source node when a copy's source ran on, in seconds since 1970; null when the pod was moved.
      type: float
    downtime_ms:
      description: From the last instruction on the source to the first on the target.
      type: float
    until_ready_ms:
      description: From the freeze until the target read Ready, as the controller saw it.
      type: float
    total_ms:
      description: From the first question to the end of the clean-up.
      type: float
    phases:
      description: Named steps with node, start and duration.
      type: list
      elements: dict
    bytes:
      description: Bytes that crossed between the nodes, and bytes of the dump.
      type: dict
    error:
      description: Phase, type, message and remedy of what went wrong; null when nothing did.
      type: dict
"""
