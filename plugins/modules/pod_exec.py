#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pod_exec
short_description: Run a command in a container of a pod
version_added: 0.1.0
description:
  - Runs a command in a container of a running pod, as C(kubectl exec) does, and waits for its end.
  - An exit status other than 0 is a failure.
  - Works on the controller, through the Kubernetes API over a WebSocket.
extends_documentation_fragment:
  - podferry.live._attributes
  - podferry.live._attributes.cluster
  - podferry.live._kubernetes_auth
attributes:
  check_mode:
    support: full
    details:
      - Checks that the pod is there and that the container runs, and runs nothing.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - The command is run each time.
options:
  pod:
    description:
      - Name of the pod.
    type: str
    required: true
  namespace:
    description:
      - Namespace of the pod. The default is the namespace of the kubeconfig's context, else V(default).
    type: str
  container:
    description:
      - Name of the container. The default is the one that the pod's annotation C(kubectl.kubernetes.io/default-container) names, else the pod's only container.
    type: str
  command:
    description:
      - The program and its arguments. No shell is between, unless you name one.
      - It is part of the request's address, and so in the audit log of the API. Do not put secrets into it.
    type: list
    elements: str
    required: true
  timeout:
    description:
      - Seconds that the command may take. Longer is a failure, but the command goes on in the container, for the API cannot end it.
    type: int
    default: 60
requirements:
  - kubernetes >= 29, < 37 (Python, on the controller)
notes:
  - It is an action plugin; this file is its documentation.
  - Of standard output and standard error the last 64 KiB each are kept.
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Have a database write down what it holds
  podferry.live.pod_exec:
    pod: redis
    namespace: prod
    command: [redis-cli, bgsave]
    timeout: 120

- name: Use a shell where one is needed
  podferry.live.pod_exec:
    pod: web-0
    container: app
    command: [sh, -c, "kill -USR1 1 && sleep 1"]
"""

RETURN = r"""
container:
  description: The container.
  returned: when the pod has it
  type: str
cmd:
  description: The command.
  returned: when the pod has the container
  type: list
  elements: str
rc:
  description: The exit status. Null when there is none, because the command did not start or did not end in time.
  returned: when it was asked for
  type: int
stdout:
  description: Standard output.
  returned: when it was asked for
  type: str
stdout_lines:
  description: The same in lines.
  returned: when it was asked for
  type: list
  elements: str
stderr:
  description: Standard error.
  returned: when it was asked for
  type: str
stderr_lines:
  description: The same in lines.
  returned: when it was asked for
  type: list
  elements: str
truncated:
  description: Whether there was more output than is kept.
  returned: when it was asked for
  type: bool
msg:
  description: What went wrong, with the end of what the command wrote.
  returned: failure
  type: str
remedy:
  description: What to do about it.
  returned: failure
  type: str
"""
