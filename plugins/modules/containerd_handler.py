#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd_handler
short_description: The runtime handler of podferry in containerd's configuration
version_added: 0.1.0
description:
  - Adds a runtime handler C(podferry) to containerd's configuration, with the settings of the default runc handler and O(program) in
    place of its runc; or takes it out again, so that every file is as it was before, to the byte.
  - containerd 2.0 and later get a file of our own where the configuration imports a folder. Otherwise the handler is one marked block at
    the end of the main configuration file, because imports of containerd 1.x replace whole sections.
  - containerd itself checks the result (C(containerd config dump)). If it does not see what was meant, the files are put back and the
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
      - Whether the handler shall be there.
    type: str
    choices: [present, absent]
    default: present
  program:
    description:
      - The OCI runtime of the handler.
    type: path
    default: /usr/local/libexec/podferry/podferry-runc
  pod_annotations:
    description:
      - Annotations of pods that containerd passes to the runtime, besides those it passes to the default one.
    type: list
    elements: str
    default:
      - podferry.live/*
requirements:
  - containerd 1.7 or later, running as the systemd service C(containerd)
seealso:
  - module: podferry.live.node_info
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Register the handler
  podferry.live.containerd_handler:
  notify: Restart containerd

- name: Take it out again
  podferry.live.containerd_handler:
    state: absent
  notify: Restart containerd
"""

RETURN = r"""
files:
  description: Files that were (or in check mode would be) written or removed.
  returned: success
  type: list
  elements: str
  sample: [/etc/containerd/config.toml]
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._common.errors import PodferryError
from ..module_utils._node import containerd_handler as handler
from ..module_utils._node.containerd_files import Containerd


def ensure(module: AnsibleModule) -> dict[str, t.Any]:
    """Bring the files into the wanted state."""
    containerd = Containerd(module.tmpdir, module.atomic_move)
    present, program = module.params["state"] == "present", module.params["program"]
    situation = containerd.situation()
    changes = [
        change
        for change in handler.plan(situation, present, program, module.params["pod_annotations"])
        if change.needed
    ]
    if changes and not module.check_mode:
        containerd.carry_out(
            changes, lambda config: handler.check_effective(situation.config, config, present, program)
        )
    return {
        "changed": bool(changes),
        "files": [change.path for change in changes],
        "diff": [change.diff() for change in changes],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "program": {"type": "path", "default": "/usr/local/libexec/podferry/podferry-runc"},
            "pod_annotations": {"type": "list", "elements": "str", "default": ["podferry.live/*"]},
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
