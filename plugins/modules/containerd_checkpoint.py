#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_checkpoint
short_description: Options about checkpoints in containerd's configuration
version_added: 0.1.0
description:
  - Sees to it that containerd's own checkpoints are not switched off, by a file of our own in the folder that containerd imports; or takes
    that file out again.
  - Writes only the options that the running containerd knows (C(enable_criu) from 2.2.7, 2.3.4 and 2.4 on), and only where they differ
    from what is wanted. containerd before 2.0 has no checkpoint call; nothing is written there.
  - containerd itself checks the result (C(containerd config dump)). If it does not see what was meant, the file is put back and the
    module fails.
  - Does not restart containerd.
extends_documentation_fragment:
  - podferry.live._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - Whether checkpoints shall be enabled; V(absent) leaves it to containerd and to others' files.
    type: str
    choices: [present, absent]
    default: present
  restore_via_create:
    description:
      - Also switch on C(enable_experimental_restore_via_create), which lets whoever may create a pod restore a process image
        (containerd 2.2.7 to 2.3). podferry itself needs it nowhere. When false it is left as it is.
    type: bool
    default: false
requirements:
  - containerd 1.7 or later, running as the systemd service C(containerd)
seealso:
  - module: podferry.live.containerd_handler
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Let the kubelet make checkpoints
  podferry.live.containerd_checkpoint:
  notify: Restart containerd

- name: Leave it to others again
  podferry.live.containerd_checkpoint:
    state: absent
  notify: Restart containerd
"""

RETURN = r"""
files:
  description: Files that were (or in check mode would be) written or removed.
  returned: success
  type: list
  elements: str
  sample: [/etc/containerd/conf.d/50-podferry-checkpoint.toml]
options:
  description: Options that shall be on, out of those that this containerd knows.
  returned: success
  type: dict
  sample: {enable_criu: true}
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._common.errors import PodferryError
from ..module_utils._node import containerd_checkpoint as checkpoint
from ..module_utils._node.containerd_files import Containerd


def ensure(module: AnsibleModule) -> dict[str, t.Any]:
    """Bring the file into the wanted state."""
    containerd = Containerd(module.tmpdir, module.atomic_move)
    present, restore = module.params["state"] == "present", module.params["restore_via_create"]
    situation = containerd.situation()
    options = checkpoint.wanted(situation, restore) if present else {}
    changes = [change for change in checkpoint.plan(situation, present, restore) if change.needed]
    if changes and not module.check_mode:
        containerd.carry_out(changes, lambda config: checkpoint.check_effective(situation.config, config, options))
    return {
        "changed": bool(changes),
        "files": [change.path for change in changes],
        "options": options,
        "diff": [change.diff() for change in changes],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "restore_via_create": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = ensure(module)
    except PodferryError as error:
        module.fail_json(msg=f"{error.message}. {error.remedy}".strip(), **error.to_dict())
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
