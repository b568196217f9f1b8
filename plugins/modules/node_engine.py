#!/usr/bin/python
# Copyright: (c) 2026, The podferry.live authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_engine
short_description: The node's copy of the code that carries pods
version_added: 0.1.0
description:
  - Installs the node's part of this collection (Python, standard library only) below O(path) and compiles it, and its entry points in
    O(program_path); or removes both.
  - The controller compares the copy's digest with its own before every migration, so nodes are brought up to date with the collection by
    running this again.
extends_documentation_fragment:
  - podferry.live._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
    details:
      - A node whose Python was replaced by another version gets the code compiled anew.
options:
  state:
    description:
      - Whether the code shall be there.
    type: str
    choices: [present, absent]
    default: present
  path:
    description:
      - Folder of the copy. Everything else in it is removed.
    type: path
    default: /usr/local/lib/podferry/podferry
  program_path:
    description:
      - Folder of the entry points. Everything else in it is removed.
    type: path
    default: /usr/local/libexec/podferry
  programs:
    description:
      - The entry points, name to text. Role P(podferry.live.node#role) gives them.
    type: dict
  files:
    description:
      - The files, relative path to text. The action plugin of the same name fills it in; it cannot be given.
    type: dict
notes:
  - It runs as an action plugin with a module of the same name.
author:
  - The podferry.live authors (@podferry)
"""

EXAMPLES = r"""
- name: Install the node's code with one entry point
  podferry.live.node_engine:
    programs:
      podferry-node: "{{ lookup('ansible.builtin.file', 'podferry-node', rstrip=false) }}"

- name: Remove it
  podferry.live.node_engine:
    state: absent
"""

RETURN = r"""
digest:
  description: Digest of the code, the same on the controller and on every node that is up to date.
  returned: when O(state=present)
  type: str
files:
  description: Files that were (or in check mode would be) written or removed.
  returned: success
  type: list
  elements: str
"""

import os
import py_compile
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._common.digest import engine_digest
from ..module_utils._common.errors import PodferryError
from ..module_utils._node import engine


def diff(root: str, changes: engine.Changes) -> list[dict[str, str]]:
    """Return the changes in the form that Ansible shows."""
    shown = []
    for name in [*changes.write, *changes.remove]:
        path = Path(root) / name
        shown.append(
            {
                "before_header": str(path),
                "after_header": str(path),
                "before": path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "",
                "after": changes.write.get(name, ""),
            }
        )
    return shown


def ensure(module: AnsibleModule) -> dict[str, t.Any]:
    """Bring both folders into the wanted state."""
    root, folder = module.params["path"], module.params["program_path"]
    if module.params["state"] == "absent":
        there = [path for path in (root, folder) if os.path.isdir(path)]
        if not module.check_mode:
            for path in there:
                engine.remove(path)
        return {"changed": bool(there), "files": there}
    files = module.params["files"] or {}
    engine.valid(files)
    plan = {
        root: engine.compare(root, files),
        folder: engine.compare_programs(folder, module.params["programs"] or {}),
    }
    result: dict[str, t.Any] = {
        "changed": any(changes.any for changes in plan.values()),
        "files": [
            os.path.join(top, name) for top, changes in plan.items() for name in (*changes.write, *changes.remove)
        ],
        "diff": [entry for top, changes in plan.items() for entry in diff(top, changes)],
    }
    if not module.check_mode:
        for top, changes in plan.items():
            engine.apply(top, changes)
    if os.path.isdir(root):
        result["digest"] = engine_digest(root)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path", "default": "/usr/local/lib/podferry/podferry"},
            "program_path": {"type": "path", "default": "/usr/local/libexec/podferry"},
            "programs": {"type": "dict"},
            "files": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    try:
        result = ensure(module)
    except PodferryError as error:
        module.fail_json(msg=f"{error.message}. {error.remedy}".strip(), **error.to_dict())
    except (OSError, py_compile.PyCompileError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
