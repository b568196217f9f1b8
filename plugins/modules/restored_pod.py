#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: restored_pod
short_description: Create the pod that a checkpoint is restored into
version_added: 0.1.0
description:
  - Creates the pod of which M(podferry.live.criu_restore) has left an arrival, waits until it is Ready and takes the marks of the restore from it,
    or deletes it.
  - Works on the controller, through the Kubernetes API.
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._attributes.cluster
  - podferry.live._kubernetes_auth
attributes:
  check_mode:
    support: full
    details:
      - Asks the API whether it would take the pod.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  manifest:
    description:
      - The pod, as M(podferry.live.criu_restore) has returned it.
    type: dict
    required: true
  state:
    description:
      - V(present) creates the pod and does not wait; V(ready) waits until it is Ready and takes the marks of the restore from it;
        V(absent) deletes it, if it is still the one that waits for this restore.
    type: str
    choices: [present, ready, absent]
    default: present
  timeout:
    description:
      - Seconds to wait.
    type: int
    default: 300
requirements:
  - kubernetes >= 29, < 37 (Python, on the controller)
notes:
  - It is an action plugin; this file is its documentation.
seealso:
  - module: podferry.live.criu_restore
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Create the pod
  podferry.live.restored_pod:
    manifest: "{{ armed.manifest }}"

- name: Wait until it is ready
  podferry.live.restored_pod:
    manifest: "{{ armed.manifest }}"
    state: ready
"""

RETURN = r"""
name:
  description: Name of the pod.
  returned: success
  type: str
namespace:
  description: Namespace of the pod.
  returned: success
  type: str
pod:
  description: The pod as the API has it; null when there is none (any more).
  returned: success
  type: dict
msg:
  description: What went wrong.
  returned: failure
  type: str
remedy:
  description: What to do about it.
  returned: failure
  type: str
"""
