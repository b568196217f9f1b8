#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime_restart
short_description: Restart the container runtime and wait until it answers
version_added: 0.1.0
description:
  - Restarts containerd or CRI-O, waits until its CRI answers, and fails when none of the containers that ran lived through it. For handlers.
  - Refuses, and restarts nothing, when containers would end with the running service (its unit has no C(KillMode=process)).
extends_documentation_fragment:
  - podferry.live._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - It restarts each time it is called.
options:
  engine:
    description:
      - The container runtime, which is also the name of its systemd unit.
    type: str
    choices: [containerd, crio]
    required: true
  timeout:
    description:
      - Seconds that it may take until its CRI answers.
    type: int
    default: 60
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Restart containerd
  podferry.live.runtime_restart:
    engine: containerd
"""

RETURN = r"""
seconds:
  description: Time until the CRI answered.
  returned: not in check mode
  type: float
before:
  description: Containers, sandboxes among them, that ran before.
  returned: not in check mode
  type: int
after:
  description: Containers that ran afterwards.
  returned: not in check mode
  type: int
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._common.errors import PodferryError
from ..module_utils._node import restart
from ..module_utils._runtime import facts, process


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "engine": {"type": "str", "choices": ["containerd", "crio"], "required": True},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        result = restart.restart(
            facts.Probe(process.run), process.run, module.params["engine"], module.params["timeout"]
        )
    except PodferryError as error:
        module.fail_json(msg=f"{error.message}. {error.remedy}".strip(), **error.to_dict())
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
